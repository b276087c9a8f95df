"""`libsedge-run` fed over a serial line and in CCSDS space packets: what the Python runtime decides and counts of the
same bytes, bit for bit."""

from __future__ import annotations

import random
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from libsedge.classifier import Classifier
from libsedge.frame import Frame, encode
from libsedge.senders.ccsds import Packets
from libsedge.senders.serial import Blocks
from libsedge.sources.base import Source
from libsedge.sources.ccsds import CcsdsUdpSource, PacketStream
from libsedge.sources.serial import SerialSource
from libsedge.sources.space_packets import Packetiser
from libsedge.sources.tcp import TcpSource
from runner_tools import (
    AXIS,
    AXIS_NM,
    MASK,
    Line,
    address_of,
    check,
    frames,
    odd_packets,
    plasma,
    python_run,
    run_stdin,
    running,
    send_datagrams,
    send_tcp,
    units,
)

pytest.importorskip("libsedge_native.runner", reason="the generator is not installed")
pytest.importorskip("serial", reason="pyserial is not installed")


@pytest.fixture
def classifier(tiny_model: Any) -> Classifier:
    return Classifier(tiny_model.open()).bind(AXIS_NM, MASK)


# --- CCSDS over UDP


PACKET_NUMBERS = ("packets", "packets_lost", "packets_ambiguous", "decoded", "segments_again")
UDP_NUMBERS = (*PACKET_NUMBERS, "messages", "message_bytes", "packets_damaged", "packets_other")


@pytest.mark.parametrize(("damage", "packet_bytes"), [(0.0, 1472), (0.2, 700), (0.5, 65000)])
def test_packets_in_datagrams(
    runner_program: Path, classifier: Classifier, tmp_path: Path, damage: float, packet_bytes: int
) -> None:
    datagrams = units(Packets(packet_bytes=packet_bytes), damage, 5)
    datagrams += [b"", datagrams[0] + datagrams[0][:7], datagrams[0] * 3, bytes(5)]
    datagrams += list(Packetiser(apid=7).packets(encode(frames(1, 1)[0]), 0, 0))
    with running(runner_program, "--source", "ccsds:udp:0") as (process, end):
        send_datagrams(address_of(process), datagrams)
        ours = end()
    python = python_run(
        classifier,
        lambda it: send_datagrams(str(it.address), datagrams),
        tmp_path,
        CcsdsUdpSource(0, axis=AXIS),
    )
    assert ours.source["dropped_by_kernel"] == python[1].source["dropped_by_kernel"] == 0
    check(ours, python, UDP_NUMBERS)
    assert ours.source["packets_other"] > 0
    if packet_bytes == 700:
        assert ours.account["rejected"]["incomplete"] > 1


def test_frames_whose_segments_stop_coming_are_given_up(runner_program: Path) -> None:
    """After --idle seconds (what is left of it then completes nothing), and at the end; the oldest of seventeen."""
    packetiser = Packetiser(packet_bytes=700)
    row = plasma(1, 5)[0]
    first, *rest = packetiser.packets(encode(Frame(1, 0, 0, 0, 0, 0, 0, row)), 0, 0)
    cut = [next(packetiser.packets(encode(Frame(1, 0, i, 0, 0, 0, 0, row)), 0, i)) for i in range(1, 18)]
    with running(runner_program, "--source", "ccsds:udp:0", "--idle", "0.3") as (process, end):
        address = address_of(process)
        send_datagrams(address, [first])  # waits longer than --idle
        last = packetiser.packets(encode(Frame(1, 0, 18, 0, 0, 0, 0, row)), 0, 18)
        send_datagrams(address, [*rest, *cut, *last])
        ours = end()
    assert ours.account["rejected"] == {"incomplete": 18}
    assert (ours.account["received"], len(ours.rows)) == (19, 1)


# --- CCSDS over TCP


@pytest.mark.parametrize(("damage", "seed"), [(0.0, 6), (0.3, 7)])
def test_packets_back_to_back(
    runner_program: Path, classifier: Classifier, tmp_path: Path, damage: float, seed: int
) -> None:
    data = b"".join(units(Packets(apid=77, packet_bytes=900), damage, seed))
    rng = random.Random(seed)
    data += rng.randbytes(3000) + b"\x08\x4d\x00\x00\x00\x40" + bytes(20)  # a false beginning at the end
    with running(runner_program, "--source", "ccsds:tcp:0,apid=77") as (process, end):
        send_tcp(address_of(process), data)
        ours = end()
    source: Source = TcpSource(0, axis=AXIS, decoder=lambda: PacketStream(77))
    python = python_run(classifier, lambda it: send_tcp(str(it.address), data), tmp_path, source)
    check(ours, python, (*PACKET_NUMBERS, "garbage_bytes", "connections"))
    assert ours.source["garbage_bytes"] > 3000


def test_cut_of_the_stream_into_reads_changes_nothing(runner_program: Path) -> None:
    data = b"".join(units(Packets(packet_bytes=300), 0.3, 9, 40))
    starts = [
        at for at in range(len(data)) if data.startswith(b"\x09\xed", at)
    ]  # what a packet of ours begins with
    seen = []
    for cuts in (
        [],
        sorted({at + 1 for at in starts[:150]} | set(random.Random(1).sample(range(1, len(data)), 150))),
    ):
        with running(runner_program, "--source", "ccsds:tcp:0") as (process, end):
            host, _, port = address_of(process).rpartition(":")
            with socket.create_connection((host, int(port))) as sock:
                for low, high in zip([0, *cuts], [*cuts, len(data)], strict=True):
                    sock.sendall(data[low:high])
                    time.sleep(0.0002)
                sock.shutdown(socket.SHUT_WR)
                assert sock.recv(1) == b""
            seen.append(end())
    assert seen[0].rows == seen[1].rows
    assert (seen[0].account, seen[0].source) == (seen[1].account, seen[1].source)


@pytest.mark.parametrize("seed", range(4))
def test_odd_segments_are_counted_alike(runner_program: Path, seed: int) -> None:
    data = odd_packets(seed)
    stream = PacketStream()
    found = stream.feed(data) + stream.finish()
    with running(runner_program, "--source", "ccsds:tcp:0") as (process, end):
        send_tcp(address_of(process), data)
        ours = end()
    refused = {reason: n for reason, n in stream.refused().items() if n}
    assert len(found) > 20
    assert refused["incomplete"] > 100
    assert ours.account["rejected"] == refused | {"wrong_length": len(found) - ours.account["duplicate"]}
    names = (*PACKET_NUMBERS, "garbage_bytes")
    assert {name: ours.source[name] for name in names} == {name: stream.counters()[name] for name in names}
    assert ours.source["segments_again"] > 100


# --- a serial line


@pytest.mark.parametrize(("damage", "seed"), [(0.0, 3), (0.4, 4)])
def test_blocks_over_a_line(
    runner_program: Path, classifier: Classifier, tmp_path: Path, damage: float, seed: int
) -> None:
    pieces = units(Blocks(), damage, seed)
    never_written = b"\xff" + b"\7" * 254 + b"\1"  # an empty group behind a full one
    data = (
        b"".join(pieces) + b"\0\0\0" + b"\1" * 300_000 + b"\0\3a\0" + never_written + b"\0" + pieces[-1][:40]
    )
    line = Line()
    with running(runner_program, "--source", f"serial:{line.device},baud=921600") as (_, end):
        line.send(data)
        ours = end()
    line.close()
    line = Line()
    source = SerialSource(line.device, 921600, axis=AXIS)
    python = python_run(classifier, lambda _: line.send(data), tmp_path, source)
    line.close()
    check(ours, python, ("messages", "message_bytes", "too_long_bytes", "reopened"))
    assert ours.account["rejected"]["too_long"] == 1
    assert ours.account["rejected"]["truncated"] >= 1
    assert ours.account["rejected"]["stuffing"] >= 1


def test_a_line_that_goes_away_is_opened_again(runner_program: Path, tmp_path: Path) -> None:
    link = tmp_path / "line"
    good = [Blocks().units(Frame(1, 0, i, 0, 0, 0, 0, plasma(1, 5)[0]))[0] for i in range(3)]
    first = Line()
    link.symlink_to(first.device)
    with running(runner_program, "--source", f"serial:{link}") as (_, end):
        first.send(good[0] + good[1][:-50])  # ends in the middle of a block
        first.close()
        link.unlink()
        second = Line()
        link.symlink_to(second.device)
        second.send(good[2])
        ours = end()
        second.close()
    assert [row["sequence"] for row in ours.rows] == [0, 2]
    assert sum(ours.account["rejected"].values()) == 1
    assert ours.source["reopened"] == 1


def test_a_line_that_is_taken(runner_program: Path) -> None:
    line = Line()
    with running(runner_program, "--source", f"serial:{line.device}"):
        line.send(b"\0")
        ours = run_stdin(runner_program, b"", "--source", f"serial:{line.device}")
        assert (ours.code, ours.stderr.endswith("another program uses it\n")) == (2, True), ours.stderr
    line.close()


# --- what is common


def test_mistakes_are_one_line_and_exit_code_2(runner_program: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for source in (
        "ccsds:udp:0.0.0.0:0",
        "ccsds:tcp:192.168.1.1:0",
        "ccsds:udp:70000",
        "ccsds:sctp:0",
        "ccsds:udp:0,apid=2047",
        "ccsds:udp:0,apid=x",
        "ccsds:udp:0,bytes=5",
        f"serial:{tmp_path / 'none'}",
        f"serial:{tmp_path / 'file'}",
        "serial:",
        "serial:/dev/ttyS0,baud=12345",
        "serial:/dev/ttyS0,parity=e",
    ):
        ours = run_stdin(runner_program, b"", "--source", source)
        assert (ours.code, ours.stderr.count("\n"), ours.rows) == (2, 1, []), (source, ours.stderr)
        assert ours.stderr.startswith(f"error: {source}: ")


@pytest.mark.parametrize("source", ["ccsds:udp:0", "ccsds:tcp:0"])
def test_memory(runner_program: Path, source: str) -> None:
    """4 MiB at most with every kind of memory taken, and touched by a few frames."""
    stream = [Frame(1, 0, i, 0, 0, 0, 0, plasma(1, 5)[0]) for i in range(20)]
    packets = [packet for frame in stream for packet in Packets().units(frame)]
    with running(runner_program, "--source", source) as (process, end):
        if source == "ccsds:udp:0":
            send_datagrams(address_of(process), packets)
        else:
            send_tcp(address_of(process), b"".join(packets))
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert len(end().rows) == 20
    assert int(status.partition("VmHWM:")[2].split()[0]) <= 4096


def test_negative_control_the_comparison_sees_one_packet_fewer(
    runner_program: Path, classifier: Classifier, tmp_path: Path
) -> None:
    packets = units(Packets(), 0.0, 5, 20)
    with running(runner_program, "--source", "ccsds:tcp:0") as (process, end):
        send_tcp(address_of(process), b"".join(packets[:-1]))
        ours = end()
    source = TcpSource(0, axis=AXIS, decoder=PacketStream)
    python = python_run(classifier, b"".join(packets), tmp_path, source)
    with pytest.raises(AssertionError):
        check(ours, python, ())
