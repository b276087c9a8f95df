"""Source -> bounded queue -> preprocess and classify -> journal -> acknowledgement and sinks.

Two threads: the reader iterates the source; the worker, which is the caller of `run`, commits. A frame is decided by
the reader itself, at once, where nothing waits before it, the policy is to wait (`block`), and fewer frames than the
queue holds wait for the commit; else it goes by the queue, and the worker decides it. So a frame that comes alone
changes no thread, and a slow commit holds no decision up before so many frames wait for it. One thread decides at a
time, and in the order in which the frames came. A frame is held by exactly one place at a time (the reader's hand,
the queue, the hand that decides, the batch for the next commit), and moves under the ledger's lock, so `Ledger.check`
holds at every moment; only its arrival may take none, see `Ledger.follows`.

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
from libsedge.classifier import Decision
from libsedge.commits import Commits
from libsedge.decider import Decider, FrameClassifier, Instrument
from libsedge.errors import ConfigError
from libsedge.frame import FLAG_DARK, Frame
from libsedge.frame_queue import FrameQueue, Item
from libsedge.journal import Journal, Record
from libsedge.journal_rows import BurstRecord
from libsedge.latency import Latency
from libsedge.ledger import Key, Ledger
from libsedge.report import STAGES, Report
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
        self.commits = Commits(journal, self.ledger, source, sinks)
        self.latency = Latency()
        self.stages = {name: Latency() for name in STAGES}
        self.deadline_missed = 0
        self.deadline_s = deadline_s
        self._source, self._journal = source, journal
        self._decider = Decider(
            classifier, None if source.axis is None else source.axis.saturation, instrument
        )
        self._burst_options = burst
        self._burst: Burst | None = None
        self.last_burst: BurstRecord | None = None
        #: of bursts: held by who decides or ends one; taken before the ledger's
        self._deciding = threading.Lock()
        self._process = self._decide if burst is None else self._decide_in_turn
        self._policy, self._batch, self._interval_s = policy, batch, interval_s
        self._alone = policy == "block"  # a frame may be decided by who read it
        self._earlier = journal.last is not None  # it has rows of an earlier run
        self._count, self._idle_exit_s, self._progress = count, idle_exit_s, progress
        self._tap = tap
        self._stream = journal.stream
        self._next: FrameClassifier | None = None
        self._stop = threading.Event()
        self._refused: Counter[str] = Counter()  # of the source, as far as the ledger knows them
        #: frames that the reader put into the queue, and those that the worker is done with; with `block` all of them
        self._queued = self._dequeued = 0
        self.reader_done = False
        #: grow while the threads turn: a look at the source, a frame done or an empty queue seen (health.py)
        self.reader_turns = self.worker_turns = 0
        self._reader_error: BaseException | None = None

    def _held(self) -> int:
        return len(self.queue) + len(self.commits.decided)

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
            last = time.monotonic()
            for frame in self._source:
                now = time.monotonic()
                if frame is not None:
                    self._admit(frame, now)
                    last = time.monotonic()
                elif self._idle_exit_s is not None and now - last > self._idle_exit_s:
                    break
                self.reader_turns += 1
                self._count_refused()
                if self._stop.is_set() or (self._count is not None and self.ledger.received >= self._count):
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
        key, ledger = frame.key, self.ledger
        if frame.stream_id != self._stream:
            if self._stream is not None:
                ledger.refuse("wrong_stream")
                self._source.forget([key])
                return
            self._stream = frame.stream_id
        seen = not ledger.follows(frame.stream_id, frame.epoch, frame.sequence) and ledger.receive(key)
        # Only the journal, which is the worker's, can tell about a key that came before or in an earlier run.
        seen = seen or (self._earlier and self._journal.may_hold(key))
        before = self._queued != self._dequeued or len(self.commits.decided) >= self.queue.capacity
        if self._alone and not (seen or before):
            self._process(key, frame, now, seen, now)
            with ledger.lock:
                waiting = self.commits.waiting
                if (waiting and self.commits.due == math.inf) or waiting >= self._batch:
                    self.queue.wake()
        else:
            self._enqueue(Item(key, frame, now, seen))

    def _enqueue(self, item: Item) -> None:
        with self.ledger.lock:
            shed = self.queue.put(item)
            self._queued += 1
            self.ledger.hand_on()
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
        tally = self.commits.tally
        return Report(
            ledger=self.ledger.summary(),
            latency=self.latency.summary(),
            stages={name: latency.summary() for name, latency in self.stages.items()},
            deadline_missed=None if self.deadline_s is None else self.deadline_missed,
            bursts=dict(sorted(tally.bursts.items())),
            instrument=self._decider.instrument.counters(),
            labels=dict(sorted(tally.labels.items())),
            not_accepted=dict(sorted(tally.reasons.items())),
            roles=dict(sorted(tally.roles.items())),
            source=self._source.counters(),
            sink_errors=self.commits.sink_errors,
            journal_error=self.commits.journal_error,
            simulated=self._source.simulated,
        )

    def _work(self) -> None:
        report_at = time.monotonic() + 1.0
        while True:
            with self.ledger.lock:
                now = time.monotonic()
                if self.commits.waiting and self.commits.due == math.inf:
                    self.commits.due = now + self._interval_s
                full = self.commits.waiting >= self._batch  # what is decided first, so that it stays bounded
                item = None if full else self.queue.get(max(0.0, min(self.commits.due - now, 0.25)))
                if item is not None:
                    self.ledger.take_up()
                done = item is None and self.reader_done and len(self.queue) == 0
            if item is not None:
                self._process(*item, time.monotonic())
                self._dequeued += 1
            now = time.monotonic()
            if self._burst is not None:
                with self._deciding:
                    if self._burst is not None and (done or self._burst.over(now)):
                        self._end_burst()
            waiting = self.commits.waiting
            if waiting and (done or now >= self.commits.due or waiting >= self._batch):
                self._commit()
            if self._progress is not None and now >= report_at:
                report_at = now + 1.0
                self.ledger.check()
                self._progress(self.ledger)
            self.worker_turns += 1
            if done:
                return

    def _decide_in_turn(self, key: Key, frame: Frame, at: float, seen: bool, start: float) -> None:
        with self._deciding:
            self._decide(key, frame, at, seen, start)
            if self._burst is not None and self._burst.over(time.monotonic()):
                self._end_burst()

    def _decide(self, key: Key, frame: Frame, at: float, seen: bool, start: float) -> None:
        """Decide a frame, by the one thread that has it in hand; `start`: when it left the queue."""
        if self._next is not None:
            self._exchange()
        decider = self._decider
        # Also of a dark that came before: after a restart its row is a duplicate, its values are needed.
        if frame.flags & FLAG_DARK:
            decider.note_dark(frame)
        if key in self.commits.keys or (seen and self._journal.contains(key)):
            self._keep(Item(key, frame, at, seen), None)
            return
        decided = decider.decide(frame)
        now = time.monotonic()  # now it is decided: what follows is bookkeeping
        if decided is None:
            self._reject(key)
        else:
            self._note(Item(key, frame, at, seen), *decided, start, now)

    def _reject(self, key: Key) -> None:
        with self.ledger.lock:
            self.ledger.end_rejected(key, "wrong_length")
            self.ledger.hand_on()
        self._source.forget([key])

    def _note(self, item: Item, role: str, decision: Decision | None, start: float, now: float) -> None:
        """What was decided at `now`: its times, its burst, its record."""
        frame, decider = item.frame, self._decider
        light, spent = role == "light", decider.classifier.spent_s  # before a burst's end spends more
        if decision is not None and light and self._burst_options is not None:
            if self._burst is not None and not self._burst.takes(frame):
                self._end_burst()
            if self._burst is None:
                with self.ledger.lock:
                    self._burst = Burst(self._burst_options)
                    self.commits.open_from = len(self.commits.decided)
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
            self._burst = None
            with self.ledger.lock:
                self.commits.end_burst(self.last_burst)

    def _keep(self, item: Item, record: Record | None) -> None:
        with self.ledger.lock:
            self.commits.keep(item, record)
            self.ledger.hand_on()

    def _commit(self) -> None:
        """Write what is decided; only then say so, to the ledger, the peer and the sinks."""
        start = time.monotonic()
        with self._deciding, self.ledger.lock:  # between two frames: a burst with all its rows or not at all
            batch = self.commits.take()
        answer = self.commits.write(batch)
        self.stages["commit"].add(time.monotonic() - start)
        self.commits.tell(answer)
