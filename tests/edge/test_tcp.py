"""Frames over loopback with the real decoder: counts equal the sender's truth table exactly, at any damage."""

from __future__ import annotations

import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import served
from libsedge.errors import SourceError
from libsedge.frame import Frame, encode
from libsedge.ledger import Key
from libsedge.senders.tcp import send
from libsedge.senders.truth import Truth, damaged
from libsedge.sources.tcp import ACK_BYTES, TcpSource, decode_acks, encode_ack
from mean_classifier import CHANNELS
from served import Served, frames, rows


@contextmanager
def serving(
    path: Path, *, delay_s: float = 0.0, channels: int = CHANNELS, capacity: int = 64, **options: Any
) -> Iterator[tuple[Served, int]]:
    """`served.serving` of a TCP source with ``options``, and its port."""
    source = TcpSource(0, **options)
    with served.serving(path, source, channels=channels, delay_s=delay_s, capacity=capacity) as server:
        yield server, source.port


@pytest.mark.parametrize(
    ("damage", "seed"), [(0.0, 0), (0.1, 1), (0.1, 2), (0.5, 3), (0.5, 22), (0.9, 51), (1.0, 5)]
)
def test_counts_equal_the_truth(tmp_path: Path, damage: float, seed: int) -> None:
    truth, sent = Truth(), frames(400)
    with serving(tmp_path / "run.db") as (server, port):
        acknowledged, records, _ = send(
            "127.0.0.1", port, damaged(sent, damage, seed, truth), truth, rate_hz=None, wait_s=20
        )
        report = server.finish()
    table, ledger = truth.table(), report.ledger
    assert (damage == 0) == (truth.intact == 400)
    # what arrived whole is journaled and acknowledged, once each; what came twice is a duplicate
    assert ledger["journaled"] == acknowledged == table["intact"]
    assert ledger["duplicate"] == table["repeat"]
    assert records == table["intact"] + table["repeat"]
    # every destroyed frame is counted once, unless its magic was destroyed too
    assert sum(ledger["rejected"].values()) == table["flip"] + table["cut"] - table["no_magic"]
    assert (
        ledger["received"]
        == table["intact"] + table["repeat"] + table["flip"] + table["cut"] - table["no_magic"]
    )
    assert ledger["unaccounted"] == ledger["in_flight"] == ledger["unjournaled"] == 0
    (epoch,) = ledger["streams"]
    assert epoch["unique"] == table["intact"]
    assert epoch["gaps"] == table["gaps"]
    # every byte is in a frame or counted as damage
    size = len(encode(sent[0]))
    in_frames = size * (table["intact"] + table["repeat"])
    assert in_frames + report.source["garbage_bytes"] + report.source["truncated_bytes"] == table["bytes"]
    # identity and decision of every intact frame are those of a clean run
    expected = {
        frame.sequence: ("high" if frame.values.mean() > 100 else "low", frame.time_ns)
        for frame in sent
        if Key(77, 0, frame.sequence) in set(truth.keys)
    }
    assert rows(tmp_path / "run.db") == expected


def test_full_size_frames_in_odd_pieces(tmp_path: Path) -> None:
    sent = frames(40, channels=5400)
    data = b"".join(encode(frame) for frame in sent)
    rng = random.Random(0)
    with serving(tmp_path / "run.db", channels=5400) as (server, port):
        peer = socket.create_connection(("127.0.0.1", port))
        while data:
            cut = rng.randrange(1, 30_000)
            peer.sendall(data[:cut])
            data = data[cut:]
        assert read_acks(peer, 40) == [Key(77, 0, i) for i in range(40)]
        peer.close()
        assert server.finish().ledger["journaled"] == 40


def read_acks(peer: socket.socket, count: int, timeout: float = 10.0) -> list[Key]:
    """Exactly `count` acknowledgements, or those that came in time."""
    peer.settimeout(timeout)
    buffer, keys = bytearray(), list[Key]()
    while len(keys) < count:
        try:
            data = peer.recv(4096)
        except TimeoutError:
            break
        if not data:
            break
        buffer += data
        keys += decode_acks(buffer)
    return keys


def test_sent_again_is_acknowledged_again(tmp_path: Path) -> None:
    for run in range(2):
        with serving(tmp_path / "run.db") as (server, port):
            for connection in range(2):
                truth = Truth()
                acknowledged, _, _ = send(
                    "127.0.0.1", port, damaged(frames(30), 0, 0, truth), truth, rate_hz=None, wait_s=20
                )
                assert acknowledged == 30, (run, connection)
            report = server.finish()
        assert report.ledger["journaled"] == (30 if run == 0 else 0)
        assert report.ledger["duplicate"] == (30 if run == 0 else 60)
    assert len(rows(tmp_path / "run.db")) == 30


def test_several_peers_at_once(tmp_path: Path) -> None:
    everything = frames(120)
    with serving(tmp_path / "run.db") as (server, port):
        truths = [Truth() for _ in range(4)]
        results: list[int] = [0] * 4

        def one(i: int) -> None:
            pieces = damaged(everything[i::4], 0.2, i, truths[i])
            results[i] = send("127.0.0.1", port, pieces, truths[i], rate_hz=None, wait_s=20)[0]

        threads = [threading.Thread(target=one, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        report = server.finish()
    assert results == [truth.intact for truth in truths]
    assert report.ledger["journaled"] == sum(results)
    assert report.source["connections"] == 4


def test_peer_that_stalls_in_a_frame_is_cut_off_and_others_go_on(tmp_path: Path) -> None:
    sent = frames(3)
    with serving(tmp_path / "run.db", idle_s=0.3) as (server, port):
        stalled = socket.create_connection(("127.0.0.1", port))
        stalled.sendall(encode(sent[0]) + encode(sent[1])[:-3])
        quiet = socket.create_connection(("127.0.0.1", port))  # silent between frames: may stay
        quiet.sendall(encode(sent[2]))
        assert read_acks(quiet, 1) == [Key(77, 0, 2)]
        assert read_acks(stalled, 1) == [Key(77, 0, 0)]
        begin = time.monotonic()
        stalled.settimeout(10)
        assert stalled.recv(1) == b""  # cut off
        assert time.monotonic() - begin < 5
        quiet.sendall(encode(sent[1]))
        assert read_acks(quiet, 1) == [Key(77, 0, 1)]
        stalled.close()
        quiet.close()
        report = server.finish()
    assert report.source["cut_off"] == 1
    assert report.ledger["rejected"] == {"truncated": 1}
    assert report.ledger["journaled"] == 3


def test_peer_that_trickles_is_cut_off(tmp_path: Path) -> None:
    data = encode(frames(1)[0])
    with serving(tmp_path / "run.db", idle_s=0.3) as (server, port):
        peer = socket.create_connection(("127.0.0.1", port))
        begin, gone = time.monotonic(), False
        while not gone and time.monotonic() - begin < 20:
            try:
                for byte in data[:-1]:
                    peer.sendall(bytes([byte]))
                    time.sleep(0.05)
            except OSError:
                gone = True
        assert gone
        peer.close()
        assert server.finish().source["cut_off"] == 1


def test_peer_that_waits_for_us_is_not_cut_off(tmp_path: Path) -> None:
    """The reader waits for a full queue longer than idle_s: no reason to cut off a peer within a frame."""
    large = encode(Frame(77, 0, 20, 0, 0, 0, 0, np.zeros(65536, np.float32)))  # more than one read
    with serving(tmp_path / "run.db", idle_s=0.4, delay_s=0.05, capacity=1) as (server, port):
        peer = socket.create_connection(("127.0.0.1", port))
        peer.sendall(b"".join(encode(frame) for frame in frames(20)) + large[:100])
        time.sleep(0.2)
        peer.sendall(large[100:])
        assert len(read_acks(peer, 20)) == 20
        peer.close()
        report = server.finish()
    assert report.source["cut_off"] == 0
    assert report.ledger["rejected"] == {"wrong_length": 1}


def test_frames_behind_a_damaged_length_come_out(tmp_path: Path) -> None:
    """A header that claims 65,536 channels swallows what follows until the peer is quiet; nothing is lost."""
    sent = frames(4)
    first = bytearray(encode(sent[0]))
    struct.pack_into("<I", first, 40, 65536)
    with serving(tmp_path / "run.db", idle_s=0.3) as (server, port):
        peer = socket.create_connection(("127.0.0.1", port))
        peer.sendall(bytes(first) + b"".join(encode(frame) for frame in sent[1:]))
        assert read_acks(peer, 3) == [Key(77, 0, i) for i in (1, 2, 3)]
        peer.close()
        report = server.finish()
    assert report.ledger["journaled"] == 3


def test_peer_that_vanishes_or_never_reads(tmp_path: Path) -> None:
    sent = frames(20)
    with serving(tmp_path / "run.db", delay_s=0.002) as (server, port):
        peer = socket.create_connection(("127.0.0.1", port))
        peer.sendall(b"".join(encode(frame) for frame in sent))
        time.sleep(0.05)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()  # a reset: acknowledgements have nowhere to go
        other = socket.create_connection(("127.0.0.1", port))
        other.sendall(encode(sent[0]))
        assert read_acks(other, 1) == [Key(77, 0, 0)]
        other.close()
        report = server.finish()
    assert report.ledger["unaccounted"] == 0
    assert report.ledger["journaled"] == len(rows(tmp_path / "run.db")) > 0


def test_too_many_peers_are_refused(tmp_path: Path) -> None:
    with serving(tmp_path / "run.db", max_connections=2) as (server, port):
        peers = []
        for _ in range(2):
            peer = socket.create_connection(("127.0.0.1", port))
            peer.sendall(encode(frames(1)[0]))
            assert len(read_acks(peer, 1)) == 1  # it is in
            peers.append(peer)
        third = socket.create_connection(("127.0.0.1", port))
        third.settimeout(10)
        assert third.recv(1) == b""
        for peer in [*peers, third]:
            peer.close()
        assert server.finish().source["connections_refused"] == 1


def test_noise_gives_no_frame(tmp_path: Path) -> None:
    noise = random.Random(9).randbytes(1 << 20)
    with serving(tmp_path / "run.db") as (server, port):
        peer = socket.create_connection(("127.0.0.1", port))
        peer.sendall(noise + encode(frames(1)[0]))
        assert read_acks(peer, 1) == [Key(77, 0, 0)]
        peer.close()
        report = server.finish()
    assert report.ledger["journaled"] == 1
    assert report.source["garbage_bytes"] == len(noise)


def test_port_in_use(tmp_path: Path) -> None:
    first = TcpSource(0)
    with pytest.raises(SourceError, match=f"127.0.0.1 port = {first.port}.*cannot listen"):
        TcpSource(first.port)
    first.close()
    again = TcpSource(first.port)  # free again at once
    again.close()


def test_no_server_is_a_typed_error() -> None:
    free = TcpSource(0)
    port = free.port
    free.close()
    with pytest.raises(SourceError, match="cannot connect"):
        send("127.0.0.1", port, [], Truth(), rate_hz=None, wait_s=1)


def test_acknowledgement_layout() -> None:
    data = encode_ack(Key(0x01020304, 5, 0x1122334455667788))
    assert data[:20] == b"SACK" + bytes.fromhex("04030201 05000000 8877665544332211")
    assert len(data) == ACK_BYTES == 24
    buffer = bytearray(data + data[:10])
    assert decode_acks(buffer) == [Key(0x01020304, 5, 0x1122334455667788)]
    assert buffer == data[:10]
    for i in range(24):
        broken = bytearray(data)
        broken[i] ^= 1
        with pytest.raises(SourceError):
            decode_acks(broken)


SERVER = """
import sys
from libsedge.journal import Journal
from libsedge.pipeline import Pipeline
from libsedge.sources.tcp import TcpSource
from mean_classifier import MeanClassifier

class EarlyAck(TcpSource):  # the negative control: tells the peer as soon as it has the frame
    def __iter__(self):
        for frame in super().__iter__():
            if frame is not None:
                from libsedge.ledger import Key
                super().acknowledge([Key(frame.stream_id, frame.epoch, frame.sequence)])
            yield frame
    def acknowledge(self, keys):
        pass

source = (EarlyAck if sys.argv[2] == "1" else TcpSource)(0)
print(source.port, flush=True)
Pipeline(source, MeanClassifier(), Journal(sys.argv[1]), batch=16, interval_s=0.02).run()
"""


def killed_server(path: Path, early: bool, seed: int) -> tuple[set[int], set[int]]:
    """Send to a server that is killed at a random moment: (acknowledged, in the journal)."""
    here = str(Path(__file__).parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])}
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(path), str(int(early))],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert server.stdout is not None
    peer = socket.create_connection(("127.0.0.1", int(server.stdout.readline())))
    acknowledged: list[Key] = []
    first = threading.Event()

    def read() -> None:
        buffer = bytearray()
        try:
            while data := peer.recv(65536):
                buffer.extend(data)
                acknowledged.extend(decode_acks(buffer))
                first.set()
        except OSError:
            pass

    def kill() -> None:
        first.wait(30)
        time.sleep(random.Random(seed).uniform(0, 0.05))
        server.send_signal(signal.SIGKILL)

    reader, killer = threading.Thread(target=read), threading.Thread(target=kill)
    reader.start()
    killer.start()
    try:
        for frame in frames(20_000):
            peer.sendall(encode(frame))
    except OSError:
        pass
    server.wait()
    killer.join()
    reader.join()
    peer.close()
    server.stdout.close()
    return {key.sequence for key in acknowledged}, set(rows(path))


def test_killed_server_has_every_acknowledged_frame(tmp_path: Path) -> None:
    total = 0
    for seed in range(6):
        acknowledged, stored = killed_server(tmp_path / f"{seed}.db", early=False, seed=seed)
        assert acknowledged <= stored
        total += len(acknowledged)
    assert total > 0


def test_negative_control_acknowledged_on_arrival_is_caught(tmp_path: Path) -> None:
    for seed in range(20):
        acknowledged, stored = killed_server(tmp_path / f"{seed}.db", early=True, seed=seed)
        if acknowledged - stored:
            return
    pytest.fail("20 kills never hit the window between acknowledgement and commit")
