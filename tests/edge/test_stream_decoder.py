"""The stream decoder through Python: every undamaged frame comes out, in order; a damaged one never does."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libsedge import _core
from libsedge._frames import Decoder
from libsedge.errors import FrameError
from libsedge.frame import Frame, decode, encode

MAX_CHANNELS = 24
U64 = st.integers(0, 2**64 - 1)


@st.composite
def frame_bytes(draw):
    kind = draw(st.sampled_from([np.uint16, np.float32]))
    raw = draw(st.binary(min_size=4, max_size=4 * MAX_CHANNELS))
    size = np.dtype(kind).itemsize
    values = np.frombuffer(raw[: len(raw) // size * size], kind)[:MAX_CHANNELS]
    u32 = draw(st.integers(0, 2**32 - 1))
    return encode(Frame(u32, u32 // 3, draw(U64), draw(U64), 5000, 0, draw(st.integers(0, 7)), values))


# Garbage likes to look like the beginning of a frame.
GARBAGE = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([b"S", b"SE", b"SED", b"SEDG", b"SSEDG", b"SEDG\1\0\0\0", b"SEDGSEDG", b"SEDG" * 20]),
)


@st.composite
def pieces(draw):
    """Some bytes, and the frames that must come out of them."""
    kind = draw(st.sampled_from(["good", "good", "twice", "garbage", "cut", "flip", "splice", "long"]))
    if kind == "garbage":
        return draw(GARBAGE), []
    data = draw(frame_bytes())
    if kind == "good":
        return data, [data]
    if kind == "twice":
        return data + data, [data, data]
    if kind == "cut":
        end = draw(st.integers(0, len(data) - 1))
        return data[:end] + bytes([data[end] ^ 0x80]), []  # what follows never completes it
    if kind == "flip":
        damaged = bytearray(data)
        damaged[draw(st.integers(0, len(data) - 1))] ^= draw(st.integers(1, 255))
        return bytes(damaged), []
    if kind == "long":  # a header that claims more than follows, CRC of no importance
        return data[:40] + struct.pack("<I", MAX_CHANNELS) + data[44:], [data] if data[
            40
        ] == MAX_CHANNELS else []
    inner = draw(frame_bytes())  # a frame that landed in the middle of another: the inner one is whole
    at = draw(st.integers(1, len(data) - 1))
    return data[:at] + inner + data[at:], [inner]


def run(stream: bytes, chunks: list[int]) -> tuple[list[bytes], Decoder]:
    decoder = Decoder(MAX_CHANNELS)
    out, at = [], 0
    while at < len(stream):
        size = chunks[len(out) % len(chunks)] if chunks else len(stream)
        out.append(decoder.feed(stream[at : at + size]))
        at += size
    out.append(decoder.finish())
    return [encode(frame) for part in out for frame in part], decoder


@settings(max_examples=300, deadline=None)
@given(st.lists(pieces(), max_size=12), st.lists(st.integers(1, 300), max_size=5))
def test_undamaged_frames_all_come_out_and_damaged_ones_never(parts, chunks):
    stream = b"".join(data for data, _ in parts)
    expected = [frame for _, good in parts for frame in good]
    frames, decoder = run(stream, chunks)
    assert frames == expected
    assert decoder.frames == len(expected)
    assert sum(map(len, expected)) + decoder.garbage_bytes + decoder.truncated_bytes == len(stream)
    assert decoder.pending_bytes == 0


def search(stream: bytes) -> list[bytes]:
    """Oracle: at every byte, ask the one-frame decoder of frame.py; on success go on behind the frame."""
    found, at = [], 0
    while at < len(stream):
        size = 0
        if stream[at : at + 4] == b"SEDG" and len(stream) >= at + 56:
            channels, dtype = struct.unpack_from("<IB", stream, at + 40)
            size = 56 + channels * {1: 2, 2: 4}.get(dtype, 0) if channels <= MAX_CHANNELS else 0
        try:
            found.append(encode(decode(stream[at : at + size])))
            at += size
        except FrameError:
            at += 1
    return found


@settings(max_examples=200, deadline=None)
@given(
    st.lists(pieces(), max_size=8),
    st.randoms(use_true_random=False),
    st.lists(st.integers(1, 300), max_size=5),
)
def test_agrees_with_exhaustive_search_on_shuffled_bytes(parts, random, chunks):
    stream = bytearray(b"".join(data for data, _ in parts))
    for _ in range(random.randrange(6)):  # cut out, double or overwrite any run of bytes
        a, b = sorted(random.randrange(len(stream) + 1) for _ in range(2))
        stream[a:b] = random.choice([b"", stream[a:b] * 2, random.randbytes(b - a)])
        del stream[5000:]
    assert run(bytes(stream), chunks)[0] == search(bytes(stream))


def make(sequence: int, channels: int = 4) -> bytes:
    return encode(Frame(1, 1, sequence, 0, 0, 0, 0, np.arange(channels, dtype=np.uint16)))


def test_values_survive_later_feeds():
    decoder = Decoder(8)
    first = decoder.feed(make(1))[0]
    for sequence in range(2, 100):
        decoder.feed(make(sequence, 8))
    assert first.values.tolist() == [0, 1, 2, 3]
    assert first.values.dtype == np.uint16


def test_frame_of_the_largest_size_and_one_above():
    data = encode(Frame(1, 1, 1, 0, 0, 0, 0, np.ones(65536, np.float32)))
    decoder = Decoder()
    assert len(decoder.feed(data * 3)) == 3
    small = Decoder(65535)
    assert small.feed(data) == []
    assert small.header_errors == 1


def test_counters_name_the_damage():
    crc = bytearray(make(1))
    crc[-1] ^= 1
    version = bytearray(make(2))
    version[4] = 9
    decoder = Decoder(8)
    frames = decoder.feed(b"noise" + crc + version + make(3) + make(4)[:30])
    assert [f.sequence for f in frames] == [3]
    assert (decoder.crc_errors, decoder.header_errors, decoder.pending_bytes) == (1, 1, 30)
    assert decoder.garbage_bytes == 5 + len(crc) + len(version)
    assert decoder.finish() == []
    assert (decoder.truncated_bytes, decoder.pending_bytes) == (30, 0)
    with pytest.raises(ValueError, match="after finish"):
        decoder.feed(b"")


def test_clean_stream_leaves_nothing():
    decoder = Decoder(8)
    assert len(decoder.feed(make(1) + make(2))) == 2
    assert decoder.finish() == []
    assert (decoder.garbage_bytes, decoder.truncated_bytes, decoder.crc_errors) == (0, 0, 0)


def test_the_comparison_sees_a_frame_let_through():
    """Negative control: damage whose CRC was made to hold does come out, and the property above turns red.

    (The decoder with its CRC check off is in tests/native/cpp/test_stream_decoder.cpp.)
    """
    damaged = bytearray(make(1))
    damaged[-1] ^= 1
    assert run(bytes(damaged), [])[0] == []
    damaged[52:56] = struct.pack("<I", _core.crc32c(damaged[56:], _core.crc32c(damaged[:52])))
    assert run(bytes(damaged), [])[0] == [bytes(damaged)]


@pytest.mark.parametrize("bad", [0, -1, 65537])
def test_channels_out_of_range(bad):
    with pytest.raises(ValueError, match="1 to 65536"):
        Decoder(bad)


def test_refuses_what_is_not_bytes():
    with pytest.raises(TypeError):
        Decoder().feed("text")
