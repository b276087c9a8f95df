"""A histogram of times with bounded memory: 32 buckets an octave, so a percentile is at most 2.2 % too
high."""

from __future__ import annotations

import math
from collections import Counter

_PER_OCTAVE = 32


class Latency:
    """Times in seconds; percentiles are upper edges of buckets of ratio 2^(1/32), the maximum is exact."""

    def __init__(self) -> None:
        self.count = 0
        self.max_s = 0.0
        self._buckets: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        seconds = max(seconds, 1e-9)
        self.count += 1
        self.max_s = max(self.max_s, seconds)
        self._buckets[math.ceil(_PER_OCTAVE * math.log2(seconds))] += 1

    def percentile(self, percent: float) -> float:
        """Smallest bucket edge, seconds, at or below which at least `percent` % of the times lie; 0 without
        times."""
        wanted, seen = math.ceil(self.count * percent / 100), 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                return min(2.0 ** (bucket / _PER_OCTAVE), self.max_s)
        return 0.0

    def summary(self) -> dict[str, float]:
        """`count`, `p50_ms`, `p99_ms`, `max_ms`."""
        return {
            "count": self.count,
            "p50_ms": round(self.percentile(50) * 1e3, 4),
            "p99_ms": round(self.percentile(99) * 1e3, 4),
            "max_ms": round(self.max_s * 1e3, 4),
        }
