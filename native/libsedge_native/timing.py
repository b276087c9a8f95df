"""Two or more ways to run one model, timed in turn in one process.

Shared machines switch between fast and slow phases within seconds, so a time alone says little. `interleaved` runs
short bursts of each side in round robin; every side meets the same phases and the ratio of medians holds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Timing:
    """Times of one side in microseconds a call."""

    median_us: float
    min_us: float
    p99_us: float
    calls: int


def pin_to_one_core() -> int | None:
    """Keep this process on the last core it may use; return its number, or None where the system cannot."""
    try:
        core = max(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {core})
    except (AttributeError, OSError):
        return None
    return core


def interleaved(
    sides: Mapping[str, Callable[[], object]], *, rounds: int = 20, burst: int = 50, warmup: int = 10
) -> dict[str, Timing]:
    """Time each side in bursts of `burst` calls, side after side, `rounds` times over.

    Returns the median, minimum and 99th percentile over all timed calls of each side. The timer is
    `time.perf_counter_ns` around one Python call, so each side's binding is part of its figure.
    """
    samples: dict[str, list[int]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, call in sides.items():
            for _ in range(warmup):
                call()
            taken = samples[name]
            for _ in range(burst):
                start = time.perf_counter_ns()
                call()
                taken.append(time.perf_counter_ns() - start)
    result = {}
    for name, taken in samples.items():
        us = np.asarray(taken, dtype=np.float64) / 1000.0
        result[name] = Timing(
            float(np.median(us)), float(us.min()), float(np.percentile(us, 99)), calls=int(us.size)
        )
    return result
