"""The live page over its port, without a browser: who may ask, that nobody waits for a client, rubbish, TLS."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the dashboard extra is not installed")
import uvicorn
from authority import Authority
from libsedge.dashboard import feed, message, publisher, server
from libsedge.journal import Journal
from live_page import picture_head, until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect


class Served:
    """The page's server in a thread, fed through a socket pair as the pipeline feeds it."""

    def __init__(self, journal: Path) -> None:
        self.pipeline, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener = self._listener = publisher.listen("127.0.0.1:0")
        self.port = listener.getsockname()[1]
        self.page: server.Page | None = None
        started = threading.Event()

        async def serve() -> None:
            self.page = server.Page(journal, self._theirs)
            self.page.server = uvicorn.Server(server.config(self.page))
            started.set()
            await self.page.server._serve([listener])

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()))
        self._thread.start()
        assert started.wait(10)
        self.send(
            {"kind": "model", "labels": ["basalt"], "name": "n", "safe_mode": False},
            np.linspace(240, 850, 400),
        )

    @property
    def feed(self) -> feed.Feed:
        assert self.page is not None
        return self.page.feed

    def send(self, head: dict[str, Any], numbers: np.ndarray | None = None) -> None:
        self.pipeline.send(message.pack(head, numbers))

    def client(self, **options: Any) -> ClientConnection:
        return connect(f"ws://127.0.0.1:{self.port}/feed", proxy=None, **options)

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()

    def close(self) -> None:
        self.pipeline.close()
        self._thread.join(20)
        self._theirs.close()
        self._listener.close()
        assert not self._thread.is_alive()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    Journal(tmp_path / "journal.db", stream=7).close()
    page = Served(tmp_path / "journal.db")
    yield page
    page.close()


def shown(client: ClientConnection) -> dict[str, Any]:
    """The next message, which the client then says it has shown."""
    head, _ = message.unpack(client.recv(timeout=20))
    client.send(json.dumps({"shown": True}))
    return head


def test_a_client_that_is_not_ready_holds_nobody_up_and_gets_only_the_newest(served: Served) -> None:
    with served.client() as quick, served.client() as stalled:
        assert shown(quick)["kind"] == "model"
        model, _ = message.unpack(stalled.recv(timeout=20))
        assert model["kind"] == "model"
        seen = []
        for number in range(1, 13):  # the stalled one says nothing all the while
            served.send(picture_head(number))
            while not seen or seen[-1] < number:
                seen.append(shown(quick)["counts"]["received"])
        assert seen[-1] == 12
        with pytest.raises(TimeoutError):
            stalled.recv(timeout=0.2)
        stalled.send(json.dumps({"shown": True}))
        head, _ = message.unpack(stalled.recv(timeout=20))
        assert head["counts"]["received"] == 12
        assert served.feed.clients == 2
    until(lambda: served.feed.clients == 0)


def test_a_client_that_does_not_read_costs_one_message(served: Served) -> None:
    """Its receive buffer is full: what is sent to it waits, for it alone."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    raw.connect(("127.0.0.1", served.port))
    with contextlib.closing(raw), served.client() as quick:
        lines_ = ["GET /feed HTTP/1.1", f"Host: 127.0.0.1:{served.port}", "Upgrade: websocket"]
        lines_ += [
            "Connection: Upgrade",
            "Sec-WebSocket-Key: " + "A" * 22 + "==",
            "Sec-WebSocket-Version: 13",
        ]
        raw.sendall("\r\n".join([*lines_, "", ""]).encode())
        frame = b"\x81\x8e\0\0\0\0" + b'{"shown":true}'  # a masked text frame, the mask is zero
        for number in range(1, 31):
            raw.sendall(frame)
            served.send(picture_head(number), np.ones(8192, np.float32))
            time.sleep(0.01)
        shown(quick)
        until(lambda: shown(quick)["counts"]["received"] == 30)


RUBBISH: dict[str, Any] = {
    "binary": b"\x00\x01",
    "no JSON": "{",
    "another object": '{"shown": 1}',
    "nested": "[" * 200,
    "two keys": '{"acknowledge": "shed", "shown": true}',
    "a number for an id": '{"acknowledge": 5}',
    "too long": '{"acknowledge": "' + "x" * 300 + '"}',
}


@pytest.mark.parametrize("said", RUBBISH.values(), ids=RUBBISH)
def test_rubbish_drops_that_client_and_is_counted(served: Served, said: str | bytes) -> None:
    with served.client() as good, served.client() as bad:
        shown(good)
        bad.send(said)
        with pytest.raises(ConnectionClosed):
            list(iter(lambda: bad.recv(timeout=20), None))
        served.send(picture_head(1))
        assert shown(good)["counts"]["received"] == 1
        assert until(lambda: served.feed.dropped) == 1
        assert served.feed.clients == 1


def test_a_flood_and_bytes_that_are_no_websocket_are_dropped(served: Served) -> None:
    with served.client() as flood:
        with pytest.raises(ConnectionClosed):
            list(map(flood.send, ['{"shown": true}'] * 100_000))
        assert until(lambda: served.feed.dropped) == 1
    with socket.create_connection(("127.0.0.1", served.port)) as raw:
        raw.sendall(bytes(range(256)) * 64)
        raw.settimeout(20)
        with contextlib.suppress(ConnectionError):
            assert raw.recv(4096)[:12] in (b"", b"HTTP/1.1 400")
    with served.client() as good:
        assert shown(good)["kind"] == "model"


def test_another_page_and_another_name_are_refused(served: Served) -> None:
    status, headers, body = served.get("/")
    assert status == 200
    assert b"<title>libsedge" in body
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert served.get("/", Host="attacker.example")[0] == 403  # DNS rebinding
    assert served.get("/", Host="127.0.0.1.attacker.example")[0] == 403
    assert served.get("/history.json", Sec_Fetch_Site="cross-site")[0] == 403
    assert served.get("/history.csv", Origin="http://127.0.0.1:1")[0] == 403
    assert served.get("/", Host="localhost:9")[0] == 200  # a tunnel has another port
    assert served.page is not None
    assert served.page.guard.refused == 4
    for headers_ in ({"Origin": "http://attacker.example"}, {"Host": "attacker.example"}):
        with (
            pytest.raises((InvalidStatus, ConnectionClosed)),
            served.client(additional_headers=headers_) as bad,
        ):
            bad.recv(timeout=20)
    with served.client(additional_headers={"Origin": f"http://127.0.0.1:{served.port}"}) as good:
        shown(good)


def test_paths_and_queries_that_do_not_exist(served: Served) -> None:
    assert served.get("/static/../server.py")[0] == 404
    assert served.get("/static/%2e%2e/server.py")[0] == 404
    assert served.get("/history.json?show=everything")[0] == 400
    assert served.get("/history.json?limit=-1")[0] == 400
    assert served.get("/history.csv?show=x")[0] == 400
    assert json.loads(served.get("/history.json")[2]) == []
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    with contextlib.closing(connection):
        connection.request("POST", "/history.json", body=b"x")
        assert connection.getresponse().status == 403


def test_at_most_so_many_pages(served: Served) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(feed.MAX_CLIENTS):
            shown(stack.enter_context(served.client()))
        with pytest.raises((InvalidStatus, ConnectionClosed)), served.client() as more:
            more.recv(timeout=20)
        assert served.feed.turned_away == 1


def test_a_picture_that_is_not_understood_is_counted(
    served: Served, capfd: pytest.CaptureFixture[str]
) -> None:
    served.pipeline.send(b"\xff\xff\xff\xff")
    served.send({"kind": "picture"})
    until(lambda: served.page is not None and served.page.bad_messages == 2)
    with served.client() as client:
        shown(client)


def test_beyond_this_machine_only_who_shows_a_certificate(tmp_path: Path) -> None:
    ours, other = Authority(tmp_path, "ours"), Authority(tmp_path, "other")
    Journal(tmp_path / "journal.db", stream=7).close()
    said: list[str] = []
    page = publisher.Dashboard("0.0.0.0:0", tmp_path / "journal.db", said.append, ours.files("board", ours))
    port = int(page.address.rpartition(":")[2])

    def get(context: ssl.SSLContext | None, **headers: str) -> int:
        kind = http.client.HTTPConnection if context is None else http.client.HTTPSConnection
        named = {} if context is None else {"context": context}
        with contextlib.closing(kind("127.0.0.1", port, timeout=20, **named)) as connection:
            connection.request("GET", "/", headers=headers)
            return connection.getresponse().status

    try:
        assert page.url == f"https://0.0.0.0:{port}/"
        good = ours.files("browser", ours).client()
        assert get(good) == 200
        assert get(good, Host="board.example:8765") == 200  # the certificate's names keep rebinding out
        assert get(good, Origin="https://attacker.example") == 403
        nobody = ssl.create_default_context(cafile=str(ours.path))
        refused = (ssl.SSLError, OSError, http.client.HTTPException)
        for context in (nobody, other.files("browser", ours).client(), None):
            with pytest.raises(refused):
                get(context)
        with connect(f"wss://127.0.0.1:{port}/feed", ssl=good, proxy=None):
            pass
    finally:
        page.close()
    with contextlib.closing(publisher.listen("127.0.0.1:0")) as listener:
        assert publisher.is_loopback(listener.getsockname()[0])
    local = publisher.Dashboard("127.0.0.1:0", tmp_path / "journal.db", said.append, ours.files("b", ours))
    local.close()
    assert local.url.startswith("http://127.0.0.1:")
