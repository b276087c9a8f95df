"""Bursts: several shots, one decision; in the journal whole or not at all."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from libsedge.bursts import BurstOptions
from libsedge.commits import Commits
from libsedge.errors import ConfigError
from libsedge.frame import FLAG_DARK, Frame
from libsedge.journal import Journal, Written
from libsedge.journal_reader import JournalReader
from libsedge.pipeline import Pipeline
from libsedge.sinks.jsonl import JsonLines, read_jsonl
from list_source import ListSource, frame
from mean_classifier import MeanClassifier


def run(path: Path, frames: list[Frame | None], spec: str, **options):
    source = ListSource(frames)
    journal = options.pop("journal", None)
    journal = Journal(path) if journal is None else journal  # an empty journal is false
    gap = options.pop("gap_s", 2.0)
    pipeline = Pipeline(source, MeanClassifier(), journal, burst=BurstOptions.parse(spec, gap), **options)
    try:
        report = pipeline.run()
    finally:
        journal.close()
    with JournalReader(path) as reader:
        return report, source, list(reader.records()), list(reader.bursts())


def at(sequence: int, value: float, metres: float = 2.0, flags: int = 0) -> Frame:
    plain = frame(sequence, value, flags=flags)
    return Frame(5, 0, sequence, plain.time_ns, 100, int(metres * 1000), flags, plain.values)


def test_vote_takes_the_majority(tmp_path: Path) -> None:
    values = [200, 200, 50, 50, 50, 200]
    report, _, rows, bursts = run(tmp_path / "j", [at(i, v) for i, v in enumerate(values)], "vote:3")
    assert [(b.first, b.last, b.label, b.accepted, b.shots, b.used) for b in bursts] == [
        (0, 2, "high", True, 3, 3),
        (3, 5, "low", True, 3, 3),
    ]
    assert bursts[0].confidence == pytest.approx(2 / 3, abs=1e-6)
    assert [row.label for row in rows] == ["high", "high", "low", "low", "low", "high"]
    assert report.bursts == {"high": 1, "low": 1}


def test_half_of_the_shots_is_no_majority(tmp_path: Path) -> None:
    _, _, _, bursts = run(tmp_path / "j", [at(i, v) for i, v in enumerate([200, 200, 50, 50])], "vote:4")
    assert [(b.accepted, b.reason) for b in bursts] == [(False, "no_majority")]


def test_average_decides_on_the_mean_of_usable_shots(tmp_path: Path) -> None:
    """Shots of 90, 90 and 150: the vote says low, the mean, 110, high; the one without a number counts for nothing."""
    frames = [at(0, 90), at(1, 90), at(2, 150), at(3, np.nan)]
    _, _, rows, bursts = run(tmp_path / "j", frames, "average:4")
    assert [(b.label, b.shots, b.used, b.mode) for b in bursts] == [("high", 4, 3, "average")]
    assert [(row.role, row.label, row.reason) for row in rows] == [
        ("averaged", None, None),
        ("averaged", None, None),
        ("averaged", None, None),
        ("light", None, "non_finite"),
    ]
    _, _, _, voted = run(tmp_path / "k", frames[:3], "vote:3")
    assert voted[0].label == "low"


def test_no_usable_shot(tmp_path: Path) -> None:
    for mode, reason in (("average", "no_usable_shot"), ("vote", "no_accepted_shot")):
        _, _, _, bursts = run(tmp_path / mode, [at(0, np.nan), at(1, np.inf)], f"{mode}:2")
        assert [(b.label, b.accepted, b.reason) for b in bursts] == [(None, False, reason)]


def test_another_distance_ends_a_burst_and_dark_frames_do_not(tmp_path: Path) -> None:
    frames = [
        at(0, 200),
        at(1, 10, flags=FLAG_DARK),
        at(2, 200),
        at(3, 200, metres=5.0),
        at(4, 200, metres=5.0),
    ]
    _, _, rows, bursts = run(tmp_path / "j", frames, "vote:8")
    assert [(b.first, b.last, b.shots, b.distance_mm) for b in bursts] == [(0, 2, 2, 2000), (3, 4, 2, 5000)]
    assert [row.role for row in rows] == ["light", "dark", "light", "light", "light"]


def test_a_pause_ends_a_burst(tmp_path: Path) -> None:
    class Pausing(ListSource):
        def __iter__(self):
            yield at(0, 200)
            deadline = time.monotonic() + 20
            while not self.acknowledged and time.monotonic() < deadline:
                time.sleep(0.01)
                yield None
            yield at(1, 200)

    source, journal = Pausing([]), Journal(tmp_path / "j")
    Pipeline(source, MeanClassifier(), journal, burst=BurstOptions("vote", 8, 0.05)).run()
    journal.close()
    with JournalReader(tmp_path / "j") as reader:
        assert [(b.first, b.last) for b in reader.bursts()] == [(0, 0), (1, 1)]


class Committed(Journal):
    """Notes the sequence numbers of every commit."""

    def write(self, records, bursts=()) -> Written:
        self.commits = [*getattr(self, "commits", []), [r.key.sequence for r in records]]
        return super().write(records, bursts)


def commits(tmp_path: Path) -> list[list[int]]:
    journal = Committed(tmp_path / "j")
    source = ListSource([at(i, 200) for i in range(20)])
    Pipeline(source, MeanClassifier(), journal, batch=3, burst=BurstOptions.parse("vote:5")).run()
    journal.close()
    assert source.acknowledged == [key for key in source.acknowledged if key.sequence < 20]
    assert len(source.acknowledged) == 20
    return journal.commits


def whole(all_commits: list[list[int]]) -> bool:
    return all(len(c) % 5 == 0 for c in all_commits)


def test_a_burst_is_committed_whole(tmp_path: Path) -> None:
    assert whole(commits(tmp_path))


def test_a_pipeline_that_commits_open_bursts_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control of the test above."""
    monkeypatch.setattr(Commits, "waiting", property(lambda self: len(self.decided)))
    assert not whole(commits(tmp_path))


def test_a_burst_that_the_disk_refused_is_not_reported(tmp_path: Path) -> None:
    class Refusing(Journal):
        def write(self, records, bursts=()) -> Written:
            return Written(failed=[record.key for record in records], error="disk full")

    journal = Refusing(tmp_path / "j")
    report, source, rows, bursts = run(
        tmp_path / "j", [at(i, 200) for i in range(4)], "vote:2", journal=journal
    )
    assert (report.bursts, source.acknowledged, rows, bursts) == ({}, [], [], [])
    assert report.ledger["unjournaled"] == 4


def test_sinks_get_the_bursts(tmp_path: Path) -> None:
    sink = JsonLines(tmp_path / "log.jsonl")
    run(tmp_path / "j", [at(i, 200) for i in range(4)], "vote:2", sinks=[sink])
    sink.close()
    lines = [row for row in read_jsonl(tmp_path / "log.jsonl") if "burst" in row]
    assert [(row["sequence"], row["last"], row["label"]) for row in lines] == [(0, 1, "high"), (2, 3, "high")]


def test_a_changed_burst_row_is_never_given_out(tmp_path: Path) -> None:
    run(tmp_path / "j", [at(i, 200) for i in range(4)], "vote:2")
    journal = Journal(tmp_path / "j")
    journal._db.execute("UPDATE bursts SET label = 'low' WHERE first = 0")
    journal.close()
    with JournalReader(tmp_path / "j") as reader:
        assert [b.first for b in reader.bursts()] == [2]
        assert reader.damaged == 1
        assert not reader.verify().ok


@pytest.mark.parametrize(
    "text", ["", "vote", "vote:", "vote:1", "vote:x", "mean:8", "vote:2000", "average:-3"]
)
def test_bad_options_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="burst"):
        BurstOptions.parse(text)


def test_late_decisions_are_counted(tmp_path: Path) -> None:
    def late(deadline_s: float) -> int | None:
        journal = Journal(tmp_path / f"{deadline_s}")
        pipeline = Pipeline(
            ListSource([at(i, 200) for i in range(5)]), MeanClassifier(0.01), journal, deadline_s=deadline_s
        )
        report = pipeline.run()
        journal.close()
        assert report.stages["queue"]["count"] == 5
        return report.deadline_missed

    assert late(0.005) == 5
    assert late(60.0) == 0


def test_threads_end(tmp_path: Path) -> None:
    before = threading.active_count()
    run(tmp_path / "j", [at(0, 200)], "vote:8")
    assert threading.active_count() == before
