"""What a run did, as plain numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from libsedge.journal_rows import BurstRecord, Record

#: parts of a frame's way: waiting in the queue, preprocessing, the model, and the commit of its batch (once a batch)
STAGES = ("queue", "preprocess", "inference", "commit")


@dataclass
class Report:
    """What a run did. `ledger` is `Ledger.summary`; `latency` from arrival to decision, `stages` of each part of a
    frame's way (`STAGES`), in milliseconds. deadline_missed : decisions that came later than asked, None where
    nothing was asked. bursts : by label; those that were not accepted under "".
    instrument : what was put right about it (`libsedge.decider.Instrument`).
    """

    ledger: dict[str, Any]
    latency: dict[str, float]
    stages: dict[str, dict[str, float]] = field(default_factory=dict)
    deadline_missed: int | None = None
    bursts: dict[str, int] = field(default_factory=dict)
    instrument: dict[str, float] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    not_accepted: dict[str, int] = field(default_factory=dict)
    roles: dict[str, int] = field(default_factory=dict)
    source: dict[str, int] = field(default_factory=dict)
    sink_errors: int = 0
    journal_error: str | None = None
    simulated: bool = False


class Tally:
    """Counts what was decided: accepted rows by label, others by reason, all by role; bursts by label."""

    def __init__(self) -> None:
        self.labels: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.roles: Counter[str] = Counter()
        self.bursts: Counter[str] = Counter()

    def add(self, rows: Sequence[Record], bursts: Sequence[BurstRecord]) -> None:
        self.bursts.update(str(burst.label) if burst.accepted else "" for burst in bursts)
        for record in rows:
            self.roles[record.role] += 1
            if record.accepted:
                self.labels[str(record.label)] += 1
            elif record.reason is not None:
                self.reasons[record.reason] += 1
