"""Frames over a serial line, here a pseudo-terminal: every block is a frame or one refusal."""

from __future__ import annotations

import os
import pty
import random
import subprocess
import sys
import threading
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libsedge.errors import ConfigError, SourceError
from libsedge.frame import Frame, encode
from libsedge.senders import open_sender
from libsedge.senders.serial import Blocks as SentBlocks
from libsedge.senders.truth import UnitTruth, damaged_units
from libsedge.sources import cobs, open_source
from libsedge.sources.serial import Blocks, SerialSource
from served import check_counts, decisions, frames, rows, serving

pytest.importorskip("serial", reason="pyserial is not installed")


@given(st.binary(max_size=800))
def test_stuffing_round_trip(data: bytes) -> None:
    block = cobs.encode(data)
    assert 0 not in block
    assert len(block) <= len(data) + 1 + len(data) // 254
    assert cobs.decode(block) == data


@pytest.mark.parametrize(
    ("data", "block"),  # the examples of Cheshire and Baker's tables, as on Wikipedia
    [
        ("00", "01 01"),
        ("00 00", "01 01 01"),
        ("00 11 00", "01 02 11 01"),
        ("11 22 00 33", "03 11 22 02 33"),
        ("11 22 33 44", "05 11 22 33 44"),
        ("11 00 00 00", "02 11 01 01 01"),
    ],
)
def test_stuffing_of_known_bytes(data: str, block: str) -> None:
    assert cobs.encode(bytes.fromhex(data)) == bytes.fromhex(block)


def test_stuffing_at_the_edge_of_a_group() -> None:
    run = bytes(range(1, 255))
    assert cobs.encode(run) == b"\xff" + run
    assert cobs.encode(run + b"\0") == b"\xff" + run + b"\x01\x01"
    assert cobs.encode(b"\0" + run) == b"\x01\xff" + run
    assert cobs.encode(run + b"\xff") == b"\xff" + run + b"\x02\xff"
    for bad in (b"", b"\0", b"\x03a", b"\x02a\0", b"\xff" + run + b"\x01", b"\xff" + run[:-1]):
        assert cobs.decode(bad) is None


@given(st.binary(max_size=300))
def test_what_is_decoded_is_what_encode_gives(block: bytes) -> None:
    """One block, one meaning: damage cannot turn a block into another spelling of the same frame."""
    data = cobs.decode(block)
    assert data is None or cobs.encode(data) == block


@given(st.binary(max_size=400), st.integers(1, 60), st.integers(1, 50))
def test_blocks_are_the_same_however_they_are_cut(data: bytes, step: int, limit: int) -> None:
    blocks, found = Blocks(limit), []
    for at in range(0, len(data), step):
        found += blocks.feed(data[at : at + step])
        assert blocks.pending_bytes <= limit
    found += blocks.finish()
    assert found == [b if len(b) <= limit else b"" for b in data.split(b"\0") if b]
    assert blocks.too_long_bytes == sum(len(b) for b in data.split(b"\0") if len(b) > limit)


@pytest.fixture
def line() -> Iterator[tuple[int, str]]:
    """The sender's end of a pseudo-terminal and the name of the other."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    yield ours, os.ttyname(theirs)
    os.close(ours)
    os.close(theirs)


def write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


@pytest.mark.parametrize(("damage", "seed"), [(0.0, 0), (0.001, 7), (0.1, 1), (0.5, 2), (0.5, 9), (1.0, 3)])
def test_counts_equal_the_truth(tmp_path: Path, line: tuple[int, str], damage: float, seed: int) -> None:
    sent, truth = frames(300), UnitTruth()
    with serving(tmp_path / "run.db", SerialSource(line[1])) as served:
        for unit in damaged_units(sent, SentBlocks(), damage, seed, truth):
            write_all(line[0], unit)  # blocks while the reader is busy: the terminal holds 4 KiB
        write_all(line[0], b"\0")
        served.quiet(truth=truth)
        report = served.finish()
    check_counts(report, truth)
    assert rows(tmp_path / "run.db") == decisions(sent, truth)
    assert report.source["bytes"] == truth.bytes + 1


def test_full_size_frames_and_a_slow_reader_lose_nothing(tmp_path: Path, line: tuple[int, str]) -> None:
    sent, truth = frames(30, 5400), UnitTruth()
    with serving(tmp_path / "run.db", SerialSource(line[1]), channels=5400, delay_s=0.01) as served:
        for unit in damaged_units(sent, SentBlocks(), 0.0, 0, truth):
            write_all(line[0], unit)
        served.quiet(truth=truth)
        report = served.finish()
    check_counts(report, truth)


def test_noise_and_endless_blocks(tmp_path: Path, line: tuple[int, str]) -> None:
    noise = random.Random(2).randbytes(100_000)
    blocks = [block for block in (b"\1" + noise).split(b"\0") if block]
    endless = b"\x55" * 600_000
    with serving(tmp_path / "run.db", SerialSource(line[1])) as served:
        write_all(line[0], b"\1" + noise + b"\0" + endless + b"\0")
        write_all(line[0], SentBlocks().units(frames(1)[0])[0])
        served.quiet()
        report = served.finish()
    assert report.ledger["journaled"] == 1
    assert sum(report.ledger["rejected"].values()) == len(blocks) + 1
    assert report.ledger["rejected"]["too_long"] == 1
    assert report.source["too_long_bytes"] == len(endless)


def test_block_that_the_end_cuts_off_is_in_the_account(tmp_path: Path, line: tuple[int, str]) -> None:
    with serving(tmp_path / "run.db", SerialSource(line[1])) as served:
        write_all(line[0], SentBlocks().units(frames(1)[0])[0][:-5])
        served.quiet()
        report = served.finish()
    assert report.ledger["rejected"] == {"truncated": 1}
    assert (report.ledger["received"], report.ledger["unaccounted"]) == (1, 0)


def test_cable_is_pulled_and_comes_back(tmp_path: Path) -> None:
    link = tmp_path / "line"
    first, theirs = pty.openpty()
    tty.setraw(theirs)
    link.symlink_to(os.ttyname(theirs))
    with serving(tmp_path / "run.db", SerialSource(str(link))) as served:
        data = [SentBlocks().units(frame)[0] for frame in frames(3)]
        write_all(first, data[0] + data[1][:-4])
        served.quiet()
        os.close(theirs)
        os.close(first)
        second, theirs = pty.openpty()
        tty.setraw(theirs)
        link.unlink()
        link.symlink_to(os.ttyname(theirs))
        served.quiet(1.0)
        write_all(second, data[1] + data[2])
        served.quiet()
        report = served.finish()
        os.close(theirs)
        os.close(second)
    assert report.source["reopened"] == 1
    assert report.ledger["journaled"] == 3
    assert sum(report.ledger["rejected"].values()) == 1  # the block that was cut off


def test_sender_with_a_pseudo_terminal_and_a_reader_in_another_process(tmp_path: Path) -> None:
    """`stream-test --to serial:pty:LINK` in one process, a source in another: as with two terminals."""
    link, got = tmp_path / "line", []
    reader = """
import sys, time
from libsedge.sources import open_source
while True:
    try:
        source = open_source("serial:" + sys.argv[1])
        break
    except Exception:
        time.sleep(0.02)
for frame in source:
    if frame is not None:
        print(frame.sequence, flush=True)
        if frame.sequence == 19:
            break
source.close()
"""
    process = subprocess.Popen([sys.executable, "-c", reader, str(link)], stdout=subprocess.PIPE, text=True)
    threading.Timer(30, process.kill).start()
    sent = open_sender(f"serial:pty:{link}").send(frames(20, 5400), damage=0, seed=0, rate_hz=None, wait_s=20)
    assert process.stdout is not None
    got = [int(line) for line in process.stdout]
    process.stdout.close()
    process.wait()
    assert sent.truth.intact == 20
    assert got == list(range(20))
    assert not link.exists()


def test_devices_that_are_none(tmp_path: Path) -> None:
    plain = tmp_path / "file"
    plain.write_bytes(b"")
    for spec in (f"serial:{plain}", f"serial:{tmp_path / 'none'}"):
        with pytest.raises(SourceError, match="cannot be opened"):
            open_source(spec)
    for spec in ("serial:/dev/null,baud=x", "serial:/dev/null,stopbits=2", "serial:/dev/null,baud=0"):
        with pytest.raises(ConfigError):
            open_source(spec)
    with pytest.raises(SourceError, match="nobody opened"):
        open_sender(f"serial:pty:{tmp_path / 'l'}").send([], damage=0, seed=0, rate_hz=None, wait_s=0.2)


def test_negative_control_a_repeat_that_is_not_seen(tmp_path: Path, line: tuple[int, str]) -> None:
    """A source that takes one block less than came does not pass the check."""

    class Lossy(SerialSource):
        def _frames(self, message: bytes) -> list[Frame]:
            return [] if message == cobs.encode(encode(frames(40)[30])) else super()._frames(message)

    truth = UnitTruth()
    with serving(tmp_path / "run.db", Lossy(line[1])) as served:
        for unit in damaged_units(frames(40), SentBlocks(), 0.0, 0, truth):
            write_all(line[0], unit)
        served.quiet()
        report = served.finish()
    with pytest.raises(AssertionError):
        check_counts(report, truth)


@pytest.mark.parametrize("seed", range(0, 40))
def test_truth_holds_for_every_seed(seed: int) -> None:
    truth, blocks, good, bad = UnitTruth(), Blocks(), 0, 0
    sent = frames(30)
    whole = {cobs.encode(encode(frame)) for frame in sent}
    for unit in [*damaged_units(sent, SentBlocks(), 1.0, seed, truth), b"\0"]:
        for block in blocks.feed(unit):
            good, bad = (good + 1, bad) if block in whole else (good, bad + 1)
    assert (good, bad) == (truth.intact + truth.repeat, truth.refused)
