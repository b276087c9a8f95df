"""Reading a journal without writing to it, also while a run writes: queries, counts, exports, verification.

A row whose CRC does not hold is never given out: it is counted in `damaged`. Rows come in the order of their
key (stream, epoch, sequence), whatever the clocks said.
"""

from __future__ import annotations

import csv
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from libsedge import extras
from libsedge.errors import ConfigError, JournalError
from libsedge.journal import APPLICATION_ID, SCHEMA
from libsedge.journal_rows import BURST_COLUMNS, COLUMNS, BurstRecord, Record, burst_from_row, from_row
from libsedge.ledger import Key
from libsedge.sinks.jsonl import as_json

_BLOCK = 4096


@dataclass(frozen=True)
class Query:
    """Which rows; None = any. Times in ns since 1970, from `since_ns` on and before `until_ns`; a frame
    without a time (0) is in no span."""

    stream: int | None = None
    epoch: int | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    label: str | None = None
    role: str | None = None
    accepted: bool | None = None
    reason: str | None = None

    def takes(self, record: Record) -> bool:
        """True when the row is asked for."""
        pairs: tuple[tuple[object, object], ...] = (
            (self.stream, record.key.stream),
            (self.epoch, record.key.epoch),
            (self.label, record.label),
            (self.role, record.role),
            (self.accepted, record.accepted),
            (self.reason, record.reason),
        )
        if any(wanted is not None and wanted != value for wanted, value in pairs):
            return False
        if self.since_ns is None and self.until_ns is None:
            return True
        time_ns = record.time_ns
        return (
            time_ns != 0
            and (self.since_ns is None or time_ns >= self.since_ns)
            and (self.until_ns is None or time_ns < self.until_ns)
        )


def parse_time(text: str) -> int:
    """Nanoseconds since 1970 of ISO 8601 (`2026-11-22T10:00:00`, UTC where no zone is given) or of digits."""
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise ConfigError(
            "must be a time such as 2026-11-22T10:00:00 (UTC), or ns since 1970", field="time", value=text
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    since = moment - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return (since.days * 86400 + since.seconds) * 10**9 + since.microseconds * 1000


def show_time(time_ns: int) -> str:
    """ISO 8601 with nine digits, UTC; "" for 0 (unknown)."""
    seconds, rest = divmod(time_ns, 10**9)
    if time_ns == 0:
        return ""
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


@dataclass
class Verdict:
    """What `verify` found. `ok` when there is nothing to say against the file."""

    rows: int = 0
    damaged: list[tuple[Any, Any, Any]] = field(default_factory=list)  # keys, as they read now; first 100
    damaged_rows: int = 0
    problems: list[str] = field(default_factory=list)  # of the database's structure
    gaps: dict[tuple[int, int], int] = field(default_factory=dict)  # missing sequence numbers; no damage
    bursts: int = 0  # whole rows of `bursts`

    @property
    def ok(self) -> bool:
        return not self.damaged_rows and not self.problems


class JournalReader:
    """A journal, read only. Raises JournalError for a file that is none, or of another schema."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.damaged = 0
        if not self.path.is_file():
            why = "is not a regular file" if self.path.exists() else "does not exist"
            raise JournalError(why, file=self.path)
        uri = f"{self.path.absolute().as_uri()}?mode=ro"
        self._db = sqlite3.connect(uri, uri=True, timeout=5.0, isolation_level=None)
        self._db.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
        try:
            application = self._db.execute("PRAGMA application_id").fetchone()[0]
            if application != APPLICATION_ID:
                raise JournalError(
                    "is not a libsedge journal", file=self.path, field="application_id", value=application
                )
            schema = self._meta("schema")
            if schema == "1":
                raise JournalError(
                    "has no row checksums; `libsedge journal migrate` adds them",
                    file=self.path,
                    field="schema",
                    value=schema,
                )
            if schema != str(SCHEMA):
                raise JournalError(
                    f"this version reads schema {SCHEMA}", file=self.path, field="schema", value=schema
                )
        except sqlite3.Error as error:
            self.close()
            raise JournalError(f"cannot be read: {error}", file=self.path) from error
        except BaseException:
            self.close()
            raise

    def _meta(self, name: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE field = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def _rows(self, newest_first: bool = False) -> Iterator[tuple[Any, ...]]:
        columns = ", ".join((*COLUMNS, "row_crc"))
        order = ", ".join(f"{name}{' DESC' if newest_first else ''}" for name in COLUMNS[:3])
        try:
            yield from self._db.execute(f"SELECT {columns} FROM frames ORDER BY {order}")
        except sqlite3.Error as error:
            raise JournalError(f"cannot be read on from here: {error}", file=self.path) from error

    def records(self, query: Query = Query(), newest_first: bool = False) -> Iterator[Record]:
        """The rows that `query` asks for, in the order of their key or against it. Raises JournalError where the
        database itself is damaged; a row whose CRC does not hold is left out and counted in `damaged`."""
        self.damaged = 0
        for row in self._rows(newest_first):
            record = from_row(row)
            if record is None:
                self.damaged += 1
            elif query.takes(record):
                yield record

    def bursts(self) -> Iterator[BurstRecord]:
        """Every burst in the order of its first shot; none where no run made any. As `records` for damage."""
        self.damaged = 0
        columns = ", ".join((*BURST_COLUMNS, "row_crc"))
        try:
            if self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'bursts'").fetchone() is None:
                return
            for row in self._db.execute(f"SELECT {columns} FROM bursts ORDER BY stream, epoch, first, last"):
                burst = burst_from_row(row)
                if burst is None:
                    self.damaged += 1
                else:
                    yield burst
        except sqlite3.Error as error:
            raise JournalError(f"cannot be read on from here: {error}", file=self.path) from error

    def counts(self, query: Query = Query()) -> dict[str, Any]:
        """Rows in all, by role, label (accepted ones) and reason (the others), and the first and last time."""
        total, roles, labels, reasons = 0, Counter[str](), Counter[str](), Counter[str]()
        times: list[int] = []
        for record in self.records(query):
            total += 1
            roles[record.role] += 1
            if record.accepted:
                labels[str(record.label)] += 1
            elif record.reason is not None:
                reasons[record.reason] += 1
            if record.time_ns:
                times = [min([*times, record.time_ns]), max([*times, record.time_ns])]
        return {
            "rows": total,
            "roles": dict(sorted(roles.items())),
            "labels": dict(sorted(labels.items())),
            "not_accepted": dict(sorted(reasons.items())),
            "first": show_time(times[0]) if times else None,
            "last": show_time(times[1]) if times else None,
            "damaged": self.damaged,
        }

    def verify(self) -> Verdict:
        """Read everything: the database's structure (SQLite's integrity check) and every row's CRC."""
        verdict = Verdict()
        try:
            found = [str(text) for (text,) in self._db.execute("PRAGMA integrity_check(100)")]
            verdict.problems += [text for text in found if text != "ok"]
        except sqlite3.Error as error:
            verdict.problems.append(str(error))
        last: Key | None = None
        try:
            for row in self._rows():
                verdict.rows += 1
                record = from_row(row)
                if record is None:
                    verdict.damaged_rows += 1
                    if len(verdict.damaged) < 100:
                        verdict.damaged.append((row[0], row[1], row[2]))
                    continue
                key = record.key
                if last is not None and key[:2] == last[:2] and key.sequence > last.sequence + 1:
                    gap = key.sequence - last.sequence - 1
                    verdict.gaps[key[:2]] = verdict.gaps.get(key[:2], 0) + gap
                last = key
        except JournalError as error:
            verdict.problems.append(error.why)
        try:
            verdict.bursts = sum(1 for _ in self.bursts())
            if self.damaged:
                verdict.problems.append(f"{self.damaged} damaged rows in `bursts`")
        except JournalError as error:
            verdict.problems.append(error.why)
        return verdict

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> JournalReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def _finished(path: Path) -> Iterator[Path]:
    """A temporary name that becomes `path` when the block ends well, and nothing otherwise."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", file=path) from error
    finally:
        part.unlink(missing_ok=True)


def _flat(record: Record) -> dict[str, Any]:
    row: dict[str, Any] = dict(record.key._asdict())
    row |= {"time": show_time(record.time_ns)}
    row |= {name: getattr(record, name) for name in COLUMNS[3:]}
    return row


def _csv(records: Iterable[Record], path: Path) -> int:
    count = 0
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS[:3], "time", *COLUMNS[3:]])
        for record in records:
            count += 1
            row = _flat(record)
            if record.probabilities is not None:
                row["probabilities"] = json.dumps(record.probabilities)
            row["accepted"] = "" if record.accepted is None else int(record.accepted)
            writer.writerow(["" if value is None else value for value in row.values()])
    return count


def _parquet(records: Iterable[Record], path: Path) -> int:
    arrow: Any = extras.load("pyarrow", "parquet")
    parquet: Any = extras.load("pyarrow.parquet", "parquet")
    types = {
        "stream": arrow.uint32(),
        "epoch": arrow.uint32(),
        "sequence": arrow.uint64(),
        "time": arrow.string(),
        "time_ns": arrow.uint64(),
        "distance_mm": arrow.uint32(),
        "confidence": arrow.float64(),
        "accepted": arrow.bool_(),
        "probabilities": arrow.list_(arrow.float64()),
        "frame_crc": arrow.uint32(),
    }
    names = (*COLUMNS[:3], "time", *COLUMNS[3:])
    schema = arrow.schema([(name, types.get(name, arrow.string())) for name in names])
    count = 0
    with parquet.ParquetWriter(path, schema) as writer:
        block: list[dict[str, Any]] = []
        for record in records:
            count += 1
            block.append(_flat(record))
            if len(block) == _BLOCK:
                writer.write_table(arrow.Table.from_pylist(block, schema))
                block = []
        writer.write_table(arrow.Table.from_pylist(block, schema))
    return count


def _jsonl(records: Iterable[Record], path: Path) -> int:
    count = 0
    with open(path, "w", encoding="utf-8") as file:
        for record in records:
            count += 1
            file.write(as_json(record) + "\n")
    return count


#: suffix of the file -> writer
EXPORTS = {".csv": _csv, ".parquet": _parquet, ".jsonl": _jsonl}


def export(records: Iterable[Record], path: str | os.PathLike[str]) -> int:
    """Write rows to a finished file, all of it or nothing; its suffix says how. Returns the number of rows.

    Raises ConfigError for an unknown suffix or a place that cannot be written, JournalError where the journal
    is damaged.
    """
    final = Path(path)
    if final.suffix not in EXPORTS:
        raise ConfigError(f"must end in one of {', '.join(EXPORTS)}", field="out", value=str(final))
    with _finished(final) as part:
        return EXPORTS[final.suffix](records, part)
