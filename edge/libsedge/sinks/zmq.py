"""`zmq:ENDPOINT`: decisions on a ZeroMQ PUB socket, one message a frame (and a burst): the JSON of the JSON-lines sink.

Bound on this machine only (`ipc://PATH`, `tcp://` with a loopback address; port 0 takes a free one). A
subscriber that is slow, or comes late, misses messages: at most 1,000 wait for each, and nothing ever waits for a
subscriber. The sequence numbers tell it what it missed; the journal has everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from libsedge import extras
from libsedge.errors import ConfigError
from libsedge.journal import Record
from libsedge.journal_rows import BurstRecord
from libsedge.sinks.base import Sink
from libsedge.sinks.jsonl import as_json, burst_as_json
from libsedge.sources.zmq import check_endpoint


def parse_zmq(endpoint: str) -> str:
    """The endpoint; ConfigError for one that is not of this machine."""
    check_endpoint(endpoint)
    return endpoint


class ZmqPub(Sink):
    """ConfigError for an endpoint that is not of this machine or cannot be bound."""

    def __init__(self, endpoint: str) -> None:
        zmq: Any = extras.load("zmq", "zmq")
        parse_zmq(endpoint)
        self._error: Any = zmq.ZMQError
        self._flags = zmq.NOBLOCK
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.SNDHWM, 1000)
        self._socket.setsockopt(zmq.LINGER, 500)
        self._socket.setsockopt(zmq.IPV6, int("[" in endpoint))
        self._open = True
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise ConfigError(f"cannot be bound: {error}", field="endpoint", value=endpoint) from error
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")

    def write(self, records: Sequence[Record]) -> None:
        self._send(as_json(record) for record in records)

    def write_bursts(self, bursts: Sequence[BurstRecord]) -> None:
        self._send(burst_as_json(burst) for burst in bursts)

    def _send(self, lines: Iterable[str]) -> None:
        try:
            for line in lines:
                self._socket.send(line.encode(), self._flags)
        except self._error as error:
            raise OSError(str(error)) from error

    def close(self) -> None:
        if self._open:
            self._open = False
            self._socket.close()
            self._context.term()
