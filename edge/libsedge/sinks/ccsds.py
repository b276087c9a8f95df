"""`ccsds:udp:HOST:PORT[,apid=N]`: every decision as one CCSDS space packet in a datagram, for a ground system.

The packets are those of `libsedge.sinks.telemetry`; `libsedge xtce` writes the file by which Yamcs, space-packet-parser
and others read them. UDP has no way back: who does not listen misses packets, and the packet sequence count tells it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence

from libsedge.errors import ConfigError
from libsedge.journal import Record
from libsedge.journal_rows import BurstRecord
from libsedge.sinks.base import Sink
from libsedge.sinks.telemetry import DEFAULT_APID, Telemetry
from libsedge.sources.base import Axis
from libsedge.sources.ccsds import parse_apid
from libsedge.sources.net import parse_address


def parse_ccsds(argument: str) -> tuple[tuple[str, int], int]:
    """((host, port), APID) of `udp:HOST:PORT[,apid=N]`; ConfigError for a host that is not loopback."""
    transport, _, rest = argument.partition(":")
    if transport != "udp":
        raise ConfigError("must be ccsds:udp:HOST:PORT[,apid=N]", field="ccsds sink", value=argument)
    address, apid = parse_apid(rest, DEFAULT_APID)
    return parse_address(address, free=False), apid


class CcsdsSink(Sink):
    """ConfigError for an argument that is not `udp:HOST:PORT[,apid=N]` with a loopback address."""

    def __init__(self, argument: str) -> None:
        self._to, apid = parse_ccsds(argument)
        self._telemetry = Telemetry(apid)
        self._socket = socket.socket(
            socket.AF_INET6 if ":" in self._to[0] else socket.AF_INET, socket.SOCK_DGRAM
        )
        self._socket.setblocking(False)

    def begin(self, axis: Axis | None, *, simulated: bool) -> None:
        self._telemetry.simulated = simulated

    def write(self, records: Sequence[Record]) -> None:
        self._send(self._telemetry.frame(record) for record in records)

    def write_bursts(self, bursts: Sequence[BurstRecord]) -> None:
        self._send(self._telemetry.burst(burst) for burst in bursts)

    def _send(self, packets: Iterable[bytes]) -> None:
        """Try every packet; the first OSError at the end."""
        failed: OSError | None = None
        for packet in packets:
            try:
                self._socket.sendto(packet, self._to)  # not connected: that nobody listens is no error
            except OSError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def close(self) -> None:
        self._socket.close()
