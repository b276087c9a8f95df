"""Frames over TCP, and the acknowledgements that come back."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from libsedge.errors import SourceError
from libsedge.ledger import Key
from libsedge.senders.truth import Truth
from libsedge.sources.tcp import decode_acks

if TYPE_CHECKING:
    from libsedge.sources.tls import TlsClient, TlsFiles


class _Acks(threading.Thread):
    """Reads acknowledgements until the peer closes, `enough()` says so, or nothing comes for `wait_s`."""

    def __init__(self, sock: socket.socket | TlsClient, wait_s: float) -> None:
        super().__init__(name="libsedge-acks", daemon=True)
        self.keys: set[Key] = set()
        self.count = 0
        self.wanted: int | None = None  # known once everything is sent
        self.error: SourceError | None = None
        self._sock, self._wait_s = sock, wait_s
        self._sock.settimeout(0.1)

    def run(self) -> None:
        buffer, last = bytearray(), time.monotonic()
        while self.wanted is None or self.count < self.wanted:
            try:
                data = self._sock.recv(1 << 16)
            except TimeoutError:
                if self.wanted is None:
                    last = time.monotonic()
                if time.monotonic() - last > self._wait_s:
                    return
                continue
            except (
                OSError,
                ValueError,
            ):  # ValueError: a selector's, of a socket that `send` gave up and closed
                return
            if not data:
                return
            buffer += data
            try:
                keys = decode_acks(buffer)
            except SourceError as error:
                self.error = error
                return
            self.keys.update(keys)
            self.count += len(keys)
            last = time.monotonic()


def send(
    host: str,
    port: int,
    pieces: Iterable[bytes],
    truth: Truth,
    *,
    rate_hz: float | None,
    wait_s: float,
    tls: TlsFiles | None = None,
) -> tuple[int, int, float]:
    """Send everything; (distinct intact frames acknowledged, acknowledgement records, seconds).

    Raises SourceError when the server cannot be reached, goes away, or answers something else.
    """
    try:
        plain = socket.create_connection((host, port), timeout=5.0)
        sock: socket.socket | TlsClient = plain
        if tls is not None:
            from libsedge.sources.tls import TlsClient

            sock = TlsClient(plain, tls, host)
    except OSError as error:
        raise SourceError(f"cannot connect: {error}", field=f"{host} port", value=port) from error
    with sock:
        acks = _Acks(sock, wait_s)
        acks.start()
        begin = time.monotonic()
        try:
            for piece in pieces:
                due = 0.0 if rate_hz is None else begin + (truth.frames - 1) / rate_hz
                if (wait := due - time.monotonic()) > 0:
                    time.sleep(wait)
                _send_all(sock, piece, acks, wait_s)
            acks.wanted = truth.intact + truth.repeat
            sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise SourceError(f"the server went away: {error}", field=f"{host} port", value=port) from error
        acks.join()
        if acks.error is not None:
            raise acks.error
        return len(acks.keys & set(truth.keys)), acks.count, time.monotonic() - begin


def _send_all(sock: socket.socket | TlsClient, data: bytes, acks: _Acks, wait_s: float) -> None:
    """sendall with a deadline that starts anew whenever bytes leave: a busy server may make us wait."""
    view, last = memoryview(data), time.monotonic()
    while view:
        try:
            view = view[sock.send(view) :]
            last = time.monotonic()
        except TimeoutError:
            if time.monotonic() - last > wait_s or not acks.is_alive():
                raise
