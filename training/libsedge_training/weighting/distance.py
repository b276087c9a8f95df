"""Weights from the stand-off distance alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .base import Strategy, normalised, options
from .train_part import TrainPart


@dataclass(frozen=True)
class Distance(Strategy):
    """D1: w_i = (d_i / d_ref)^p, clipped to [0.1, 10] at mean 1; d_ref drops out when the mean is set to 1.

    p > 0 favours far spectra, p < 0 near ones, p = 0 is `equal`. Ours; a control for the similarity
    weights, which depend on distance through the signal's strength.
    """

    p: float = 1.0

    family: ClassVar[str] = "distance"
    summary: ClassVar[str] = "D1: (d / d_ref)^p; p > 0 favours far spectra, p < 0 near ones"
    examples: ClassVar[tuple[str, ...]] = ("distance:p=1", "distance:p=2", "distance:p=-1")

    @classmethod
    def parse(cls, parts: Sequence[str]) -> Distance:
        return cls(**options(cls.family, parts, {"p": (-4.0, 4.0)}))

    @property
    def name(self) -> str:
        return f"{self.family}:p={self.p:g}"

    @property
    def parameters(self) -> dict[str, Any]:
        return {"p": self.p}

    def fit(self, train: TrainPart) -> np.ndarray:
        metres = train.known_distances(self.name) / 1000
        return normalised((metres / metres.mean()) ** self.p)
