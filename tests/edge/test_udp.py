"""Frames as datagrams: every datagram is a frame or one refusal, every loss a gap."""

from __future__ import annotations

import random
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
from libsedge.errors import ConfigError, SourceError
from libsedge.frame import Frame, encode
from libsedge.senders import open_sender
from libsedge.sources import open_source
from libsedge.sources.udp import MAX_DATAGRAM, UdpSource
from served import check_counts, decisions, frames, rows, serving

RATE = 5000.0  # keeps a burst below the kernel's buffer, so that only the damage loses datagrams


@pytest.mark.parametrize(("damage", "seed"), [(0.0, 0), (0.001, 8), (0.1, 1), (0.5, 2), (1.0, 3)])
def test_counts_equal_the_truth(tmp_path: Path, damage: float, seed: int) -> None:
    sent = frames(600)
    with serving(tmp_path / "run.db", UdpSource(0)) as served:
        sender = open_sender(f"udp:{served.source.address}")
        truth = sender.send(sent, damage=damage, seed=seed, rate_hz=RATE, wait_s=5).truth
        served.quiet(truth=truth)
        report = served.finish()
    assert report.source["dropped_by_kernel"] == 0
    check_counts(report, truth)
    assert rows(tmp_path / "run.db") == decisions(sent, truth)
    assert report.source["message_bytes"] == truth.bytes
    assert truth.intact + truth.lost + truth.flip + truth.cut == 600


def test_reasons_name_the_damage(tmp_path: Path) -> None:
    data = encode(frames(1)[0])
    crc, header = bytearray(data), bytearray(data)
    crc[-1] ^= 1
    header[4] = 9
    with serving(tmp_path / "run.db", UdpSource(0)) as served:
        peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for piece in (data, bytes(crc), bytes(header), data[:40], data[:-1], data + b"x", b"noise" * 20, b""):
            peer.sendto(piece, ("127.0.0.1", served.source.port))  # type: ignore[attr-defined]
        served.quiet()
        peer.close()
        report = served.finish()
    assert report.ledger["rejected"] == {"crc": 1, "header": 1, "truncated": 4, "garbage": 1}
    assert report.ledger["journaled"] == 1


def test_slow_reader_loses_only_what_the_kernel_counts(tmp_path: Path) -> None:
    """Nobody slows a UDP sender down: what the kernel dropped is counted twice over, and equal."""
    sent = frames(3000)
    with serving(tmp_path / "run.db", UdpSource(0), delay_s=0.01) as served:
        peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        kernel = served.source._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)  # type: ignore[attr-defined]
        if kernel > 1 << 20:
            served.source._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)  # type: ignore[attr-defined]
        for frame in sent:
            peer.sendto(encode(frame), ("127.0.0.1", served.source.port))  # type: ignore[attr-defined]
        dropped = served.source.counters()["dropped_by_kernel"]
        assert dropped > 0
        served.pipeline._decider.classifier.delay_s = 0.0
        served.quiet()
        for frame in frames(1, first=3000):  # the last one, so that a loss at the end is a gap too
            peer.sendto(encode(frame), ("127.0.0.1", served.source.port))  # type: ignore[attr-defined]
        served.quiet()
        peer.close()
        report = served.finish()
    (epoch,) = report.ledger["streams"]
    assert report.source["dropped_by_kernel"] == dropped
    assert epoch["gaps"] == dropped
    assert epoch["unique"] == report.ledger["journaled"] == 3001 - dropped
    assert report.ledger["unaccounted"] == 0


def test_frame_that_no_datagram_holds(tmp_path: Path) -> None:
    source = UdpSource(0)
    large = Frame(77, 0, 0, 0, 0, 0, 0, np.zeros(32726, np.uint16))
    assert len(encode(large)) > MAX_DATAGRAM
    with pytest.raises(SourceError, match="Message too long"):
        open_sender(f"udp:{source.address}").send([large], damage=0, seed=0, rate_hz=None, wait_s=1)
    fits = Frame(77, 0, 0, 0, 0, 0, 0, np.zeros(32725, np.uint16))
    open_sender(f"udp:{source.address}").send([fits], damage=0, seed=0, rate_hz=None, wait_s=1)
    got = next(iter(source))
    assert got is not None
    assert encode(got) == encode(fits)
    source.close()


def test_noise_gives_no_frame_and_no_exception(tmp_path: Path) -> None:
    rng = random.Random(4)
    with serving(tmp_path / "run.db", UdpSource(0)) as served:
        peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for _ in range(300):
            peer.sendto(rng.randbytes(rng.randrange(0, 300)), ("127.0.0.1", served.source.port))  # type: ignore[attr-defined]
        served.quiet()
        peer.close()
        report = served.finish()
    assert sum(report.ledger["rejected"].values()) == report.ledger["received"] == 300


def test_stop_from_another_thread_and_close_twice() -> None:
    source = UdpSource(0)
    threading.Timer(0.2, source.stop).start()
    assert set(source) == {None}
    source.close()
    source.close()
    again = open_source(f"udp:{source.port}")
    assert again.address == f"127.0.0.1:{source.port}"
    again.close()


def test_addresses() -> None:
    taken = UdpSource(0)
    with pytest.raises(SourceError, match="cannot listen"):
        UdpSource(taken.port)
    taken.close()
    for spec in ("udp:0.0.0.0:0", "udp:example.org:5", "udp:x", "udp:70000", "udp:"):
        with pytest.raises((ConfigError, SourceError)):
            open_source(spec)


def test_negative_control_the_counts_see_one_frame_fewer(tmp_path: Path) -> None:
    """A source that drops one undamaged frame without a word does not pass the check."""

    class Lossy(UdpSource):
        def _frames(self, message: bytes) -> list[Frame]:
            found = super()._frames(message)
            return [frame for frame in found if frame.sequence != 50]

    with serving(tmp_path / "run.db", Lossy(0)) as served:
        sender = open_sender(f"udp:{served.source.address}")
        truth = sender.send(frames(100), damage=0.0, seed=0, rate_hz=RATE, wait_s=5).truth
        served.quiet()
        report = served.finish()
    with pytest.raises(AssertionError):
        check_counts(report, truth)
