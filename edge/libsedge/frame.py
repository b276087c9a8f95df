"""One spectrum on the wire: `Frame` and its binary form (table "Frame" in docs/architecture.md).

A stream of frames is decoded by `libsedge._frames.Decoder`; this file encodes, and decodes exactly one frame
with an error that says what is wrong with it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from libsedge import _core
from libsedge.errors import FrameError
from libsedge.ledger import Key

MAGIC = b"SEDG"
VERSION = 1
FLAG_DARK, FLAG_PASSIVE, FLAG_TRIGGER = 1, 2, 4
KNOWN_FLAGS = FLAG_DARK | FLAG_PASSIVE | FLAG_TRIGGER
MAX_CHANNELS = 65536

_HEADER = struct.Struct("<4sHHIIQQIIIB7s")  # without the CRC that follows
_CRC = struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _CRC.size
#: behind the bytes of a signed frame (`libsedge.frame_key`)
TAG_BYTES = 16

_WIRE_DTYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<u2"), 2: np.dtype("<f4")}
_DTYPE_CODES: dict[np.dtype[Any], int] = {np.dtype(np.uint16): 1, np.dtype(np.float32): 2}
_FIELD_BITS = {
    "flags": 16,
    "stream_id": 32,
    "epoch": 32,
    "sequence": 64,
    "time_ns": 64,
    "integration_us": 32,
    "distance_mm": 32,
}


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One spectrum with its identity and time. Compared by identity; compare `encode(frame)` for content.

    Parameters
    ----------
    stream_id, epoch, sequence : which frame this is: 32, 32 and 64 bits; the epoch counts restarts of the
        sender.
    time_ns : nanoseconds since 1970-01-01 (UTC).
    integration_us : integration time, microseconds.
    distance_mm : stand-off distance, millimetres; 0 = unknown.
    flags : 1 dark, 2 passive (no laser), 4 externally triggered.
    values : counts, uint16 or float32, shape [channels], 1 to 65,536 channels.
    key : (stream_id, epoch, sequence).
    """

    stream_id: int
    epoch: int
    sequence: int
    time_ns: int
    integration_us: int
    distance_mm: int
    flags: int
    values: np.ndarray
    key: Key = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", Key(self.stream_id, self.epoch, self.sequence))

    @property
    def dark(self) -> bool:
        return bool(self.flags & FLAG_DARK)

    @property
    def passive(self) -> bool:
        return bool(self.flags & FLAG_PASSIVE)

    @property
    def trigger(self) -> bool:
        return bool(self.flags & FLAG_TRIGGER)


def encode(frame: Frame) -> bytes:
    """The frame's bytes: 56 bytes of header, then the values, little-endian.

    Raises FrameError when a field does not fit its type or `values` is not uint16 or float32 of 1 to 65,536
    channels.
    """
    for name, bits in _FIELD_BITS.items():
        value = getattr(frame, name)
        if not 0 <= value < 1 << bits:
            raise FrameError(f"must fit {bits} bits without a sign", field=name, value=value)
    if frame.flags & ~KNOWN_FLAGS:
        raise FrameError("only 1 (dark), 2 (passive) and 4 (trigger) exist", field="flags", value=frame.flags)
    values = frame.values
    if values.ndim != 1 or not 1 <= values.size <= MAX_CHANNELS:
        raise FrameError("one dimension of 1 to 65536 channels", field="values.shape", value=values.shape)
    code = _DTYPE_CODES.get(values.dtype.newbyteorder("="))
    if code is None:
        raise FrameError("uint16 or float32", field="values.dtype", value=str(values.dtype))
    header = _HEADER.pack(
        *(MAGIC, VERSION, frame.flags, frame.stream_id, frame.epoch, frame.sequence, frame.time_ns),
        *(frame.integration_us, frame.distance_mm, values.size, code, bytes(7)),
    )
    payload = values.astype(_WIRE_DTYPES[code], copy=False).tobytes()
    return header + _CRC.pack(_core.crc32c(payload, _core.crc32c(header))) + payload


def decode(data: bytes) -> Frame:
    """The one frame that `data` is; raises FrameError naming the field that does not hold."""
    if len(data) < HEADER_BYTES:
        raise FrameError(f"a header is {HEADER_BYTES} bytes", field="length", value=len(data))
    fields = _HEADER.unpack_from(data)
    magic, version, flags, stream_id, epoch, sequence, time_ns = fields[:7]
    integration_us, distance_mm, channels, code, reserved = fields[7:]
    checks: tuple[tuple[str, object, bool, str], ...] = (
        ("magic", magic, magic == MAGIC, "must be b'SEDG'"),
        ("version", version, version == VERSION, "must be 1"),
        ("flags", flags, not flags & ~KNOWN_FLAGS, "only 1, 2 and 4 exist"),
        ("channels", channels, 1 <= channels <= MAX_CHANNELS, "must be 1 to 65536"),
        ("dtype", code, code in _WIRE_DTYPES, "must be 1 (uint16) or 2 (float32)"),
        ("reserved", reserved, not any(reserved), "must be zero"),
    )
    for name, value, holds, why in checks:
        if not holds:
            raise FrameError(why, field=name, value=value)
    wire = _WIRE_DTYPES[code]
    expected = HEADER_BYTES + channels * wire.itemsize
    if len(data) != expected:
        raise FrameError(
            f"header and {channels} channels are {expected} bytes", field="length", value=len(data)
        )
    (crc,) = _CRC.unpack_from(data, _HEADER.size)
    payload = data[HEADER_BYTES:]
    computed = _core.crc32c(payload, _core.crc32c(data[: _HEADER.size]))
    if crc != computed:
        raise FrameError(f"the bytes give {computed:#010x}", field="crc", value=f"{crc:#010x}")
    values = np.frombuffer(payload, dtype=wire)
    return Frame(
        *(stream_id, epoch, sequence, time_ns, integration_us, distance_mm, flags),
        values=values.astype(wire.newbyteorder("="), copy=False),
    )
