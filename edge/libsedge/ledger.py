"""The ledger: every frame that came in is in exactly one place, at every moment.

    received = journaled + unjournaled + duplicate + rejected + shed + in_flight

* `journaled`: its row is committed. That includes frames whose *decision* is a reject (too dim, saturated,
  low confidence, ...): they are rows with `accepted = 0` and a reason. Dark and passive frames are rows too.
* `unjournaled`: it was decided, but the disk refused the row (full, input/output error).
* `duplicate`: its key (stream, epoch, sequence) is already journaled or on its way there.
* `rejected`, by reason: it was refused before the journal because it cannot be a frame of this run: another
  stream, another number of channels, damaged bytes that could not be decoded.
* `shed`, by policy: the bounded queue was full and the policy named by the user dropped it.
* `in_flight`: in the hand of a thread, in the queue, or waiting for its commit. The pipeline *measures* it by counting
  what those places hold, so a frame that is lost between two places shows as `unaccounted = 1`, not as "in
  flight". Hands are counted here: `receive` and `take_up` put a frame into one, `hand_on` out of it.

Per (stream, epoch): `expected = last - first + 1 = unique + gaps`. Unique counts distinct sequence numbers
that arrived, whatever became of their frames. Memory is bounded: sequence numbers are kept as intervals, at
most `max_intervals` a (stream, epoch) and `max_epochs` in all. Beyond that the oldest knowledge is given up
and the journal's key decides instead; the epoch is then marked `exact = False` rather than guessed.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from libsedge.errors import SedgeError
from libsedge.sequences import EpochCount


class Key(NamedTuple):
    """Identity of a frame; it travels with the frame and is never inferred from its place in a queue."""

    stream: int
    epoch: int
    sequence: int


class LedgerError(SedgeError):
    """A frame is unaccounted for: a fault of the program, not of the user. Exit code 1."""

    exit_code = 1


class Ledger:
    """Counts frames from arrival to their one end. One thread calls `receive` and `follows`; every other method is
    safe to call from any.

    Parameters
    ----------
    measure : counts the frames held right now that are in no hand. It is called under `lock`, and whoever moves a frame
        from one place to the next does so under `lock` too. None: the ledger counts arrivals minus ends by itself.
    max_intervals, max_epochs : bounds on memory; see the module's text.
    """

    ENDS = ("journaled", "unjournaled", "duplicate", "rejected", "shed")

    def __init__(
        self,
        measure: Callable[[], int] | None = None,
        *,
        max_intervals: int = 4096,
        max_epochs: int = 256,
    ) -> None:
        self.lock = threading.RLock()
        self.measure = measure
        self.journaled = 0
        self.unjournaled = 0
        self.duplicate = 0
        self.rejected: Counter[str] = Counter()
        self.shed: Counter[str] = Counter()
        self._epochs: OrderedDict[tuple[int, int], EpochCount] = OrderedDict()
        self.forgotten_epochs = {"epochs": 0, "expected": 0, "unique": 0, "gaps": 0, "duplicates": 0}
        self._max_intervals, self._max_epochs = max_intervals, max_epochs
        self._refused = 0  # on the spot
        self._arrived = self._handed_on = 0  # frames that were received, and that left the hand of who did
        #: of the frame that came last; it stays the newest of `epochs`
        self._stream = self._number = -1
        self._epoch = EpochCount(max_intervals)
        #: the frames from number `_run` to before `_next` arrived, and are not yet in `_arrived` and `_epoch`
        self._run = self._next = -1

    # --- arrivals
    def follows(self, stream: int, epoch: int, sequence: int) -> bool:
        """`receive` for the frame that comes next as a rule; False, and nothing is done, where another one came.

        It takes no lock, which would cost as much as the rest of a frame's way to its decision: one number moves, and
        with it the frame is both received and in hand. Whoever looks enters it first (`_settle`).
        """
        if sequence != self._next or epoch != self._number or stream != self._stream:
            return False
        self._next = sequence + 1
        return True

    def receive(self, key: Key, durable: Callable[[Key], bool] | None = None) -> bool:
        """A frame of this run's stream arrived, and is in hand; True when memory knows it for a duplicate.

        `durable(key)` asks the journal where memory alone cannot tell. Without it such a frame counts as new,
        and the journal's key decides when its row is written.
        """
        with self.lock:
            if durable is None and self.follows(*key):
                return False
            self._settle()
            self._arrived += 1
            stream, number, sequence = key
            if number != self._number or stream != self._stream:
                self._epoch = self._open((stream, number))
                self._stream, self._number = stream, number
            duplicate = self._epoch.arrive(sequence, None if durable is None else lambda: durable(key))
            self._run = self._next = self._epoch.last + 1
            return duplicate

    def refuse(self, reason: str, count: int = 1) -> None:
        """Frames that arrived and were refused on the spot: damaged, or of another stream."""
        if count < 0:
            raise LedgerError("a count of refused frames went backwards", field=reason, value=count)
        with self.lock:
            self._refused += count
            if count:
                self.rejected[reason] += count

    # --- hands
    def take_up(self) -> None:
        """A frame left a place that `measure` counts, into a hand; under `lock`."""
        self._handed_on -= 1

    def hand_on(self) -> None:
        """A frame left a hand, for a place that `measure` counts or for its end; under `lock`."""
        self._handed_on += 1

    # --- ends: each is called once for a frame that `receive` counted
    def end_journaled(self, key: Key) -> None:
        with self.lock:
            self.journaled += 1
            epoch = self._epochs.get((key.stream, key.epoch))
            if epoch is not None:
                epoch.forfeited.discard(key.sequence)

    def end_unjournaled(self, key: Key) -> None:
        with self.lock:
            self.unjournaled += 1
            self._forfeit(key)

    def end_duplicate(self, key: Key) -> None:
        with self.lock:
            self.duplicate += 1
            epoch = self._epochs.get((key.stream, key.epoch))
            if epoch is None:
                self.forgotten_epochs["duplicates"] += 1
            else:
                epoch.duplicates += 1

    def end_rejected(self, key: Key, reason: str) -> None:
        with self.lock:
            self.rejected[reason] += 1
            self._forfeit(key)

    def end_shed(self, key: Key, policy: str) -> None:
        with self.lock:
            self.shed[policy] += 1
            self._forfeit(key)

    # --- the invariant
    @property
    def ended(self) -> int:
        """Frames that reached one of the five ends."""
        return (
            self.journaled
            + self.unjournaled
            + self.duplicate
            + sum(self.rejected.values())
            + sum(self.shed.values())
        )

    def _moment(self) -> tuple[int, int]:
        """Frames received and frames in flight, of one moment; under `lock`."""
        self._settle()
        received = self._arrived + self._refused
        if self.measure is None:
            return received, received - self.ended
        return received, self._arrived - self._handed_on + self.measure()

    @property
    def received(self) -> int:
        with self.lock:
            return self._moment()[0]

    @property
    def in_flight(self) -> int:
        with self.lock:
            return self._moment()[1]

    @property
    def unaccounted(self) -> int:
        """Frames that are in none of the places. 0 or the program is wrong."""
        with self.lock:
            received, in_flight = self._moment()
            return received - self.ended - in_flight

    def check(self, *, final: bool = False) -> None:
        """Raise LedgerError unless every frame is accounted for; `final`: and none is in flight."""
        with self.lock:
            received, in_flight = self._moment()
            unaccounted = received - self.ended - in_flight
            if unaccounted != 0 or in_flight < 0:
                raise LedgerError(
                    f"received {received} is not journaled {self.journaled} + unjournaled "
                    f"{self.unjournaled} + duplicate {self.duplicate} + rejected "
                    f"{sum(self.rejected.values())} + shed {sum(self.shed.values())} + in flight {in_flight}",
                    field="unaccounted",
                    value=unaccounted,
                )
            if final and in_flight != 0:
                raise LedgerError(
                    "frames are still in flight after the end", field="in_flight", value=in_flight
                )
            for (stream, number), epoch in self._epochs.items():
                if epoch.gaps < 0:
                    raise LedgerError(
                        f"stream {stream} epoch {number}: more unique sequence numbers than expected",
                        field="gaps",
                        value=epoch.gaps,
                    )

    # --- for people and programs
    def summary(self) -> dict[str, Any]:
        """Every count as plain numbers, of one moment; keys in a fixed order."""
        with self.lock:
            received, in_flight = self._moment()
            return {
                "received": received,
                "journaled": self.journaled,
                "unjournaled": self.unjournaled,
                "duplicate": self.duplicate,
                "rejected": dict(sorted(self.rejected.items())),
                "shed": dict(sorted(self.shed.items())),
                "in_flight": in_flight,
                "unaccounted": received - self.ended - in_flight,
                "streams": [
                    {"stream": stream, "epoch": number, **epoch.row()}
                    for (stream, number), epoch in sorted(self._epochs.items())
                ],
                "forgotten_epochs": dict(self.forgotten_epochs),
            }

    def text(self) -> str:
        """The same as `summary`, one line a count."""
        s = self.summary()
        lines = [f"{name:<12}{s[name]}" for name in ("received", "journaled", "unjournaled", "duplicate")]
        for name in ("rejected", "shed"):
            detail = ", ".join(f"{why} {n}" for why, n in s[name].items())
            lines.append(f"{name:<12}{sum(s[name].values())}" + (f" ({detail})" if detail else ""))
        lines += [f"{name:<12}{s[name]}" for name in ("in_flight", "unaccounted")]
        for row in s["streams"]:
            lines.append(
                f"stream {row['stream']:#010x} epoch {row['epoch']}: sequence {row['first']}..{row['last']}, "
                f"expected {row['expected']} = unique {row['unique']} + gaps {row['gaps']}, "
                f"duplicates {row['duplicates']}" + ("" if row["exact"] else " (not exact: too many gaps)")
            )
        if s["forgotten_epochs"]["epochs"]:
            old = s["forgotten_epochs"]
            lines.append(
                f"{old['epochs']} older epochs: expected {old['expected']} = unique {old['unique']} + gaps "
                f"{old['gaps']}, duplicates {old['duplicates']}"
            )
        return "\n".join(lines)

    @property
    def epochs(self) -> OrderedDict[tuple[int, int], EpochCount]:
        """What is known about each (stream, epoch); the newest last."""
        with self.lock:
            self._settle()
            return self._epochs

    # --- inside
    def _settle(self) -> None:
        """Enter what `follows` received; under `lock`. What it receives from here on is of the next moment."""
        end = self._next
        if end != self._run:
            self._arrived += end - self._run
            self._epoch.extend(end - self._run)
            self._run = end

    def _open(self, where: tuple[int, int]) -> EpochCount:
        """What is known about that (stream, epoch), which is the newest from now on."""
        epoch = self._epochs.get(where)
        if epoch is None:
            epoch = self._epochs[where] = EpochCount(self._max_intervals)
            if len(self._epochs) > self._max_epochs:
                self._forget_oldest()
        self._epochs.move_to_end(where)
        return epoch

    def _forfeit(self, key: Key) -> None:
        epoch = self._epochs.get((key.stream, key.epoch))
        if epoch is not None:
            epoch.forfeited.add(key.sequence)

    def _forget_oldest(self) -> None:
        _, epoch = self._epochs.popitem(last=False)
        self.forgotten_epochs["epochs"] += 1
        for name in ("expected", "unique", "gaps", "duplicates"):
            self.forgotten_epochs[name] += getattr(epoch, name)
