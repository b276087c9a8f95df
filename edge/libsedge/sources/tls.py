"""Mutual TLS: both sides show a certificate of an authority the other one names, or nothing is said.

With it a stream may leave this machine; without it only loopback addresses are bound or asked. TLS 1.3 only. A server
accepts whoever holds a certificate of `ca`: make it an authority of its own, for the instruments and nobody else.
This module is imported where TLS is configured only: OpenSSL costs the board 4.5 MiB.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from libsedge.errors import ConfigError
from libsedge.sources.connection import READ_BYTES, Connection
from libsedge.sources.streams import StreamReader

#: how long a client waits for room to say its closing word
_CLOSING_S = 10.0


@dataclass(frozen=True)
class TlsFiles:
    """PEM files: own certificate (chain), its private key without a password, and the authority of the other side."""

    certificate: str
    key: str
    ca: str

    @classmethod
    def of(cls, certificate: str | None, key: str | None, ca: str | None) -> TlsFiles | None:
        """None where nothing was given; ConfigError where only a part was."""
        given = {"tls-cert": certificate, "tls-key": key, "tls-ca": ca}
        missing = [name for name, value in given.items() if value is None]
        if len(missing) == len(given):
            return None
        if certificate is None or key is None or ca is None:
            raise ConfigError("certificate, key and authority are needed together", field=missing[0])
        return cls(certificate, key, ca)

    def server(self) -> ssl.SSLContext:
        """For whoever listens; ConfigError for files that cannot be used."""
        return self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))

    def client(self) -> ssl.SSLContext:
        """For whoever connects; the server's certificate must also name the host that was asked for."""
        return self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    def connections(self) -> Callable[[socket.socket, StreamReader], Connection]:
        """What makes a server's connection of an accepted socket; ConfigError as `server`."""
        context = self.server()

        def connect(sock: socket.socket, decoder: StreamReader) -> Connection:
            return TlsConnection(
                context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False), decoder
            )

        return connect

    def _load(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        for name, path in (("tls-cert", self.certificate), ("tls-key", self.key), ("tls-ca", self.ca)):
            if not Path(path).is_file():
                raise ConfigError("does not exist", field=name, value=path)
        try:
            # An empty password: a key that has one is refused, not asked for on the terminal.
            context.load_cert_chain(self.certificate, self.key, password="")
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(
                f"certificate and key cannot be used: {error}", field="tls-cert", value=self.certificate
            ) from error
        try:
            context.load_verify_locations(cafile=self.ca)
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(f"no certificate authority: {error}", field="tls-ca", value=self.ca) from error
        return context


class TlsConnection(Connection):
    """A peer that first has to prove itself."""

    sock: ssl.SSLSocket

    def __init__(self, sock: ssl.SSLSocket, decoder: StreamReader) -> None:
        super().__init__(sock, decoder)
        self._one = (
            threading.Lock()
        )  # OpenSSL takes one call at a time; the reader reads, the worker acknowledges
        self.handshaking, self.partial_since = True, time.monotonic()

    def shake_hands(self) -> bool:
        try:
            with self._one:
                self.sock.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return True
        except OSError:  # ssl.SSLError is one: no certificate, another authority's, no TLS at all
            return False
        self.handshaking, self.partial_since = False, None
        return True

    def receive(self) -> bytes | None:
        """TLS keeps what it has deciphered where no selector sees it, so all of that is taken at once."""
        data = b""
        try:
            with self._one:
                data = self.sock.recv(READ_BYTES)
                while data and self.sock.pending():
                    data += self.sock.recv(READ_BYTES)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return data or None
        except OSError:  # reset by the peer
            pass
        return data

    def give(self, data: bytearray) -> int:
        try:
            with self._one:
                return self.sock.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0


class TlsClient:
    """A connected client's socket for two threads, one that sends and one that receives; raises TimeoutError where
    nothing goes for 0.1 s. OSError as a socket's; ssl.SSLError, which is one, where the server is not the one named.

    OpenSSL sees memory and never the socket: its closing word is followed by a look for the server's, and were an
    acknowledgement on the socket at that moment, it would take it for a fault and end the connection.
    """

    def __init__(self, sock: socket.socket, tls: TlsFiles, host: str) -> None:
        self._sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = tls.client().wrap_bio(self._in, self._out, server_hostname=host)
        self._unsent, self._received = bytearray(), bytearray()
        #: how the server's side ended: with its closing word, cut off, or in a fault
        self._end: OSError | None = None
        self._ended = False
        self._one = threading.Lock()
        try:
            self._shake_hands()
        except OSError:
            with contextlib.suppress(OSError):
                sock.sendall(self._out.read())  # why, for the server
            sock.close()
            raise
        # In TLS 1.3 the server's word on our certificate comes after the handshake: with the first read.
        sock.setblocking(False)

    def _shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._sock.sendall(self._out.read())
                self._take(self._sock.recv(READ_BYTES))
        self._sock.sendall(self._out.read())

    def _take(self, data: bytes) -> None:
        """Bytes from the socket; none: the server closed it."""
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()

    def _wait(self, *, write: bool) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, selectors.EVENT_WRITE if write else selectors.EVENT_READ)
            if not selector.select(0.1):
                raise TimeoutError

    def _decipher(self) -> None:
        """All whole records, so that none lies in wait when the closing word is said."""
        try:
            while data := self._tls.read(READ_BYTES):
                self._received += data
            self._ended = True
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self._ended = True
        except OSError as error:
            self._ended, self._end = True, error

    def _flush(self) -> bool:
        """Whether the socket took everything there was to send."""
        self._unsent += self._out.read()
        with contextlib.suppress(BlockingIOError, InterruptedError):
            while self._unsent:
                del self._unsent[: self._sock.send(self._unsent)]
        return not self._unsent

    def recv(self, size: int) -> bytes:
        if not self._received and not self._ended:
            self._wait(write=False)
            with self._one:
                try:
                    self._take(self._sock.recv(READ_BYTES))
                except (BlockingIOError, InterruptedError):
                    raise TimeoutError from None
                self._decipher()
        if self._received:
            data = bytes(self._received[:size])
            del self._received[:size]
            return data
        if self._end is not None:
            raise self._end
        if not self._ended:
            raise TimeoutError
        return b""

    def send(self, data: memoryview) -> int:
        self._wait(write=True)
        with self._one:
            if not self._flush():
                raise TimeoutError
            taken = self._tls.write(data[:READ_BYTES])
            self._flush()
            return taken

    def shutdown(self, how: int) -> None:
        """Say that nothing more will be sent (TLS's own word for it); what the server still says can be read.

        `unwrap` says it and then looks for the same word of the server, which has not come yet: an SSLError that
        means nothing. A bare TCP shutdown would be taken for a cut, and the server's last acknowledgements be lost.
        """
        with self._one, contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        begin = time.monotonic()
        while True:
            with self._one:
                if self._flush():
                    return
            if time.monotonic() - begin > _CLOSING_S:
                raise TimeoutError("the server does not read")
            with contextlib.suppress(TimeoutError):
                self._wait(write=True)

    def settimeout(self, seconds: float) -> None:
        """Nothing: see the class."""

    def __enter__(self) -> TlsClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()
