"""`tcp:PORT`: frames over TCP, acknowledged when they are durable.

Only loopback addresses are bound, unless mutual TLS is configured (`libsedge.sources.tls`). Every connection has a
decoder of its own; at most `MAX_CONNECTIONS` are open. A peer that stops in the middle of a frame or of the handshake,
or trickles, is cut off after `idle_s`; a peer that is silent between frames is not.

On the way back, one record a durable frame, 24 bytes, little-endian:

| offset | type | field |
|---|---|---|
| 0 | 4 bytes | magic `SACK` |
| 4 | u32 | stream id |
| 8 | u32 | epoch |
| 12 | u64 | sequence |
| 20 | u32 | CRC-32C over bytes 0-19 |

A frame that comes again is acknowledged again, once it is durable. A frame that is damaged, refused, shed, or
that the disk did not take is never acknowledged: the sender may send it again.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from libsedge import _core
from libsedge.errors import ConfigError, SourceError
from libsedge.frame import Frame
from libsedge.ledger import Key
from libsedge.sources.base import Axis, Source, SourceOptions
from libsedge.sources.connection import READ_BYTES, Connection
from libsedge.sources.net import check_host, check_port, parse_address, show_address
from libsedge.sources.streams import FrameStream, StreamReader, add_growth

if TYPE_CHECKING:
    from libsedge.sources.tls import TlsFiles

MAX_CONNECTIONS = 8
_TICK_MS = 100
_ACK = struct.Struct("<4sIIQ")
ACK_BYTES = _ACK.size + 4


def encode_ack(key: Key) -> bytes:
    """The record that says `key` is durable."""
    body = _ACK.pack(b"SACK", key.stream, key.epoch, key.sequence)
    return body + struct.pack("<I", _core.crc32c(body))


def decode_acks(buffer: bytearray) -> list[Key]:
    """Takes whole records off the front of `buffer`; SourceError where the bytes are none."""
    keys = []
    while len(buffer) >= ACK_BYTES:
        body, (crc,) = bytes(buffer[: _ACK.size]), struct.unpack_from("<I", buffer, _ACK.size)
        magic, stream, epoch, sequence = _ACK.unpack(body)
        if magic != b"SACK" or crc != _core.crc32c(body):
            raise SourceError("the peer's answer is not an acknowledgement", field="bytes", value=body.hex())
        keys.append(Key(stream, epoch, sequence))
        del buffer[:ACK_BYTES]
    return keys


class TcpSource(Source):
    """A server on a loopback address, or on any with `tls`; `port` 0 takes a free one, `self.port` tells which.

    Raises ConfigError for an address that may not be bound, a port out of range or unusable certificates, SourceError
    when the port is in use.
    """

    def __init__(
        self,
        port: int,
        host: str = "127.0.0.1",
        *,
        axis: Axis | None = None,
        idle_s: float = 10.0,
        max_connections: int = MAX_CONNECTIONS,
        decoder: Callable[[], StreamReader] = FrameStream,
        tls: TlsFiles | None = None,
    ) -> None:
        super().__init__(axis=axis)
        check_port(port)
        check_host(host, authenticated=tls is not None)
        self._connect = Connection if tls is None else tls.connections()
        if not idle_s > 0:
            raise ConfigError("must be above 0", field="idle_s", value=idle_s)
        self._idle_s, self._max_connections = idle_s, max_connections
        self._stopped = threading.Event()
        self._turned_at = time.monotonic()
        self._lock = threading.Lock()  # of every connection's socket, unsent bytes and in_flight
        self._waiting: dict[Key, list[Connection]] = {}  # to whom a key is acknowledged, the oldest first
        self._connections: dict[int, Connection] = {}  # by file descriptor
        self._decoder = decoder
        names = ["connections", "connections_refused", "cut_off", "acknowledged"]
        names += [] if tls is None else ["not_authenticated"]
        self._numbers = dict.fromkeys(names, 0) | decoder().counters()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((host, port))
            self._listener.listen(max_connections)
        except OSError as error:
            self._listener.close()
            raise SourceError(f"cannot listen: {error.strerror}", field=f"{host} port", value=port) from error
        self._listener.setblocking(False)
        self._poller = select.poll()
        self._poller.register(self._listener, select.POLLIN)
        self.port = int(self._listener.getsockname()[1])
        self.address = show_address(host, self.port)

    def __iter__(self) -> Iterator[Frame | None]:
        while not self._stopped.is_set():
            frames = self._poll()
            if not frames:
                yield None
            for connection, frame in frames:
                with self._lock:
                    if frame.key in self._waiting:
                        self._waiting[frame.key].append(connection)
                    else:
                        self._waiting[frame.key] = [connection]
                    connection.in_flight += 1
                yield frame
                if self._stopped.is_set():
                    return

    def _poll(self) -> list[tuple[Connection, Frame]]:
        """One turn: what is due, then wait, accept and read; the frames that came.

        Between the wait and the frames' way to their decision nothing is done that can be done in the next turn.
        """
        refused = self.refused.total()
        frames = self._look_after()
        if frames or self.refused.total() != refused:
            return frames
        ready = self._poller.poll(_TICK_MS)
        for descriptor, events in ready:
            connection = self._connections.get(descriptor)
            if connection is None:
                self._accept()
            elif connection.handshaking:
                if not connection.shake_hands():
                    self._numbers["not_authenticated"] += 1
                    self._drop(connection)
            elif events & ~select.POLLOUT:
                data = connection.receive()
                if data is not None:
                    found = connection.take(data) if data else connection.finish()
                    frames += [(connection, frame) for frame in found]
        self._turned_at = time.monotonic()
        return frames

    def _look_after(self) -> list[tuple[Connection, Frame]]:
        """Count, send, cut off, drop; frames that a cut-off stream still held."""
        frames: list[tuple[Connection, Frame]] = []
        now = time.monotonic()
        held_s = now - self._turned_at  # the reader waited for the queue; no peer's fault
        self._turned_at = now
        for connection in list(self._connections.values()):
            found: list[Frame] = []
            if connection.partial_since is not None:
                connection.partial_since += held_s
                if now - connection.partial_since > self._idle_s:
                    self._numbers["cut_off"] += 1
                    found = connection.finish()
                    frames += [(connection, frame) for frame in found]
            connection.count(self.refused)
            with self._lock:
                alive = connection.send()
            done = connection.ended and not connection.in_flight and not connection.unsent
            if not alive or (done and not found):
                self._drop(connection)
            else:
                self._watch(connection)
        return frames

    def _watch(self, connection: Connection) -> None:
        """Have the poller look for what this connection waits for."""
        events = select.POLLIN * (not connection.ended) | select.POLLOUT * bool(connection.unsent)
        if events == connection.watched:
            return
        if events:
            self._poller.register(connection.sock, events)  # again: changes what is asked
        else:
            self._poller.unregister(connection.sock)
        connection.watched = events

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:  # the peer left before it was accepted
            return
        if len(self._connections) >= self._max_connections:
            self._numbers["connections_refused"] += 1
            sock.close()
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._numbers["connections"] += 1
        connection = self._connect(sock, self._decoder())  # of TLS: with a socket of its own
        self._connections[connection.sock.fileno()] = connection

    def _drop(self, connection: Connection) -> None:
        if not connection.ended:
            connection.finish()
        connection.count(self.refused)
        descriptor = connection.sock.fileno()
        if connection.watched:
            self._poller.unregister(descriptor)
        with self._lock:
            connection.closed = True
            connection.sock.close()
        del self._connections[descriptor]
        add_growth(self._numbers, connection.decoder.counters(), {})

    def acknowledge(self, keys: Iterable[Key]) -> None:
        with self._lock:
            for key in keys:
                connection = self._release(key)
                if connection is not None and not connection.closed:
                    connection.unsent += encode_ack(key)
                    self._numbers["acknowledged"] += 1
            for connection in list(self._connections.values()):
                connection.send()  # a peer that is gone is noticed, and dropped, by the reading thread

    def forget(self, keys: Iterable[Key]) -> None:
        with self._lock:
            for key in keys:
                self._release(key)

    def _release(self, key: Key) -> Connection | None:
        waiting = self._waiting.get(key)
        if not waiting:
            return None
        connection = waiting.pop(0)
        if not waiting:
            del self._waiting[key]
        connection.in_flight -= 1
        return connection

    def counters(self) -> dict[str, int]:
        numbers = dict(self._numbers)
        for connection in list(self._connections.values()):
            add_growth(numbers, connection.decoder.counters(), {})
        return numbers

    def stop(self) -> None:
        self._stopped.set()

    def close(self) -> None:
        """Send the acknowledgements that are left, for at most two seconds, and close every socket."""
        self._stopped.set()
        self._listener.close()
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline:
            with self._lock:
                left = [
                    connection
                    for connection in self._connections.values()
                    if connection.send() and connection.unsent
                ]
            if not left:
                break
            time.sleep(0.01)
        for connection in self._connections.values():
            # Closing with unread bytes resets the connection and takes acknowledgements with it: read first.
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_WR)
                connection.sock.settimeout(0.2)
                while time.monotonic() < deadline and connection.sock.recv(READ_BYTES):
                    pass
        for connection in list(self._connections.values()):
            self._drop(connection)


def parse_tcp(argument: str, options: SourceOptions) -> tuple[str, int]:
    """(host, port); ConfigError for what may not be bound."""
    return parse_address(argument, authenticated=options.tls is not None)


def open_tcp(argument: str, options: SourceOptions) -> TcpSource:
    """`tcp:PORT` or `tcp:ADDRESS:PORT`, such as `tcp:5600`, `tcp:[::1]:5600`; with TLS also `tcp:0.0.0.0:5600`."""
    host, port = parse_tcp(argument, options)
    return TcpSource(port, host, axis=options.axis, idle_s=options.idle_s, tls=options.tls)
