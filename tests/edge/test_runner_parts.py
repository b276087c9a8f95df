"""Parts of `libsedge-run` that are written twice, each beside its oracle: SHA-256 beside hashlib, the window against
replays and the packets' count beside those of the Python runtime."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from libsedge.sources.signed import WINDOW, ReplayWindow
from libsedge.sources.space_packets import COUNT_MODULUS, Packet, PacketCount

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "native"
SOURCES = [
    *("src/crc32c.cpp", "src/stream_decoder.cpp", "runner/block_reader.cpp", "runner/frame_key.cpp"),
    *("runner/frame_reader.cpp", "runner/ledger.cpp", "runner/messages.cpp", "runner/packet_count.cpp"),
    *(
        "runner/packet_reader.cpp",
        "runner/sha256.cpp",
        "runner/signed_frames.cpp",
        "runner/space_packets.cpp",
    ),
]

Ask = Callable[..., str]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """One answer of runner_parts.cpp."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("a C++ compiler is needed")
    program = tmp_path_factory.mktemp("parts") / "parts"
    sources = [HERE / "runner_parts.cpp", *(NATIVE / name for name in SOURCES)]
    flags = ("-std=c++17", "-O0", "-fsanitize=undefined", "-fno-sanitize-recover")
    folders = [f"-I{NATIVE / name}" for name in ("runner", "src")]
    subprocess.run([compiler, *flags, *folders, *sources, "-o", program], check=True)
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None

        def call(*words: object) -> str:
            stdin.write(" ".join(map(str, words)) + "\n")
            stdin.flush()
            return stdout.readline().strip()

        yield call
        stdin.close()


# --- SHA-256


@pytest.mark.parametrize(
    ("message", "digest"),
    [
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
        (
            b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrs"
            b"mnopqrstnopqrstu",
            "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1",
        ),
        (b"a" * 1_000_000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
    ],
)
def test_sha256_of_the_published_examples(ask: Ask, message: bytes, digest: str) -> None:
    """FIPS 180-4's example values (NIST, "Examples with intermediate values", and the SHAVS long message of a's)."""
    assert ask("sha", 997, message.hex()) == digest


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400), st.integers(1, 200))
def test_sha256_is_hashlibs(ask: Ask, message: bytes, chunk: int) -> None:
    assert ask("sha", chunk, message.hex()) == hashlib.sha256(message).hexdigest()


def test_sha256_of_every_length_around_its_blocks(ask: Ask) -> None:
    for size in range(200):
        message = bytes(i * 7 & 255 for i in range(size))
        assert ask("sha", 64, message.hex()) == hashlib.sha256(message).hexdigest()


# --- the window against replays


def test_the_window_is_the_python_runtimes(ask: Ask) -> None:
    """Epochs that rise and come again, numbers near and far from the highest, both ends of 64 bits."""
    rng, window, epoch = random.Random(4), ReplayWindow(0), 0
    taken = 0
    for _ in range(40):
        at = rng.choice([0, 1, 2**64 - 60_000])
        for _ in range(200):
            at += rng.choice([1] * 20 + [0, 2, 70, WINDOW - 1, WINDOW, WINDOW + 1])
            back = rng.choice([0, 0, 0, 1, 5, WINDOW - 1, WINDOW, WINDOW + 1, 5000])
            e, s = max(0, epoch - (rng.random() < 0.01)), max(0, min(2**64 - 1, at - back))
            expected = window.take(e, s)
            assert ask("window", e, s) == str(int(expected)), (e, s)
            taken += expected
        epoch += rng.choice([1, 1, 1, 1000])
    assert 3000 < taken < 6000


# --- the packets' count


@pytest.mark.parametrize("seed", range(4))
def test_the_packets_count_is_the_python_runtimes(ask: Ask, seed: int) -> None:
    """Lost, late, repeated and swapped packets of frames of several sizes, frames left out by the million, more epochs
    than are remembered."""
    rng, python = random.Random(seed), PacketCount()
    ask("restart")
    count = rng.randrange(COUNT_MODULUS)
    start = rng.choice([0, 2**64 - 2**40])
    late: list[Packet] = []
    for epoch in [*range(20), 3, 19]:
        sequence = start
        for _ in range(12):
            segments = rng.choice([1, 2, 8, 300])
            jump = rng.choice([1] * 8 + [2, 40, 3000, 20_000, 5_000_000, 2**30])
            sequence += jump
            count += rng.choice([0, (jump - 1) * segments])
            for segment in range(segments):
                packet = Packet(count % COUNT_MODULUS, (epoch, sequence), segment, segments, b"")
                count += 1
                if rng.random() < 0.1:
                    late += [packet] * rng.choice([0, 1, 2])
                    continue
                sent = [packet, *(late.pop() for _ in late[:1] if rng.random() < 0.2)]
                if rng.random() < 0.05:  # sent again, with a count of its own
                    sent.append(replace(packet, count=count % COUNT_MODULUS))
                    count += 1
                for it in sent:
                    python.arrive(it)
                    (e, s), counters = it.frame, python.counters()
                    wanted = f"{counters['packets_lost']} {counters['packets_ambiguous']}"
                    assert ask("packet", e, s, it.segment, it.segments, it.count) == wanted
    assert python.counters()["packets_ambiguous"] > 10
    assert python.counters()["packets_lost"] > 2**30


def test_one_lost_packet_is_one(ask: Ask) -> None:
    ask("restart")
    said = [ask("packet", 0, i // 4, i % 4, 4, (16_380 + i) % COUNT_MODULUS) for i in range(40) if i != 9]
    assert said[8] == "0 0"
    assert said[-1] == "1 0"
    assert ask("packet", 0, 2, 1, 4, (16_380 + 9) % COUNT_MODULUS) == "0 0"  # it was late
