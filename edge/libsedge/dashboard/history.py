"""The journal, read only: its newest rows as JSON, and rows as a CSV file. Called in a thread of its own."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

from libsedge.journal_reader import JournalReader, Query, export, show_time

#: rows in the table at most, and rows looked at for them
MAX_ROWS, MAX_LOOKED_AT = 200, 20_000
SHOW = {"all": Query(), "accepted": Query(accepted=True), "not-accepted": Query(accepted=False)}


def newest(journal: Path, show: str, limit: int) -> list[dict[str, Any]]:
    """The newest rows first. JournalError where the journal cannot be read."""
    query, rows = SHOW[show], []
    with JournalReader(journal) as reader:
        for record in itertools.islice(reader.records(newest_first=True), MAX_LOOKED_AT):
            if not query.takes(record):
                continue
            key = record.key
            rows.append(
                {
                    "stream": key.stream,
                    "epoch": key.epoch,
                    "sequence": str(key.sequence),  # 64 bits are too many for a browser
                    "time": show_time(record.time_ns),
                    "distance_m": None if record.distance_mm is None else record.distance_mm / 1000,
                    "role": record.role,
                    "label": record.label,
                    "confidence": record.confidence,
                    "accepted": record.accepted,
                    "reason": record.reason,
                }
            )
            if len(rows) == limit:
                break
    return rows


def as_csv(journal: Path, show: str) -> Path:
    """A finished temporary file, as `libsedge journal export` writes it, which the caller removes.

    A file and not a stream: a browser that takes its time would keep a transaction of the journal open.
    """
    folder = Path(tempfile.mkdtemp(prefix="libsedge-dashboard-"))
    out = folder / "history.csv"
    with JournalReader(journal) as reader:
        export(reader.records(SHOW[show]), out)
    return out
