"""Frames in CCSDS space packets, over UDP or TCP."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from libsedge.errors import ConfigError
from libsedge.frame import Frame
from libsedge.senders.base import Sender, TcpSender, UnitSender, udp_socket
from libsedge.senders.truth import wire_bytes
from libsedge.sources.net import parse_address
from libsedge.sources.space_packets import DEFAULT_APID, DEFAULT_PACKET_BYTES, Packetiser

if TYPE_CHECKING:
    from libsedge.frame_key import FrameKey


class Packets:
    """The packets of a frame as its units. A damaged one gives no refusal by itself: nobody can know which
    frame it belonged to."""

    def __init__(
        self,
        apid: int = DEFAULT_APID,
        packet_bytes: int = DEFAULT_PACKET_BYTES,
        key: FrameKey | None = None,
    ) -> None:
        self._key = key
        self._packetiser = Packetiser(apid, packet_bytes)
        self._first = (1 << 11 | apid) >> 8

    def units(self, frame: Frame) -> list[bytes]:
        return list(self._packetiser.packets(wire_bytes(frame, self._key), frame.epoch, frame.sequence))

    def cuts(self, unit: bytes) -> range:
        return range(1, len(unit))

    def refused(self, damaged: bytes) -> int:
        return 0

    def joined(self, before: bytes, after: bytes) -> int:
        return 0

    def noise(self, rng: random.Random) -> bytes:
        """Bytes among which no packet of ours can begin."""
        return bytes(byte for byte in rng.randbytes(rng.randrange(8, 2000)) if byte != self._first)


def open_ccsds(argument: str, key: FrameKey | None = None) -> Sender:
    """`ccsds:udp:HOST:PORT` or `ccsds:tcp:HOST:PORT`, then `,apid=N` and `,bytes=N` of the largest packet."""
    transport, _, rest = argument.partition(":")
    address, *settings = rest.split(",")
    numbers = {"apid": DEFAULT_APID, "bytes": DEFAULT_PACKET_BYTES}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in numbers or not value.isascii() or not value.isdigit():
            raise ConfigError("must be apid=N or bytes=N", field="ccsds option", value=setting)
        numbers[name] = int(value)
    if transport not in ("udp", "tcp"):
        raise ConfigError("must be udp or tcp", field="ccsds transport", value=transport)
    if transport == "tcp" and key is not None:
        raise ConfigError("signed frames are for ccsds:udp", field="to", value=f"ccsds:{argument}")
    host, port = parse_address(address, free=False, authenticated=key is not None)
    carrier = Packets(numbers["apid"], numbers["bytes"], key)
    if transport == "tcp":
        return TcpSender(host, port, carrier)
    return UnitSender(carrier, lambda wait_s: udp_socket(host, port))
