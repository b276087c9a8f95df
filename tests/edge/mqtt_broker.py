"""Brokers for the tests of the MQTT sink: our own of a few lines; mosquitto where it is installed (Debian); amqtt where
`LIBSEDGE_AMQTT` names a Python that has it (it pins another websockets than ours, so it cannot be in our environment).

Ours knows what the sink and a subscriber use of MQTT 3.1.1 (OASIS, section 3): QoS 0 and 1 towards it, QoS 0 from it,
retained messages, wills, exact topics and `#`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class OwnBroker:
    """`stop` hangs up on everybody; retained messages stay for the next `start`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._retained: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._clients: dict[socket.socket, list[str]] = {}
        self._server: socket.socket | None = None

    def start(self) -> None:
        self._server = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown(socket.SHUT_RDWR)
            self._server.close()
            self._server = None
        with self._lock:
            for client in self._clients:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with self._lock:
                self._clients[client] = []
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        will: tuple[str, bytes] | None = None
        try:
            with client, client.makefile("rb") as stream:
                while head := stream.read(1):
                    kind, body = head[0], stream.read(_length(stream))
                    if kind >> 4 == 1:  # CONNECT
                        will = _will(body)
                        client.sendall(b"\x20\x02\0\0")
                    elif kind >> 4 == 3:  # PUBLISH
                        self._take(client, kind, body)
                    elif kind >> 4 == 8:  # SUBSCRIBE
                        self._subscribe(client, body)
                    elif kind >> 4 == 12:  # PINGREQ
                        client.sendall(b"\xd0\0")
                    elif kind >> 4 == 14:  # DISCONNECT
                        will = None
        except (OSError, struct.error):
            pass
        with self._lock:
            del self._clients[client]
        if will is not None:
            self._publish(*will, retain=True)

    def _take(self, client: socket.socket, kind: int, body: bytes) -> None:
        topic, rest = _text(body)
        if kind & 6:  # acknowledged once it is with the subscribers
            identifier, rest = rest[:2], rest[2:]
            self._publish(topic, rest, retain=bool(kind & 1))
            client.sendall(b"\x40\x02" + identifier)
        else:
            self._publish(topic, rest, retain=bool(kind & 1))

    def _subscribe(self, client: socket.socket, body: bytes) -> None:
        topic, _ = _text(body[2:])
        with self._lock:
            client.sendall(b"\x90\x03" + body[:2] + b"\0")
            self._clients[client].append(topic)
            for name, payload in self._retained.items():
                if _matches(topic, name):
                    client.sendall(_publish(name, payload, retain=True))

    def _publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        with self._lock:
            if retain:
                self._retained[topic] = payload
            for client, topics in self._clients.items():
                if any(_matches(pattern, topic) for pattern in topics):
                    with contextlib.suppress(OSError):  # one that is leaving
                        client.sendall(_publish(topic, payload, retain=False))


def _length(stream: object) -> int:
    length = shift = 0
    while True:
        byte = stream.read(1)[0]  # type: ignore[attr-defined]
        length |= (byte & 127) << shift
        if byte < 128:
            return length
        shift += 7


def _text(data: bytes) -> tuple[str, bytes]:
    (size,) = struct.unpack_from(">H", data)
    return data[2 : 2 + size].decode(), data[2 + size :]


def _will(connect: bytes) -> tuple[str, bytes] | None:
    _, rest = _text(connect)
    flags, rest = rest[1], rest[4:]
    _, rest = _text(rest)
    if not flags & 4:
        return None
    topic, rest = _text(rest)
    return topic, rest[2 : 2 + struct.unpack_from(">H", rest)[0]]


def _matches(pattern: str, topic: str) -> bool:
    return pattern == topic or (pattern.endswith("/#") and (topic + "/").startswith(pattern[:-1]))


def _publish(topic: str, payload: bytes, *, retain: bool) -> bytes:
    body = struct.pack(">H", len(topic.encode())) + topic.encode() + payload
    size, length = bytearray(), len(body)
    while length > 127:
        size.append(length & 127 | 128)
        length >>= 7
    return bytes([0x30 | retain]) + bytes([*size, length]) + body


class ProgramBroker:
    """Another project's broker on one loopback port; it keeps nothing from one start to the next."""

    def __init__(self, name: str, port: int, folder: Path) -> None:
        self.name, self.port, self._folder = name, port, folder
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def program(name: str) -> str | None:
        """What runs it: mosquitto itself, or a Python that has amqtt; None where it is not here."""
        if name == "amqtt":
            return os.environ.get("LIBSEDGE_AMQTT")
        return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")

    def _command(self) -> list[str]:
        program = str(self.program(self.name))
        if self.name == "amqtt":
            return [program, "-c", _AMQTT, str(self.port)]
        config = self._folder / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n")
        return [program, "-c", str(config)]

    def start(self) -> None:
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(self._command(), **silent)  # type: ignore[call-overload]
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError(f"{self.name} did not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


_AMQTT = """
import asyncio, sys
from amqtt.broker import Broker

async def main():
    listener = {"type": "tcp", "bind": f"127.0.0.1:{sys.argv[1]}"}
    plugin = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    await Broker({"listeners": {"default": listener}, "plugins": plugin}).start()
    await asyncio.Event().wait()

asyncio.run(main())
"""
