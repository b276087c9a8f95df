"""`udp:PORT`: one frame a datagram, from programs on this machine, or from anywhere where frames are signed.
`ccsds:udp:PORT` takes frames in segments.

UDP acknowledges nothing and slows nobody down. What the kernel drops because we read too slowly is counted by
the kernel and reported as `dropped_by_kernel`; what is lost anywhere shows as gaps in the ledger, exactly,
from the frames' 64-bit sequence numbers. A datagram holds at most 65,507 bytes: a frame of 32,725 uint16 or
16,362 float32 channels. Larger frames need `ccsds:udp:PORT`.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from libsedge.errors import SourceError
from libsedge.sources.base import Axis, SourceOptions
from libsedge.sources.messages import MessageSource
from libsedge.sources.net import check_host, check_port, parse_address, show_address

if TYPE_CHECKING:
    from libsedge.frame_key import FrameKey

#: largest payload of a UDP datagram over IPv4, bytes
MAX_DATAGRAM = 65507
#: asked of the kernel for the datagrams that wait for us; it may grant less
RECEIVE_BUFFER = 1 << 23
_SO_MEMINFO = 55  # linux/asm-generic/socket.h
_DROPS = 8  # SK_MEMINFO_DROPS, linux/sock_diag.h


class UdpSource(MessageSource):
    """A socket on a loopback address, or on any with `key`; `port` 0 takes a free one, `self.port` tells which.

    Raises ConfigError for an address that may not be bound, SourceError when the port is in use.
    """

    def __init__(
        self, port: int, host: str = "127.0.0.1", *, axis: Axis | None = None, key: FrameKey | None = None
    ) -> None:
        super().__init__(axis, key)
        check_host(host, authenticated=key is not None)
        check_port(port)
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise SourceError(f"cannot listen: {error.strerror}", field=f"{host} port", value=port) from error
        self._socket.settimeout(0.1)
        self.port = int(self._socket.getsockname()[1])
        self.address = show_address(host, self.port)

    def _receive(self) -> bytes | None:
        try:
            return self._socket.recv(MAX_DATAGRAM + 1)
        except OSError:  # a timeout, or an ICMP answer to somebody else
            return None

    def counters(self) -> dict[str, int]:
        numbers = super().counters()
        if self._socket.fileno() >= 0:
            size = struct.calcsize("9I")
            try:
                told = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, size)
            except OSError:  # a kernel that does not tell; the gaps still do
                return numbers
            numbers["dropped_by_kernel"] = int(struct.unpack("9I", told)[_DROPS])
        return numbers

    def close(self) -> None:
        """What waits in the kernel was never received; it is lost and shows as gaps to the next run."""
        self._stopped.set()
        self._numbers = self.counters()
        self._socket.close()


def parse_udp(argument: str, options: SourceOptions) -> tuple[str, int]:
    """(host, port); ConfigError for what may not be bound."""
    return parse_address(argument, authenticated=options.key is not None)


def open_udp(argument: str, options: SourceOptions) -> UdpSource:
    """`udp:PORT` or `udp:ADDRESS:PORT`; with a key also `udp:0.0.0.0:5601`."""
    host, port = parse_udp(argument, options)
    return UdpSource(port, host, axis=options.axis, key=options.key)
