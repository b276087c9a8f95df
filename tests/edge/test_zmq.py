"""Frames as ZeroMQ messages: counts equal the truth, a slow reader holds the sender back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from libsedge.errors import ConfigError, SourceError
from libsedge.frame import Frame, encode
from libsedge.senders import open_sender
from libsedge.sources import open_source
from libsedge.sources.zmq import ZmqSource
from served import check_counts, decisions, frames, rows, serving

zmq: Any = pytest.importorskip("zmq", reason="pyzmq is not installed")


@pytest.mark.parametrize(("damage", "seed"), [(0.0, 0), (0.1, 1), (0.5, 2)])
def test_counts_equal_the_truth(tmp_path: Path, damage: float, seed: int) -> None:
    sent = frames(600)
    with serving(tmp_path / "run.db", open_source(f"zmq:pull:ipc://{tmp_path}/s")) as served:
        sender = open_sender(f"zmq:push:ipc://{tmp_path}/s")
        truth = sender.send(sent, damage=damage, seed=seed, rate_hz=None, wait_s=1).truth
        served.quiet(truth=truth)
        report = served.finish()
    check_counts(report, truth)
    assert rows(tmp_path / "run.db") == decisions(sent, truth)
    assert report.source["message_bytes"] == truth.bytes


def test_published_frames_of_full_size_over_tcp(tmp_path: Path) -> None:
    """XPUB is told to wait, so a subscriber that is slow loses nothing here."""
    first = ZmqSource("pull", "tcp://127.0.0.1:0")
    endpoint = first.address
    first.close()
    sent = frames(150, 5400)
    source = open_source(f"zmq:sub:{endpoint}")
    with serving(tmp_path / "run.db", source, channels=5400, delay_s=0.002) as served:
        sender = open_sender(f"zmq:pub:{endpoint}")
        truth = sender.send(sent, damage=0.2, seed=4, rate_hz=None, wait_s=1).truth
        served.quiet(truth=truth)
        report = served.finish()
    check_counts(report, truth)


def test_slow_reader_holds_the_sender_back(tmp_path: Path) -> None:
    sent = frames(400, 5400)
    with serving(
        tmp_path / "run.db", open_source(f"zmq:pull:ipc://{tmp_path}/s"), channels=5400, delay_s=0.004
    ) as served:
        sender = open_sender(f"zmq:push:ipc://{tmp_path}/s")
        result = sender.send(sent, damage=0.0, seed=0, rate_hz=None, wait_s=2.5)
        served.quiet(truth=result.truth)
        report = served.finish()
    assert result.seconds > 0.3  # 400 frames at 4 ms, less what the two queues of 64 and ours hold
    check_counts(report, result.truth)


def test_message_that_is_no_frame(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/s"
    source = open_source(f"zmq:pull:{endpoint}")
    context = zmq.Context()
    peer = context.socket(zmq.PUSH)
    peer.connect(endpoint)
    with serving(tmp_path / "run.db", source) as served:
        peer.send(b"")
        peer.send_multipart([b"a", b"b"])
        peer.send(b"hello, this is no frame, but long enough to hold a header of one")
        peer.send(encode(frames(1)[0]))
        served.quiet()
        report = served.finish()
    peer.close(0)
    context.term()
    assert report.ledger["rejected"] == {"garbage": 1, "multipart": 1, "truncated": 1}
    assert report.ledger["journaled"] == 1


def test_message_too_large_costs_its_sender_the_connection(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/s"
    with serving(tmp_path / "run.db", open_source(f"zmq:pull:{endpoint}")) as served:
        context = zmq.Context()
        for message in (bytes(300_000), encode(frames(1)[0])):
            peer = context.socket(zmq.PUSH)
            peer.connect(endpoint)
            peer.send(message)
            served.quiet()
            peer.close(0)
        context.term()
        report = served.finish()
    assert report.ledger["received"] == report.ledger["journaled"] == 1


def test_largest_frame_passes(tmp_path: Path) -> None:
    source = open_source(f"zmq:pull:ipc://{tmp_path}/s")
    frame = Frame(7, 0, 0, 0, 0, 0, 0, np.ones(65536, np.float32))
    open_sender(f"zmq:push:ipc://{tmp_path}/s").send([frame], damage=0, seed=0, rate_hz=None, wait_s=0.5)
    got = next(frame for frame in source if frame is not None)
    assert encode(got) == encode(frame)
    source.close()
    source.close()


def test_endpoints(tmp_path: Path) -> None:
    for spec in ("pull:tcp://0.0.0.0:1", "sub:tcp://8.8.8.8:1", "pull:inproc://x", "req:ipc:///x", "x"):
        with pytest.raises(ConfigError):
            open_source(f"zmq:{spec}")
    with pytest.raises(SourceError, match="cannot be used"):
        open_source(f"zmq:pull:ipc://{tmp_path}/none/s")
    for spec in (f"zmq:push:ipc://{tmp_path}/nobody", f"zmq:pub:ipc://{tmp_path}/nobody"):
        with pytest.raises(SourceError, match="nobody takes"):
            open_sender(spec).send(frames(200, 5400), damage=0, seed=0, rate_hz=None, wait_s=0.2)
