"""The pipeline: every frame accounted, whatever the source, the queue, the disk or a broken program does."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from libsedge.classifier import Decision
from libsedge.errors import ConfigError, JournalError
from libsedge.frame import FLAG_DARK, FLAG_PASSIVE, Frame
from libsedge.journal import Journal, Written
from libsedge.latency import Latency
from libsedge.ledger import Key
from libsedge.pipeline import Pipeline
from list_source import ListSink, ListSource, frame
from mean_classifier import MeanClassifier


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "run.db")
    yield journal
    journal.close()


def test_everything_comes_through(journal: Journal) -> None:
    source, sink = ListSource(frame(i, 50 + 100 * (i % 2)) for i in range(100)), ListSink()
    report = Pipeline(source, MeanClassifier(), journal, [sink], batch=7).run()
    assert report.ledger["received"] == report.ledger["journaled"] == 100
    assert report.ledger["unaccounted"] == report.ledger["in_flight"] == 0
    assert report.labels == {"high": 50, "low": 50}
    assert report.latency["count"] == 100
    assert source.acknowledged == [Key(5, 0, i) for i in range(100)]
    assert source.closed == 1
    rows = list(journal)
    assert [row.key.sequence for row in rows] == list(range(100))
    assert [row.label for row in rows] == ["low", "high"] * 50
    assert [row.time_ns for row in rows] == [10**18 + i for i in range(100)]  # time travels with its frame
    assert sink.records == rows
    assert journal.stream == 5


def test_a_lost_frame_moves_nobody_elses_time(journal: Journal) -> None:
    Pipeline(ListSource(frame(i) for i in range(20) if i not in (3, 11)), MeanClassifier(), journal).run()
    assert all(row.time_ns == 10**18 + row.key.sequence for row in journal)


def test_dark_passive_and_wrong_frames(journal: Journal) -> None:
    frames = [
        frame(0, 150),  # no dark yet: high
        frame(1, 120, flags=FLAG_DARK),
        frame(2, 150),  # 30 above the dark: low
        frame(3, 999, flags=FLAG_PASSIVE),
        frame(4, np.nan, flags=FLAG_DARK),  # journaled, and never used
        frame(5, 150),
        frame(6, channels=7),
        frame(7, flags=FLAG_DARK, channels=9),
        frame(8, stream=6),
        frame(9, np.inf),
        frame(10, 666),
    ]
    source = ListSource(frames)
    report = Pipeline(source, MeanClassifier(), journal).run()
    rows = {row.key.sequence: row for row in journal}
    assert sorted(rows) == [0, 1, 2, 3, 4, 5, 9, 10]
    assert [rows[i].label for i in (0, 2, 5)] == ["high", "low", "low"]
    assert [rows[i].role for i in (1, 3, 4)] == ["dark", "passive", "dark"]
    assert [(rows[i].accepted, rows[i].reason) for i in (1, 3, 4)] == [
        (None, None),
        (None, None),
        (False, "non_finite"),
    ]
    assert (rows[9].accepted, rows[9].reason) == (False, "non_finite")
    assert (rows[10].accepted, rows[10].reason) == (False, "error: SpectrumError")
    assert report.ledger["rejected"] == {"wrong_length": 2, "wrong_stream": 1}
    assert report.ledger["journaled"] == 8
    assert sorted(key.sequence for key in source.forgotten) == [6, 7, 8]
    assert report.ledger["streams"][0]["gaps"] == 1  # 8; 6 and 7 did arrive
    assert report.roles == {"dark": 2, "light": 5, "passive": 1}
    assert report.not_accepted == {"error: SpectrumError": 1, "non_finite": 2}


def test_duplicates_within_a_run_and_across_runs(tmp_path: Path) -> None:
    numbers = [0, 1, 1, 2, 0, 3, 3, 3]
    for run in range(2):
        journal = Journal(tmp_path / "run.db")
        source = ListSource(frame(i) for i in numbers)
        report = Pipeline(source, MeanClassifier(), journal, batch=3).run()
        journal.close()
        assert report.ledger["journaled"] == (4 if run == 0 else 0)
        assert report.ledger["duplicate"] == (4 if run == 0 else 8)
        assert sorted(source.acknowledged) == sorted(Key(5, 0, i) for i in numbers)


def test_dark_of_an_earlier_run_is_used_again(tmp_path: Path) -> None:
    labels = []
    for numbers in ([0, 1], [0, 1, 2]):  # the same stream, cut off after two frames, then sent again
        journal = Journal(tmp_path / "run.db")
        frames = [frame(0, 120, flags=FLAG_DARK), *(frame(i, 150) for i in numbers[1:])]
        Pipeline(ListSource(frames), MeanClassifier(), journal).run()
        labels = [row.label for row in journal]
        journal.close()
    assert labels == [None, "low", "low"]


def test_other_streams_journal_is_refused_before_anything(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run.db", stream=5)
    with pytest.raises(JournalError, match="stream = 6"):
        Pipeline(ListSource([], stream_id=6), MeanClassifier(), journal)
    report = Pipeline(ListSource([frame(0, stream=6)]), MeanClassifier(), journal).run()
    assert report.ledger["rejected"] == {"wrong_stream": 1}
    journal.close()


@pytest.mark.parametrize("policy", ["drop-oldest", "drop-newest"])
def test_overload_is_shed_and_counted(journal: Journal, policy: str) -> None:
    source = ListSource(frame(i) for i in range(300))
    report = Pipeline(source, MeanClassifier(0.001), journal, policy=policy, capacity=4).run()
    shed = report.ledger["shed"][policy]
    assert shed > 0
    assert report.ledger["journaled"] == 300 - shed
    assert sorted(source.acknowledged) == [row.key for row in journal]
    assert len(source.forgotten) == shed
    numbers = [row.key.sequence for row in journal]
    assert (299 if policy == "drop-oldest" else 0) in numbers
    assert report.ledger["streams"][0]["gaps"] == 0  # shed is not a gap: it did arrive


def test_block_loses_nothing_through_a_queue_of_one(journal: Journal) -> None:
    report = Pipeline(ListSource(frame(i) for i in range(200)), MeanClassifier(), journal, capacity=1).run()
    assert report.ledger["journaled"] == 200


def test_a_shed_frame_may_come_again(journal: Journal) -> None:
    frames = [frame(i) for i in range(100)]
    first = Pipeline(
        ListSource(frames), MeanClassifier(0.001), journal, policy="drop-newest", capacity=2
    ).run()
    assert first.ledger["shed"]
    again = Pipeline(ListSource(frames), MeanClassifier(), journal)
    journal.last = Key(5, 0, 99)
    second = again.run()
    assert second.ledger["journaled"] == 100 - first.ledger["journaled"]
    assert second.ledger["duplicate"] == first.ledger["journaled"]


class FailingJournal(Journal):
    """Refuses the batches whose numbers are in `refuse`, as a full disk does."""

    refuse: range = range(0)
    batches = 0

    def write(self, records, bursts=()) -> Written:
        self.batches += 1
        if self.batches - 1 in self.refuse:
            return Written(failed=[record.key for record in records], error="database or disk is full")
        return super().write(records)


def test_full_disk_goes_on_counts_and_takes_the_frames_when_sent_again(tmp_path: Path) -> None:
    journal = FailingJournal(tmp_path / "run.db", stream=5)
    journal.refuse = range(1, 3)
    numbers = [*range(40), *range(40)]  # the sender repeats everything, after the disk has space again
    source, sink = ListSource(frame(i) for i in numbers), ListSink()
    # The policy lets the worker alone decide, so every batch is of ten.
    pipeline = Pipeline(
        source, MeanClassifier(), journal, [sink], batch=10, policy="drop-oldest", capacity=100
    )
    report = pipeline.run()
    assert report.ledger["unjournaled"] == 20
    assert report.ledger["journaled"] == 40
    assert report.ledger["duplicate"] == 20
    assert report.journal_error == "database or disk is full"
    assert {row.key.sequence for row in journal} == set(range(40))
    assert len(source.acknowledged) == 60
    assert len(sink.records) == 40
    journal.close()


def test_duplicate_of_a_frame_that_the_disk_refused_is_not_acknowledged(tmp_path: Path) -> None:
    journal = FailingJournal(tmp_path / "run.db", stream=5)
    journal.refuse = range(0, 99)
    source = ListSource([frame(0), frame(0), frame(0)])
    report = Pipeline(source, MeanClassifier(), journal, batch=3).run()
    assert source.acknowledged == []
    assert report.ledger["unjournaled"] + report.ledger["duplicate"] == 3
    assert len(journal) == 0
    journal.close()


def test_broken_sink_does_not_stop_the_run(journal: Journal) -> None:
    report = Pipeline(
        ListSource(frame(i) for i in range(9)), MeanClassifier(), journal, [ListSink(True)]
    ).run()
    assert report.ledger["journaled"] == 9
    assert report.sink_errors == 9


def test_count_and_idle_exit(journal: Journal) -> None:
    report = Pipeline(
        ListSource((frame(i) for i in range(99)), endless=True), MeanClassifier(), journal, count=7
    ).run()
    assert report.ledger["received"] == report.ledger["journaled"] == 7
    begin = time.monotonic()
    report = Pipeline(ListSource([frame(50)], endless=True), MeanClassifier(), journal, idle_exit_s=0.2).run()
    assert report.ledger["journaled"] == 1
    assert 0.2 <= time.monotonic() - begin < 5


def test_stop_from_another_thread_leaves_nothing_in_flight(journal: Journal) -> None:
    source = ListSource((frame(i) for i in range(100_000)), endless=True)
    pipeline = Pipeline(source, MeanClassifier(0.0005), journal)
    threading.Timer(0.2, pipeline.stop).start()
    report = pipeline.run()
    assert 0 < report.ledger["received"] < 100_000
    assert report.ledger["received"] == report.ledger["journaled"] == len(journal)


def test_batch_is_committed_when_frames_are_slow(journal: Journal) -> None:
    source = ListSource([frame(0)], endless=True)
    pipeline = Pipeline(source, MeanClassifier(), journal, batch=1000, interval_s=0.05)
    before_the_end: list[Key] = []

    def watch() -> None:
        deadline = time.monotonic() + 20
        while not source.acknowledged and time.monotonic() < deadline:
            time.sleep(0.01)
        before_the_end.extend(source.acknowledged)
        pipeline.stop()

    watcher = threading.Thread(target=watch)
    watcher.start()
    pipeline.run()
    watcher.join()
    assert before_the_end == [Key(5, 0, 0)]


def test_refused_by_the_source_is_rejected_by_reason(journal: Journal) -> None:
    class Damaged(ListSource):
        def __iter__(self) -> Iterator[Frame | None]:
            for item in super().__iter__():
                self.refused["crc"] += 2
                yield item
            self.refused["truncated"] += 1

    report = Pipeline(Damaged(frame(i) for i in range(5)), MeanClassifier(), journal).run()
    assert report.ledger["rejected"] == {"crc": 10, "truncated": 1}
    assert report.ledger["received"] == 16


def test_fault_of_the_source_or_the_program_is_raised_not_swallowed(journal: Journal) -> None:
    class Broken(ListSource):
        def __iter__(self) -> Iterator[Frame | None]:
            yield frame(0)
            raise ZeroDivisionError

    source = Broken([])
    with pytest.raises(ZeroDivisionError):
        Pipeline(source, MeanClassifier(), journal).run()
    assert source.closed
    assert len(journal) == 1

    class Bug(MeanClassifier):
        def decide(self, *arguments: object) -> Decision:
            raise ZeroDivisionError

    source = ListSource((frame(i) for i in range(1, 500)), endless=True)
    with pytest.raises(ZeroDivisionError):
        Pipeline(source, Bug(), journal).run()
    assert source.closed


# --- negative controls: a broken program must turn red


@pytest.mark.parametrize(
    "options",
    [
        {"policy": "pray"},
        {"capacity": 0},
        {"batch": 0},
        {"count": 0},
        {"idle_exit_s": 0.0},
        {"interval_s": -1.0},
    ],
)
def test_options_out_of_range(journal: Journal, options: dict) -> None:
    with pytest.raises(ConfigError):
        Pipeline(ListSource([]), MeanClassifier(), journal, **options)


def test_latency_histogram_against_the_sorted_list() -> None:
    rng = np.random.default_rng(0)
    times = rng.lognormal(-7, 1.5, 5000)
    latency = Latency()
    for t in times:
        latency.add(float(t))
    assert latency.max_s == times.max()
    for percent in (1, 50, 90, 99, 100):
        exact = np.sort(times)[math.ceil(len(times) * percent / 100) - 1]
        assert exact <= latency.percentile(percent) <= exact * 2 ** (1 / 32) * (1 + 1e-12)
    assert Latency().summary() == {"count": 0, "p50_ms": 0.0, "p99_ms": 0.0, "max_ms": 0.0}
