"""Every frame is in one place at every moment, whoever decides it; and a pipeline that loses one is seen."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from libsedge.frame import Frame
from libsedge.frame_queue import FrameQueue, Item
from libsedge.journal import Journal, Record, Written
from libsedge.ledger import LedgerError
from libsedge.pipeline import Pipeline
from list_source import ListSource, by_queue, frame
from mean_classifier import CHANNELS, MeanClassifier


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "run.db")
    yield journal
    journal.close()


class LossyQueue(FrameQueue):
    """Loses the tenth frame that is put into it."""

    puts = 0

    def put(self, item: Item) -> Item | None:
        self.puts += 1
        return None if self.puts == 10 else super().put(item)


def test_negative_control_frame_lost_in_the_queue(journal: Journal) -> None:
    pipeline = by_queue(journal, [frame(i) for i in range(30)])
    pipeline.queue = LossyQueue(64, "drop-oldest", pipeline.ledger.lock)
    with pytest.raises(LedgerError, match="unaccounted = 1"):
        pipeline.run()
    assert len(journal) == 29


def test_negative_control_frame_counted_twice(journal: Journal) -> None:
    class TwiceQueue(FrameQueue):
        def put(self, item: Item) -> Item | None:
            return super().put(item) or super().put(item)

    pipeline = by_queue(journal, [frame(i) for i in range(30)])
    pipeline.queue = TwiceQueue(64, "drop-oldest", pipeline.ledger.lock)
    with pytest.raises(LedgerError, match="unaccounted = -30"):
        pipeline.run()


def test_negative_control_frame_lost_in_the_hand(journal: Journal) -> None:
    class Forgetful(Pipeline):
        def _keep(self, item: Item, record: Record | None) -> None:
            if item.key.sequence == 10:
                self.ledger.hand_on()
            else:
                super()._keep(item, record)

    with pytest.raises(LedgerError, match="unaccounted = 1"):
        Forgetful(ListSource(frame(i) for i in range(30)), MeanClassifier(), journal).run()


class DecidedMeanwhile(Journal):
    """Its first commit takes until `wanted` more frames are decided, or a second."""

    wanted = 5
    waited: bool | None = None
    decided = 0

    def write(self, records, bursts=()) -> Written:
        if self.waited is None:
            before, until = self.decided, time.monotonic() + 1.0
            while self.decided < before + self.wanted and time.monotonic() < until:
                time.sleep(0.002)
            self.waited = self.decided >= before + self.wanted
        return super().write(records, bursts)


@pytest.mark.parametrize(("policy", "goes_on"), [("block", True), ("drop-oldest", False)])
def test_decisions_go_on_during_a_commit(tmp_path: Path, policy: str, goes_on: bool) -> None:
    """The policy that sheds leaves deciding to the worker, which commits: it shows that the journal above can tell."""
    journal = DecidedMeanwhile(tmp_path / "run.db")

    def count(frame: Frame, record: Record) -> None:
        journal.decided += 1

    source = ListSource((frame(i) for i in range(30)), gap_s=0.01)
    report = Pipeline(source, MeanClassifier(), journal, batch=4, policy=policy, tap=count).run()
    assert journal.waited is goes_on
    assert report.ledger["journaled"] == 30
    journal.close()


def test_the_reader_decides_no_more_than_the_queue_holds(tmp_path: Path) -> None:
    """Memory is bounded while the disk stands still: four decided, four in the queue, one in the reader's hand."""
    held: list[int] = []

    class Still(Journal):
        def write(self, records, bursts=()) -> Written:
            time.sleep(0.2)
            held.append(pipeline.ledger.in_flight)
            return super().write(records, bursts)

    journal = Still(tmp_path / "run.db")
    pipeline = Pipeline(
        ListSource(frame(i) for i in range(60)), MeanClassifier(), journal, capacity=4, batch=4
    )
    assert pipeline.run().ledger["journaled"] == 60
    assert max(held) <= 4 + 4 + 1
    journal.close()


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads change as often as they may."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("policy", ["drop-oldest", "block"])
@pytest.mark.parametrize("copies", [1, 2])
def test_invariant_holds_at_every_moment(journal: Journal, policy: str, copies: int) -> None:
    """Another thread checks the ledger all the time, under every kind of end; frames that follow one another take no
    lock where they are received."""
    frames = [
        frame(i // copies, channels=CHANNELS + (i % 7 == 0), stream=5 + (i % 11 == 0)) for i in range(3000)
    ]
    pipeline = Pipeline(ListSource(frames), MeanClassifier(), journal, policy=policy, capacity=3)
    done, checks, errors = threading.Event(), [0], []

    def watch() -> None:
        while not done.is_set():
            try:
                pipeline.ledger.check()
            except LedgerError as error:
                errors.append(error)
            checks[0] += 1

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        report = pipeline.run()
    finally:
        done.set()
        watcher.join()
    assert not errors
    assert checks[0] > 10
    assert report.ledger["received"] == 3000
