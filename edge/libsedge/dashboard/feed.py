"""Latest wins: every client gets the newest message when it is ready for one, and none of those in between.

A client is ready when it says that it has shown the one before. So at most one message a client is on its way, a slow
or sleeping browser costs nothing, and nobody waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

MAX_CLIENTS = 8
MAX_MESSAGE = 256
#: messages a second of one client, far above the ten pictures
MAX_RATE = 60


class Feed:
    """The newest model and picture; `put` never waits."""

    def __init__(self, acknowledge: Callable[[str], bool]) -> None:
        self.clients = self.dropped = self.turned_away = 0
        self._acknowledge = acknowledge
        self._newest: dict[str, tuple[int, bytes]] = {}
        self._number = 0
        self._changed = asyncio.Event()

    def put(self, kind: str, data: bytes) -> None:
        """Replace the newest message of `kind`."""
        self._number += 1
        self._newest[kind] = (self._number, data)
        self._changed.set()
        self._changed = asyncio.Event()

    async def _next(self, seen: dict[str, int]) -> bytes:
        """The newest message that this client has not seen; a model before a picture."""
        while True:
            for kind in ("model", "picture"):
                number, data = self._newest.get(kind, (0, b""))
                if number > seen.get(kind, 0):
                    seen[kind] = number
                    return data
            await self._changed.wait()

    async def serve(self, socket: WebSocket) -> None:
        """One client, from its connection to its end."""
        if self.clients >= MAX_CLIENTS:
            self.turned_away += 1
            await socket.close(1013, f"at most {MAX_CLIENTS} pages at a time")
            return
        await socket.accept()
        self.clients += 1
        ready = asyncio.Event()
        ready.set()
        sender = asyncio.create_task(self._send(socket, ready))
        try:
            await self._listen(socket, ready)
        except WebSocketDisconnect as end:
            self.dropped += end.code in (1002, 1007, 1009)  # what it sent was no WebSocket, no text, too long
        except ValueError:
            self.dropped += 1
            if socket.client_state == WebSocketState.CONNECTED:
                with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                    await socket.close(1008, "not understood")
        finally:
            self.clients -= 1
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def _send(self, socket: WebSocket, ready: asyncio.Event) -> None:
        seen: dict[str, int] = {}
        while True:
            await ready.wait()
            data = await self._next(seen)
            ready.clear()
            await socket.send_bytes(data)

    async def _listen(self, socket: WebSocket, ready: asyncio.Event) -> None:
        second, count = 0.0, 0
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code") or 1005)
            now = time.monotonic()
            second, count = (second, count + 1) if now - second < 1.0 else (now, 1)
            if count > MAX_RATE:
                raise ValueError("too many messages")
            name = understood(message.get("text"))
            if name is None:
                ready.set()
            else:
                self._acknowledge(name)


def understood(text: str | None) -> str | None:
    """None for `{"shown": true}`, the alarm's id for `{"acknowledge": ID}`; ValueError for anything else."""
    if text is None or len(text) > MAX_MESSAGE:
        raise ValueError("no short text")
    try:
        said = json.loads(text)
    except RecursionError:
        raise ValueError("nested") from None
    if said == {"shown": True} and said["shown"] is True:
        return None
    if isinstance(said, dict) and list(said) == ["acknowledge"] and isinstance(said["acknowledge"], str):
        return str(said["acknowledge"])
    raise ValueError("neither of the two messages")
