"""A pipeline on any source in a thread, and what its report has to be; shared by the tests of the sources."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from libsedge.frame import Frame
from libsedge.journal import Journal
from libsedge.pipeline import Pipeline
from libsedge.report import Report
from libsedge.senders.truth import UnitTruth
from libsedge.sources.base import Source
from mean_classifier import CHANNELS, MeanClassifier


def frames(n: int, channels: int = CHANNELS, seed: int = 0, first: int = 0) -> list[Frame]:
    rng = np.random.default_rng(seed)
    return [
        Frame(77, 0, first + i, 10**18 + i, 50, 3000, 0, rng.integers(0, 400, channels).astype(np.uint16))
        for i in range(n)
    ]


class Served:
    """The pipeline, its source and, at the end, its report."""

    def __init__(
        self, path: Path, source: Source, *, channels: int, delay_s: float, policy: str, capacity: int
    ) -> None:
        self.source, self._path = source, path
        self._classifier = MeanClassifier(delay_s)
        self._classifier.channels = channels
        self._policy, self._capacity = policy, capacity
        self._report: Report | None = None
        self._error: BaseException | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(10)

    def _run(self) -> None:
        journal = Journal(self._path)
        try:
            self.pipeline = Pipeline(
                self.source,
                self._classifier,
                journal,
                batch=16,
                interval_s=0.02,
                policy=self._policy,
                capacity=self._capacity,
            )
            self._ready.set()
            self._report = self.pipeline.run()
        except BaseException as error:
            self._error = error
        finally:
            self._ready.set()
            journal.close()

    def quiet(self, seconds: float = 0.25, limit: float = 20.0, truth: UnitTruth | None = None) -> None:
        """Wait until all that `truth` says has come, and then nothing for so long."""
        expected = 0 if truth is None else truth.intact + truth.repeat + truth.refused
        deadline, last, since = time.monotonic() + limit, -1, time.monotonic()
        while self.pipeline.ledger.received < expected and time.monotonic() < deadline:
            time.sleep(0.01)
        while time.monotonic() < deadline:
            now = self.pipeline.ledger.received + sum(self.source.counters().values())
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > seconds:
                return
            time.sleep(0.02)

    def finish(self) -> Report:
        self.pipeline.stop()
        self._thread.join(20)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error
        assert self._report is not None
        return self._report


@contextmanager
def serving(
    path: Path,
    source: Source,
    *,
    channels: int = CHANNELS,
    delay_s: float = 0.0,
    policy: str = "block",
    capacity: int = 64,
) -> Iterator[Served]:
    served = Served(path, source, channels=channels, delay_s=delay_s, policy=policy, capacity=capacity)
    try:
        yield served
    finally:
        served.pipeline.stop()
        served._thread.join(20)


def rows(path: Path) -> dict[int, tuple[str | None, int]]:
    journal = Journal(path)
    found = {row.key.sequence: (row.label, row.time_ns) for row in journal}
    journal.close()
    return found


def decisions(sent: Iterable[Frame], truth: UnitTruth) -> dict[int, tuple[str | None, int]]:
    """Label and time that the intact frames have to have, from the frames themselves."""
    intact = {key.sequence for key in truth.keys}
    return {
        frame.sequence: ("high" if frame.values.mean() > 100 else "low", frame.time_ns)
        for frame in sent
        if frame.sequence in intact
    }


def check_counts(report: Report, truth: UnitTruth) -> None:
    """Every count of the ledger equals the sender's truth."""
    ledger, table = report.ledger, truth.table()
    assert ledger["journaled"] == table["intact"]
    assert ledger["duplicate"] == table["repeat"]
    assert sum(ledger["rejected"].values()) == table["refused"]
    assert ledger["received"] == table["intact"] + table["repeat"] + table["refused"]
    assert ledger["unaccounted"] == ledger["in_flight"] == ledger["unjournaled"] == 0
    assert ledger["shed"] == {}
    if table["intact"]:
        (epoch,) = ledger["streams"]
        assert (epoch["unique"], epoch["gaps"], epoch["exact"]) == (table["intact"], table["gaps"], True)
