"""Signed frames: what is not authentic is `bad_tag`, what came before is `replayed`, and the ledger holds for both."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from libsedge import frame_key
from libsedge.errors import ConfigError, FrameError, SourceError
from libsedge.frame import Frame, decode, encode
from libsedge.frame_key import TAG_BYTES, FrameKey
from libsedge.report import Report
from libsedge.senders import open_sender
from libsedge.senders.truth import UnitTruth
from libsedge.sources import SIGNED_SOURCES, SourceOptions, open_source
from libsedge.sources.base import Source
from libsedge.sources.ccsds import CcsdsUdpSource
from libsedge.sources.signed import MAX_STREAMS, WINDOW, ReplayWindow, Verifier
from libsedge.sources.udp import UdpSource
from served import Served, decisions, frames, rows, serving

KEY = FrameKey(bytes(range(32)))
OTHER = FrameKey(bytes(range(1, 33)))
RATE = 5000.0


def field_of(verifier: Verifier, message: bytes) -> str | None:
    """Why a message is refused; "" where it is not."""
    try:
        verifier.decode(message)
    except FrameError as error:
        return error.field
    return ""


def signed(sequence: int, epoch: int = 0, stream: int = 77, key: FrameKey = KEY) -> bytes:
    return key.sign(encode(replace(frames(1)[0], sequence=sequence, epoch=epoch, stream_id=stream)))


# --- the tag


def test_tag_is_hmac_sha256_over_the_whole_frame() -> None:
    """RFC 2104 written out with hashlib."""
    data = encode(frames(1)[0])
    secret = bytes(range(32)) + bytes(32)
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in secret) + data).digest()
    outer = hashlib.sha256(bytes(b ^ 0x5C for b in secret) + inner).digest()
    assert KEY.sign(data) == data + outer[:16]
    assert KEY.open(KEY.sign(data)) == data


def test_no_flipped_bit_and_no_cut_passes() -> None:
    message = signed(5)
    for bit in range(8 * len(message)):
        changed = bytearray(message)
        changed[bit // 8] ^= 1 << bit % 8
        assert field_of(Verifier(KEY), bytes(changed)) == "tag"
    for size in range(len(message)):
        assert field_of(Verifier(KEY), message[:size]) == "tag"
    assert field_of(Verifier(KEY), message + b"\0") == "tag"
    assert field_of(Verifier(OTHER), message) == "tag"
    assert field_of(Verifier(KEY), encode(frames(1)[0])) == "tag"
    assert field_of(Verifier(KEY), message) == ""


def test_identity_and_time_are_under_the_tag() -> None:
    """A forger who mends the CRC, which needs no key: every field of the header that says which frame this is."""
    from libsedge import _core

    for offset in (8, 12, 16, 24, 36):  # stream, epoch, sequence, time, distance
        body = bytearray(signed(5))
        body[offset] ^= 1
        crc = _core.crc32c(bytes(body[56:-TAG_BYTES]), _core.crc32c(bytes(body[:52])))
        struct.pack_into("<I", body, 52, crc)
        assert decode(bytes(body[:-TAG_BYTES]))  # without a key it is a good frame
        assert field_of(Verifier(KEY), bytes(body)) == "tag"


def test_comparison_takes_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is `hmac.compare_digest` that decides: with one that always agrees, a wrong tag passes."""
    wrong = signed(5)[:-1] + b"\0"
    assert field_of(Verifier(KEY), wrong) == "tag"
    monkeypatch.setattr(frame_key.hmac, "compare_digest", lambda a, b: True)
    assert field_of(Verifier(KEY), wrong) == ""


def test_authentic_bytes_that_are_no_frame() -> None:
    data = bytearray(encode(frames(1)[0]))
    data[-1] ^= 1
    assert field_of(Verifier(KEY), KEY.sign(bytes(data))) == "crc"
    assert field_of(Verifier(KEY), KEY.sign(b"")) == "length"


# --- the window


def test_window_is_what_a_set_says() -> None:
    """Random epochs and sequence numbers, near and far, beside the plain definition of the window."""
    rng = random.Random(3)
    for _ in range(20):
        window, epoch, seen, top = ReplayWindow(0), 0, set[int](), -1
        at = rng.choice([0, 1, 2**64 - 200_000])
        taken = refused = 0
        for _ in range(2000):
            at += rng.choice([1] * 20 + [0, 2, 70, WINDOW])
            e = max(0, epoch + rng.choice([0] * 300 + [1, -1]))
            s = max(0, min(2**64 - 1, at - rng.choice([0, 0, 0, 1, 5, WINDOW - 1, WINDOW, WINDOW + 1, 5000])))
            if e > epoch:
                epoch, seen, top = e, set(), -1
            expected = e == epoch and s not in seen and s > top - WINDOW
            assert window.take(e, s) == expected
            if expected:
                seen.add(s)
                top = max(top, s)
            taken, refused = taken + expected, refused + (not expected)
        assert taken > 300
        assert refused > 100


def test_reordering_inside_and_outside_of_the_window() -> None:
    verifier = Verifier(KEY)
    assert field_of(verifier, signed(WINDOW + 10)) == ""
    assert field_of(verifier, signed(11)) == ""  # the last one inside
    assert field_of(verifier, signed(11)) == "replay"
    assert field_of(verifier, signed(10)) == "replay"  # the first one outside, though it never came
    assert field_of(verifier, signed(WINDOW + 10)) == "replay"


def test_restart_of_the_sender() -> None:
    verifier = Verifier(KEY)
    assert field_of(verifier, signed(500, epoch=7)) == ""
    assert field_of(verifier, signed(0, epoch=8)) == ""  # restarted, and counts from 0 again
    assert field_of(verifier, signed(501, epoch=7)) == "replay"
    assert field_of(verifier, signed(0, epoch=8)) == "replay"


def test_only_the_authentic_move_the_window() -> None:
    verifier = Verifier(KEY)
    assert field_of(verifier, signed(1)) == ""
    assert field_of(verifier, signed(2**60, epoch=9, key=OTHER)) == "tag"
    damaged = bytearray(encode(replace(frames(1)[0], sequence=2**60)))
    damaged[-1] ^= 1
    assert field_of(verifier, KEY.sign(bytes(damaged))) == "crc"
    assert field_of(verifier, signed(2)) == ""


def test_streams_have_windows_of_their_own_and_are_bounded() -> None:
    verifier = Verifier(KEY)
    for stream in range(MAX_STREAMS):
        assert field_of(verifier, signed(3, stream=stream)) == ""
    assert field_of(verifier, signed(3, stream=999)) == "stream"
    assert field_of(verifier, signed(4, stream=0)) == ""


# --- through a source, a pipeline and its ledger


def check_counts(report: Report, truth: UnitTruth) -> None:
    """As in served.py, but what comes twice is refused and not a duplicate."""
    ledger, table = report.ledger, truth.table()
    assert ledger["journaled"] == table["intact"]
    assert ledger["duplicate"] == 0
    assert ledger["rejected"].get("replayed", 0) == table["repeat"]
    assert sum(ledger["rejected"].values()) == table["refused"] + table["repeat"]
    assert ledger["received"] == table["intact"] + table["repeat"] + table["refused"]
    assert ledger["unaccounted"] == ledger["in_flight"] == 0
    (epoch,) = ledger["streams"]
    assert (epoch["unique"], epoch["gaps"]) == (table["intact"], table["gaps"])


@pytest.mark.parametrize("damage", [0.0, 0.3])
@pytest.mark.parametrize("transport", ["udp", "ccsds:udp", "serial", "zmq"])
def test_counts_equal_the_truth(tmp_path: Path, transport: str, damage: float) -> None:
    sent = frames(300)
    source, to = _opened(transport, tmp_path)
    with serving(tmp_path / "run.db", source) as served:
        sender = open_sender(to, key=KEY)
        truth = sender.send(sent, damage=damage, seed=1, rate_hz=RATE, wait_s=1).truth
        assert isinstance(truth, UnitTruth)
        served.quiet(truth=truth)
        report = served.finish()
    check_counts(report, truth)
    assert rows(tmp_path / "run.db") == decisions(sent, truth)
    if damage and transport in ("udp", "zmq"):
        assert report.ledger["rejected"].keys() == {"bad_tag", "replayed"}


def _opened(transport: str, folder: Path) -> tuple[Source, str]:
    options = SourceOptions(key=KEY)
    if transport == "serial":
        pytest.importorskip("serial")
        return _line(folder, options)
    if transport == "zmq":
        pytest.importorskip("zmq")
        endpoint = f"ipc://{folder}/s"
        return open_source(f"zmq:pull:{endpoint}", options), f"zmq:push:{endpoint}"
    source = open_source(f"{transport}:0", options)
    return source, f"{transport}:{source.address}"


def _line(folder: Path, options: SourceOptions) -> tuple[Source, str]:
    """A pseudo-terminal whose two ends are devices: the sender's is opened by the sender."""
    import pty
    import threading
    import tty

    ends = [pty.openpty() for _ in range(2)]
    for _, device in ends:
        tty.setraw(device)

    def copy() -> None:
        try:
            while data := os.read(ends[1][0], 1 << 16):
                while data:
                    data = data[os.write(ends[0][0], data) :]
        except OSError:
            pass

    threading.Thread(target=copy, daemon=True).start()
    return (
        open_source(f"serial:{os.ttyname(ends[0][1])}", options),
        f"serial:{os.ttyname(ends[1][1])}",
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "reason"), [(KEY, OTHER, "bad_tag"), (KEY, None, "bad_tag"), (None, KEY, "truncated")]
)
@pytest.mark.parametrize("kind", [UdpSource, CcsdsUdpSource])
def test_another_key_or_none_is_refused_every_time(
    tmp_path: Path, kind: type[UdpSource], ours: FrameKey | None, theirs: FrameKey | None, reason: str
) -> None:
    name = "udp" if kind is UdpSource else "ccsds:udp"
    with serving(tmp_path / "run.db", kind(0, key=ours)) as served:
        sender = open_sender(f"{name}:{served.source.address}", key=theirs)
        sender.send(frames(20), damage=0, seed=0, rate_hz=RATE, wait_s=5)
        served.quiet()
        report = served.finish()
    assert report.ledger["rejected"] == {reason: 20}
    assert (report.ledger["received"], report.ledger["journaled"], report.ledger["unaccounted"]) == (20, 0, 0)


def replayed(path: Path, source: UdpSource) -> Report:
    """An eavesdropper sends every datagram of a run a second time."""
    with serving(path, source) as served, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for message in [signed(i) for i in range(50)] * 2:
            peer.sendto(message, ("127.0.0.1", source.port))
        served.quiet()
        return served.finish()


def test_a_replay_is_refused_and_counted(tmp_path: Path) -> None:
    report = replayed(tmp_path / "run.db", UdpSource(0, key=KEY))
    assert report.ledger["rejected"] == {"replayed": 50}
    assert (report.ledger["journaled"], report.ledger["unaccounted"]) == (50, 0)


def test_negative_control_without_a_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReplayWindow, "take", lambda self, epoch, sequence: True)
    report = replayed(tmp_path / "run.db", UdpSource(0, key=KEY))
    assert report.ledger["rejected"] == {}
    assert report.ledger["duplicate"] == 50


def send_to(served: Served, *messages: bytes) -> Report:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for message in messages:
            peer.sendto(message, ("127.0.0.1", served.source.port))  # type: ignore[attr-defined]
        served.quiet()
    return served.finish()


def test_restart_of_the_receiver_knows_the_journals_epoch(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with serving(path, UdpSource(0, key=KEY)) as served:
        send_to(served, signed(3, epoch=4), signed(7, epoch=5))
    with serving(path, UdpSource(0, key=KEY)) as served:
        report = send_to(served, signed(9, epoch=4), signed(7, epoch=5), signed(8, epoch=5))
    assert report.ledger["rejected"] == {"replayed": 1}  # of the older epoch, though it never came
    assert (report.ledger["duplicate"], report.ledger["journaled"]) == (1, 1)


def test_segments_of_a_signed_frame_out_of_order(tmp_path: Path) -> None:
    sent = frames(1, channels=900)
    source = CcsdsUdpSource(0, key=KEY)
    from libsedge.senders.ccsds import Packets

    packets = Packets(packet_bytes=300, key=KEY).units(sent[0])
    assert len(packets) > 5
    with serving(tmp_path / "run.db", source, channels=900) as served:
        report = send_to(served, *packets[::-1], *packets)
    assert report.ledger["rejected"] == {"replayed": 1}
    assert report.ledger["journaled"] == 1


# --- where a key is needed, and where there is none


@pytest.mark.parametrize("spec", ["udp:{}:5601", "ccsds:udp:{}:5602", "zmq:pull:tcp://{}:5604"])
def test_only_signed_frames_leave_the_machine(spec: str) -> None:
    """192.0.2.1 (RFC 5737) is nobody's, so nothing is bound: with a key the refusal is the kernel's, not ours."""
    if spec.startswith("zmq"):
        pytest.importorskip("zmq")
    with pytest.raises(ConfigError, match="hmac-key"):
        open_source(spec.format("192.0.2.1"))
    with pytest.raises(SourceError, match="cannot"):
        open_source(spec.format("192.0.2.1"), SourceOptions(key=KEY))
    with pytest.raises(ConfigError, match="IP address"):
        open_source(spec.format("example.org"), SourceOptions(key=KEY))
    to = spec.replace("pull", "push")
    with pytest.raises(ConfigError, match="hmac-key"):
        open_sender(to.format("192.0.2.1"))
    open_sender(to.format("192.0.2.1"), key=KEY)  # opens nothing yet


def test_what_takes_no_key_says_so(tmp_path: Path) -> None:
    for spec in ("tcp:0", f"folder:{tmp_path}", "simulated:seed=1"):
        with pytest.raises(ConfigError, match="--hmac-key is for udp, ccsds, serial, zmq"):
            open_source(spec, SourceOptions(key=KEY))
    with pytest.raises(ConfigError, match="for ccsds:udp"):
        open_source("ccsds:tcp:0", SourceOptions(key=KEY))
    with pytest.raises(ConfigError, match="for ccsds:udp"):
        open_sender("ccsds:tcp:127.0.0.1:5603", key=KEY)
    with pytest.raises(ConfigError, match="hmac-key"):
        open_sender("tcp:127.0.0.1:5600", key=KEY)
    assert SIGNED_SOURCES == ("udp", "ccsds", "serial", "zmq")


def test_noise_and_forgeries_raise_nothing(tmp_path: Path) -> None:
    rng = random.Random(4)
    with serving(tmp_path / "run.db", UdpSource(0, key=KEY)) as served:
        noise = [rng.randbytes(rng.randrange(0, 300)) for _ in range(200)]
        report = send_to(served, *noise)
    assert report.ledger["rejected"] == {"bad_tag": 200}


def test_a_frame_of_another_stream_is_the_ledgers_matter(tmp_path: Path) -> None:
    with serving(tmp_path / "run.db", UdpSource(0, key=KEY)) as served:
        report = send_to(served, signed(0), signed(0, stream=5))
    assert report.ledger["rejected"] == {"wrong_stream": 1}
    values = Frame(77, 0, 0, 0, 0, 0, 0, np.zeros(3, np.uint16))
    assert len(KEY.sign(encode(values))) == 56 + 6 + TAG_BYTES
