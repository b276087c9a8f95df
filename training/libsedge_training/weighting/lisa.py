"""LISA: spectra of one class at two distances are mixed, the label stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from libsedge.errors import DatasetError

from .base import Strategy, options
from .dynamic import Batch, Dynamic, numbered
from .train_part import TrainPart


@dataclass(frozen=True)
class Lisa(Strategy):
    """With probability p: x_i <- lambda x_i + (1 - lambda) x_j, y_j = y_i, d_j != d_i, lambda ~ Beta(a, a).

    Yao et al., ICML 2022 (arXiv 2201.00299), intra-label variant, with distances as domains; j is drawn from
    the whole training part, evenly. Spectra are mixed as the net sees them (square roots of normalised
    signals), before the usual variation. All weights are 1: selective augmentation in the weights' contract, as
    the competitor that weights have to beat. a is a whole number (Beta(a, a) is the middle one of 2a - 1
    uniform numbers).
    """

    a: float = 2.0
    p: float = 1.0

    family: ClassVar[str] = "lisa"
    summary: ClassVar[str] = "LISA: mixes two distances of one class, label kept; all weights 1"
    examples: ClassVar[tuple[str, ...]] = ("lisa:a=2:p=1", "lisa:a=2:p=0.5")
    mixes: ClassVar[bool] = True

    @classmethod
    def parse(cls, parts: Sequence[str]) -> Lisa:
        found = options(cls.family, parts, {"a": (1.0, 8.0), "p": (0.0, 1.0)})
        found["a"] = float(round(found.get("a", 2.0)))
        return cls(**found)

    @property
    def name(self) -> str:
        return f"{self.family}:a={self.a:g}:p={self.p:g}"

    @property
    def parameters(self) -> dict[str, Any]:
        return {"a": self.a, "p": self.p}

    def fit(self, train: TrainPart) -> np.ndarray:
        train.known_distances(self.name)
        return np.ones(len(train))

    def start(self, train: TrainPart, seed: int) -> Dynamic:
        return _LisaRun(self, train)


class _LisaRun(Dynamic):
    """Rows sorted by class and distance: the partners of a row are its class's range without its cell's."""

    def __init__(self, strategy: Lisa, train: TrainPart) -> None:
        self.strategy, self.values = strategy, torch.from_numpy(train.values)
        label, distance = numbered(train.label), numbered(train.known_distances(strategy.name))
        cell = numbered((label * (int(distance.max()) + 1) + distance).numpy())
        self.sorted = torch.argsort(cell, stable=True)
        self.first, self.size = self._ranges(label)
        self.cell_first, self.cell_size = self._ranges(cell)
        alone = torch.nonzero(self.size == self.cell_size)
        if len(alone):
            raise DatasetError(
                f"{strategy.name} needs two distances of every class; this one has one",
                field="label",
                value=str(train.label[int(alone[0])]),
            )

    def _ranges(self, group: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(where the group of each row begins in `sorted`, its size), int64 [n] each."""
        count = torch.bincount(group)
        return (torch.cumsum(count, 0) - count)[group], count[group]

    def partners(self, rows: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """For each row another one of its class at another distance, int64 [b]."""
        choices = self.size[rows] - self.cell_size[rows]
        at = self.first[rows] + (torch.rand(len(rows), generator=rng) * choices).long().clamp(max=choices - 1)
        return self.sorted[torch.where(at >= self.cell_first[rows], at + self.cell_size[rows], at)]

    def mix(self, x: torch.Tensor, rows: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        other = self.values[self.partners(rows, rng)]
        order = torch.rand(len(rows), 2 * int(self.strategy.a) - 1, generator=rng).sort(dim=1).values
        share = order[:, int(self.strategy.a) - 1]
        mixed = torch.rand(len(rows), generator=rng) < self.strategy.p
        return torch.lerp(x, other, torch.where(mixed, 1 - share, torch.zeros(()))[:, None])

    def update(self, batch: Batch) -> torch.Tensor:
        return torch.ones(len(batch.rows))
