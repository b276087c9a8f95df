"""One row of the journal: the record in memory, its columns in SQLite, and its CRC.

`row_crc` is the CRC-32C of the JSON list of the other columns' stored values, in the order of `COLUMNS`,
without spaces, in ASCII. SQLite keeps no sums of its own: a bit that flips on the disk inside a value gives
another value without a word. With it such a row is known as damaged and is never given out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from libsedge import _core
from libsedge.ledger import Key

COLUMNS = (
    "stream",
    "epoch",
    "sequence",
    "time_ns",
    "distance_mm",
    "role",
    "label",
    "confidence",
    "accepted",
    "reason",
    "probabilities",
    "model",
    "frame_crc",
)


@dataclass(frozen=True)
class Record:
    """One frame and what was decided about it; the columns of `frames`."""

    key: Key
    time_ns: int
    distance_mm: int | None
    role: str
    label: str | None
    confidence: float | None
    accepted: bool | None
    reason: str | None
    probabilities: tuple[float, ...] | None
    model: str | None
    frame_crc: int


BURST_COLUMNS = (
    "stream",
    "epoch",
    "first",
    "last",
    "mode",
    "shots",
    "used",
    "label",
    "confidence",
    "accepted",
    "reason",
    "probabilities",
    "distance_mm",
    "time_ns",
    "model",
)


@dataclass(frozen=True)
class BurstRecord:
    """Several shots of one target and the one decision about them (`libsedge.bursts`); the columns of `bursts`.

    first, last : sequence numbers of its first and last shot; used : shots that were accepted (vote) or averaged;
    time_ns, distance_mm : of the first shot.
    """

    stream: int
    epoch: int
    first: int
    last: int
    mode: str
    shots: int
    used: int
    label: str | None
    confidence: float | None
    accepted: bool
    reason: str | None
    probabilities: tuple[float, ...] | None
    distance_mm: int | None
    time_ns: int
    model: str | None


def signed(value: int) -> int:
    """64 bits without a sign as the integer of SQLite with the same bits."""
    return value - (1 << 64) if value >= 1 << 63 else value


def unsigned(value: int) -> int:
    return value % (1 << 64)


def row_crc(row: tuple[object, ...]) -> int:
    """CRC-32C of a row's stored values, without the CRC; -1, which no CRC is, for values no journal holds."""
    try:
        text = json.dumps(row, separators=(",", ":"))
    except (TypeError, ValueError):  # bytes, where there is text or a number
        return -1
    return _core.crc32c(text.encode("ascii"))


def to_row(record: Record) -> tuple[object, ...]:
    """The stored values of a record, its CRC last."""
    probabilities = record.probabilities
    row = (
        record.key.stream,
        record.key.epoch,
        signed(record.key.sequence),
        signed(record.time_ns),
        record.distance_mm,
        record.role,
        record.label,
        None if record.confidence is None else float(record.confidence),
        None if record.accepted is None else int(record.accepted),
        record.reason,
        None if probabilities is None else json.dumps([round(float(p), 6) for p in probabilities]),
        record.model,
        record.frame_crc,
    )
    return (*row, row_crc(row))


def from_row(row: tuple[Any, ...]) -> Record | None:
    """The record of stored values with their CRC last; None where the CRC does not hold."""
    if row_crc(row[:-1]) != row[-1]:
        return None
    stream, epoch, sequence, time_ns, distance, role, label, confidence, accepted, reason = row[:10]
    return Record(
        Key(stream, epoch, unsigned(sequence)),
        unsigned(time_ns),
        distance,
        role,
        label,
        confidence,
        None if accepted is None else bool(accepted),
        reason,
        None if row[10] is None else tuple(json.loads(row[10])),
        row[11],
        row[12],
    )


def burst_to_row(burst: BurstRecord) -> tuple[object, ...]:
    """The stored values of a burst, its CRC last."""
    values = vars(burst) | {name: signed(getattr(burst, name)) for name in ("first", "last", "time_ns")}
    values |= {"accepted": int(burst.accepted)}
    if burst.probabilities is not None:
        values["probabilities"] = json.dumps([round(float(p), 6) for p in burst.probabilities])
    row = tuple(values[name] for name in BURST_COLUMNS)
    return (*row, row_crc(row))


def burst_from_row(row: tuple[Any, ...]) -> BurstRecord | None:
    """The burst of stored values with their CRC last; None where the CRC does not hold."""
    if row_crc(row[:-1]) != row[-1]:
        return None
    values = dict(zip(BURST_COLUMNS, row[:-1], strict=True))
    values |= {name: unsigned(values[name]) for name in ("first", "last", "time_ns")}
    values["accepted"] = bool(values["accepted"])
    if values["probabilities"] is not None:
        values["probabilities"] = tuple(json.loads(values["probabilities"]))
    return BurstRecord(**values)
