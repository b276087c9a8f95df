"""One frame: the bytes of the table in docs/architecture.md, both ways, and an error for every field."""

import dataclasses
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from libsedge import _core
from libsedge.errors import FrameError
from libsedge.frame import HEADER_BYTES, Frame, decode, encode

FRAME = Frame(
    stream_id=0x11223344,
    epoch=5,
    sequence=0x0102030405060708,
    time_ns=1_700_000_000_123_456_789,
    integration_us=5000,
    distance_mm=2500,
    flags=5,
    values=np.arange(3, dtype=np.uint16),
)
# Offset, struct code and value of every field, written out by hand from the table.
TABLE = [
    (0, "4s", b"SEDG"),
    (4, "H", 1),
    (6, "H", 5),
    (8, "I", 0x11223344),
    (12, "I", 5),
    (16, "Q", 0x0102030405060708),
    (24, "Q", 1_700_000_000_123_456_789),
    (32, "I", 5000),
    (36, "I", 2500),
    (40, "I", 3),
    (44, "B", 1),
    (45, "7s", bytes(7)),
]


def frames(max_channels=40):
    arrays = st.one_of(
        st.lists(st.integers(0, 65535), min_size=1, max_size=max_channels).map(
            lambda v: np.array(v, np.uint16)
        ),
        st.lists(st.floats(width=32), min_size=1, max_size=max_channels).map(
            lambda v: np.array(v, np.float32)
        ),
    )
    u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
    return st.builds(Frame, u32, u32, u64, u64, u32, u32, st.integers(0, 7), arrays)


def with_crc(data: bytearray) -> bytes:
    data[52:56] = struct.pack("<I", _core.crc32c(data[56:], _core.crc32c(data[:52])))
    return bytes(data)


def test_layout_is_the_table():
    data = encode(FRAME)
    assert HEADER_BYTES == 56
    assert len(data) == 56 + 6
    for offset, code, value in TABLE:
        assert struct.unpack_from("<" + code, data, offset) == (value,)
    assert data == with_crc(bytearray(data))
    assert data[56:] == b"\0\0\1\0\2\0"


@given(frames())
def test_round_trip(frame):
    back = decode(encode(frame))
    for field in dataclasses.fields(Frame):
        if field.name != "values":
            assert getattr(back, field.name) == getattr(frame, field.name)
    assert back.values.dtype == frame.values.dtype
    assert back.values.tobytes() == frame.values.tobytes()
    assert (back.dark, back.passive, back.trigger) == tuple(bool(frame.flags & bit) for bit in (1, 2, 4))


def test_byte_order_of_the_values_does_not_matter():
    swapped = FRAME.values.astype(">u2")
    assert encode(dataclasses.replace(FRAME, values=swapped)) == encode(FRAME)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"stream_id": 2**32}, "stream_id"),
        ({"epoch": -1}, "epoch"),
        ({"sequence": 2**64}, "sequence"),
        ({"time_ns": -1}, "time_ns"),
        ({"integration_us": 2**32}, "integration_us"),
        ({"distance_mm": -5}, "distance_mm"),
        ({"flags": 8}, "flags"),
        ({"values": np.zeros(0, np.uint16)}, "values.shape"),
        ({"values": np.zeros((2, 2), np.uint16)}, "values.shape"),
        ({"values": np.zeros(65537, np.uint16)}, "values.shape"),
        ({"values": np.zeros(3, np.float64)}, "values.dtype"),
        ({"values": np.zeros(3, np.int16)}, "values.dtype"),
    ],
)
def test_what_cannot_be_encoded(change, field):
    with pytest.raises(FrameError) as caught:
        encode(dataclasses.replace(FRAME, **change))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("offset", "value", "field"),
    [
        (0, b"s", "magic"),
        (4, b"\2", "version"),
        (6, b"\x0d", "flags"),
        (40, b"\0", "channels"),
        (40, b"\4", "length"),
        (44, b"\3", "dtype"),
        (51, b"\1", "reserved"),
    ],
)
def test_what_cannot_be_decoded(offset, value, field):
    data = bytearray(encode(FRAME))
    data[offset : offset + 1] = value
    with pytest.raises(FrameError) as caught:
        decode(with_crc(data))  # the CRC holds: only the field is wrong
    assert caught.value.field == field


def test_damage_and_truncation():
    data = encode(FRAME)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FrameError):
            decode(bytes(damaged))
    for length in range(len(data)):
        with pytest.raises(FrameError):
            decode(data[:length])
