"""Frames at a pace: what a source that makes or replays them does until the next one is due."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

#: seconds within which the reader gets its turn, and a stop is seen
TURN_S = 0.25


def until(due: float, stopped: threading.Event) -> Iterator[None]:
    """Waits until `due` (time.monotonic) or until it is stopped; yields None in between, see `sources.base`."""
    while (wait := due - time.monotonic()) > 0 and not stopped.wait(min(wait, TURN_S)):
        if wait > TURN_S:
            yield None
