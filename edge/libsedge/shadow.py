"""A new model in the shadow: it decides the same light frames beside the old one, and nobody hears it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from libsedge.classifier import Decision

#: how the reason of a decision begins that is an error of the classifier
ERROR = "error: "


class Shadow:
    """Looks at `frames` frames and counts them: `decided`, `agreed` (same label and acceptance as the one in charge),
    `failed` (an error instead of a decision). `look` is called by the pipeline's worker, the rest from any thread."""

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.decided = self.agreed = self.failed = 0
        self.ended = threading.Event()

    def look(self, decision: Decision, mine: Callable[[], Decision]) -> None:
        """One more frame: what was decided, and what decides it here."""
        if self.ended.is_set():
            return
        other = mine()
        self.decided += 1
        self.failed += other.reason is not None and other.reason.startswith(ERROR)
        self.agreed += (other.label, other.accepted) == (decision.label, decision.accepted)
        if self.decided >= self.frames:
            self.ended.set()

    def text(self) -> str:
        return f"{self.agreed} of {self.decided} decisions as the old one's, {self.failed} errors"
