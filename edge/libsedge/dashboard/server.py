"""The page's process: `python -m libsedge.dashboard.server LISTENER FEED JOURNAL [CERTIFICATE KEY AUTHORITY]`.

The first two are file descriptors, the others paths.

It ends when the pipeline closes the feed.

    GET /                page         GET /static/...   its parts        WS /feed    pictures; what is acknowledged
    GET /history.json    newest rows  GET /history.csv  all rows
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

from libsedge.dashboard import history, message
from libsedge.dashboard.board import Board
from libsedge.dashboard.feed import MAX_MESSAGE, Feed
from libsedge.dashboard.guard import Guard
from libsedge.errors import SedgeError

if TYPE_CHECKING:
    from libsedge.sources.tls import TlsFiles

STATIC = Path(__file__).parent / "static"
#: at most so often a picture goes to the browsers; so often the clock is looked at without one
PERIOD_S, TICK_S = 0.08, 1.0


class Page:
    """Board, feed and routes of one run."""

    def __init__(self, journal: Path, feed_socket: socket.socket | None) -> None:
        self.journal = journal
        self.board = Board()
        self.feed = Feed(self._acknowledge)
        self.server: uvicorn.Server | None = None
        self.bad_messages = 0
        self._socket = feed_socket
        self._exporting = asyncio.Lock()
        routes = [
            Route("/", self._index),
            Route("/history.json", self._history),
            Route("/history.csv", self._csv),
            WebSocketRoute("/feed", self.feed.serve),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]
        self.guard = Guard(Starlette(routes=routes, lifespan=self._lifespan))

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._show())]
        if self._socket is not None:
            tasks.append(asyncio.create_task(self._receive(self._socket)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # --- from the pipeline
    async def _receive(self, feed: socket.socket) -> None:
        feed.setblocking(False)
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(feed, message.MAX_BYTES):
            self.take(data)
        if self.server is not None:
            self.server.should_exit = True

    def take(self, data: bytes) -> None:
        """One message of the pipeline."""
        try:
            head, numbers = message.unpack(data)
            if head["kind"] == "model":
                self.feed.put("model", self.board.model(head, numbers))
            else:
                self.board.picture(head, numbers)
        except (ValueError, KeyError, TypeError) as error:
            self.bad_messages += 1
            print(f"dashboard: a picture was not understood: {error!r}", file=sys.stderr)

    # --- to the browsers
    async def _show(self) -> None:
        shown, at = None, 0.0
        while True:
            await asyncio.sleep(PERIOD_S)
            now = time.time()
            if self.board.last is shown and now - at < TICK_S:
                continue
            shown, at = self.board.last, now
            self.put(now)

    def put(self, now: float) -> None:
        """The newest picture to everybody who is ready for one."""
        feed = self.feed
        about = {"clients": feed.clients, "dropped": feed.dropped, "refused": self.guard.refused}
        data = self.board.show(now, about)
        if data is not None:
            feed.put("picture", data)

    def _acknowledge(self, name: str) -> bool:
        there = self.board.alarms.acknowledge(name)
        if there:
            print(f"dashboard: alarm {name} acknowledged", file=sys.stderr)
            self.put(time.time())
        return there

    # --- routes
    async def _index(self, request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def _history(self, request: Request) -> Response:
        show, limit = request.query_params.get("show", "all"), request.query_params.get("limit", "50")
        if show not in history.SHOW or not limit.isascii() or not limit.isdigit() or len(limit) > 4:
            return PlainTextResponse(f"show is one of {', '.join(history.SHOW)}, limit a number\n", 400)
        rows = max(1, min(int(limit), history.MAX_ROWS))
        try:
            return JSONResponse(await asyncio.to_thread(history.newest, self.journal, show, rows))
        except SedgeError as error:
            return PlainTextResponse(f"{error}\n", 503)

    async def _csv(self, request: Request) -> Response:
        show = request.query_params.get("show", "all")
        if show not in history.SHOW:
            return PlainTextResponse(f"show is one of {', '.join(history.SHOW)}\n", 400)
        if self._exporting.locked():
            return PlainTextResponse("another export is being written; try again\n", 429)
        async with self._exporting:
            try:
                file = await asyncio.to_thread(history.as_csv, self.journal, show)
            except SedgeError as error:
                return PlainTextResponse(f"{error}\n", 503)
        return FileResponse(
            file,
            media_type="text/csv; charset=utf-8",
            filename="libsedge-history.csv",
            background=BackgroundTask(shutil.rmtree, file.parent, ignore_errors=True),
        )


def config(page: Page, tls: TlsFiles | None = None) -> uvicorn.Config:
    """How uvicorn serves it: small limits everywhere, no log of requests; `tls`: only to who shows a certificate."""
    return uvicorn.Config(
        page.guard,
        http="h11",
        ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE,
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        ws_per_message_deflate=False,
        h11_max_incomplete_event_size=8192,
        limit_concurrency=32,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=1,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_level="error",
        lifespan="on",
        ssl_context_factory=None if tls is None else lambda *_: tls.server(),
    )


def main(arguments: list[str]) -> None:
    listener, feed = (socket.socket(fileno=int(number)) for number in arguments[:2])
    page = Page(Path(arguments[2]), feed)
    tls = None
    if len(arguments) > 3:
        from libsedge.sources.tls import TlsFiles

        tls = TlsFiles(*arguments[3:6])
    server = page.server = uvicorn.Server(config(page, tls))
    server.run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1:])
