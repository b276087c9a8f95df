"""Sources whose transport keeps messages apart (a datagram, a ZeroMQ message, a framed block): one message
holds one frame, so one damaged message is one refused frame and nothing else."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from libsedge.errors import FrameError
from libsedge.frame import Frame, decode
from libsedge.sources.base import Axis, Source

if TYPE_CHECKING:
    from libsedge.frame_key import FrameKey
    from libsedge.sources.signed import Verifier

#: field of a FrameError -> reason of the refusal; every other field is a "header"
_REASONS = {
    "crc": "crc",
    "length": "truncated",
    "magic": "garbage",
    "tag": "bad_tag",
    "replay": "replayed",
    "stream": "wrong_stream",
}


def refusal(error: FrameError) -> str:
    """Reason under which a message that gives no frame is counted: crc, truncated, garbage or header; of a signed one
    also bad_tag, replayed or wrong_stream."""
    return _REASONS.get(error.field or "", "header")


class MessageSource(Source):
    """Base class; `_receive` gives the next message. With a `key` every message is a signed frame."""

    def __init__(self, axis: Axis | None = None, key: FrameKey | None = None) -> None:
        super().__init__(axis=axis)
        self._verifier: Verifier | None = None
        self._decode: Callable[[bytes], Frame] = decode
        if key is not None:
            from libsedge.sources.signed import Verifier  # OpenSSL only where it is used

            self._verifier = Verifier(key)
            self._decode = self._verifier.decode
        self._stopped = threading.Event()
        self._numbers = {"messages": 0, "message_bytes": 0}

    @abstractmethod
    def _receive(self) -> bytes | None:
        """The next message, or None after at most half a second without one."""

    def _frames(self, message: bytes) -> list[Frame]:
        """The frames of a message; what cannot be decoded goes to `refused`."""
        try:
            return [self._decode(message)]
        except FrameError as error:
            self.refused[refusal(error)] += 1
            return []

    def resume(self, stream: int, epoch: int) -> None:
        if self._verifier is not None:
            self._verifier.resume(stream, epoch)

    def _tick(self) -> list[Frame]:
        """Called when nothing came; frames that can be given up waiting for more."""
        return []

    def __iter__(self) -> Iterator[Frame | None]:
        while not self._stopped.is_set():
            message = self._receive()
            if message is None:
                frames = self._tick()
            else:
                self._numbers["messages"] += 1
                self._numbers["message_bytes"] += len(message)
                frames = self._frames(message)
            if not frames:
                yield None
            for frame in frames:
                yield frame
                if self._stopped.is_set():
                    return

    def counters(self) -> dict[str, int]:
        return dict(self._numbers)

    def stop(self) -> None:
        self._stopped.set()
