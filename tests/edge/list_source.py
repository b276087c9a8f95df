"""A source and a sink of lists, and frames for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator

import numpy as np
from libsedge.frame import Frame
from libsedge.journal import Journal, Record
from libsedge.ledger import Key
from libsedge.pipeline import Pipeline
from libsedge.sinks.base import Sink
from libsedge.sources.base import Source
from mean_classifier import CHANNELS, MeanClassifier


class ListSource(Source):
    """Frames of a list, `gap_s` apart; notes who was acknowledged and who was forgotten."""

    def __init__(
        self,
        frames: Iterable[Frame | None],
        stream_id: int | None = None,
        endless: bool = False,
        gap_s: float = 0.0,
    ) -> None:
        super().__init__(stream_id=stream_id)
        self.frames, self.endless, self.gap_s = list(frames), endless, gap_s
        self.acknowledged: list[Key] = []
        self.forgotten: list[Key] = []
        self.stopped = threading.Event()
        self.closed = 0

    def __iter__(self) -> Iterator[Frame | None]:
        for frame in self.frames:
            if self.stopped.is_set():
                return
            time.sleep(self.gap_s)
            yield frame
        while self.endless and not self.stopped.is_set():
            time.sleep(0.01)
            yield None

    def acknowledge(self, keys: Iterable[Key]) -> None:
        self.acknowledged += keys

    def forget(self, keys: Iterable[Key]) -> None:
        self.forgotten += keys

    def stop(self) -> None:
        self.stopped.set()

    def close(self) -> None:
        self.closed += 1


class ListSink(Sink):
    def __init__(self, broken: bool = False) -> None:
        self.records: list[Record] = []
        self.broken = broken

    def write(self, records) -> None:
        if self.broken:
            raise OSError(28, "No space left on device")
        self.records += records

    def close(self) -> None:
        pass


def frame(
    sequence: int, value: float = 200, *, stream: int = 5, flags: int = 0, channels: int = CHANNELS
) -> Frame:
    return Frame(
        stream, 0, sequence, 10**18 + sequence, 100, 2000, flags, np.full(channels, value, np.float32)
    )


def by_queue(journal: Journal, frames: list[Frame]) -> Pipeline:
    """One whose worker alone decides: with `block` the reader would."""
    return Pipeline(ListSource(frames), MeanClassifier(), journal, policy="drop-oldest", capacity=100)
