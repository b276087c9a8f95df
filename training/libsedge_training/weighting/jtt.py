"""Just train twice: what the net gets wrong early weighs more afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from .base import Strategy, normalised, options
from .dynamic import Batch, Dynamic, same_shape
from .train_part import TrainPart


@dataclass(frozen=True)
class Jtt(Strategy):
    """w_i = up / Z where the net was wrong on spectrum i in epoch t, 1 / Z elsewhere; w_i = 1 until then.

    Liu et al., ICML 2021 (arXiv 2107.09044): L = up sum_E l + sum_not-E l, E = the errors after t epochs. Ours:
    E is read off the training steps of epoch t (varied spectra, no second pass), the net goes on learning
    instead of starting anew (one run, one time per epoch), Z brings the mean to 1, weights are in [0.1, 10].
    """

    t: float = 5.0
    up: float = 5.0

    family: ClassVar[str] = "jtt"
    summary: ClassVar[str] = "just train twice: errors of epoch t weigh `up` times as much afterwards"
    examples: ClassVar[tuple[str, ...]] = ("jtt:t=5:up=5", "jtt:t=1:up=3")

    @classmethod
    def parse(cls, parts: Sequence[str]) -> Jtt:
        return cls(**options(cls.family, parts, {"t": (1.0, 1e4), "up": (1.0, 100.0)}, whole=("t",)))

    @property
    def name(self) -> str:
        return f"{self.family}:t={self.t:g}:up={self.up:g}"

    @property
    def parameters(self) -> dict[str, Any]:
        return {"t": self.t, "up": self.up}

    def fit(self, train: TrainPart) -> np.ndarray:
        return np.ones(len(train))

    def start(self, train: TrainPart, seed: int) -> Dynamic:
        return _JttRun(self, len(train))


class _JttRun(Dynamic):
    def __init__(self, strategy: Jtt, n: int) -> None:
        self.strategy, self.wrong, self.weights = strategy, torch.zeros(n), torch.ones(n)

    def update(self, batch: Batch) -> torch.Tensor:
        if batch.epoch == int(self.strategy.t):
            self.wrong[batch.rows] = (batch.logits.argmax(1) != batch.target).float()
        return self.weights[batch.rows]

    def end_epoch(self, number: int) -> None:
        if number == int(self.strategy.t):
            raw = 1 + (self.strategy.up - 1) * self.wrong.double().numpy()
            self.weights = torch.from_numpy(normalised(raw)).float()

    def state(self) -> dict[str, torch.Tensor]:
        return {"wrong": self.wrong, "weights": self.weights}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        same_shape(state, self.state())
        self.wrong, self.weights = state["wrong"].clone(), state["weights"].clone()
