"""A running pipeline with its page, fed by hand; shared by the page's tests, its picture and its benchmark."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from libsedge.bundle import Bundle
from libsedge.bursts import BurstOptions
from libsedge.classifier import Classifier
from libsedge.dashboard.publisher import Dashboard
from libsedge.frame import Frame
from libsedge.journal import Journal
from libsedge.line_table import read_table
from libsedge.pipeline import Pipeline
from libsedge.report import Report
from libsedge.sources.base import Axis, Source

WAVELENGTH = np.linspace(240.0, 850.0, 3600)
STREAM = 0x5EED


def spectrum(elements: dict[str, float], seed: int = 0, baseline: float = 300.0) -> np.ndarray:
    """Counts on WAVELENGTH: the lines of elements by their strength, a baseline, and noise. Made up, not physics."""
    counts = np.full(WAVELENGTH.size, baseline)
    for line in read_table():
        height = elements.get(line.element, 0.0) * line.strength
        counts += height * np.exp(-0.5 * ((WAVELENGTH - line.wavelength_nm) / 0.25) ** 2)
    rng = np.random.default_rng(seed)
    return rng.poisson(np.maximum(counts, 1.0)).clip(0, 65535).astype(np.uint16)


def until(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """The condition's value as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "never came true"
        time.sleep(0.01)
    return value


def picture_head(received: int = 0, **changes: Any) -> dict[str, Any]:
    """A picture's head as `libsedge.dashboard.picture` makes it, with changes to it or to its counts."""
    counts = {"received": received, "journaled": received, "unjournaled": 0, "duplicate": 0, "rejected": {}}
    counts |= {"shed": {}, "in_flight": 0, "unaccounted": 0, "gaps": 0}
    counts |= {name: changes.pop(name) for name in list(changes) if name in counts}
    head = {"kind": "picture", "time": 1000.0, "counts": counts, "queue": [0, 64], "latency": {}}
    head |= {"latency_max_s": 0.0, "deadline_s": None, "deadline_missed": 0, "journal_error": None}
    return head | {"turns": [received, received, False], "sink_errors": 0, "rss": 1, "recent": []} | changes


class ByHand(Source):
    """Yields what is put in, and None while nothing is."""

    def __init__(self) -> None:
        super().__init__(axis=Axis(WAVELENGTH), stream_id=STREAM, simulated=True)
        self.waiting: list[Frame] = []
        self.sent = 0
        self.ended = threading.Event()

    def put(self, values: np.ndarray, distance_mm: int = 0, flags: int = 0, skip: int = 0) -> Frame:
        self.sent += skip
        frame = Frame(STREAM, 0, self.sent, 10**18 + self.sent * 10**8, 50, distance_mm, flags, values)
        self.sent += 1
        self.waiting.append(frame)
        return frame

    def __iter__(self) -> Iterator[Frame | None]:
        while not self.ended.is_set():
            if self.waiting:
                yield self.waiting.pop(0)
            else:
                time.sleep(0.005)
                yield None

    def stop(self) -> None:
        self.ended.set()

    def close(self) -> None:
        self.ended.set()


class Live:
    """The pipeline in a thread; `said` holds the lines for people."""

    def __init__(
        self,
        folder: Path,
        bundle: Bundle,
        deadline_s: float | None = None,
        burst: BurstOptions | None = None,
    ) -> None:
        self.journal = folder / "journal.db"
        self.source = ByHand()
        self.said: list[str] = []
        self.report: Report | None = None
        self._deadline_s, self._burst = deadline_s, burst
        self._classifier = Classifier(bundle).bind(WAVELENGTH)
        self._ready = threading.Event()
        Journal(self.journal, stream=STREAM).close()
        self.dashboard = Dashboard("127.0.0.1:0", self.journal, self.said.append)
        self.dashboard.tell_model(bundle, self._classifier, self.source.axis, self.source.simulated)
        self.url = self.dashboard.url
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(30)

    def _run(self) -> None:
        journal = Journal(self.journal, stream=STREAM, model=self._classifier.digest)
        try:
            self.pipeline = Pipeline(
                *(self.source, self._classifier, journal),
                interval_s=0.02,
                deadline_s=self._deadline_s,
                burst=self._burst,
                tap=self.dashboard.tap.offer,
            )
            self.dashboard.start(self.pipeline)
            self._ready.set()
            self.report = self.pipeline.run()
        finally:
            journal.close()

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_: object) -> None:
        self.source.stop()
        self._thread.join(30)
        self.dashboard.close()
