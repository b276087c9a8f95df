"""Frames as ZeroMQ messages: PUSH connects, PUB binds and waits for a subscriber.

The connection stays open until the reader is gone, at most `wait_s`: ZeroMQ drops what a reader has not yet
taken when the sender leaves first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from libsedge import extras
from libsedge.errors import ConfigError, SourceError
from libsedge.senders.base import Emit, Sender, UnitSender
from libsedge.senders.truth import Whole
from libsedge.sources.zmq import HIGH_WATER, check_endpoint

if TYPE_CHECKING:
    from libsedge.frame_key import FrameKey


@contextmanager
def _socket(kind: str, endpoint: str, wait_s: float) -> Iterator[Emit]:
    """Raises SourceError where nobody subscribes, or takes a message, within `wait_s`."""
    zmq: Any = extras.load("zmq", "zmq")
    milliseconds = int(wait_s * 1000)
    context = zmq.Context()
    socket = context.socket(zmq.PUSH if kind == "push" else zmq.XPUB)
    monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    try:
        socket.setsockopt(zmq.SNDHWM, HIGH_WATER)
        socket.setsockopt(zmq.SNDTIMEO, milliseconds)
        socket.setsockopt(zmq.RCVTIMEO, milliseconds)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IPV6, int("[" in endpoint))
        if kind == "push":
            socket.connect(endpoint)
        else:
            socket.setsockopt(zmq.XPUB_NODROP, 1)  # wait for a slow subscriber instead of dropping
            socket.bind(endpoint)
            socket.recv()  # somebody subscribes
        yield socket.send
        monitor.poll(milliseconds)
    except zmq.ZMQError as error:
        raise SourceError(f"nobody takes what is sent: {error}", field="endpoint", value=endpoint) from error
    finally:
        socket.disable_monitor()
        monitor.close()
        socket.close()
        context.term()


def open_zmq(argument: str, key: FrameKey | None = None) -> Sender:
    """`zmq:push:ENDPOINT` or `zmq:pub:ENDPOINT`."""
    kind, _, endpoint = argument.partition(":")
    if kind not in ("push", "pub"):
        raise ConfigError("must be zmq:push:ENDPOINT or zmq:pub:ENDPOINT", field="zmq socket", value=kind)
    check_endpoint(endpoint, authenticated=key is not None)
    return UnitSender(Whole(key), lambda wait_s: _socket(kind, endpoint, wait_s))
