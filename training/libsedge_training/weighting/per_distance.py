"""Free weights for distances: one number for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from libsedge.errors import ConfigError

from .base import HIGHEST, LOWEST, Strategy, normalised
from .train_part import TrainPart


@dataclass(frozen=True)
class PerDistance(Strategy):
    """D2: w_i = v(d_i), the number given for the distance (to 1 mm), 1 where none is; then mean 1, clipped.

    `per-distance:2=1.5:5=0.5`: metres = weight, 0.1 ... 10. Ours: the family that holds every weighting by
    distance alone, to be searched on validation specimens; what a strategy gains beyond its own mean weights
    by distance (`distance-mean:NAME`) it does not owe to distance.
    """

    weights: tuple[tuple[int, float], ...] = ()  # (millimetres, weight), increasing

    family: ClassVar[str] = "per-distance"
    summary: ClassVar[str] = "D2: a free weight for each distance, 1 where none is given"
    examples: ClassVar[tuple[str, ...]] = ("per-distance:2=0.5:5=2",)

    @classmethod
    def parse(cls, parts: Sequence[str]) -> PerDistance:
        found: dict[int, float] = {}
        for part in parts:
            metres, equals, weight = part.partition("=")
            try:
                mm, value = round(float(metres) * 1000), float(weight)
            except (ValueError, OverflowError):
                mm, value = 0, 0.0
            if not equals or mm <= 0 or mm in found or not LOWEST <= value <= HIGHEST:
                raise ConfigError(
                    f"expected metres=weight, each distance once, weights {LOWEST:g} ... {HIGHEST:g}",
                    field="weighting",
                    value=part,
                )
            found[mm] = value
        if not found:
            raise ConfigError("name a weight, as in 'per-distance:2=1.5:5=0.5'", field="weighting")
        return cls(tuple(sorted(found.items())))

    @property
    def name(self) -> str:
        return ":".join([self.family, *(f"{mm / 1000:g}={value:g}" for mm, value in self.weights)])

    @property
    def parameters(self) -> dict[str, Any]:
        return {"weights": {f"{mm / 1000:g}": value for mm, value in self.weights}}

    def fit(self, train: TrainPart) -> np.ndarray:
        given = dict(self.weights)
        return normalised(np.array([given.get(mm, 1.0) for mm in train.known_distances(self.name).tolist()]))
