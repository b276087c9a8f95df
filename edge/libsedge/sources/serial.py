"""`serial:DEVICE[,baud=N][,rtscts]`: frames over a serial line, in COBS blocks with a zero before and behind
each.

The zero marks where a block ends, whatever happened to the line; the frame's own CRC-32C says whether it is
whole. Every block that is not empty is one frame or one refusal. There is no way back. Without `rtscts`
nothing slows the sender down, and bytes that the driver drops show as refused blocks and as gaps.

A device that goes away (a pulled cable) is opened again twice a second until it is back: `reopened`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from libsedge import extras
from libsedge.errors import ConfigError, SourceError
from libsedge.frame import HEADER_BYTES, MAX_CHANNELS, TAG_BYTES, Frame
from libsedge.sources import cobs
from libsedge.sources.base import Axis, SourceOptions
from libsedge.sources.messages import MessageSource

if TYPE_CHECKING:
    from libsedge.frame_key import FrameKey

DEFAULT_BAUD = 115200
#: the largest signed frame, stuffed
MAX_BLOCK = (HEADER_BYTES + 4 * MAX_CHANNELS + TAG_BYTES) * 255 // 254 + 2
_READ = 1 << 16


class Blocks:
    """Splits bytes at zeros; a block above `limit` bytes is dropped as it comes and given as empty `b""`."""

    def __init__(self, limit: int = MAX_BLOCK) -> None:
        self.limit = limit
        self.too_long_bytes = 0
        self._rest = bytearray()
        self._dropping = False

    @property
    def pending_bytes(self) -> int:
        """Bytes of a block that has not ended."""
        return len(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """The blocks that ended; b"" stands for one that was too long."""
        *ended, rest = data.split(b"\0")
        blocks = []
        for piece in ended:
            blocks += self._take(piece, True)
        self._take(rest, False)
        return blocks

    def finish(self) -> list[bytes]:
        """What stands without an end."""
        return self._take(b"", True)

    def _take(self, piece: bytes, end: bool) -> list[bytes]:
        self._rest += piece
        if len(self._rest) > self.limit or self._dropping:
            self.too_long_bytes += len(self._rest)
            self._rest.clear()
            self._dropping = not end
            return [b""] if end else []
        if not end or not self._rest:
            return []
        block = bytes(self._rest)
        self._rest.clear()
        return [block]


class SerialSource(MessageSource):
    """A serial device; SourceError where it cannot be opened, ConfigError for a setting it does not take."""

    def __init__(
        self,
        device: str,
        baud: int = DEFAULT_BAUD,
        *,
        rtscts: bool = False,
        axis: Axis | None = None,
        key: FrameKey | None = None,
    ) -> None:
        super().__init__(axis, key)
        if baud < 1:
            raise ConfigError("must be above 0", field="baud", value=baud)
        self._serial: Any = extras.load("serial", "serial")
        self._device, self._baud, self._rtscts = device, baud, rtscts
        self._blocks = Blocks()
        self._ready: list[bytes] = []
        self._numbers |= {"bytes": 0, "reopened": 0}
        self._try_at = 0.0
        try:
            self._port: Any = self._open()
        except (OSError, ValueError) as error:
            raise SourceError(f"cannot be opened: {error}", field="device", value=device) from error
        self.address = device

    def _open(self) -> Any:
        return self._serial.Serial(self._device, self._baud, timeout=0.1, rtscts=self._rtscts, exclusive=True)

    def _receive(self) -> bytes | None:
        if not self._ready:
            data = self._read()
            self._ready = self._blocks.feed(data)[::-1]
        return self._ready.pop() if self._ready else None

    def _read(self) -> bytes:
        """What is there, after at most 0.1 s; b"" while the device is away."""
        if self._port is None:
            time.sleep(0.1)
            if time.monotonic() >= self._try_at:
                self._try_at = time.monotonic() + 0.5
                try:
                    self._port = self._open()
                    self._numbers["reopened"] += 1
                except (OSError, ValueError):
                    pass
            return b""
        try:
            data = bytes(self._port.read(min(max(1, self._port.in_waiting), _READ)))
            self._numbers["bytes"] += len(data)
            return data
        except (OSError, TypeError):  # gone; TypeError: closed by another thread while reading
            self._hang_up()
            return b"\0"  # what stands without an end has ended

    def _frames(self, message: bytes) -> list[Frame]:
        if not message:
            self.refused["too_long"] += 1
            return []
        data = cobs.decode(message)
        if data is None:
            self.refused["stuffing"] += 1
            return []
        return super()._frames(data)

    def _hang_up(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            port.close()

    def counters(self) -> dict[str, int]:
        return super().counters() | {
            "too_long_bytes": self._blocks.too_long_bytes,
            "pending_bytes": self._blocks.pending_bytes,
        }

    def close(self) -> None:
        """A block that has begun and not ended is refused as truncated."""
        self._stopped.set()
        self._hang_up()
        self.refused["truncated"] += len(self._blocks.finish())


def parse_serial(argument: str, options: SourceOptions) -> tuple[str, int, bool]:
    """(device, baud, whether RTS/CTS is used); ConfigError for another setting."""
    device, *settings = argument.split(",")
    baud, rtscts = DEFAULT_BAUD, False
    for setting in settings:
        name, _, value = setting.partition("=")
        if setting == "rtscts":
            rtscts = True
        elif name == "baud" and value.isascii() and value.isdigit():
            baud = int(value)
        else:
            raise ConfigError("must be baud=N or rtscts", field="serial option", value=setting)
    return device, baud, rtscts


def open_serial(argument: str, options: SourceOptions) -> SerialSource:
    """`serial:DEVICE`, and `,baud=N` and `,rtscts` behind it."""
    device, baud, rtscts = parse_serial(argument, options)
    return SerialSource(device, baud, rtscts=rtscts, axis=options.axis, key=options.key)
