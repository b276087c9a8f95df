"""What a sender is, and the two that need no more than a socket: TCP and UDP."""

from __future__ import annotations

import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from libsedge.errors import SourceError
from libsedge.frame import Frame
from libsedge.senders.tcp import send as send_tcp
from libsedge.senders.truth import Carrier, Truth, UnitTruth, Whole, damaged, damaged_units
from libsedge.sources.net import parse_address

if TYPE_CHECKING:
    from libsedge.frame_key import FrameKey
    from libsedge.sources.tls import TlsFiles

Emit = Callable[[bytes], None]


@dataclass(frozen=True)
class Sent:
    """What was sent, and what came back; `acknowledged` None where the transport has no way back."""

    truth: Truth
    acknowledged: int | None
    answers: int | None
    seconds: float


class Sender(ABC):
    """Sends frames, damaged from a seed; raises SourceError when nobody takes them."""

    @abstractmethod
    def send(
        self, frames: Iterable[Frame], *, damage: float, seed: int, rate_hz: float | None, wait_s: float
    ) -> Sent: ...


class TcpSender(Sender):
    """Frames (`carrier` None) or units back to back, acknowledged one by one."""

    def __init__(
        self, host: str, port: int, carrier: Carrier | None = None, tls: TlsFiles | None = None
    ) -> None:
        self._host, self._port, self._carrier, self._tls = host, port, carrier, tls

    def send(
        self, frames: Iterable[Frame], *, damage: float, seed: int, rate_hz: float | None, wait_s: float
    ) -> Sent:
        truth = Truth() if self._carrier is None else UnitTruth()
        if isinstance(truth, UnitTruth) and self._carrier is not None:
            pieces = damaged_units(frames, self._carrier, damage, seed, truth)
        else:
            pieces = damaged(frames, damage, seed, truth)
        acknowledged, answers, seconds = send_tcp(
            self._host, self._port, pieces, truth, rate_hz=rate_hz, wait_s=wait_s, tls=self._tls
        )
        return Sent(truth, acknowledged, answers, seconds)


class UnitSender(Sender):
    """Units that go one way; `opened(wait_s)` gives the function that sends one."""

    def __init__(self, carrier: Carrier, opened: Callable[[float], AbstractContextManager[Emit]]) -> None:
        self.carrier, self._opened = carrier, opened

    def send(
        self, frames: Iterable[Frame], *, damage: float, seed: int, rate_hz: float | None, wait_s: float
    ) -> Sent:
        truth = UnitTruth()
        units = damaged_units(frames, self.carrier, damage, seed, truth)
        try:
            with self._opened(wait_s) as emit:
                begin = time.monotonic()
                for unit in units:
                    due = 0.0 if rate_hz is None else begin + (truth.frames - 1) / rate_hz
                    if (wait := due - time.monotonic()) > 0:
                        time.sleep(wait)
                    emit(unit)
                seconds = time.monotonic() - begin
        except OSError as error:
            raise SourceError(f"nobody takes what is sent: {error}") from error
        return Sent(truth, None, None, seconds)


@contextmanager
def udp_socket(host: str, port: int) -> Iterator[Emit]:
    """Sends datagrams; a server that is not there is an OSError at the second one."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((host, port))

        def emit(unit: bytes) -> None:
            sock.send(unit)

        yield emit


def open_tcp(argument: str, tls: TlsFiles | None = None) -> Sender:
    """`tcp:HOST:PORT`."""
    host, port = parse_address(argument, free=False, authenticated=tls is not None)
    return TcpSender(host, port, tls=tls)


def open_udp(argument: str, key: FrameKey | None = None) -> Sender:
    """`udp:HOST:PORT`."""
    host, port = parse_address(argument, free=False, authenticated=key is not None)
    return UnitSender(Whole(key), lambda wait_s: udp_socket(host, port))
