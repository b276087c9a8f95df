"""From the pipeline's pictures to the page's: rates, percentiles, the last minute's latency, lines, alarms."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np

from libsedge.dashboard import message
from libsedge.dashboard.alarms import Alarms
from libsedge.dashboard.lines import Identifier
from libsedge.latency import upper_edge

#: decisions in the chart over distance; pictures over which a rate is taken; seconds of the latency's window
POINTS, RATE_PICTURES, WINDOW_S = 600, 20, 60.0
#: upper edges of the latency's bars: half octaves from 0.0625 ms to 4 s
EDGES_S = tuple(2.0 ** (k / 2) / 1000 for k in range(-8, 25))


def percentile(buckets: dict[int, int], percent: float, most: float) -> float:
    """As `Latency.percentile`, of buckets; `most` is the longest time."""
    wanted, seen = math.ceil(sum(buckets.values()) * percent / 100), 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen >= wanted:
            return min(upper_edge(bucket), most)
    return 0.0


def bars(buckets: dict[int, int]) -> list[int]:
    """Times by `EDGES_S`; the last one also holds what is above."""
    counts = [0] * len(EDGES_S)
    for bucket, number in buckets.items():
        place = math.ceil(2 * math.log2(upper_edge(bucket) * 1000) - 1e-6) + 8
        counts[min(max(place, 0), len(counts) - 1)] += number
    return counts


class Board:
    """Takes every message of the pipeline, gives the page's."""

    def __init__(self) -> None:
        self.alarms = Alarms()
        self.last: tuple[dict[str, Any], np.ndarray] | None = None
        self.labels: list[str] = []
        self._identifier: Identifier | None = None
        self._points: deque[tuple[float, float, float, float]] = deque(maxlen=POINTS)
        self._rates: deque[tuple[float, int]] = deque(maxlen=RATE_PICTURES)
        self._latencies: deque[tuple[float, dict[int, int]]] = deque()

    def model(self, head: dict[str, Any], axis: np.ndarray) -> bytes:
        """Another model decides: the message for the browsers."""
        self._identifier = Identifier(axis)
        self.labels = list(head["labels"])
        self._points.clear()
        self.alarms.safe_mode = bool(head["safe_mode"])
        return message.pack(
            {**head, "elements": self._identifier.describe(), "edges_ms": [edge * 1000 for edge in EDGES_S]},
            axis,
        )

    def picture(self, head: dict[str, Any], spectrum: np.ndarray) -> None:
        """The pipeline's newest picture."""
        self.last = (head, spectrum)
        self.alarms.picture(head, head["time"])
        for distance, confidence, label, accepted in head["recent"]:
            if distance is not None:
                place = self.labels.index(label) if label in self.labels else -1
                self._points.append(
                    (distance, math.nan if confidence is None else confidence, place, float(accepted))
                )
        self._rates.append((head["time"], head["counts"]["received"]))
        buckets = {int(bucket): number for bucket, number in head["latency"].items()}
        if not self._latencies:
            self._latencies.append((head["time"], {}))
        if head["time"] - self._latencies[-1][0] >= 1.0:
            self._latencies.append((head["time"], buckets))
        while len(self._latencies) > 1 and head["time"] - self._latencies[1][0] >= WINDOW_S:
            self._latencies.popleft()

    def _rate(self) -> float:
        (t0, n0), (t1, n1) = self._rates[0], self._rates[-1]
        return (n1 - n0) / (t1 - t0) if t1 > t0 else 0.0

    def show(self, now: float, about: dict[str, Any]) -> bytes | None:
        """The picture for the browsers, `about` the server itself; None before the first."""
        self.alarms.tick(now)
        if self.last is None:
            return None
        head, spectrum = self.last
        whole = {int(bucket): number for bucket, number in head["latency"].items()}
        before = self._latencies[0][1]
        recent = {bucket: n - before.get(bucket, 0) for bucket, n in whole.items()}
        known = self._identifier is not None and spectrum.size == self._identifier.axis.size
        points = np.array(self._points, np.float32).reshape(-1, 4)
        kept = {key: value for key, value in head.items() if key not in ("latency", "recent", "turns")}
        shown = {
            **kept,
            "rate_hz": round(self._rate(), 2),
            "latency": {
                "bars": bars(recent),
                "count": sum(whole.values()),
                **{
                    f"p{p}_ms": round(percentile(whole, p, head["latency_max_s"]) * 1000, 4) for p in (50, 99)
                },
                "max_ms": round(head["latency_max_s"] * 1000, 4),
            },
            "seen": self._identifier.seen(spectrum) if known and self._identifier is not None else {},
            "alarms": self.alarms.listed(),
            "spectrum": int(spectrum.size),
            "points": len(points),
            "server": about,
        }
        return message.pack(shown, np.concatenate([spectrum, points.reshape(-1)]))
