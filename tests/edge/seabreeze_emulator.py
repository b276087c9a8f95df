"""An *emulated* Ocean FX: as much of Ocean's binary protocol over TCP as the unmodified package seabreeze asks for."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

import numpy as np

PIXELS = 2136
COEFFICIENTS = (240.0, 0.3, -1.0e-6)
_HEADER = struct.Struct("<HHHHLL6sBB16sL")
_FOOTER = struct.pack("<16sL", b"", 0xC2C3C4C5)


class Emulator:
    """Its spectra: pixel 0 counts them (from 0), pixel 1 is the integration time they were taken with, in 100 us, the
    rest is 1000. After a setting the next spectrum is still of the old one, as with the real devices.

    hang : do not answer the next request for a spectrum, nor any after it on that connection.
    """

    def __init__(self, serial: str = "EMU00001") -> None:
        self.serial = serial
        self.hang = False
        self.connections = self.spectra = 0
        self._integration = self._taken_with = 10_000
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._clients: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in (self._server, *self._clients):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                self.connections += 1
                self._clients.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, client.makefile("rb") as stream:
            while len(head := stream.read(_HEADER.size)) == _HEADER.size:
                fields = _HEADER.unpack(head)
                flags, kind, length, immediate, left = fields[2], fields[4], fields[8], fields[9], fields[10]
                stream.read(left)
                answer = self._answer(kind, immediate[:length])
                if answer is not None:
                    client.sendall(_message(kind, answer, flags=1))
                elif kind == 0x101000:  # hangs
                    threading.Event().wait()
                elif flags & 4:
                    client.sendall(_message(kind, b"", flags=3))

    def _answer(self, kind: int, data: bytes) -> bytes | None:
        if kind == 0x100:
            return self.serial.encode()
        if kind == 0x101:
            return bytes([len(self.serial)])
        if kind == 0x180100:
            return bytes([len(COEFFICIENTS)])
        if kind == 0x180101:
            return struct.pack("<f", COEFFICIENTS[data[0]])
        if kind == 0x110010:
            (self._integration,) = struct.unpack("<L", data)
        elif kind == 0x101000 and not self.hang:
            values = np.full(PIXELS, 1000, "<u2")
            values[0], values[1] = self.spectra % 65536, self._taken_with // 100
            self.spectra += 1
            self._taken_with = self._integration
            return values.tobytes()
        return None


def _message(kind: int, data: bytes, flags: int) -> bytes:
    immediate, payload = (data, b"") if len(data) <= 16 else (b"", data)
    head = _HEADER.pack(
        *(0xC0C1, 0x1100, flags, 0, kind, 0, b"", 0, len(immediate), immediate, len(payload) + len(_FOOTER))
    )
    return head + payload + _FOOTER
