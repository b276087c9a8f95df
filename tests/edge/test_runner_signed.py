"""`libsedge-run --hmac-key`: on signed streams, damaged and replayed, what the Python runtime decides and counts, bit
for bit; and nothing else is bound beyond this machine."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from libsedge.classifier import Classifier
from libsedge.frame import Frame, encode
from libsedge.frame_key import FrameKey
from libsedge.senders.ccsds import Packets
from libsedge.senders.serial import Blocks
from libsedge.senders.truth import Carrier, Whole
from libsedge.sources.ccsds import CcsdsUdpSource
from libsedge.sources.serial import SerialSource
from libsedge.sources.signed import MAX_STREAMS, WINDOW
from libsedge.sources.udp import UdpSource
from runner_tools import (
    AXIS,
    AXIS_NM,
    MASK,
    STREAM,
    Line,
    Said,
    address_of,
    check,
    frames,
    python_run,
    run_stdin,
    running,
    send_datagrams,
    units,
)

pytest.importorskip("libsedge_native.runner", reason="the generator is not installed")

SECRET = bytes(range(32))
KEY, OTHER = FrameKey(SECRET), FrameKey(bytes(32))


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.touch(mode=0o600)
    file.write_text(f"hmac-sha256 {SECRET.hex()}\n")
    return file


@pytest.fixture
def classifier(tiny_model: Any) -> Classifier:
    return Classifier(tiny_model.open()).bind(AXIS_NM, MASK)


def stream(carrier: Carrier, forger: Carrier, bare: Carrier, damage: float, seed: int) -> list[bytes]:
    """Damaged units of signed frames; then the window's edges, a recording of all of it, forgeries, frames without a
    tag, authentic bytes that are no frame, and more streams than are kept."""
    sent = units(carrier, damage, seed)
    one = replace(frames(1, seed)[0], stream_id=STREAM, epoch=9)
    top = 5 * WINDOW
    edges = [
        replace(one, sequence=s)
        for s in (top, top - WINDOW + 1, top - WINDOW, top - WINDOW + 1, top, top + 1)
    ]
    edges += [
        replace(one, epoch=8, sequence=top + 9),
        replace(one, epoch=10, sequence=0),
        replace(one, sequence=7),
    ]
    edges += [replace(one, stream_id=100 + i) for i in range(MAX_STREAMS + 2)]
    recorded = random.Random(seed).sample(sent, len(sent) // 2)
    false = [unit for i in range(3) for unit in forger.units(replace(one, epoch=11, sequence=i))]
    false += [unit for i in range(3) for unit in bare.units(replace(one, epoch=12, sequence=i))]
    return [*sent, *(unit for frame in edges for unit in carrier.units(frame)), *recorded, *false, *sent[:20]]


def check_reasons(account: dict[str, Any], reasons: Sequence[str]) -> None:
    for reason in reasons:
        assert account["rejected"][reason] > 0, (reason, account["rejected"])


@pytest.mark.parametrize("damage", [0.0, 0.3])
def test_frames_in_datagrams(
    runner_program: Path, classifier: Classifier, tmp_path: Path, key_file: Path, damage: float
) -> None:
    datagrams = stream(Whole(KEY), Whole(OTHER), Whole(), damage, 3)
    wrong_crc = bytearray(encode(replace(frames(1, 1)[0], epoch=20)))
    wrong_crc[-1] ^= 1
    datagrams += [b"", b"x" * 15, b"x" * 16, KEY.sign(b""), KEY.sign(bytes(100)), KEY.sign(bytes(wrong_crc))]
    with running(runner_program, "--source", "udp:0", "--hmac-key", key_file) as (process, end):
        send_datagrams(address_of(process), datagrams)
        ours = end()
    python = python_run(
        classifier,
        lambda it: send_datagrams(str(it.address), datagrams),
        tmp_path,
        UdpSource(0, axis=AXIS, key=KEY),
    )
    assert ours.source["dropped_by_kernel"] == python[1].source["dropped_by_kernel"] == 0
    check(ours, python, ("messages", "message_bytes"))
    check_reasons(ours.account, ("bad_tag", "replayed", "wrong_stream", "crc", "truncated", "garbage"))
    assert ours.account["duplicate"] == 0


@pytest.mark.parametrize(("damage", "packet_bytes"), [(0.0, 1472), (0.2, 65000)])
def test_packets_in_datagrams(
    runner_program: Path,
    classifier: Classifier,
    tmp_path: Path,
    key_file: Path,
    damage: float,
    packet_bytes: int,
) -> None:
    def carrier(key: FrameKey | None) -> Packets:
        return Packets(packet_bytes=packet_bytes, key=key)

    datagrams = stream(carrier(KEY), carrier(OTHER), carrier(None), damage, 5)
    with running(runner_program, "--source", "ccsds:udp:0", "--hmac-key", key_file) as (process, end):
        send_datagrams(address_of(process), datagrams)
        ours = end()
    python = python_run(
        classifier,
        lambda it: send_datagrams(str(it.address), datagrams),
        tmp_path,
        CcsdsUdpSource(0, axis=AXIS, key=KEY),
    )
    check(ours, python, ("packets", "packets_damaged", "packets_lost", "packets_ambiguous", "segments_again"))
    check_reasons(ours.account, ("bad_tag", "replayed", "wrong_stream"))


def test_blocks_over_a_line(
    runner_program: Path, classifier: Classifier, tmp_path: Path, key_file: Path
) -> None:
    pytest.importorskip("serial", reason="pyserial is not installed")
    data = b"".join(stream(Blocks(KEY), Blocks(OTHER), Blocks(), 0.3, 4))
    line = Line()
    with running(runner_program, "--source", f"serial:{line.device}", "--hmac-key", key_file) as (_, end):
        line.send(data)
        ours = end()
    line.close()
    line = Line()
    source = SerialSource(line.device, axis=AXIS, key=KEY)
    python = python_run(classifier, lambda _: line.send(data), tmp_path, source)
    line.close()
    check(ours, python, ("messages", "message_bytes"))
    check_reasons(ours.account, ("bad_tag", "replayed", "wrong_stream"))


def fed(program: Path, datagrams: list[bytes], *arguments: object) -> Said:
    with running(program, "--source", "udp:0", *arguments) as (process, end):
        send_datagrams(address_of(process), datagrams)
        return end()


def test_without_a_key_datagrams_are_frames_as_they_are(
    runner_program: Path, classifier: Classifier, tmp_path: Path
) -> None:
    datagrams = [*units(Whole(), 0.3, 6), b"", KEY.sign(encode(frames(1, 1)[0]))]
    ours = fed(runner_program, datagrams)
    python = python_run(
        classifier,
        lambda it: send_datagrams(str(it.address), datagrams),
        tmp_path,
        UdpSource(0, axis=AXIS),
    )
    check(ours, python, ("messages", "message_bytes", "dropped_by_kernel"))


def test_negative_control_another_key_takes_nothing(runner_program: Path, key_file: Path) -> None:
    ours = fed(runner_program, Whole(OTHER).units(frames(1, 1)[0]) * 3, "--hmac-key", key_file)
    assert (ours.rows, ours.account["rejected"]) == ([], {"bad_tag": 3})


def test_a_restart_can_be_told_the_epoch(runner_program: Path, key_file: Path) -> None:
    """The runner has no journal to know it from; every stream starts with it."""
    one = frames(1, 1)[0]
    some = [
        replace(one, stream_id=stream, epoch=epoch, sequence=i)
        for i, (stream, epoch) in enumerate([(1, 6), (1, 7), (1, 8), (1, 7), (2, 6), (2, 7)])
    ]
    ours = fed(
        runner_program, [KEY.sign(encode(it)) for it in some], "--hmac-key", key_file, "--min-epoch", 7
    )
    assert ours.account["rejected"] == {"replayed": 3, "wrong_stream": 1}
    assert [row["epoch"] for row in ours.rows] == [7, 8]


# --- what is refused at the start


def test_only_signed_frames_leave_the_machine(runner_program: Path, key_file: Path) -> None:
    """192.0.2.1 (RFC 5737) is nobody's, so nothing is bound: with a key the refusal is the kernel's, not ours."""
    for source in ("udp:192.0.2.1:5601", "ccsds:udp:192.0.2.1:5602", "udp:0.0.0.0:0", "udp:[::]:0"):
        bare = run_stdin(runner_program, b"", "--source", source)
        assert (bare.code, "loopback" in bare.stderr) == (2, True), bare.stderr
    for source in ("udp:192.0.2.1:5601", "ccsds:udp:192.0.2.1:5602"):
        signed = run_stdin(runner_program, b"", "--source", source, "--hmac-key", key_file)
        assert (signed.code, "annot assign" in signed.stderr) == (2, True), signed.stderr
    named = run_stdin(runner_program, b"", "--source", "udp:example.org:5601", "--hmac-key", key_file)
    assert (named.code, "IP address" in named.stderr) == (2, True)
    for source in ("stdin", "tcp:0", "ccsds:tcp:0", "tcp:0.0.0.0:0"):
        vain = run_stdin(runner_program, b"", "--source", source, "--hmac-key", key_file)
        assert (vain.code, "--hmac-key" in vain.stderr) == (2, True), vain.stderr


def test_what_is_no_key(runner_program: Path, key_file: Path, tmp_path: Path) -> None:
    """As FrameKey.read, which refuses the same files; no message tells what is in them."""
    secret = SECRET.hex()
    os.mkfifo(tmp_path / "fifo", 0o600)
    files = {"fifo": "regular", "none": "No such file"}
    for i, text in enumerate(
        ("", secret, f"hmac-sha256  {secret}", f"hmac-sha256 {secret}\n\n", f"hmac-sha256 {secret[:-1]}",
         f"hmac-sha256 {secret.upper()}", f"hmac-sha512 {secret}", f"hmac-sha256 {secret}" + "\n" * 300)
    ):  # fmt: skip
        file = tmp_path / f"wrong{i}"
        file.touch(mode=0o600)
        file.write_text(text)
        files[file.name] = "one line"
    key_file.chmod(0o640)
    files[key_file.name] = "chmod 600"
    for name, why in files.items():
        ours = run_stdin(runner_program, b"", "--source", "udp:0", "--hmac-key", tmp_path / name)
        assert (ours.code, ours.stderr.count("\n"), why in ours.stderr) == (2, 1, True), (name, ours.stderr)
        assert secret[:8] not in ours.stderr.lower()
        with pytest.raises(Exception, match=why):
            FrameKey.read(tmp_path / name)
    ours = run_stdin(runner_program, b"", "--min-epoch", 3)
    assert (ours.code, "--hmac-key" in ours.stderr) == (2, True)


def test_a_key_without_its_line_end(runner_program: Path, key_file: Path) -> None:
    key_file.write_text(f"hmac-sha256 {SECRET.hex()}")
    one: Frame = frames(1, 1)[0]
    assert len(fed(runner_program, Whole(KEY).units(one), "--hmac-key", key_file).rows) == 1
