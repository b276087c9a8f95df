"""Who may ask: every request passes here first, and every answer gets its headers here.

* Without TLS the Host header must name a loopback address, so that a foreign web page cannot reach this one by
  pointing its own name at 127.0.0.1 (DNS rebinding). With mutual TLS the certificate's names do that: a browser that
  was sent here under another name breaks off before it asks.
* A browser says where a request comes from (Origin, Sec-Fetch-Site); only this page itself may ask.
* Only GET; nothing is inline, nothing comes from elsewhere (Content-Security-Policy).
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from libsedge.sources.net import is_loopback_host

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def refusal(headers: Headers, method: str, secure: bool = False) -> str | None:
    """Why a request is refused; None where it may pass."""
    hosts = headers.getlist("host")
    if len(hosts) != 1 or not (secure or is_loopback_host(hosts[0])):
        return "the Host header must name a loopback address"
    for origin in headers.getlist("origin"):
        if origin != f"{'https' if secure else 'http'}://{hosts[0]}":
            return "the request comes from another page"
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return "the request comes from another page"
    return None if method in ("GET", "HEAD") else "only GET"


class Guard:
    """ASGI middleware; `refused` counts."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.refused = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        why = refusal(Headers(scope=scope), scope.get("method", "GET"), scope["scheme"] in ("https", "wss"))
        if why is not None:
            self.refused += 1
            if scope["type"] == "websocket":
                await receive()  # the request to connect, which is then refused with 403
                await WebSocketClose(1008, why)(scope, receive, send)
            else:
                await PlainTextResponse(why + "\n", 403)(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, with_headers)
