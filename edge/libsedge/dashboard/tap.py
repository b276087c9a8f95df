"""The slot between the pipeline's worker and the publisher: the worker leaves, the publisher takes, nobody waits."""

from __future__ import annotations

import threading
from collections import deque

from libsedge.frame import Frame
from libsedge.journal import Record

#: decisions kept for the next picture; the older ones of a faster stream are in the journal only
RECENT = 64


class Tap:
    """`offer` is the pipeline's `tap`. It keeps references, copies nothing and takes no lock that is held for long."""

    def __init__(self) -> None:
        self._latest: tuple[Frame, Record] | None = None
        self._recent: deque[Record] = deque(maxlen=RECENT)
        self._came = threading.Event()

    def offer(self, frame: Frame, record: Record) -> None:
        """Leave a decided frame; it replaces the one before. Called by the worker."""
        self._latest = (frame, record)
        self._recent.append(record)
        if not self._came.is_set():
            self._came.set()

    def wait(self, timeout: float) -> bool:
        """True as soon as a frame is decided after this call, False after `timeout` seconds without one."""
        self._came.clear()
        return self._came.wait(timeout)

    def take(self) -> tuple[tuple[Frame, Record] | None, list[Record]]:
        """The last decided frame (it stays), and the records since the last call, at most RECENT."""
        records: list[Record] = []
        while len(records) < RECENT:
            try:
                records.append(self._recent.popleft())
            except IndexError:
                break
        return self._latest, records
