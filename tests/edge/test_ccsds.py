"""Frames in CCSDS space packets: spacepackets reads what we write, and the counts hold under any damage."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libsedge.errors import ConfigError
from libsedge.frame import Frame, encode
from libsedge.senders import open_sender
from libsedge.senders.ccsds import Packets
from libsedge.senders.truth import UnitTruth, damaged_units
from libsedge.sources import SourceOptions, open_source, space_packets
from libsedge.sources.ccsds import CcsdsUdpSource, PacketStream
from libsedge.sources.space_packets import (
    COUNT_MODULUS,
    DEFAULT_APID,
    Assembler,
    Packet,
    PacketCount,
    Packetiser,
    crc16,
    parse,
)
from served import check_counts, decisions, frames, rows, serving

ONE = 1472  # bytes of the largest packet: a frame of 8 channels is one
BIG = 300  # channels of a frame in many segments of 64 bytes


def packets_of(frame: Frame, packet_bytes: int, **options: int) -> list[bytes]:
    packetiser = Packetiser(packet_bytes=packet_bytes, **options)
    return list(packetiser.packets(encode(frame), frame.epoch, frame.sequence))


# --- the packets themselves


@pytest.mark.parametrize("packet_bytes", [64, 100, 1472, 65542])
def test_spacepackets_reads_every_header(packet_bytes: int) -> None:
    spacepackets = pytest.importorskip("spacepackets.ccsds")
    from fastcrc import crc16 as oracle

    sent = [Frame(7, 3, 2**40 + i, 0, 0, 0, 0, f.values) for i, f in enumerate(frames(9, BIG))]
    packetiser = Packetiser(0x123, packet_bytes)
    count = 0
    for frame in sent:
        data = encode(frame)
        packets = list(packetiser.packets(data, frame.epoch, frame.sequence))
        pieces = b""
        for index, packet in enumerate(packets):
            header = spacepackets.SpacePacketHeader.unpack(packet)
            assert header.apid == 0x123
            assert header.ccsds_version == 0
            assert header.packet_type == spacepackets.PacketType.TM
            assert header.sec_header_flag
            assert header.seq_count == count % COUNT_MODULUS
            assert header.packet_len == len(packet) <= packet_bytes
            flags = spacepackets.SequenceFlags
            if len(packets) == 1:
                assert header.seq_flags == flags.UNSEGMENTED
            elif index == 0:
                assert header.seq_flags == flags.FIRST_SEGMENT
            elif index == len(packets) - 1:
                assert header.seq_flags == flags.LAST_SEGMENT
            else:
                assert header.seq_flags == flags.CONTINUATION_SEGMENT
            assert oracle.ibm_3740(packet[:-2]) == int.from_bytes(packet[-2:], "big")
            pieces += packet[22:-2]
            count += 1
        assert pieces == data


def test_header_that_spacepackets_writes_is_read() -> None:
    spacepackets = pytest.importorskip("spacepackets.ccsds")
    (ours,) = packets_of(frames(1)[0], ONE)
    header = spacepackets.SpacePacketHeader(
        packet_type=spacepackets.PacketType.TM,
        apid=DEFAULT_APID,
        seq_count=16383,
        data_len=len(ours) - 7,
        sec_header_flag=True,
        seq_flags=spacepackets.SequenceFlags.UNSEGMENTED,
    )
    body = bytes(header.pack()) + ours[6:-2]
    packet = parse(body + crc16(body).to_bytes(2, "big"))
    assert packet == Packet(16383, (0, 0), 0, 1, encode(frames(1)[0]))


def test_every_single_bit_is_seen() -> None:
    (packet,) = packets_of(frames(1)[0], ONE)
    assert parse(packet) is not None
    for bit in range(8 * len(packet)):
        changed = bytearray(packet)
        changed[bit // 8] ^= 1 << bit % 8
        assert parse(bytes(changed)) is None
    for size in range(len(packet)):
        assert parse(packet[:size]) is None


# --- reassembly


def test_segments_in_any_order_make_the_frame() -> None:
    frame = frames(1, BIG)[0]
    packets = [parse(packet) for packet in packets_of(frame, 64)]
    random.Random(3).shuffle(packets)
    assembler = Assembler()
    got = [assembler.add(packet, 0.0) for packet in packets if packet is not None]
    assert [item is not None for item in got] == [False] * (len(packets) - 1) + [True]
    assert got[-1] is not None
    assert encode(got[-1]) == encode(frame)
    assert (assembler.pending, assembler.refused, assembler.again) == (0, {}, 0)


def test_memory_is_bounded_and_each_frame_is_refused_once() -> None:
    assembler = Assembler(window=4)
    for number in range(100):
        frame = Frame(7, 0, number, 0, 0, 0, 0, frames(1, BIG)[0].values)
        packets = [parse(packet) for packet in packets_of(frame, 64)]
        for packet in packets[:-1] * 2:  # the last one never comes, the others twice
            assert packet is not None
            assert assembler.add(packet, 0.0) is None
        assert assembler.pending <= 4
    assembler.expire(1.0)
    assert assembler.refused == {"incomplete": 100}
    assert assembler.again == 100 * (len(packets) - 1)


def test_segment_that_claims_too_much_is_refused() -> None:
    assembler = Assembler()
    for segment in range(5):
        assembler.add(Packet(segment, (0, 1), segment, 65535, bytes(65518)), 0.0)
    assert assembler.refused == {"header": 1}


def test_frame_under_a_false_name_is_refused() -> None:
    assembler = Assembler()
    assert assembler.add(Packet(0, (0, 9), 0, 1, encode(frames(1)[0])), 0.0) is None
    assert assembler.refused == {"header": 1}


# --- the 14-bit count


def counted(losses: list[tuple[int, int]], frame_packets: int = 3) -> tuple[int, PacketCount]:
    """Send runs of frames and lose runs of packets: (packets lost, the count)."""
    count, number, lost = PacketCount(), 5, 0
    for kept, dropped in losses:
        for at in range(number, number + kept):
            frame, segment = divmod(at, frame_packets)
            count.arrive(Packet(at % COUNT_MODULUS, (0, frame), segment, frame_packets, b""))
        number += kept + dropped
        lost += dropped
    return lost - losses[-1][1], count


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 8191)), min_size=1, max_size=12))
def test_losses_below_half_the_modulus_are_exact(losses: list[tuple[int, int]]) -> None:
    lost, count = counted(losses)
    assert count.counters()["packets_lost"] == lost


def test_a_hundred_wraps_with_losses() -> None:
    rng = random.Random(1)
    losses = [(rng.randrange(1, 200), rng.choice([0, 1, 2, 700, 8191])) for _ in range(900)]
    lost, count = counted(losses)
    assert sum(map(sum, losses)) > 100 * COUNT_MODULUS
    assert count.counters() == {"packets_lost": lost, "packets_ambiguous": 0}


def test_loss_of_whole_wraps_is_exact_where_frames_are_one_packet_and_ambiguous_where_not() -> None:
    losses = [(10, 3 * COUNT_MODULUS + 77), (10, 0)]
    lost, count = counted(losses, frame_packets=1)
    assert count.counters() == {"packets_lost": lost, "packets_ambiguous": 0}
    lost, count = counted(losses)
    numbers = count.counters()
    assert numbers["packets_ambiguous"] == 1  # said, not guessed
    assert numbers["packets_lost"] <= lost


def test_late_repeated_and_restarted_packets() -> None:
    count = PacketCount()
    order = [0, 2, 1, 3, 3, 5, 4, 6]
    for at in order:
        count.arrive(Packet(at, (0, at), 0, 1, b""))
    for at in (0, 1, 2):  # the sender restarts: a new epoch, its count from 0
        count.arrive(Packet(at, (1, at), 0, 1, b""))
    for at in range(7, 12):  # five frames sent again under new counts, then on
        count.arrive(Packet(at, (0, at - 7), 0, 1, b""))
    count.arrive(Packet(12, (0, 7), 0, 1, b""))
    assert count.counters() == {"packets_lost": 0, "packets_ambiguous": 0}


# --- over the wire

CASES = [(0.0, 0), (0.1, 1), (0.5, 2), (1.0, 3)]


@pytest.mark.parametrize(
    ("packet_bytes", "channels", "damage", "seed"),
    [(64, 40, *case) for case in CASES] + [(1472, 8, 0.5, 2), (64, 8, 0.5, 4)],
)
def test_counts_equal_the_truth_over_udp(
    tmp_path: Path, packet_bytes: int, channels: int, damage: float, seed: int
) -> None:
    sent = frames(200, channels)
    source = CcsdsUdpSource(0, idle_s=0.15)
    with serving(tmp_path / "run.db", source, channels=channels) as served:
        sender = open_sender(f"ccsds:udp:{source.address},bytes={packet_bytes}")
        truth = sender.send(sent, damage=damage, seed=seed, rate_hz=5000, wait_s=5).truth
        served.quiet(truth=truth)
        report = served.finish()
    assert isinstance(truth, UnitTruth)
    assert report.source["dropped_by_kernel"] == 0
    check_counts(report, truth)
    assert rows(tmp_path / "run.db") == decisions(sent, truth)
    bad = report.source["packets_damaged"] + report.source["packets_other"]
    whole = truth.units - truth.damaged_units - truth.lost
    assert report.source["packets"] == whole + truth.again + truth.repeat
    assert bad >= truth.damaged_units  # a garbage datagram may look like several
    assert report.source["segments_again"] == truth.again
    assert report.source["in_progress"] == 0


@pytest.mark.parametrize(("damage", "seed"), CASES)
@pytest.mark.parametrize("packet_bytes", [1472, 64])
def test_counts_equal_the_truth_over_tcp(tmp_path: Path, packet_bytes: int, damage: float, seed: int) -> None:
    sent = frames(200, 40)
    source = open_source("ccsds:tcp:0", SourceOptions(idle_s=5))
    with serving(tmp_path / "run.db", source, channels=40) as served:
        sender = open_sender(f"ccsds:tcp:{source.address},bytes={packet_bytes}")
        result = sender.send(sent, damage=damage, seed=seed, rate_hz=None, wait_s=10)
        served.quiet(truth=result.truth)
        report = served.finish()
    truth = result.truth
    assert isinstance(truth, UnitTruth)
    check_counts(report, truth)
    assert result.acknowledged == truth.intact
    assert rows(tmp_path / "run.db") == decisions(sent, truth)
    whole = truth.units - truth.damaged_units - truth.lost
    assert report.source["packets"] == whole + truth.again + truth.repeat


def stream(damage: float, seed: int) -> tuple[bytes, UnitTruth]:
    truth = UnitTruth()
    units = damaged_units(frames(60, 40), Packets(packet_bytes=100), damage, seed, truth)
    return b"".join(units), truth


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.2, 0.7]), st.integers(1, 5000))
def test_stream_is_the_same_however_it_is_cut(seed: int, damage: float, step: int) -> None:
    data, truth = stream(damage, seed)
    reader = PacketStream()
    found = []
    for at in range(0, len(data), step):
        found += reader.feed(data[at : at + step])
    found += reader.finish()
    assert sorted(frame.sequence for frame in found) == sorted(key.sequence for key in truth.keys)
    assert sum(reader.refused().values()) == truth.refused
    assert reader.pending_bytes == 0


def test_frame_that_the_end_cuts_off_is_in_the_account(tmp_path: Path) -> None:
    source = CcsdsUdpSource(0, idle_s=60)
    with serving(tmp_path / "run.db", source) as served:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for packet in packets_of(frames(1)[0], 64)[:-1]:
                peer.sendto(packet, ("127.0.0.1", source.port))
        served.quiet()
        report = served.finish()
    assert report.ledger["rejected"] == {"incomplete": 1}
    assert (report.ledger["received"], report.ledger["unaccounted"]) == (1, 0)


def test_packets_of_other_applications_pass_by(tmp_path: Path) -> None:
    ours = packets_of(frames(3)[0], 64) + packets_of(frames(3)[1], 64)
    other = [b"\x0c\x22" + packet[2:] for packet in packets_of(frames(3)[2], 64)]
    mixed = [packet for pair in zip(ours, other * 3, strict=False) for packet in pair]
    source = CcsdsUdpSource(0)
    assert [frame.sequence for packet in mixed for frame in source._frames(packet)] == [0, 1]
    assert source.counters()["packets_other"] == len(ours)
    assert (source.counters()["packets"], source.counters()["packets_damaged"]) == (len(ours), 0)
    both = source._frames(b"".join(packets_of(frames(5)[4], 64)))  # several in one datagram
    assert [frame.sequence for frame in both] == [4]
    source.close()
    reader = PacketStream()
    found = reader.feed(b"".join(mixed)) + reader.finish()
    assert [frame.sequence for frame in found] == [0, 1]
    assert reader.counters()["garbage_bytes"] == sum(map(len, other)) * 2


def test_noise_gives_no_packet() -> None:
    reader = PacketStream()
    noise = random.Random(5).randbytes(1 << 20)
    assert reader.feed(noise) == []
    assert reader.finish() == []
    assert reader.counters()["garbage_bytes"] == len(noise)


@pytest.mark.parametrize(
    "spec", ["ccsds:0", "ccsds:udp:0,apid=2047", "ccsds:udp:0,x=1", "ccsds:tcp:8.8.8.8:1"]
)
def test_settings_out_of_range(spec: str) -> None:
    with pytest.raises(ConfigError):
        open_source(spec)


def test_other_apid_is_agreed_on_by_both_sides() -> None:
    source = open_source("ccsds:udp:0,apid=77")
    open_sender(f"ccsds:udp:{source.address},apid=77").send(
        frames(1), damage=0, seed=0, rate_hz=None, wait_s=1
    )
    frame = next(iter(source))
    assert frame is not None
    assert frame.sequence == 0
    source.close()


def test_negative_control_without_the_packet_crc_the_counts_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damaged packets that are believed make wrong frames: the check goes red."""
    truth = UnitTruth()
    units = list(damaged_units(frames(200, 40), Packets(packet_bytes=64), 0.5, 1, truth))
    monkeypatch.setattr(space_packets, "crc16", lambda data: int.from_bytes(data.obj[-2:], "big"))
    source = CcsdsUdpSource(0)
    with serving(tmp_path / "run.db", source, channels=40) as served:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for unit in units:
                peer.sendto(unit, ("127.0.0.1", source.port))
        served.quiet()
        source._reader.assembler.expire(float("inf"))
        served.quiet()
        report = served.finish()
    with pytest.raises(AssertionError):
        check_counts(report, truth)
