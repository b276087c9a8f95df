"""Queries, exports and verification of a journal; what changed on the disk is never given out."""

from __future__ import annotations

import csv
import json
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from libsedge.cli import main
from libsedge.errors import ConfigError, JournalError
from libsedge.journal import Journal, Record
from libsedge.journal_reader import JournalReader, Query, export, parse_time, show_time
from libsedge.journal_rows import row_crc, to_row
from libsedge.ledger import Key

LABELS = ("basalt", "gypsum", "olivine")
T0 = 1_800_000_000_000_000_000


def record(i: int, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "key": Key(9, i // 100, i % 100),
        "time_ns": T0 + i * 10**9,
        "distance_mm": 1000 + i,
        "role": "light",
        "label": LABELS[i % 3],
        "confidence": 0.5 + (i % 50) / 100,
        "accepted": i % 5 != 0,
        "reason": None if i % 5 else "low_confidence",
        "probabilities": (0.25, 0.75),
        "model": "ab" * 32,
        "frame_crc": 0xDEADBEEF ^ i,
    }
    if i % 50 == 0:
        nothing = ("label", "confidence", "accepted", "reason", "probabilities", "distance_mm")
        values |= dict.fromkeys(nothing) | {"role": "dark", "time_ns": 0}
    return Record(**(values | changes))


def make(path: Path, n: int = 250) -> list[Record]:
    rows = [record(i) for i in range(n)]
    journal = Journal(path, stream=9, model="ab" * 32)
    assert len(journal.write(rows).stored) == n
    journal.close()
    return rows


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["journal", *map(str, arguments)])


def test_rows_and_filters(tmp_path: Path) -> None:
    rows = make(tmp_path / "run.db")
    with JournalReader(tmp_path / "run.db") as reader:
        assert list(reader.records()) == rows
        for query, wanted in {
            Query(stream=9): lambda r: True,
            Query(stream=8): lambda r: False,
            Query(epoch=1): lambda r: r.key.epoch == 1,
            Query(label="gypsum", accepted=True): lambda r: r.label == "gypsum" and r.accepted,
            Query(accepted=False): lambda r: r.accepted is False,
            Query(role="dark"): lambda r: r.role == "dark",
            Query(reason="low_confidence"): lambda r: r.reason == "low_confidence",
            Query(since_ns=T0 + 10**9, until_ns=T0 + 60 * 10**9): lambda r: (
                r.time_ns and T0 < r.time_ns < T0 + 60 * 10**9
            ),
        }.items():
            assert list(reader.records(query)) == [row for row in rows if wanted(row)], query
        assert reader.damaged == 0


def test_reading_while_a_run_writes(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run.db", stream=9)
    journal.write([record(1)])
    with JournalReader(tmp_path / "run.db") as reader:
        assert len(list(reader.records())) == 1
        journal.write([record(2), record(3)])
        assert len(list(reader.records())) == 3
        assert reader.verify().ok
    assert journal.write([record(4)]).stored
    journal.close()


def test_times() -> None:
    assert parse_time("2027-01-15T08:00:00") == T0
    assert parse_time("2027-01-15T09:00:00+01:00") == T0
    assert parse_time("2027-01-15T08:00:00.000001Z") == T0 + 1000
    assert parse_time(str(T0)) == T0
    assert show_time(T0 + 1) == "2027-01-15T08:00:00.000000001Z"
    assert show_time(0) == ""
    assert show_time(2**64 - 1).startswith("2554-")
    with pytest.raises(ConfigError, match="yesterday"):
        parse_time("yesterday")


def test_csv_and_jsonl_hold_every_column(tmp_path: Path) -> None:
    rows = make(tmp_path / "run.db")
    with JournalReader(tmp_path / "run.db") as reader:
        assert export(reader.records(), tmp_path / "a.csv") == 250
        assert export(reader.records(), tmp_path / "a.jsonl") == 250
    with open(tmp_path / "a.csv", encoding="utf-8", newline="") as file:
        got = list(csv.DictReader(file))
    assert [int(row["sequence"]) for row in got] == [row.key.sequence for row in rows]
    assert [row["label"] for row in got] == [row.label or "" for row in rows]
    assert [row["accepted"] for row in got] == [
        {True: "1", False: "0", None: ""}[row.accepted] for row in rows
    ]
    assert json.loads(got[1]["probabilities"]) == [0.25, 0.75]
    assert got[1]["time"] == show_time(T0 + 10**9)
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["frame_crc"] for line in lines] == [row.frame_crc for row in rows]


def test_parquet_holds_every_column_with_its_type(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    rows = make(tmp_path / "run.db", 20)
    journal = Journal(tmp_path / "run.db")
    journal.write([record(19, key=Key(9, 9, 2**64 - 1), time_ns=2**64 - 1)])
    journal.close()
    with JournalReader(tmp_path / "run.db") as reader:
        export(reader.records(), tmp_path / "a.parquet")
    table = parquet.read_table(tmp_path / "a.parquet").to_pylist()
    assert len(table) == 21
    assert table[-1]["sequence"] == table[-1]["time_ns"] == 2**64 - 1
    for got, row in zip(table[:-1], rows, strict=True):
        assert (got["stream"], got["epoch"], got["sequence"]) == row.key
        assert got["probabilities"] == (None if row.probabilities is None else list(row.probabilities))
        for name in ("label", "confidence", "accepted", "reason", "distance_mm", "time_ns", "model"):
            assert got[name] == getattr(row, name)


def test_export_is_all_or_nothing(tmp_path: Path) -> None:
    make(tmp_path / "run.db")
    out = tmp_path / "a.csv"
    out.write_text("before")

    def torn() -> Any:
        yield record(1)
        raise JournalError("on purpose")

    with pytest.raises(JournalError):
        export(torn(), out)
    assert out.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "run.db"]
    with pytest.raises(ConfigError, match="must end in"):
        export([], tmp_path / "a.xlsx")
    with pytest.raises(ConfigError, match="cannot be written"):
        export([], tmp_path / "none" / "a.csv")


# --- bit rot


def emitted(path: Path) -> tuple[list[Record], bool]:
    """Every row that is given out, and whether anything said that the file is damaged."""
    rows: list[Record] = []
    try:
        with JournalReader(path) as reader:
            try:
                rows.extend(reader.records())
            except JournalError:
                return rows, True
            return rows, reader.damaged > 0 or not reader.verify().ok
    except JournalError:
        return rows, True


@pytest.mark.parametrize("part", range(2))
def test_no_flipped_bit_gives_a_changed_row(tmp_path: Path, part: int) -> None:
    """A bit flips anywhere in the file: a changed row is never given out, and no row is missed silently."""
    path = tmp_path / "run.db"
    original = make(path)
    whole = path.read_bytes()
    known = set(original)
    rng = random.Random(part)
    said = 0
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        rows, told = emitted(path)
        assert known.issuperset(rows)
        assert told or rows == original
        said += told
    assert said > 30


def test_negative_control_without_the_row_crc_changed_rows_come_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.db"
    known = set(make(path))
    monkeypatch.setattr("libsedge.journal_rows.row_crc", lambda row: _AnyCrc())
    whole, rng = path.read_bytes(), random.Random(0)
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            rows, _ = emitted(path)
        except (TypeError, ValueError):  # what a record cannot be made of
            return
        if not known.issuperset(rows):
            return
    pytest.fail("400 flipped bits changed no row that was given out")


class _AnyCrc:
    def __ne__(self, other: object) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def test_writer_refuses_to_read_a_damaged_row(tmp_path: Path) -> None:
    make(tmp_path / "run.db", 3)
    db = sqlite3.connect(tmp_path / "run.db")
    db.execute("UPDATE frames SET label = 'granite' WHERE sequence = 1")
    db.commit()
    db.close()
    journal = Journal(tmp_path / "run.db")
    with pytest.raises(JournalError, match="CRC does not hold"):
        list(journal)
    journal.close()
    with JournalReader(tmp_path / "run.db") as reader:
        assert [row.key.sequence for row in reader.records()] == [0, 2]
        assert reader.damaged == 1
        assert reader.verify().damaged == [(9, 0, 1)]


def test_row_crc_is_what_the_text_says() -> None:
    """The checksum can be computed by anybody from the documentation: JSON list, CRC-32C."""
    row = to_row(record(7))
    text = json.dumps(list(row[:-1]), separators=(",", ":")).encode()
    crc = 0xFFFFFFFF
    for byte in text:  # bit by bit, reflected 0x1EDC6F41
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    assert row[-1] == crc ^ 0xFFFFFFFF
    assert row_crc((1, b"bytes")) == -1


# --- schema 1


def as_schema_1(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("ALTER TABLE frames DROP COLUMN row_crc")
    db.execute("UPDATE meta SET value = '1' WHERE field = 'schema'")
    db.commit()
    db.close()


def test_schema_1_is_migrated_when_it_is_opened_to_write(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    rows = make(path)
    as_schema_1(path)
    with pytest.raises(JournalError, match=r"schema = '1': .*journal migrate"):
        JournalReader(path)
    journal = Journal(path, stream=9)
    assert list(journal) == rows
    assert journal.write([record(3), record(250)]).duplicate == [record(3).key]
    assert journal._meta("migrated_from") == "1"
    journal.close()
    with JournalReader(path) as reader:
        assert reader.verify().ok
        assert len(list(reader.records())) == 251


def test_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    make(path)
    as_schema_1(path)
    db = sqlite3.connect(path)
    db.execute("CREATE TRIGGER no BEFORE UPDATE ON frames BEGIN SELECT RAISE(ABORT, 'no'); END")
    db.commit()
    before = list(db.execute("SELECT * FROM frames"))
    with pytest.raises(JournalError):
        Journal(path)
    assert list(db.execute("SELECT * FROM frames")) == before
    assert db.execute("SELECT value FROM meta WHERE field = 'schema'").fetchone() == ("1",)
    db.close()


# --- the command


def test_commands(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    rows = make(path)
    lines = call("query", path, "--label", "basalt", "--json", "--since", "2027-01-15T08:00:10")
    assert lines.exit_code == 0, lines.output
    wanted = [row for row in rows if row.label == "basalt" and row.time_ns >= T0 + 10**10]
    assert [json.loads(line)["frame_crc"] for line in lines.stdout.splitlines()] == [
        row.frame_crc for row in wanted
    ]
    text = call("query", path, "--limit", 2)
    assert text.stdout.splitlines() == [
        "0x00000009 0 0  time unknown  dark",
        "0x00000009 0 1  2027-01-15T08:00:01.000000000Z  1.001 m  gypsum 0.510 accepted",
    ]
    counts = json.loads(call("count", path, "--json").stdout)
    assert counts["rows"] == 250
    assert counts["roles"] == {"dark": 5, "light": 245}
    assert sum(counts["labels"].values()) + sum(counts["not_accepted"].values()) == 245
    assert "low_confidence 45" in call("count", path).stdout
    done = call("export", path, "-o", tmp_path / "a.csv", "--accepted")
    assert done.stdout == f"200 rows in {tmp_path / 'a.csv'}\n"
    verified = call("verify", path)
    assert (verified.exit_code, verified.stdout) == (0, "250 rows, 0 damaged\nok\n")
    as_schema_1(path)
    assert call("verify", path).exit_code == 2
    assert call("migrate", path).exit_code == 0
    assert json.loads(call("verify", path, "--json").stdout)["ok"] is True


def test_commands_on_a_damaged_journal_exit_with_1(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    make(path, 10)
    db = sqlite3.connect(path)
    db.execute("UPDATE frames SET confidence = 0.99 WHERE sequence = 4")
    db.execute("DELETE FROM frames WHERE sequence = 7")
    db.commit()
    db.close()
    verified = call("verify", path)
    assert verified.exit_code == 1
    assert "damaged: stream 9 epoch 0 sequence 4" in verified.stdout
    assert "stream:epoch 9:0: 2 sequence numbers" in verified.stdout
    assert verified.stdout.endswith("DAMAGED\n")
    for command in (("query",), ("count",), ("export", "-o", tmp_path / "a.csv")):
        result = call(command[0], path, *command[1:])
        assert result.exit_code == 1
        assert "1 damaged rows left out" in result.stderr
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 1 + 8


def test_mistakes_are_one_line_and_exit_code_2(tmp_path: Path) -> None:
    make(tmp_path / "run.db", 3)
    (tmp_path / "text").write_text("no database" * 200)
    for arguments in (
        ("query", tmp_path / "none.db"),
        ("query", tmp_path / "text"),
        ("query", tmp_path / "run.db", "--limit", 0),
        ("query", tmp_path / "run.db", "--since", "soon"),
        ("export", tmp_path / "run.db", "-o", tmp_path / "a.txt"),
        ("verify", tmp_path),
        ("migrate", tmp_path / "none.db"),
    ):
        result = call(*arguments)
        assert result.exit_code == 2, (arguments, result.output)
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
    before = (tmp_path / "run.db").read_bytes()
    call("export", tmp_path / "run.db", "-o", tmp_path / "run.db")
    assert (tmp_path / "run.db").read_bytes() == before
