"""JSON lines: one object a frame, the journal's columns by name.

A live log grows line by line and is flushed after every batch; a process that is killed may leave a torn last
line, which `read_jsonl` leaves out and the next run cuts off (its frame is in the journal). A finished export
is written to a temporary name and renamed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from libsedge.errors import ConfigError, FileFormatError
from libsedge.journal import Record
from libsedge.journal_rows import BURST_COLUMNS, COLUMNS, BurstRecord
from libsedge.ledger import Key
from libsedge.sinks.base import Sink

_FIELDS = tuple(name for name in COLUMNS if name not in Key._fields)
_BURST_FIELDS = tuple(name for name in BURST_COLUMNS if name not in ("stream", "epoch", "first", "mode"))


def as_json(record: Record) -> str:
    """One line without its end; keys in a fixed order."""
    row: dict[str, Any] = dict(record.key._asdict())
    row |= {name: getattr(record, name) for name in _FIELDS}
    if record.probabilities is not None:
        row["probabilities"] = [round(p, 6) for p in record.probabilities]
    return json.dumps(row, ensure_ascii=False, allow_nan=False)


def burst_as_json(burst: BurstRecord) -> str:
    """One line without its end: `"burst": MODE` marks it, `sequence` is that of the burst's first shot."""
    row: dict[str, Any] = {"stream": burst.stream, "epoch": burst.epoch, "sequence": burst.first}
    row |= {"burst": burst.mode} | {name: getattr(burst, name) for name in _BURST_FIELDS}
    if burst.probabilities is not None:
        row["probabilities"] = [round(p, 6) for p in burst.probabilities]
    return json.dumps(row, ensure_ascii=False, allow_nan=False)


class JsonLines(Sink):
    """A live log; goes on at the end of an existing one. ConfigError for a file that is something else."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self._cut_torn_line()
            self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise ConfigError(f"cannot be written: {error.strerror}", file=self.path) from error

    def _cut_torn_line(self) -> None:
        if not self.path.exists():
            return
        with open(self.path, "rb+") as file:
            first = file.readline()
            if first.endswith(b"\n") and _parse(first) is None:
                raise ConfigError("is not a log of frames in JSON lines; nothing was changed", file=self.path)
            if first and not first.endswith(b"\n") and not b'{"stream": '.startswith(first[:11]):
                raise ConfigError("is not a log of frames in JSON lines; nothing was changed", file=self.path)
            file.seek(0, os.SEEK_END)
            end = file.tell()
            while end > 0:
                start = max(0, end - 4096)
                file.seek(start)
                newline = file.read(end - start).rfind(b"\n")
                end = start + newline + 1 if newline >= 0 else start
                if newline >= 0:
                    break
            file.truncate(end)

    def write(self, records: Sequence[Record]) -> None:
        self._file.write("".join(as_json(record) + "\n" for record in records))
        self._file.flush()

    def write_bursts(self, bursts: Sequence[BurstRecord]) -> None:
        self._file.write("".join(burst_as_json(burst) + "\n" for burst in bursts))
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and {"stream", "epoch", "sequence"} <= row.keys() else None


def read_jsonl(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Every whole line; a torn last one is left out, any other bad line is a FileFormatError with its
    number."""
    rows = []
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            row = _parse(line)
            if row is None:
                raise FileFormatError("is not a frame in JSON", file=path, field="line", value=number)
            rows.append(row)
    return rows


def export_jsonl(records: Iterable[Record], path: str | os.PathLike[str]) -> int:
    """Write a finished file, all of it or nothing; returns the number of lines."""
    final = Path(path)
    part = final.with_name(f".{final.name}.{os.getpid()}.part")
    count = 0
    try:
        with open(part, "w", encoding="utf-8") as file:
            for record in records:
                file.write(as_json(record) + "\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, final)
    finally:
        part.unlink(missing_ok=True)
    return count
