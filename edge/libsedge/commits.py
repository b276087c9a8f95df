"""From the decision to the journal: what waits for the next commit, and what a commit tells to whom.

A frame's row is durable when its commit is; only then the ledger, the peer and the sinks hear of it. The rows of a
burst's frames are committed with the burst's own, so frames from an open burst's first shot on wait for its end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from libsedge.frame import Frame
from libsedge.frame_queue import Item
from libsedge.journal import Journal, Record
from libsedge.journal_rows import BurstRecord
from libsedge.ledger import Key, Ledger
from libsedge.report import Tally
from libsedge.sinks.base import Sink
from libsedge.sources.base import Source


class Batch(NamedTuple):
    """What one commit writes: frames, each with its record or None for a duplicate, and bursts."""

    frames: list[tuple[Item, Record | None]]
    bursts: list[BurstRecord]


class Answer(NamedTuple):
    """What a commit came to: keys that are durable or were lost, and what the sinks get of the rows it stored."""

    durable: list[Key]
    lost: list[Key]
    rows: list[Record]
    frames: list[Frame]
    bursts: list[BurstRecord]


class Commits:
    """What is decided and not yet committed. Read and changed under the ledger's lock but where it says otherwise."""

    def __init__(self, journal: Journal, ledger: Ledger, source: Source, sinks: Sequence[Sink]) -> None:
        self._journal, self._ledger, self._source, self._sinks = journal, ledger, source, sinks
        #: None: a duplicate, to be answered after the commit
        self.decided: list[tuple[Item, Record | None]] = []
        self.keys: set[Key] = set()  # of the records in it
        self.bursts: list[BurstRecord] = []  # ended, and not yet committed
        #: the first place of `decided` that waits for an open burst
        self.open_from: int | None = None
        self.due = math.inf  # when the worker will commit, time.monotonic()
        #: what came of it so far; the worker's
        self.tally = Tally()
        self.sink_errors = 0
        self.journal_error: str | None = None

    @property
    def waiting(self) -> int:
        """Frames that a commit would write now: all but those from an open burst's first shot on."""
        return len(self.decided) if self.open_from is None else self.open_from

    def keep(self, item: Item, record: Record | None) -> None:
        """One more; None: a duplicate."""
        self.decided.append((item, record))
        if record is not None:
            self.keys.add(item.key)

    def end_burst(self, burst: BurstRecord) -> None:
        """The open burst has ended: with its row its frames can be committed."""
        self.bursts.append(burst)
        self.open_from = None

    def take(self) -> Batch:
        """What the next commit writes; it stays in `decided`, where it is in flight, until `write`."""
        bursts, self.bursts = self.bursts, []
        return Batch(self.decided[: self.waiting], bursts)

    def write(self, batch: Batch) -> Answer:
        """Commit, and tell the ledger, whose lock it takes; the worker's."""
        records = [record for _, record in batch.frames if record is not None]
        written = self._journal.write(records, batch.bursts)
        if written.error is not None:
            self.journal_error = written.error
        stored, failed = set(written.stored), set(written.failed)
        answer = Answer([], [], [], [], [] if written.error is not None else batch.bursts)
        with self._ledger.lock:
            for item, record in batch.frames:
                key = item.key
                if record is not None and key in failed:
                    self._ledger.end_unjournaled(key)
                    answer.lost.append(key)
                    continue
                if record is not None and key in stored:
                    self._ledger.end_journaled(key)
                    answer.rows.append(record)
                    answer.frames.append(item.frame)
                else:
                    self._ledger.end_duplicate(key)
                (answer.lost if key in failed else answer.durable).append(key)
            end = len(batch.frames)
            del self.decided[:end]
            self.keys.difference_update(record.key for record in records)
            if self.open_from is not None:
                self.open_from = max(0, self.open_from - end)
            self.due = math.inf
        return answer

    def tell(self, answer: Answer) -> None:
        """Tell the peer and the sinks; the worker's, without a lock."""
        self._source.acknowledge(answer.durable)
        self._source.forget(answer.lost)
        self.tally.add(answer.rows, answer.bursts)
        for sink in self._sinks:
            try:
                sink.write(answer.rows)
                sink.write_frames(answer.frames)
                sink.write_bursts(answer.bursts)
            except OSError:
                self.sink_errors += len(answer.rows)
