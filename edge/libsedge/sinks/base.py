"""The contract of a sink.

A sink gets every record after the journal committed it, once, in the order of the commits, from one thread.
`write` may raise OSError: the pipeline counts the records as missed by this sink and goes on, because the
journal has them. It must not block for long: it runs between two commits. `close()` is called once, and is
safe to call twice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from libsedge.frame import Frame
from libsedge.journal import Record
from libsedge.journal_rows import BurstRecord
from libsedge.sources.base import Axis


class Sink(ABC):
    """Base class; see the module's text for the contract."""

    def begin(self, axis: Axis | None, *, simulated: bool) -> None:  # noqa: B027
        """Called once, before anything else: what the source says of its frames."""

    @abstractmethod
    def write(self, records: Sequence[Record]) -> None: ...

    def write_bursts(self, bursts: Sequence[BurstRecord]) -> None:  # noqa: B027 - most sinks have no use for them
        """Bursts of the same commit, after their frames; the default takes no notice."""

    def write_frames(self, frames: Sequence[Frame]) -> None:  # noqa: B027
        """The frames of the same records as they came; the default takes no notice."""

    @abstractmethod
    def close(self) -> None: ...
