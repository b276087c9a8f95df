"""`ccsds:udp:PORT` and `ccsds:tcp:PORT`: frames in CCSDS space packets, segmented, from programs on this machine, or
over UDP from anywhere where frames are signed (the frame with its tag is segmented; a packet by itself proves
nothing). The packets are those of `libsedge.sources.space_packets`.

Packets of another APID are not ours: over UDP they are counted as `packets_other` and not looked into, over
TCP they are skipped bytes. A packet that is damaged cannot be believed about which frame it belongs to: it is
counted as `packets_damaged` (UDP) or in `garbage_bytes` (TCP), and its frame is then refused as `incomplete`
when another segment of it came, or is a gap when none did.

Over TCP packets stand back to back and durable frames are acknowledged as `tcp:PORT` does; a peer has to read
the acknowledgements. After damage the search goes on at the next byte that could begin a packet of ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from libsedge.errors import ConfigError
from libsedge.frame import Frame, decode
from libsedge.sources.base import Axis, SourceOptions
from libsedge.sources.net import parse_address
from libsedge.sources.space_packets import (
    DEFAULT_APID,
    MAX_PACKET,
    Assembler,
    Packet,
    PacketCount,
    check_apid,
    packet_bytes_at,
    parse,
)
from libsedge.sources.tcp import TcpSource
from libsedge.sources.udp import UdpSource

if TYPE_CHECKING:
    from libsedge.frame_key import FrameKey


class PacketReader:
    """Packets to frames, with every count; what UDP and TCP have in common."""

    def __init__(self, decode: Callable[[bytes], Frame] = decode) -> None:
        self.assembler = Assembler(decode=decode)
        self.count = PacketCount()
        self.numbers = {"packets": 0, "packets_damaged": 0, "packets_other": 0, "decoded": 0}

    def take(self, packet: Packet) -> list[Frame]:
        self.numbers["packets"] += 1
        self.count.arrive(packet)
        frame = self.assembler.add(packet, time.monotonic())
        if frame is None:
            return []
        self.numbers["decoded"] += 1
        return [frame]

    def counters(self) -> dict[str, int]:
        return self.numbers | self.count.counters() | {"segments_again": self.assembler.again}


class PacketStream:
    """Packets of one APID out of a byte stream; a `StreamReader`."""

    def __init__(self, apid: int = DEFAULT_APID) -> None:
        check_apid(apid)
        self._magic = (1 << 11 | apid).to_bytes(2, "big")
        self._reader = PacketReader()
        self._buffer = bytearray()
        self._garbage = 0

    @property
    def pending_bytes(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes | memoryview) -> list[Frame]:
        self._buffer += data
        return self._scan(False)

    def finish(self) -> list[Frame]:
        frames = self._scan(True)
        self._reader.assembler.expire(float("inf"))
        return frames

    def _scan(self, ended: bool) -> list[Frame]:
        """Take every whole packet. At most the largest packet's bytes stay behind."""
        buffer, at = self._buffer, 0
        frames: list[Frame] = []
        while True:
            found = buffer.find(self._magic, at)
            if found < 0:
                found = len(buffer) - (not ended and buffer[-1:] == self._magic[:1])
                found = max(found, at)
            self._garbage += found - at
            at = found
            left = len(buffer) - at
            if left < 6 or packet_bytes_at(buffer, at) > left:
                if not ended or left == 0:
                    break
                packet = None
            else:
                packet = parse(bytes(buffer[at : at + packet_bytes_at(buffer, at)]))
            if packet is None:
                self._garbage += 1
                at += 1
            else:
                frames += self._reader.take(packet)
                at += packet_bytes_at(buffer, at)
        del buffer[:at]
        return frames

    def refused(self) -> dict[str, int]:
        return dict(self._reader.assembler.refused)

    def counters(self) -> dict[str, int]:
        skip = ("packets_damaged", "packets_other")
        numbers = {name: value for name, value in self._reader.counters().items() if name not in skip}
        return numbers | {"garbage_bytes": self._garbage}


class CcsdsUdpSource(UdpSource):
    """Whole packets in datagrams; a frame whose segments stop coming is given up after `idle_s`."""

    def __init__(
        self,
        port: int,
        host: str = "127.0.0.1",
        *,
        apid: int = DEFAULT_APID,
        axis: Axis | None = None,
        idle_s: float = 10.0,
        key: FrameKey | None = None,
    ) -> None:
        check_apid(apid)
        if not idle_s > 0:
            raise ConfigError("must be above 0", field="idle_s", value=idle_s)
        super().__init__(port, host, axis=axis, key=key)
        self._apid, self._idle_s = apid, idle_s
        self._reader = PacketReader(self._decode)
        self.refused = self._reader.assembler.refused

    def _frames(self, message: bytes) -> list[Frame]:
        frames: list[Frame] = []
        at, numbers = 0, self._reader.numbers
        while at < len(message):
            size = packet_bytes_at(message, at) if len(message) - at >= 6 else MAX_PACKET
            if at + size > len(message):
                numbers["packets_damaged"] += 1
                break
            if int.from_bytes(message[at : at + 2], "big") & 0x7FF != self._apid:
                numbers["packets_other"] += 1
            elif (packet := parse(message[at : at + size])) is None:
                numbers["packets_damaged"] += 1
            else:
                frames += self._reader.take(packet)
            at += size
        return frames

    def _tick(self) -> list[Frame]:
        self._reader.assembler.expire(time.monotonic() - self._idle_s)
        return []

    def close(self) -> None:
        """Frames whose segments were still coming are refused as incomplete."""
        self._reader.assembler.expire(float("inf"))
        super().close()

    def counters(self) -> dict[str, int]:
        return super().counters() | self._reader.counters() | {"in_progress": self._reader.assembler.pending}


def parse_apid(text: str, default: int = DEFAULT_APID) -> tuple[str, int]:
    """`ADDRESS[,apid=N]` as (address, APID); ConfigError for another option and for an APID that is none."""
    address, comma, setting = text.partition(",")
    if not comma:
        return address, default
    name, _, value = setting.partition("=")
    if name != "apid" or not value.isascii() or not value.isdigit():
        raise ConfigError("must be apid=N", field="ccsds option", value=setting)
    check_apid(int(value))
    return address, int(value)


def parse_ccsds(argument: str, options: SourceOptions) -> tuple[str, str, int, int]:
    """(transport, host, port, APID); ConfigError for what may not be bound. Over TCP frames are
    sent again where they were not acknowledged, which a window against replays would refuse: no key there."""
    transport, _, rest = argument.partition(":")
    address, apid = parse_apid(rest)
    if transport not in ("udp", "tcp"):
        raise ConfigError(
            "must be ccsds:udp:PORT or ccsds:tcp:PORT", field="ccsds transport", value=transport
        )
    if transport == "tcp" and options.key is not None:
        raise ConfigError("signed frames are for ccsds:udp", field="source", value=f"ccsds:{argument}")
    return (transport, *parse_address(address, authenticated=options.key is not None), apid)


def open_ccsds(argument: str, options: SourceOptions) -> UdpSource | TcpSource:
    """`ccsds:udp:[ADDRESS:]PORT` or `ccsds:tcp:[ADDRESS:]PORT`, and `,apid=N` where it is not 493."""
    transport, host, port, apid = parse_ccsds(argument, options)
    if transport == "udp":
        return CcsdsUdpSource(
            port, host, apid=apid, axis=options.axis, idle_s=options.idle_s, key=options.key
        )
    return TcpSource(port, host, axis=options.axis, idle_s=options.idle_s, decoder=lambda: PacketStream(apid))
