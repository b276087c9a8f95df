"""A real, small classifier for the tests of what is around it; shared by test modules and child processes."""

from __future__ import annotations

import math
import time

import numpy as np
from libsedge.classifier import Decision
from libsedge.errors import SpectrumError

CHANNELS = 8


class MeanClassifier:
    """Says "high" where the mean of counts - dark is above 100."""

    channels: int | None = CHANNELS
    digest = "mean"
    spent_s = (0.0, 0.0)

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s

    def leave_out(self, bad: np.ndarray) -> None:
        pass

    def decide(
        self,
        counts: np.ndarray,
        dark: np.ndarray | None,
        shift_nm: float,
        saturation: float | None,
        distance_m: float,
        /,
    ) -> Decision:
        time.sleep(self.delay_s)
        if counts[0] == 666:
            raise SpectrumError("on purpose")
        mean = float(np.mean(counts - (0 if dark is None else dark)))
        if not math.isfinite(mean):
            return Decision(None, None, None, None, False, "non_finite", distance_m)
        high = mean > 100
        return Decision(
            "high" if high else "low", int(high), 1.0, (1.0 - high, float(high)), True, None, distance_m
        )
