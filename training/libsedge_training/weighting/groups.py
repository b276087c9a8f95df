"""Strategies that look at groups of spectra: group DRO and V-REx.

A group is a distance, or a class at a distance.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from libsedge.errors import ConfigError

from .base import Strategy, options
from .dynamic import GROUPS, Batch, Dynamic, group_means, grouped, mean_one, same_shape
from .train_part import TrainPart


@dataclass(frozen=True)
class _Grouped(Strategy):
    """What both share: the name `family:groups:key=value` and equal weights before the first step."""

    groups: str = "distance"

    ranges: ClassVar[dict[str, tuple[float, float]]]

    @classmethod
    def parse(cls, parts: Sequence[str]) -> _Grouped:
        kind, *rest = parts or [""]
        if kind not in GROUPS:
            raise ConfigError(
                f"expected one of {', '.join(GROUPS)}, as in '{cls.examples[0]}'",
                field="weighting",
                value=kind,
            )
        return cls(kind, **options(f"{cls.family}:{kind}", rest, cls.ranges))

    @property
    def name(self) -> str:
        return ":".join([self.family, self.groups, *(f"{k}={getattr(self, k):g}" for k in self.ranges)])

    @property
    def parameters(self) -> dict[str, Any]:
        return {"groups": self.groups, **{k: getattr(self, k) for k in self.ranges}}

    def fit(self, train: TrainPart) -> np.ndarray:
        grouped(self.groups, train, self.name)
        return np.ones(len(train))

    @abstractmethod
    def start(self, train: TrainPart, seed: int) -> Dynamic: ...


@dataclass(frozen=True)
class GroupDro(_Grouped):
    """Group distributionally robust optimisation: the worse a group fares, the more it weighs.

    In every step, for the groups g of the batch (n_g of b spectra, mean loss L_g):
    q_g <- q_g exp(eta (L_g + c / sqrt(N_g))), sum_g q_g = 1, and the loss is sum_g q_g L_g, that is
    w_i = q_g(i) b / n_g(i); N_g is the size of the group in the training part.
    Sagawa, Koh, Hashimoto and Liang, ICLR 2020 (arXiv 1911.08731), algorithm 1. Ours: weights are brought to
    mean 1 within the batch (there, groups that a batch lacks make its loss smaller).
    """

    eta: float = 0.01
    c: float = 0.0

    family: ClassVar[str] = "group-dro"
    summary: ClassVar[str] = (
        "group DRO: groups (distance, or class at a distance) with a high loss weigh more"
    )
    examples: ClassVar[tuple[str, ...]] = (
        "group-dro:distance:eta=0.01:c=0",
        "group-dro:class-distance:eta=0.01:c=0",
    )
    ranges: ClassVar[dict[str, tuple[float, float]]] = {"eta": (0.0, 1.0), "c": (0.0, 100.0)}

    def start(self, train: TrainPart, seed: int) -> Dynamic:
        return _GroupDroRun(self, grouped(self.groups, train, self.name))


class _GroupDroRun(Dynamic):
    def __init__(self, strategy: GroupDro, group: torch.Tensor) -> None:
        self.eta, self.group, self.groups = strategy.eta, group, int(group.max()) + 1
        self.extra = strategy.c / torch.bincount(group, minlength=self.groups).float().sqrt()
        self.log_q = torch.zeros(self.groups)

    def update(self, batch: Batch) -> torch.Tensor:
        group = self.group[batch.rows]
        loss, count = group_means(batch.losses, group, self.groups)
        self.log_q = self.log_q + torch.where(count > 0, self.eta * (loss + self.extra), torch.zeros(()))
        self.log_q = self.log_q - torch.logsumexp(self.log_q, 0)
        return mean_one(torch.exp(self.log_q)[group] / count[group])

    def state(self) -> dict[str, torch.Tensor]:
        return {"log_q": self.log_q}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        same_shape(state, self.state())
        self.log_q = state["log_q"].clone()


@dataclass(frozen=True)
class VRex(_Grouped):
    """Variance risk extrapolation: mean_g L_g + beta Var_g L_g over the G groups of a batch, as weights.

    Krueger et al., ICML 2021 (arXiv 2003.00688), equation 8. The gradient is that of mean(w_i CE_i) with
    w_i = b / (G n_g) (1 + 2 beta (L_g - mean_g L_g)), g = g(i), exactly, because the deviations from the mean
    sum to 0; these weights have mean 1. They are negative where L_g < mean - 1 / (2 beta): V-REx then really
    pushes the loss of the best groups up, and so do we. beta is 1 in the first `warm` epochs.
    """

    beta: float = 1.0
    warm: float = 3.0

    family: ClassVar[str] = "vrex"
    summary: ClassVar[str] = (
        "V-REx: the variance of the groups' losses is part of the loss, written as weights"
    )
    examples: ClassVar[tuple[str, ...]] = (
        "vrex:distance:beta=10:warm=3",
        "vrex:class-distance:beta=1:warm=3",
    )
    ranges: ClassVar[dict[str, tuple[float, float]]] = {"beta": (0.0, 1e4), "warm": (0.0, 1e4)}
    signed: ClassVar[bool] = True

    def start(self, train: TrainPart, seed: int) -> Dynamic:
        return _VRexRun(self, grouped(self.groups, train, self.name))


class _VRexRun(Dynamic):
    def __init__(self, strategy: VRex, group: torch.Tensor) -> None:
        self.strategy, self.group, self.groups = strategy, group, int(group.max()) + 1

    def update(self, batch: Batch) -> torch.Tensor:
        group = self.group[batch.rows]
        loss, count = group_means(batch.losses, group, self.groups)
        here = count > 0
        beta = min(1.0, self.strategy.beta) if batch.epoch <= self.strategy.warm else self.strategy.beta
        factor = 1 + 2 * beta * (loss - loss[here].mean())
        return len(batch.rows) / here.sum() * factor[group] / count[group]
