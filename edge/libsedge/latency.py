"""A histogram of times with bounded memory: 32 buckets an octave, so a percentile is at most 2.2 % too
high."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

_PER_OCTAVE = 32


def upper_edge(bucket: int) -> float:
    """The largest time of a bucket, seconds."""
    return float(2.0 ** (bucket / _PER_OCTAVE))


class Latency:
    """Times in seconds; percentiles are upper edges of buckets of ratio 2^(1/32), the maximum is exact."""

    def __init__(self) -> None:
        self.count = 0
        self.max_s = 0.0
        self.total_s = 0.0
        self._buckets: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        seconds = max(seconds, 1e-9)
        self.count += 1
        self.total_s += seconds
        self.max_s = max(self.max_s, seconds)
        self._buckets[math.ceil(_PER_OCTAVE * math.log2(seconds))] += 1

    def percentile(self, percent: float) -> float:
        """Smallest bucket edge, seconds, at or below which at least `percent` % of the times lie; 0 without
        times."""
        wanted, seen = math.ceil(self.count * percent / 100), 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                return min(upper_edge(bucket), self.max_s)
        return 0.0

    def cumulative(self, edges: Sequence[float]) -> tuple[int, float, list[int]]:
        """Number of times, their sum in seconds, and how many lie at or below each edge (increasing, seconds).

        A time counts by its bucket's upper edge, so by up to 2.2 % too late. Safe from any thread.
        """
        buckets = self._buckets.copy()
        below = [
            sum(n for bucket, n in buckets.items() if upper_edge(bucket) <= edge * (1 + 1e-9))
            for edge in edges
        ]
        return sum(buckets.values()), self.total_s, below

    def buckets(self) -> dict[int, int]:
        """Number of times by bucket, see `upper_edge`. Safe from any thread."""
        return dict(self._buckets)

    def summary(self) -> dict[str, float]:
        """`count`, `p50_ms`, `p99_ms`, `max_ms`."""
        return {
            "count": self.count,
            "p50_ms": round(self.percentile(50) * 1e3, 4),
            "p99_ms": round(self.percentile(99) * 1e3, 4),
            "max_ms": round(self.max_s * 1e3, 4),
        }
