"""Focal weights: spectra that the net is already sure of count less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from .base import Strategy, options
from .dynamic import Batch, Dynamic, mean_one
from .train_part import TrainPart


@dataclass(frozen=True)
class Focal(Strategy):
    """w_i = (1 - p_i)^gamma, p_i the probability of the true class, brought to mean 1 within the batch.

    Lin, Goyal, Girshick, He and Dollar, ICCV 2017 (arXiv 1708.02002), equation 4. Ours: the factor is a
    constant in the loss (there it is differentiated as well), and mean 1 keeps the step size comparable.
    """

    gamma: float = 2.0

    family: ClassVar[str] = "focal"
    summary: ClassVar[str] = "focal: (1 - p_true)^gamma, hard spectra weigh more"
    examples: ClassVar[tuple[str, ...]] = ("focal:gamma=2", "focal:gamma=0.5")

    @classmethod
    def parse(cls, parts: Sequence[str]) -> Focal:
        return cls(**options(cls.family, parts, {"gamma": (0.0, 10.0)}))

    @property
    def name(self) -> str:
        return f"{self.family}:gamma={self.gamma:g}"

    @property
    def parameters(self) -> dict[str, Any]:
        return {"gamma": self.gamma}

    def fit(self, train: TrainPart) -> np.ndarray:
        return np.ones(len(train))

    def start(self, train: TrainPart, seed: int) -> Dynamic:
        return _FocalRun(self.gamma)


class _FocalRun(Dynamic):
    def __init__(self, gamma: float) -> None:
        self.gamma = gamma

    def update(self, batch: Batch) -> torch.Tensor:
        # 1 - exp(-CE) without cancellation
        return mean_one((-torch.expm1(-batch.losses)).clamp(min=0) ** self.gamma)
