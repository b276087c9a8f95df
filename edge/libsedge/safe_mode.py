"""Safe mode: frames are journaled and acknowledged, nothing is decided; entered by itself out of a crash loop.

`Starts` keeps the times of starts without a clean end in `JOURNAL.starts`, synchronised before the first frame. A clean
end of a run removes the file. Where `limit` starts of the last `WINDOW_S` seconds had no clean end, the next one is in
safe mode: what crashes is most likely the model or what feeds it, and frames that are journaled are better than a
program that comes and goes. A clean end (SIGTERM, `systemctl restart`) leaves it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from libsedge.classifier import Decision
from libsedge.errors import AxisError, ConfigError, JournalError, SourceError

#: starts without a clean end after which the next one is in safe mode
CRASH_LIMIT = 5
WINDOW_S = 600.0


class NoModel:
    """Decides nothing, about frames of any length."""

    channels: int | None = None
    digest: str | None = None
    spent_s = (0.0, 0.0)

    def leave_out(self, bad: np.ndarray) -> None:
        """Nothing."""

    def decide(
        self,
        counts: np.ndarray,
        dark: np.ndarray | None,
        shift_nm: float,
        saturation: float | None,
        distance_m: float,
        /,
    ) -> Decision:
        return Decision(None, None, None, None, False, "safe_mode", distance_m)


class Starts:
    """The starts of runs with this journal that had no clean end.

    A file that cannot be read counts as empty, and one that cannot be written is done without: a full disk must not
    keep the board from running. Raises ConfigError for a negative limit.
    """

    def __init__(
        self,
        journal: str | os.PathLike[str],
        limit: int = CRASH_LIMIT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if limit < 0:
            raise ConfigError("must be 0 (never) or more", field="crash-limit", value=limit)
        self.path = Path(f"{os.fspath(journal)}.starts")
        self._limit, self._clock = limit, clock

    def unclean(self) -> int:
        """Starts of the last `WINDOW_S` seconds, or of a clock that has been set back since."""
        now = self._clock()
        return sum(1 for start in self._read() if start > now - WINDOW_S)

    def _read(self) -> list[float]:
        try:
            starts = json.loads(self.path.read_text())
            return [float(start) for start in starts]
        except (OSError, ValueError, TypeError):
            return []

    def begin(self) -> bool:
        """Note a start; True where it has to be one in safe mode."""
        if self._limit == 0:
            return False
        looping = self.unclean() >= self._limit
        starts = [*self._read(), self._clock()][-self._limit :]
        part = self.path.with_name(self.path.name + ".part")
        with suppress(OSError):
            with open(part, "w", encoding="ascii") as file:
                json.dump(starts, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self.path)
        return looping

    def end(self) -> None:
        """The run came to a clean end."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    @contextmanager
    def forgive_mistakes(self) -> Iterator[None]:
        """What the caller did wrong (an option, a port in use, another stream's journal) is no crash."""
        try:
            yield
        except (AxisError, ConfigError, JournalError, SourceError):
            self.end()
            raise
