"""The contract of a source.

A source is iterated once, by one thread. It yields a `Frame` for every undamaged frame, in the order in which
they came, and `None` at least every half second while nothing comes, so that the reader can look at its
clocks. It ends when the stream ends, and soon after `stop()`.

It never raises for what a peer sends. Frames that came but could not be decoded are counted in `refused`, by
reason; the counts only grow, and only the iterating thread changes them. Further counters stand in
`counters()`.

Every frame that was yielded comes back exactly once, from any thread: in `acknowledge` when it is durable
(then, and only then, a source with a way back tells its peer), or in `forget` when it ended in another way.
`close()` sends what is still to be sent, frees everything, and is safe to call twice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from libsedge.frame import Frame
from libsedge.ledger import Key

if TYPE_CHECKING:
    from libsedge.frame_key import FrameKey
    from libsedge.sources.tls import TlsFiles


@dataclass(frozen=True)
class Axis:
    """What a channel number means.

    Parameters
    ----------
    wavelength_nm : float64 [channels], vacuum, increasing.
    mask : bool [channels], True = valid; None = all valid.
    saturation : counts at and above which a channel is clipped; NaN = unknown.
    """

    wavelength_nm: np.ndarray
    mask: np.ndarray | None = None
    saturation: float = float("nan")


@dataclass(frozen=True)
class SourceOptions:
    """What the command line can tell any source; each uses what concerns it.

    Parameters
    ----------
    rate_hz : frames a second of a replay; None = as fast as they are taken.
    speed : of a recording's replay: 1 = as it was, 10 = ten times as fast; None = as fast as they are taken.
    axis : the axis of a stream that does not carry one.
    idle_s : seconds after which a peer that stopped in the middle of a frame is cut off.
    tls : certificates with which peers and server prove themselves to each other; None = no TLS.
    key : with which every frame is signed (`libsedge.frame_key`); None = frames are not.
    """

    rate_hz: float | None = None
    speed: float | None = None
    axis: Axis | None = None
    idle_s: float = 10.0
    tls: TlsFiles | None = None
    key: FrameKey | None = None


@dataclass
class Source(ABC):
    """Base class; see the module's text for the contract."""

    #: None where the stream does not carry an axis and none was given
    axis: Axis | None = None
    #: the one stream it yields; None where only the frames tell
    stream_id: int | None = None
    #: the spectra come from a simulation, as far as the source can tell
    simulated: bool = False
    #: where it listens, such as "127.0.0.1:5600"; None for a source that does not
    address: str | None = None
    #: frames that came and could not be decoded, by reason; only grows
    refused: Counter[str] = field(default_factory=Counter)

    @abstractmethod
    def __iter__(self) -> Iterator[Frame | None]: ...

    @abstractmethod
    def stop(self) -> None:
        """End the iteration soon; safe from any thread and from a signal handler."""

    def resume(self, stream: int, epoch: int) -> None:  # noqa: B027 (only signed frames are concerned)
        """Before the first frame: the journal has frames of this stream up to this epoch."""

    def acknowledge(self, keys: Iterable[Key]) -> None:  # noqa: B027 (a source without a way back ignores it)
        """These frames are durable."""

    def forget(self, keys: Iterable[Key]) -> None:  # noqa: B027
        """These frames ended without being durable: nothing is said to the peer."""

    def counters(self) -> dict[str, int]:
        """Further counters by name, for the report."""
        return {}

    @abstractmethod
    def close(self) -> None: ...
