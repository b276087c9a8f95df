"""The journal: durable before acknowledged, idempotent, of one stream, never half-believed."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from libsedge.errors import JournalError
from libsedge.journal import Journal, Record
from libsedge.ledger import Key

#: Writes rows in batches of 8 and prints "ack N" for each; argv: journal, ack before commit (0 or 1).
WRITER = """
import sys
import time
from libsedge.journal import Journal, Record
from libsedge.ledger import Key
early = sys.argv[2] == "1"
journal = Journal(sys.argv[1], stream=9, model="m")
out = sys.stdout
n = len(journal)
while True:
    keys = [Key(9, 0, n + i) for i in range(8)]
    records = [Record(k, 1, None, "light", "iron", .5, True, None, (.5, .5), "m", k.sequence) for k in keys]
    if early:
        out.write("".join(f"ack {k.sequence}\\n" for k in keys)); out.flush()
        time.sleep(0.002)  # a window that kills hit on a busy machine, too, whose time goes into synchronising
    written = journal.write(records)
    assert not written.failed, written.error
    if not early:
        out.write("".join(f"ack {k.sequence}\\n" for k in written.stored + written.duplicate)); out.flush()
    n += 8
"""


def record(sequence: int, **changes: object) -> Record:
    values: dict = {
        "key": Key(9, 0, sequence),
        "time_ns": 1_700_000_000_000_000_000,
        "distance_mm": 2300,
        "role": "light",
        "label": "basalt",
        "confidence": 0.75,
        "accepted": True,
        "reason": None,
        "probabilities": (0.75, 0.25),
        "model": "ab" * 32,
        "frame_crc": 0xDEADBEEF,
    }
    return Record(**(values | changes))


def test_rows_come_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    rows = [
        record(
            0, role="dark", label=None, confidence=None, accepted=None, probabilities=None, distance_mm=None
        ),
        record(1, accepted=False, reason="too_dim", label=None, confidence=None, probabilities=None),
        record(2),
        record(2**63 - 1, time_ns=2**64 - 1),
    ]
    journal = Journal(path, stream=9, model="ab" * 32)
    assert journal.write(rows).stored == [row.key for row in rows]
    assert journal.last is None
    assert not journal.may_hold(rows[0].key)
    journal.close()
    again = Journal(path, model="cd" * 32)
    assert again.last == rows[-1].key
    assert again.may_hold(rows[-1].key)
    assert not again.may_hold(Key(9, 0, 2**63))
    assert not again.may_hold(Key(9, 1, 0))
    assert again.stream == 9
    assert list(again) == rows
    assert again.models() == ["ab" * 32, "cd" * 32]
    again.close()


def test_sequence_of_64_bits_keeps_its_bits(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run.db", stream=9)
    assert journal.write([record(2**64 - 1)]).stored == [Key(9, 0, 2**64 - 1)]
    assert journal.contains(Key(9, 0, 2**64 - 1))
    assert [row.key.sequence for row in journal] == [2**64 - 1]
    journal.close()


def test_settings_are_the_durable_ones(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run.db", stream=9)
    assert journal._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert journal._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    journal.close()


def test_again_is_a_duplicate_and_changes_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run.db", stream=9)
    journal.write([record(1)])
    written = journal.write([record(1, label="another"), record(2)])
    assert (written.stored, written.duplicate) == ([Key(9, 0, 2)], [Key(9, 0, 1)])
    assert [row.label for row in journal] == ["basalt", "basalt"]
    journal.close()


def test_other_streams_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    Journal(path, stream=9).close()
    with pytest.raises(JournalError, match=r"run\.db: stream = 10: .*belongs to stream 9"):
        Journal(path, stream=10)
    late = Journal(path)
    with pytest.raises(JournalError, match="stream = 11"):
        late.bind(11)
    late.close()


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b"not a database, only text\n" * 99, "cannot be used"),
        (b"SQLite format 3\0" + b"\xff" * 4080, "cannot"),
    ],
)
def test_file_that_is_no_database(tmp_path: Path, content: bytes, field: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(JournalError, match=field):
        Journal(path, stream=1)
    assert path.read_bytes() == content


def test_somebody_elses_database(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    theirs = sqlite3.connect(path)
    theirs.execute("CREATE TABLE frames (a)")
    theirs.commit()
    theirs.close()
    before = path.read_bytes()
    with pytest.raises(JournalError, match="application_id = 0"):
        Journal(path, stream=1)
    assert path.read_bytes() == before


def test_other_schema(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    journal = Journal(path, stream=1)
    journal._db.execute("UPDATE meta SET value = '99' WHERE field = 'schema'")
    journal.close()
    with pytest.raises(JournalError, match="schema = '99'"):
        Journal(path)


def test_missing_folder_and_folder_as_file(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="folder"):
        Journal(tmp_path / "absent" / "run.db")
    with pytest.raises(JournalError, match="cannot be used"):
        Journal(tmp_path)


def test_full_disk_is_counted_and_recovers(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run.db", stream=9)
    journal.write([record(0)])
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count = {pages}")  # SQLite answers SQLITE_FULL, as on a full disk
    written = journal.write([record(i, label="x" * 3000) for i in range(1, 20)])
    assert not written.stored
    assert written.failed == [Key(9, 0, i) for i in range(1, 20)]
    assert "full" in str(written.error)
    assert journal.write([record(1)]).stored == [Key(9, 0, 1)]  # reopened, without the limit
    assert [row.key.sequence for row in journal] == [0, 1]
    journal.close()


def test_disk_gone_for_a_while(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    journal = Journal(folder / "run.db", stream=9)
    journal.write([record(0)])
    journal.close()
    folder.rename(tmp_path / "away")
    assert journal.write([record(1)]).failed == [Key(9, 0, 1)]
    assert not journal.contains(Key(9, 0, 0))
    (tmp_path / "away").rename(folder)
    assert journal.write([record(1)]).stored == [Key(9, 0, 1)]
    journal.close()


def kill_at_random(path: Path, early: bool, seed: int) -> tuple[set[int], list[int]]:
    """Run the writer, SIGKILL it after a random time; what it acknowledged, and the rows that are there."""
    wait = random.Random(seed).uniform(0.0, 0.03)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(int(early))],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    assert writer.stdout is not None
    first = writer.stdout.readline()  # it is running
    time.sleep(wait)
    writer.send_signal(signal.SIGKILL)
    rest = writer.stdout.read()
    writer.wait()
    writer.stdout.close()
    acknowledged = {int(line.split()[1]) for line in (first + rest).split("\n") if line.startswith("ack ")}
    journal = Journal(path, stream=9)
    rows = [row.key.sequence for row in journal]
    journal.close()
    return acknowledged, rows


def test_kill_loses_no_acknowledged_row(tmp_path: Path) -> None:
    total = 0
    acknowledged: set[int] = set()
    for seed in range(20):  # one journal, killed and resumed 20 times
        some, rows = kill_at_random(tmp_path / "run.db", early=False, seed=seed)
        acknowledged |= some
        total += len(some)
        assert acknowledged <= set(rows)
        assert len(rows) == len(set(rows))
        assert rows == list(range(len(rows)))  # whole batches, no gap
    assert total == len(acknowledged) > 20 * 8


def test_negative_control_ack_before_commit_is_caught(tmp_path: Path) -> None:
    """The same check goes red for a writer that acknowledges first: some kill hits between the two."""
    for seed in range(60):
        acknowledged, rows = kill_at_random(tmp_path / f"{seed}.db", early=True, seed=seed)
        if acknowledged - set(rows):
            return
    pytest.fail("60 kills never hit the window between acknowledgement and commit")
