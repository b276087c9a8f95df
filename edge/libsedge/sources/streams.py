"""What a source needs of a decoder of a byte stream; `FrameStream` is the one for frames back to back."""

from __future__ import annotations

from typing import Protocol

from libsedge._frames import Decoder
from libsedge.frame import Frame


class StreamReader(Protocol):
    """Bytes in, frames out. Counts only grow; `refused` and `counters` have the same keys at every call."""

    @property
    def pending_bytes(self) -> int:
        """Bytes held back: the beginning of what may become a frame."""

    def feed(self, data: bytes | memoryview) -> list[Frame]: ...

    def finish(self) -> list[Frame]:
        """No more bytes will come: the frames that stood behind a damaged header."""

    def refused(self) -> dict[str, int]:
        """Frames that came and could not be decoded, by reason."""

    def counters(self) -> dict[str, int]: ...


class FrameStream:
    """Frames back to back (table "Frame" in docs/architecture.md)."""

    def __init__(self) -> None:
        self._decoder = Decoder()

    @property
    def pending_bytes(self) -> int:
        return self._decoder.pending_bytes

    def feed(self, data: bytes | memoryview) -> list[Frame]:
        return self._decoder.feed(data)

    def finish(self) -> list[Frame]:
        return self._decoder.finish()

    def refused(self) -> dict[str, int]:
        decoder = self._decoder
        return {"crc": decoder.crc_errors, "header": decoder.header_errors, "truncated": decoder.incomplete}

    def counters(self) -> dict[str, int]:
        decoder = self._decoder
        return {
            "decoded": decoder.frames,
            "garbage_bytes": decoder.garbage_bytes,
            "truncated_bytes": decoder.truncated_bytes,
        }


def add_growth(total: dict[str, int], now: dict[str, int], before: dict[str, int]) -> None:
    """Add to `total` what has grown from `before` to `now`, and make `before` equal to `now`."""
    for name, value in now.items():
        if growth := value - before.get(name, 0):
            total[name] = total.get(name, 0) + growth
            before[name] = value
