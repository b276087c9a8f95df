"""`zmq:pull:ENDPOINT` and `zmq:sub:ENDPOINT`: one frame a ZeroMQ message.

`pull` binds and takes from PUSH sockets; when our queue is full it stops taking and the senders' queues fill
(back-pressure). `sub` connects to a PUB socket, which drops what a slow subscriber does not take: the gaps
count it. A sender that leaves while messages of its own still wait takes them along (ZeroMQ's way): they are
gaps too, so it should leave last. At most 64 messages wait here.

Endpoints are `ipc://PATH` and `tcp://ADDRESS:PORT` with a loopback address, or any where frames are signed; port 0
takes a free one. A
message above the largest frame closes its sender's connection. There is no way back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from libsedge import extras
from libsedge.errors import ConfigError, SourceError
from libsedge.frame import HEADER_BYTES, MAX_CHANNELS, TAG_BYTES
from libsedge.sources.base import Axis, SourceOptions
from libsedge.sources.messages import MessageSource
from libsedge.sources.net import parse_address

if TYPE_CHECKING:
    from libsedge.frame_key import FrameKey

#: messages that may wait in a socket, each way
HIGH_WATER = 64
MAX_MESSAGE = HEADER_BYTES + 4 * MAX_CHANNELS + TAG_BYTES


def check_endpoint(endpoint: str, *, authenticated: bool = False) -> None:
    """ConfigError unless `ipc://PATH`, or `tcp://ADDRESS:PORT` with a loopback address; any where frames are
    `authenticated`."""
    scheme, _, rest = endpoint.partition("://")
    if scheme == "tcp":
        parse_address(rest, authenticated=authenticated)
    elif scheme != "ipc" or not rest:
        raise ConfigError("must be ipc://PATH or tcp://ADDRESS:PORT", field="endpoint", value=endpoint)


def check_socket(kind: str, endpoint: str, *, authenticated: bool) -> None:
    """ConfigError for another kind than pull and sub, and for an endpoint as `check_endpoint`."""
    if kind not in ("pull", "sub"):
        raise ConfigError("must be zmq:pull:ENDPOINT or zmq:sub:ENDPOINT", field="zmq socket", value=kind)
    check_endpoint(endpoint, authenticated=authenticated)


class ZmqSource(MessageSource):
    """`kind` pull or sub. Raises ConfigError for an endpoint that may not be used, SourceError when it cannot be
    bound."""

    def __init__(
        self, kind: str, endpoint: str, *, axis: Axis | None = None, key: FrameKey | None = None
    ) -> None:
        super().__init__(axis, key)
        zmq: Any = extras.load("zmq", "zmq")
        check_socket(kind, endpoint, authenticated=key is not None)
        self._error: Any = zmq.ZMQError
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PULL if kind == "pull" else zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, HIGH_WATER)
        self._socket.setsockopt(zmq.RCVTIMEO, 100)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)
        self._socket.setsockopt(zmq.IPV6, int("[" in endpoint))
        self._ended = False
        try:
            if kind == "pull":
                self._socket.bind(endpoint)
            else:
                self._socket.setsockopt(zmq.SUBSCRIBE, b"")
                self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise SourceError(f"cannot be used: {error}", field="endpoint", value=endpoint) from error
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")

    def _receive(self) -> bytes | None:
        try:
            parts = self._socket.recv_multipart()
        except self._error:  # nothing came
            return None
        if len(parts) != 1:
            self.refused["multipart"] += 1
            return None
        return bytes(parts[0])

    def close(self) -> None:
        """What waits in the socket was never received; it is lost and shows as gaps."""
        self._stopped.set()
        if not self._ended:
            self._ended = True
            self._socket.close()
            self._context.term()


def parse_zmq(argument: str, options: SourceOptions) -> tuple[str, str]:
    """(kind, endpoint); ConfigError as `check_socket`."""
    kind, _, endpoint = argument.partition(":")
    check_socket(kind, endpoint, authenticated=options.key is not None)
    return kind, endpoint


def open_zmq(argument: str, options: SourceOptions) -> ZmqSource:
    """`zmq:pull:ENDPOINT` or `zmq:sub:ENDPOINT`."""
    kind, endpoint = parse_zmq(argument, options)
    return ZmqSource(kind, endpoint, axis=options.axis, key=options.key)
