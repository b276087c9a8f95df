"""Bursts: several shots of one target become one decision, by a vote or on their mean spectrum.

A burst is opened by a light frame and takes the light frames that follow, up to `shots`. It ends earlier where the
target changes (epoch or distance differ), where no shot came for `gap_s`, where another model takes over, and with the
stream. Dark and passive frames, duplicates and frames of another length belong to no burst and end none.

* `vote`: every shot is decided by itself; the burst's label has the most accepted shots, and is accepted where these
  are more than half of all shots of the burst.
* `average`: shots that can be used (`Decision.label` is not None: not too dim, saturated, ...) get the role `averaged`
  and no decision of their own; the mean of their counts is decided once.

The rows of a burst's frames and its own row are committed together, and its frames acknowledged after that: a burst is
in the journal whole or not at all, and after a crash its sender sends it again whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from libsedge.classifier import Decision
from libsedge.decider import Decider
from libsedge.errors import ConfigError
from libsedge.frame import Frame
from libsedge.journal_rows import BurstRecord
from libsedge.ledger import Key
from libsedge.voting import vote

MODES = ("vote", "average")
MAX_SHOTS = 1024


@dataclass(frozen=True)
class BurstOptions:
    """mode : one of `MODES`; shots : frames a burst; gap_s : seconds without a frame after which it ends."""

    mode: str
    shots: int
    gap_s: float = 2.0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(f"must be one of {', '.join(MODES)}", field="burst", value=self.mode)
        if not 2 <= self.shots <= MAX_SHOTS:
            raise ConfigError(f"must be 2 ... {MAX_SHOTS} shots", field="burst", value=self.shots)
        if not 0 < self.gap_s <= 3600:
            raise ConfigError("must be above 0 and at most 3600 s", field="burst-gap", value=self.gap_s)

    @classmethod
    def parse(cls, text: str, gap_s: float = 2.0) -> BurstOptions:
        """`vote:8` or `average:8`; ConfigError for anything else."""
        mode, _, shots = text.partition(":")
        if not (shots.isascii() and shots.isdigit()):
            raise ConfigError("must be vote:SHOTS or average:SHOTS", field="burst", value=text)
        return cls(mode, int(shots), gap_s)


class Burst:
    """An open burst: the light frames of one target so far, with the decision about each."""

    def __init__(self, options: BurstOptions) -> None:
        self.options = options
        self.ended_at = 0.0
        self._shots: list[tuple[Key, Frame, Decision]] = []

    def __len__(self) -> int:
        return len(self._shots)

    def over(self, now: float) -> bool:
        """True when it has all its shots, or none came for too long; `now` is time.monotonic()."""
        return len(self._shots) >= self.options.shots or now >= self.ended_at

    def takes(self, frame: Frame) -> bool:
        """True when the light `frame` is a shot of the same target."""
        first = self._shots[0][1]
        return (frame.epoch, frame.distance_mm) == (first.epoch, first.distance_mm)

    def add(self, key: Key, frame: Frame, decision: Decision, now: float) -> tuple[str, Decision | None]:
        """Take a shot; the role and the decision that its own row gets."""
        self._shots.append((key, frame, decision))
        self.ended_at = now + self.options.gap_s
        averaged = self.options.mode == "average" and decision.label is not None
        return ("averaged", None) if averaged else ("light", decision)

    def close(self, decider: Decider) -> BurstRecord:
        """The burst's one decision; `decider` decides about a mean."""
        decisions = [decision for _, _, decision in self._shots]
        if self.options.mode == "vote":
            used, decision = _voted(decisions)
        else:
            usable = [frame for _, frame, decision in self._shots if decision.label is not None]
            used = len(usable)
            decision = decider.decide_average(usable) if usable else _refused("no_usable_shot")
        (first, frame, _), (last, _, _) = self._shots[0], self._shots[-1]
        return BurstRecord(
            stream=first.stream,
            epoch=first.epoch,
            first=first.sequence,
            last=last.sequence,
            mode=self.options.mode,
            shots=len(self._shots),
            used=used,
            label=decision.label,
            confidence=decision.confidence,
            accepted=decision.accepted,
            reason=decision.reason,
            probabilities=decision.probabilities,
            distance_mm=frame.distance_mm or None,
            time_ns=frame.time_ns,
            model=decider.classifier.digest,
        )


def _refused(reason: str) -> Decision:
    return Decision(None, None, None, None, False, reason)


def _voted(decisions: Sequence[Decision]) -> tuple[int, Decision]:
    result = vote(decisions)
    if result.index is None or result.probabilities is None:
        return 0, _refused("no_accepted_shot")
    sure = 2 * result.votes > result.shots
    return result.accepted, Decision(
        result.label,
        result.index,
        result.probabilities[result.index],
        result.probabilities,
        sure,
        None if sure else "no_majority",
    )
