"""The canonical zip of a bundle: for one set of members there is exactly one sequence of bytes.

Uncompressed, members sorted by name, no extra fields, no comments, time stamp 1980-01-01, mode 0644 (PKWARE
APPNOTE 6.3, sections 4.3.7, 4.3.12, 4.3.16). `unpack` rebuilds the archive from what it read and refuses
any byte of difference, so nothing can hide between, before or after the members. The writer is our own
because the bytes must not depend on the Python version; any zip tool opens the result. The arrays
inside, int8 or float32, are .npy 1.0 with one canonical header each, for the same reason.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping

import numpy as np

from libsedge.errors import BundleError

MAX_MEMBERS = 256
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_VERSION, _MADE_BY, _DATE, _MODE = 20, (3 << 8) | 20, (1 << 5) | 1, 0o100644 << 16


def _pieces(members: Mapping[str, bytes]) -> Iterator[bytes]:
    """The archive of `members` piece by piece, so that a board compares it without a second copy in memory."""
    directory, at = bytearray(), 0
    for name in sorted(members):
        data, raw = members[name], name.encode("ascii")
        crc, size = zlib.crc32(data), len(data)
        common = (_VERSION, 0, 0, 0, _DATE, crc, size, size, len(raw), 0)
        directory += _CENTRAL.pack(b"PK\1\2", _MADE_BY, *common, 0, 0, 0, _MODE, at) + raw
        at += _LOCAL.size + len(raw) + size
        yield _LOCAL.pack(b"PK\3\4", *common) + raw
        yield data
    yield bytes(directory)
    yield _END.pack(b"PK\5\6", 0, 0, len(members), len(members), len(directory), at, 0)


def pack(members: Mapping[str, bytes]) -> bytes:
    """The archive of `members` (name -> content); names are ASCII."""
    return b"".join(_pieces(members))


def _is_archive_of(data: bytes, members: Mapping[str, bytes]) -> bool:
    view, at = memoryview(data), 0
    for piece in _pieces(members):
        if view[at : at + len(piece)] != piece:
            return False
        at += len(piece)
    return at == len(data)


def unpack(data: bytes) -> dict[str, bytes]:
    """The members of a canonical archive; raises BundleError for anything `pack` would not have written."""
    members: dict[str, bytes] = {}
    at = 0
    while data[at : at + 4] == b"PK\3\4":
        if at + _LOCAL.size > len(data):
            raise BundleError("is truncated in a member's header")
        *_, size, stored, name_length, _extra = _LOCAL.unpack_from(data, at)
        start = at + _LOCAL.size + name_length
        at = start + size
        if size != stored or at > len(data):
            raise BundleError(f"is truncated or compressed: a member would end at byte {at} of {len(data)}")
        try:
            name = data[start - name_length : start].decode("ascii")
        except UnicodeDecodeError:
            raise BundleError("holds a member whose name is not ASCII") from None
        if name in members:
            raise BundleError("appears twice", field=name)
        if len(members) == MAX_MEMBERS:
            raise BundleError(f"holds more than {MAX_MEMBERS} members")
        members[name] = data[start:at]
    if not members:
        raise BundleError("is not a libsedge bundle (no zip member at its start)")
    if not _is_archive_of(data, members):
        raise BundleError("is not the canonical archive of its members (changed, reordered or extended)")
    return members


def pack_array(array: np.ndarray) -> bytes:
    """An int8 or float32 [n, columns] array as .npy 1.0 (numpy.lib.format), little-endian, C order, header padded to
    64 bytes."""
    descr = {"int8": "|i1", "float32": "<f4"}[array.dtype.name]
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {tuple(array.shape)!r}, }}".encode()
    header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + array.astype(descr).tobytes()


def unpack_array(data: bytes, member: str, columns: int, precision: str = "int8") -> np.ndarray:
    """The inverse of `pack_array`; nothing of the header is parsed or believed. Raises BundleError."""
    dtype = np.dtype(precision).newbyteorder("<")
    start = 10 + int.from_bytes(data[8:10], "little")
    rows, rest = divmod(len(data) - start, columns * dtype.itemsize)
    if rows >= 1 and rest == 0:
        array = np.frombuffer(data, dtype, offset=start).reshape(rows, columns).astype(precision, copy=False)
        if pack_array(array) == data:
            return array
    raise BundleError(f"is not the canonical .npy of {precision} [n >= 1, {columns}]", field=member)
