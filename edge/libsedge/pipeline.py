"""Source -> bounded queue -> preprocess and classify -> journal -> acknowledgement and sinks.

Two threads: the reader iterates the source and fills the queue; the worker, which is the caller of `run`,
decides and commits. A frame is held by exactly one place at a time (the reader's hand, the queue, the
worker's batch), and moves under the ledger's lock, so `Ledger.check` holds at every moment.

What becomes of a frame: of another stream than the journal's, it is rejected; of another number of channels
than the axis, it is rejected; dark, it becomes the dark reference of its stream and a row; passive, a row;
else it is classified and a row, accepted or not. Nothing that a peer sends raises here. When the stream ends,
or after `stop`, everything that was received is decided and committed before `run` returns.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from libsedge.classifier import Decision
from libsedge.errors import ConfigError, SedgeError
from libsedge.frame import Frame, encode
from libsedge.journal import Journal, Record
from libsedge.latency import Latency
from libsedge.ledger import Key, Ledger
from libsedge.sinks.base import Sink
from libsedge.sources.base import Source

#: what happens when the queue is full: the source waits, or the oldest or the newest frame is shed
POLICIES = ("block", "drop-oldest", "drop-newest")


class FrameClassifier(Protocol):
    """What the pipeline needs of `libsedge.classifier.Classifier`, bound to the source's axis."""

    channels: int | None
    digest: str

    def classify(
        self, counts: np.ndarray, dark: np.ndarray | None, *, saturation: float | None, distance_m: float
    ) -> Decision: ...


@dataclass(frozen=True)
class Item:
    """A frame on its way; `at` is time.monotonic() of its arrival, `seen` whether memory knows its key
    already."""

    key: Key
    frame: Frame
    at: float
    seen: bool


class FrameQueue:
    """At most `capacity` items between reader and worker. Every method is called under `lock`."""

    def __init__(self, capacity: int, policy: str, lock: Any) -> None:
        if policy not in POLICIES:
            raise ConfigError(f"must be one of {', '.join(POLICIES)}", field="policy", value=policy)
        if capacity < 1:
            raise ConfigError("must be at least 1", field="capacity", value=capacity)
        self.capacity, self.policy = capacity, policy
        self.aborted = False
        self._items: deque[Item] = deque()
        self._changed = threading.Condition(lock)

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item) -> Item | None:
        """Add `item`; returns the one that was shed for it, if any. Waits where the policy is `block`."""
        shed = None
        while len(self._items) >= self.capacity and self.policy == "block" and not self.aborted:
            self._changed.wait(0.5)
        if len(self._items) >= self.capacity:
            if self.policy == "drop-newest":
                return item
            shed = self._items.popleft()
        self._items.append(item)
        self._changed.notify_all()
        return shed

    def get(self, timeout: float) -> Item | None:
        """The oldest item, or None after `timeout` seconds without one."""
        if not self._items and timeout > 0:
            self._changed.wait(timeout)
        if not self._items:
            return None
        item = self._items.popleft()
        self._changed.notify_all()
        return item

    def wake(self) -> None:
        """Let everybody who waits look again."""
        self._changed.notify_all()


@dataclass
class Report:
    """What a run did. `ledger` is `Ledger.summary`; `latency` from arrival to decision, in milliseconds."""

    ledger: dict[str, Any]
    latency: dict[str, float]
    labels: dict[str, int] = field(default_factory=dict)
    not_accepted: dict[str, int] = field(default_factory=dict)
    roles: dict[str, int] = field(default_factory=dict)
    source: dict[str, int] = field(default_factory=dict)
    sink_errors: int = 0
    journal_error: str | None = None
    simulated: bool = False


class Pipeline:
    """One run. The journal is used by the thread that calls `run`.

    Parameters ---------- source, classifier, journal, sinks : see their contracts; the caller closes journal
    and sinks, `run` the source. policy, capacity : of the queue, see `POLICIES`; frames. batch, interval_s :
    a commit comes after so many frames, or so many seconds after the first of them.
    count : stop after so many frames received; idle_exit_s : after so many seconds without a frame.
    progress : called about once a second with the ledger, from the worker.
    """

    def __init__(
        self,
        source: Source,
        classifier: FrameClassifier,
        journal: Journal,
        sinks: Sequence[Sink] = (),
        *,
        policy: str = "block",
        capacity: int = 64,
        batch: int = 32,
        interval_s: float = 0.1,
        count: int | None = None,
        idle_exit_s: float | None = None,
        progress: Callable[[Ledger], None] | None = None,
    ) -> None:
        if batch < 1:
            raise ConfigError("must be at least 1", field="batch", value=batch)
        for name, value in (("count", count), ("idle-exit", idle_exit_s), ("interval", interval_s)):
            if value is not None and not value > 0:
                raise ConfigError("must be above 0", field=name, value=value)
        if source.stream_id is not None:
            journal.bind(source.stream_id)
        self.ledger = Ledger(measure=self._held)
        self.queue = FrameQueue(capacity, policy, self.ledger.lock)
        self.latency = Latency()
        self._source, self._classifier, self._journal, self._sinks = source, classifier, journal, sinks
        self._policy, self._batch, self._interval_s = policy, batch, interval_s
        self._count, self._idle_exit_s, self._progress = count, idle_exit_s, progress
        self._stream = journal.stream
        self._next: FrameClassifier | None = None
        self._stop = threading.Event()
        self._refused: Counter[str] = Counter()  # of the source, as far as the ledger knows them
        self._in_reader = 0
        self._in_worker: list[
            tuple[Item, Record | None]
        ] = []  # None: a duplicate, to be answered after the commit
        self._in_hand = 0
        self._darks: dict[int, np.ndarray] = {}
        self.reader_done = False
        #: grow while the threads turn: a look at the source, a frame done or an empty queue seen (health.py)
        self.reader_turns = self.worker_turns = 0
        self._reader_error: BaseException | None = None
        self._labels: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._roles: Counter[str] = Counter()
        self._sink_errors = 0
        self._journal_error: str | None = None

    def _held(self) -> int:
        return self._in_reader + len(self.queue) + self._in_hand + len(self._in_worker)

    def swap(self, classifier: FrameClassifier) -> None:
        """Let `classifier` decide from the next frame on that the worker takes; safe from any thread.

        Raises ConfigError where it is bound to another number of channels.
        """
        if classifier.channels != self._classifier.channels:
            raise ConfigError(
                f"the stream has {self._classifier.channels}", field="channels", value=classifier.channels
            )
        with self.ledger.lock:
            self._next = classifier

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        """End soon, with everything decided that was received; safe from a signal handler."""
        self._stop.set()
        self._source.stop()

    # --- the reader's thread
    def _read(self) -> None:
        try:
            frames, last = iter(self._source), time.monotonic()
            while not self._stop.is_set():
                frame = next(frames, self)  # self: the end
                self.reader_turns += 1
                self._count_refused()
                now = time.monotonic()
                if isinstance(frame, Frame):
                    self._admit(frame, now)
                    last = time.monotonic()
                elif frame is self or (self._idle_exit_s is not None and now - last > self._idle_exit_s):
                    break
                if self._count is not None and self.ledger.received >= self._count:
                    break
        except BaseException as error:  # handed to the caller of run
            self._reader_error = error
        finally:
            with self.ledger.lock:
                self.reader_done = True
                self.queue.wake()

    def _count_refused(self) -> None:
        for reason, total in list(self._source.refused.items()):
            self.ledger.refuse(reason, total - self._refused[reason])
            self._refused[reason] = total

    def _admit(self, frame: Frame, now: float) -> None:
        key = Key(frame.stream_id, frame.epoch, frame.sequence)
        if self._stream is None:
            self._stream = frame.stream_id
        if frame.stream_id != self._stream:
            self.ledger.refuse("wrong_stream")
            self._source.forget([key])
            return
        with self.ledger.lock:
            seen = self.ledger.receive(key)
            self._in_reader = 1
            shed = self.queue.put(Item(key, frame, now, seen))
            self._in_reader = 0
            if shed is not None:
                self.ledger.end_shed(shed.key, self._policy)
        if shed is not None:
            self._source.forget([shed.key])

    # --- the worker's thread
    def run(self) -> Report:
        """Run to the end of the stream. Raises LedgerError when a frame is unaccounted for."""
        reader = threading.Thread(target=self._read, name="libsedge-reader", daemon=True)
        reader.start()
        try:
            self._work()
        finally:
            self.stop()
            with self.ledger.lock:
                self.queue.aborted = True
                self.queue.wake()
            reader.join()
            self._source.close()
            self._count_refused()  # what was cut off by the end
        if self._reader_error is not None:
            raise self._reader_error
        self.ledger.check(final=True)
        return self.report()

    def report(self) -> Report:
        """The counts so far."""
        return Report(
            ledger=self.ledger.summary(),
            latency=self.latency.summary(),
            labels=dict(sorted(self._labels.items())),
            not_accepted=dict(sorted(self._reasons.items())),
            roles=dict(sorted(self._roles.items())),
            source=self._source.counters(),
            sink_errors=self._sink_errors,
            journal_error=self._journal_error,
            simulated=self._source.simulated,
        )

    def _work(self) -> None:
        due = math.inf
        report_at = time.monotonic() + 1.0
        while True:
            now = time.monotonic()
            with self.ledger.lock:
                item = self.queue.get(max(0.0, min(due - now, 0.25)))
                self._in_hand = int(item is not None)
                done = item is None and self.reader_done and len(self.queue) == 0
            if item is not None:
                self._process(item)
                if due == math.inf and self._in_worker:
                    due = time.monotonic() + self._interval_s
            now = time.monotonic()
            if self._in_worker and (done or now >= due or len(self._in_worker) >= self._batch):
                self._commit()
                due = math.inf
            if self._progress is not None and now >= report_at:
                report_at = now + 1.0
                self.ledger.check()
                self._progress(self.ledger)
            self.worker_turns += 1
            if done:
                return

    def _process(self, item: Item) -> None:
        with self.ledger.lock:
            swapped, self._next = self._next, None
        if swapped is not None:
            self._classifier = swapped
            self._journal.note_model(swapped.digest)
        frame = item.frame
        if frame.dark and frame.values.size == self._classifier.channels and np.isfinite(frame.values).all():
            # Also of a dark that came before: after a restart its row is a duplicate, its values are needed.
            self._darks[frame.stream_id] = np.asarray(frame.values, np.float32)
        waiting = any(item.key == other.key for other, record in self._in_worker if record is not None)
        if waiting or ((item.seen or self._journal.resumed) and self._journal.contains(item.key)):
            self._keep(item, None)
            return
        if frame.values.size != self._classifier.channels:
            with self.ledger.lock:
                self.ledger.end_rejected(item.key, "wrong_length")
                self._in_hand = 0
            self._source.forget([item.key])
            return
        role, decision = self._decide(frame)
        self.latency.add(time.monotonic() - item.at)
        record = Record(
            key=item.key,
            time_ns=frame.time_ns,
            distance_mm=frame.distance_mm or None,
            role=role,
            label=decision.label if decision else None,
            confidence=decision.confidence if decision else None,
            accepted=decision.accepted if decision else None,
            reason=decision.reason if decision else None,
            probabilities=decision.probabilities if decision else None,
            model=self._classifier.digest,
            frame_crc=int.from_bytes(encode(frame)[52:56], "little"),
        )
        self._keep(item, record)

    def _keep(self, item: Item, record: Record | None) -> None:
        with self.ledger.lock:
            self._in_worker.append((item, record))
            self._in_hand = 0

    def _decide(self, frame: Frame) -> tuple[str, Decision | None]:
        if frame.dark:
            finite = bool(np.isfinite(frame.values).all())
            return "dark", None if finite else Decision(None, None, None, None, False, "non_finite")
        if frame.passive:
            return "passive", None
        try:
            return "light", self._classifier.classify(
                frame.values,
                self._darks.get(frame.stream_id),
                saturation=None if self._source.axis is None else self._source.axis.saturation,
                distance_m=frame.distance_mm / 1000 if frame.distance_mm else math.nan,
            )
        except SedgeError as error:  # the frame keeps its place in the journal, with what went wrong
            return "light", Decision(None, None, None, None, False, f"error: {type(error).__name__}")

    def _commit(self) -> None:
        """Write the batch; only then say so, to the ledger, the peer and the sinks."""
        batch = self._in_worker
        records = [record for _, record in batch if record is not None]
        written = self._journal.write(records)
        if written.error is not None:
            self._journal_error = written.error
        stored, failed = set(written.stored), set(written.failed)
        durable: list[Key] = []
        lost: list[Key] = []
        with self.ledger.lock:
            for item, record in batch:
                key = item.key
                if record is not None and key in failed:
                    self.ledger.end_unjournaled(key)
                    lost.append(key)
                    continue
                if record is not None and key in stored:
                    self.ledger.end_journaled(key)
                else:
                    self.ledger.end_duplicate(key)
                (lost if key in failed else durable).append(key)
            self._in_worker = []
        self._source.acknowledge(durable)
        self._source.forget(lost)
        rows = [record for record in records if record.key in stored]
        self._tally(rows)
        for sink in self._sinks:
            try:
                sink.write(rows)
            except OSError:
                self._sink_errors += len(rows)

    def _tally(self, rows: Sequence[Record]) -> None:
        for record in rows:
            self._roles[record.role] += 1
            if record.accepted:
                self._labels[str(record.label)] += 1
            elif record.reason is not None:
                self._reasons[record.reason] += 1
