"""Source -> bounded queue -> preprocess and classify -> journal -> acknowledgement and sinks.

Two threads: the reader iterates the source; the worker, which is the caller of `run`, commits. A frame is decided by
the reader itself, at once, where nothing waits before it, the policy is to wait (`block`), and fewer frames than the
queue holds wait for the commit; else it goes by the queue, and the worker decides it. So a frame that comes alone
changes no thread, and a slow commit holds no decision up before so many frames wait for it. One thread decides at a
time, and in the order in which the frames came. A frame is held by exactly one place at a time (the reader's hand,
the queue, the hand that decides, the batch for the next commit), and moves under the ledger's lock, so
`Ledger.check` holds at every moment.

What becomes of a frame: of another stream than the journal's, it is rejected; of another number of channels
than the axis, it is rejected; dark, it becomes the dark reference of its stream and a row; passive, a row;
else it is classified and a row, accepted or not. With bursts, several light frames also get one decision together
(`libsedge.bursts`). Nothing that a peer sends raises here. When the stream ends,
or after `stop`, everything that was received is decided and committed before `run` returns.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from libsedge.bursts import Burst, BurstOptions
from libsedge.decider import Decider, FrameClassifier, Instrument
from libsedge.errors import ConfigError
from libsedge.frame import Frame
from libsedge.frame_queue import FrameQueue, Item
from libsedge.journal import Journal, Record
from libsedge.journal_rows import BurstRecord
from libsedge.latency import Latency
from libsedge.ledger import Key, Ledger
from libsedge.report import STAGES, Report, Tally
from libsedge.shadow import Shadow
from libsedge.sinks.base import Sink
from libsedge.sources.base import Source


class Pipeline:
    """One run. The journal is used by the thread that calls `run`.

    Parameters ---------- source, classifier, journal, sinks : see their contracts; the caller closes journal
    and sinks, `run` the source. policy, capacity : of the queue, see `POLICIES`; frames. batch, interval_s :
    a commit comes after so many frames, or so many seconds after the first of them.
    count : stop after so many frames received; idle_exit_s : after so many seconds without a frame.
    burst : how light frames are decided together; None = each by itself only.
    instrument : what is put right about it; None = nothing.
    deadline_s : from arrival to decision; later ones are counted, nothing else is done about them.
    progress : called about once a second with the ledger, from the worker.
    tap : is shown every decided frame with its record, before the commit, by who decided it; returns at once.
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
        burst: BurstOptions | None = None,
        deadline_s: float | None = None,
        instrument: Instrument | None = None,
        progress: Callable[[Ledger], None] | None = None,
        tap: Callable[[Frame, Record], None] | None = None,
    ) -> None:
        if batch < 1:
            raise ConfigError("must be at least 1", field="batch", value=batch)
        for name, value in (
            ("count", count),
            ("idle-exit", idle_exit_s),
            ("interval", interval_s),
            ("deadline", deadline_s),
        ):
            if value is not None and not value > 0:
                raise ConfigError("must be above 0", field=name, value=value)
        if source.stream_id is not None:
            journal.bind(source.stream_id)
        if journal.last is not None:
            source.resume(journal.last.stream, journal.last.epoch)
        for sink in sinks:
            sink.begin(source.axis, simulated=source.simulated)
        self.ledger = Ledger(measure=self._held)
        self.queue = FrameQueue(capacity, policy, self.ledger.lock)
        self.latency = Latency()
        self.stages = {name: Latency() for name in STAGES}
        self.deadline_missed = 0
        self.deadline_s = deadline_s
        self._source, self._journal, self._sinks = source, journal, sinks
        self._decider = Decider(
            classifier, None if source.axis is None else source.axis.saturation, instrument
        )
        self._burst_options = burst
        self._burst: Burst | None = None
        self.last_burst: BurstRecord | None = None
        self._ended: list[BurstRecord] = []  # bursts whose rows wait for the commit
        self._open_from = 0  # the first place of `_decided` that waits for an open burst
        self._deciding = threading.Lock()  # held by who decides or ends a burst; taken before the ledger's
        self._due = math.inf  # when the worker will commit
        self._policy, self._batch, self._interval_s = policy, batch, interval_s
        self._count, self._idle_exit_s, self._progress = count, idle_exit_s, progress
        self._tap = tap
        self._stream = journal.stream
        self._next: FrameClassifier | None = None
        self._stop = threading.Event()
        self._refused: Counter[str] = Counter()  # of the source, as far as the ledger knows them
        self._in_reader = 0
        self._in_hand = 0  # the frame that is being decided
        #: for the next commit; None: a duplicate, to be answered after it
        self._decided: list[tuple[Item, Record | None]] = []
        self._keys: set[Key] = set()  # of the records in it
        self.reader_done = False
        #: grow while the threads turn: a look at the source, a frame done or an empty queue seen (health.py)
        self.reader_turns = self.worker_turns = 0
        self._reader_error: BaseException | None = None
        self._tally = Tally()
        self.sink_errors = 0
        self.journal_error: str | None = None

    def _held(self) -> int:
        return self._in_reader + len(self.queue) + self._in_hand + len(self._decided)

    def swap(self, classifier: FrameClassifier) -> None:
        """Let `classifier` decide from the next frame on; safe from any thread.

        Raises ConfigError where it is bound to another number of channels.
        """
        self._check_channels(classifier)
        with self.ledger.lock:
            self._next = classifier

    def shadow(self, classifier: FrameClassifier, frames: int) -> Shadow:
        """Let `classifier` decide the next `frames` light frames unheard; its account, from any thread.

        A swap ends it. Raises ConfigError as `swap`.
        """
        self._check_channels(classifier)
        shadow = Shadow(frames)
        self._decider.shadow = (classifier, shadow)
        return shadow

    @property
    def failures(self) -> int:
        """Errors instead of decisions, one after another, of the classifier in charge."""
        return 0 if self._next is not None else self._decider.failures

    def _check_channels(self, classifier: FrameClassifier) -> None:
        channels = self._decider.classifier.channels
        if classifier.channels != channels:
            raise ConfigError(f"the stream has {channels}", field="channels", value=classifier.channels)

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
        shed: Item | None = None
        with self.ledger.lock:
            item = Item(key, frame, now, self.ledger.receive(key))
            busy = self._in_hand or len(self.queue) or len(self._decided) >= self.queue.capacity
            mine = self._policy == "block" and not busy and not self._may_be_journaled(item)
            if mine:
                self._in_hand = 1
            else:
                self._in_reader = 1
                shed = self.queue.put(item)
                self._in_reader = 0
                if shed is not None:
                    self.ledger.end_shed(shed.key, self._policy)
        if shed is not None:
            self._source.forget([shed.key])
        if mine:
            self._process(item)
            with self.ledger.lock:
                if (self._waiting and self._due == math.inf) or self._waiting >= self._batch:
                    self.queue.wake()

    def _may_be_journaled(self, item: Item) -> bool:
        """True where only the journal can tell, which is the worker's."""
        return item.seen or self._journal.may_hold(item.key)

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
            stages={name: latency.summary() for name, latency in self.stages.items()},
            deadline_missed=None if self.deadline_s is None else self.deadline_missed,
            bursts=dict(sorted(self._tally.bursts.items())),
            instrument=self._decider.instrument.counters(),
            labels=dict(sorted(self._tally.labels.items())),
            not_accepted=dict(sorted(self._tally.reasons.items())),
            roles=dict(sorted(self._tally.roles.items())),
            source=self._source.counters(),
            sink_errors=self.sink_errors,
            journal_error=self.journal_error,
            simulated=self._source.simulated,
        )

    def _work(self) -> None:
        report_at = time.monotonic() + 1.0
        while True:
            with self.ledger.lock:
                now = time.monotonic()
                if self._waiting and self._due == math.inf:
                    self._due = now + self._interval_s
                due = now if self._waiting >= self._batch else self._due
                item = self.queue.get(max(0.0, min(due - now, 0.25)))
                if item is not None:
                    self._in_hand = 1
                done = item is None and self.reader_done and len(self.queue) == 0
            if item is not None:
                self._process(item)
            now = time.monotonic()
            if self._burst is not None:
                with self._deciding:
                    if self._burst is not None and (done or self._burst.over(now)):
                        self._end_burst()
            if self._waiting and (done or now >= self._due or self._waiting >= self._batch):
                self._commit()
            if self._progress is not None and now >= report_at:
                report_at = now + 1.0
                self.ledger.check()
                self._progress(self.ledger)
            self.worker_turns += 1
            if done:
                return

    @property
    def _waiting(self) -> int:
        """Frames that a commit would write now: all but those from an open burst's first shot on."""
        return len(self._decided) if self._burst is None else self._open_from

    def _process(self, item: Item) -> None:
        """Decide a frame, by the one thread that has it in hand."""
        with self._deciding:
            self._decide(item)
            if self._burst is not None and self._burst.over(time.monotonic()):
                self._end_burst()

    def _decide(self, item: Item) -> None:
        start = time.monotonic()
        if self._next is not None:
            self._exchange()
        frame, decider = item.frame, self._decider
        # Also of a dark that came before: after a restart its row is a duplicate, its values are needed.
        if frame.dark:
            decider.note_dark(frame)
        if item.key in self._keys or (self._may_be_journaled(item) and self._journal.contains(item.key)):
            self._keep(item, None)
            return
        if not decider.takes(frame):
            with self.ledger.lock:
                self.ledger.end_rejected(item.key, "wrong_length")
                self._in_hand = 0
            self._source.forget([item.key])
            return
        role, decision = decider.decide(frame)
        spent = decider.classifier.spent_s  # before a burst's end spends more
        light, now = role == "light", time.monotonic()
        if decision is not None and light and self._burst_options is not None:
            if self._burst is not None and not self._burst.takes(frame):
                self._end_burst()
            if self._burst is None:
                with self.ledger.lock:
                    self._burst, self._open_from = Burst(self._burst_options), len(self._decided)
            role, decision = self._burst.add(item.key, frame, decision, now)
        self.latency.add(now - item.at)
        self.stages["queue"].add(start - item.at)
        if light:
            for name, seconds in zip(("preprocess", "inference"), spent, strict=True):
                self.stages[name].add(seconds)
        if self.deadline_s is not None and now - item.at > self.deadline_s:
            self.deadline_missed += 1
        record = decider.record(item.key, frame, role, decision)
        if self._tap is not None:
            self._tap(frame, record)
        self._keep(item, record)

    def _exchange(self) -> None:
        """Take the classifier that `swap` left, if any; an open burst is decided by the old one."""
        with self.ledger.lock:
            swapped, self._next = self._next, None
        if swapped is not None:
            self._end_burst()
            self._decider.exchange(swapped)

    def _end_burst(self) -> None:
        if self._burst is not None:
            self.last_burst = self._burst.close(self._decider)
            self._ended.append(self.last_burst)
            self._burst = None

    def _keep(self, item: Item, record: Record | None) -> None:
        with self.ledger.lock:
            self._decided.append((item, record))
            if record is not None:
                self._keys.add(item.key)
            self._in_hand = 0

    def _commit(self) -> None:
        """Write the batch; only then say so, to the ledger, the peer and the sinks."""
        start = time.monotonic()
        with self._deciding, self.ledger.lock:  # between two frames: a burst with all its rows or not at all
            end = self._waiting
            batch, bursts, self._ended = self._decided[:end], self._ended, []
        records = [record for _, record in batch if record is not None]
        written = self._journal.write(records, bursts)
        if written.error is not None:
            self.journal_error = written.error
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
            del self._decided[:end]
            self._keys.difference_update(record.key for record in records)
            self._open_from, self._due = max(0, self._open_from - end), math.inf
        self.stages["commit"].add(time.monotonic() - start)
        self._source.acknowledge(durable)
        self._source.forget(lost)
        rows = [record for record in records if record.key in stored]
        if written.error is not None:
            bursts = []
        self._tally.add(rows, bursts)
        frames = [item.frame for item, record in batch if record is not None and record.key in stored]
        for sink in self._sinks:
            try:
                sink.write(rows)
                sink.write_frames(frames)
                sink.write_bursts(bursts)
            except OSError:
                self.sink_errors += len(rows)
