"""What watches a run: systemd's notification socket, and a client of the health port."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import time
from collections.abc import Callable


class System:
    """A notification socket as systemd has one; `messages` is what came."""

    def __init__(self, path: str, watchdog_s: float) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind("\0" + path[1:] if path.startswith("@") else path)
        self.sock.setblocking(False)
        self.environment = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": str(int(watchdog_s * 1e6))}

    def messages(self) -> list[str]:
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self.sock.recv(4096).decode())
        return found


def get(address: str | None, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    assert address is not None
    connection = http.client.HTTPConnection(*address.rsplit(":", 1), timeout=5)  # type: ignore[misc]
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not come true"
        time.sleep(0.01)


def samples(page: str) -> dict[str, float]:
    """Samples of a page in Prometheus' text format, read strictly and apart from the code that writes it."""
    found, typed = {}, set()
    value = r"[-+]?(?:\d+(?:\.\d+)?(?:e[-+]?\d+)?|Inf|NaN)"
    label = r'[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*"'
    for line in page.splitlines():
        if comment := re.fullmatch(r"# (HELP|TYPE) ([a-zA-Z_:]\w*) (.+)", line):
            if comment[1] == "TYPE":
                assert comment[3] in ("counter", "gauge", "histogram")
                assert comment[2] not in typed
                typed.add(comment[2])
            continue
        match = re.fullmatch(rf"([a-zA-Z_:]\w*)(\{{{label}(?:,{label})*\}})? ({value})", line, re.ASCII)
        assert match, line
        assert re.sub("_(bucket|sum|count)$", "", match[1]) in typed or match[1] in typed, line
        key = match[1] + (match[2] or "")
        assert key not in found, line
        found[key] = float(match[3])
    assert page.endswith("\n")
    return found
