"""What must not go unseen, from one picture to the next.

An alarm begins when its condition holds and is over when that has not held for `HOLD_S`. It is listed while it holds,
and afterwards until somebody acknowledged it (the states of ISA-18.2). One that comes back begins again, not
acknowledged. Acknowledging changes nothing but this list; it is kept in memory and begins empty with every run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

HOLD_S = 10.0
#: without a turn of the pipeline's threads, without a picture
STALLED_S, SILENT_S = 10.0, 3.0

#: id -> (what people read, what to do)
TEXTS = {
    "unaccounted": ("Frames are unaccounted for", "A fault of the program: keep the journal, report it."),
    "silent": ("The runtime says nothing", "Nothing on this page is current. Look at the machine."),
    "safe_mode": ("Safe mode: nothing is decided", "It ended badly too often. Find out why, then restart."),
    "stalled": ("The pipeline stands still", "The watchdog will restart it where systemd runs it."),
    "disk": ("The journal cannot be written", "Decisions go on and are lost. Free space on the disk."),
    "shed": ("Frames are dropped", "They come faster than they are decided."),
    "late": ("Decisions miss the deadline", "See the latency below."),
    "rejected": ("Damaged or foreign frames", "Look at the link and at the sender's settings."),
    "gaps": ("Frames are missing in the stream", "Lost before they reached this machine."),
    "sink": ("An output does not take rows", "The journal has them."),
}


@dataclass
class Alarm:
    """One line of the list; times in seconds since 1970."""

    id: str
    text: str
    advice: str
    since: float
    last: float
    count: int
    active: bool = True
    acknowledged: bool = False


def _count(value: object) -> int:
    return sum(value.values()) if isinstance(value, Mapping) else int(value)  # type: ignore[call-overload]


def grown(picture: Mapping[str, Any]) -> dict[str, int]:
    """The counters whose growth is an alarm, by alarm id."""
    counts = picture["counts"]
    return {
        "unaccounted": _count(counts["unaccounted"]),
        "disk": _count(counts["unjournaled"]),
        "shed": _count(counts["shed"]),
        "late": _count(picture["deadline_missed"]),
        "rejected": _count(counts["rejected"]),
        "gaps": _count(counts["gaps"]),
        "sink": _count(picture["sink_errors"]),
    }


class Alarms:
    """The list. `clock` values are seconds since 1970, given by the caller."""

    def __init__(self) -> None:
        self._alarms: dict[str, Alarm] = {}
        self._counters: dict[str, int] = {}
        self._turns: list[Any] = []
        self._turned_at = 0.0
        self._picture_at: float | None = None
        #: the run decides nothing, and says so all the time
        self.safe_mode = False

    def picture(self, picture: Mapping[str, Any], now: float) -> None:
        """The pipeline said how it is."""
        self._picture_at = now
        for name, value in grown(picture).items():
            before = self._counters.get(name, 0)
            if value > before or (name == "unaccounted" and value):
                self._raise(name, now, max(value - before, 0))
            self._counters[name] = value
        reader, worker, done = picture["turns"]
        old = self._turns or [None, None, False]
        if (reader != old[0] or done) and worker != old[1]:
            self._turns, self._turned_at = [reader, worker, done], now
        elif now - self._turned_at > STALLED_S:
            self._raise("stalled", now, 0)

    def tick(self, now: float) -> None:
        """Time passes, with or without a picture."""
        if self._picture_at is not None and now - self._picture_at > SILENT_S:
            self._raise("silent", now, 0)
        if self.safe_mode:
            self._raise("safe_mode", now, 0)
        for alarm in list(self._alarms.values()):
            hold = 1.0 if alarm.id in ("silent", "stalled", "safe_mode") else HOLD_S
            alarm.active = now - alarm.last <= hold
            if not alarm.active and alarm.acknowledged:
                del self._alarms[alarm.id]

    def _raise(self, name: str, now: float, more: int) -> None:
        alarm = self._alarms.get(name)
        if alarm is None or (not alarm.active and now - alarm.last > HOLD_S):
            text, advice = TEXTS[name]
            already = 0 if alarm is None else alarm.count
            alarm = self._alarms[name] = Alarm(name, text, advice, now, now, already)
        alarm.last, alarm.active = now, True
        alarm.count += more

    def acknowledge(self, name: str) -> bool:
        """False where there is no such alarm."""
        alarm = self._alarms.get(name)
        if alarm is None:
            return False
        alarm.acknowledged = True
        if not alarm.active:
            del self._alarms[name]
        return True

    def listed(self) -> list[dict[str, Any]]:
        """In the order of `TEXTS`: the gravest first; not acknowledged before acknowledged."""
        order = list(TEXTS)
        rows = sorted(self._alarms.values(), key=lambda a: (a.acknowledged, order.index(a.id)))
        return [asdict(alarm) for alarm in rows]
