"""Controls that any strategy can be put under: what of its effect is left when its weights say less?

`permuted:NAME` gives the same weights to the wrong spectra, `distance-mean:NAME` and `class-mean:NAME` replace
each weight by the mean of its distance or class. A strategy that is no better than one of its controls owes
its gain to the spread of the weights, to distance or to class alone.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from libsedge.errors import ConfigError

from .base import Strategy
from .dynamic import Batch, Dynamic, group_means, numbered
from .train_part import TrainPart


@dataclass(frozen=True)
class Control(Strategy):
    """A strategy's weights, changed so that something of them is lost; see this module's text."""

    inner: Strategy

    @classmethod
    def parse(cls, parts: Sequence[str]) -> Control:
        from . import strategy

        if not parts:
            raise ConfigError(f"name a strategy, as in '{cls.examples[0]}'", field="weighting")
        inner = strategy(":".join(parts))
        if isinstance(inner, Control) or inner.mixes:
            raise ConfigError(
                "a control of a control, or of a strategy whose weights are all 1, says nothing",
                field="weighting",
                value=inner.name,
            )
        return cls(inner)

    @property
    def name(self) -> str:
        return f"{self.family}:{self.inner.name}"

    @property
    def parameters(self) -> dict[str, Any]:
        return {"of": self.inner.name, **self.inner.parameters}

    @property
    def signed(self) -> bool:  # type: ignore[override]
        return self.inner.signed

    @abstractmethod
    def changed(self, weights: np.ndarray, train: TrainPart) -> np.ndarray:
        """The control's weights float64 [n] from the strategy's [n]."""

    @abstractmethod
    def in_batch(self, train: TrainPart, seed: int) -> _InBatch:
        """The same within a batch."""

    def fit(self, train: TrainPart) -> np.ndarray:
        return self.changed(self.inner.fit(train), train)

    def start(self, train: TrainPart, seed: int) -> Dynamic | None:
        inner = self.inner.start(train, seed)
        return None if inner is None else _ControlRun(inner, self.in_batch(train, seed))


class _InBatch:
    """Mean within the groups of `group` [n]; without groups a random permutation."""

    def __init__(self, group: torch.Tensor | None, seed: int) -> None:
        self.group, self.rng = group, torch.Generator().manual_seed(seed)

    def __call__(self, weights: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        if self.group is None:
            return weights[torch.randperm(len(weights), generator=self.rng)]
        group = self.group[rows]
        return group_means(weights, group, int(self.group.max()) + 1)[0][group]


class _ControlRun(Dynamic):
    def __init__(self, inner: Dynamic, changed: _InBatch) -> None:
        self.inner, self.changed = inner, changed

    def update(self, batch: Batch) -> torch.Tensor:
        return self.changed(self.inner.update(batch), batch.rows)

    def end_epoch(self, number: int) -> None:
        self.inner.end_epoch(number)

    def state(self) -> dict[str, torch.Tensor]:
        return {f"inner.{k}": t for k, t in self.inner.state().items()} | {
            "rng": self.changed.rng.get_state()
        }

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        self.changed.rng.set_state(state["rng"])
        self.inner.load({k[6:]: t for k, t in state.items() if k.startswith("inner.")})


def _means(weights: np.ndarray, group: np.ndarray) -> np.ndarray:
    total, count = np.bincount(group, weights), np.bincount(group)
    means: np.ndarray = (total / count)[group]
    return means / means.mean()


@dataclass(frozen=True)
class Permuted(Control):
    """The strategy's weights, dealt out to the training spectra (dynamic: to the batch's) at random.

    Which spectrum gets which weight follows from the spectra themselves (by the order of their SHA-256), not
    from the order of the rows, and is the same in every run.
    """

    family: ClassVar[str] = "permuted"
    summary: ClassVar[str] = "control: the same weights for the wrong spectra"
    examples: ClassVar[tuple[str, ...]] = ("permuted:cc-bcd:w3:r1:a=8:b=8", "permuted:group-dro:distance")

    def changed(self, weights: np.ndarray, train: TrainPart) -> np.ndarray:
        keys = [
            hashlib.sha256(f"{s}\0{d}\0".encode() + row.tobytes()).digest()
            for row, s, d in zip(
                np.ascontiguousarray(train.values),
                train.specimen.tolist(),
                train.distance_m.tolist(),
                strict=True,
            )
        ]
        order = np.array(sorted(range(len(keys)), key=keys.__getitem__))
        dealt = np.empty_like(weights)
        dealt[order] = weights[order[np.random.default_rng(0).permutation(len(order))]]
        return dealt

    def in_batch(self, train: TrainPart, seed: int) -> _InBatch:
        return _InBatch(None, seed)


@dataclass(frozen=True)
class DistanceMean(Control):
    """The mean of the strategy's weights at each distance: what remains is a weighting by distance alone."""

    family: ClassVar[str] = "distance-mean"
    summary: ClassVar[str] = "control: the mean of the strategy's weights at each distance"
    examples: ClassVar[tuple[str, ...]] = ("distance-mean:cc-bcd:w3:r1:a=8:b=8", "distance-mean:focal")

    def changed(self, weights: np.ndarray, train: TrainPart) -> np.ndarray:
        return _means(weights, numbered(train.known_distances(self.name)).numpy())

    def in_batch(self, train: TrainPart, seed: int) -> _InBatch:
        return _InBatch(numbered(train.known_distances(self.name)), seed)


@dataclass(frozen=True)
class ClassMean(Control):
    """The mean of the strategy's weights in each class: what remains is a weighting by class alone."""

    family: ClassVar[str] = "class-mean"
    summary: ClassVar[str] = "control: the mean of the strategy's weights in each class"
    examples: ClassVar[tuple[str, ...]] = ("class-mean:cc-bcd:w3:r1:a=8:b=8", "class-mean:focal")

    def changed(self, weights: np.ndarray, train: TrainPart) -> np.ndarray:
        return _means(weights, numbered(train.label).numpy())

    def in_batch(self, train: TrainPart, seed: int) -> _InBatch:
        return _InBatch(numbered(train.label), seed)
