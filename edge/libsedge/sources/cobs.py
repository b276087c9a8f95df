"""Consistent Overhead Byte Stuffing (Cheshire and Baker, IEEE/ACM Trans. Networking 7(2), 1999): bytes
without a zero, so that a zero ends a block."""

from __future__ import annotations


def encode(data: bytes) -> bytes:
    """`data` without zeros: at most one byte more for every 254, and one."""
    out = bytearray()
    begin, end = 0, len(data)
    while True:
        zero = data.find(b"\0", begin)
        stop = end if zero < 0 else zero
        while stop - begin >= 254:
            out.append(255)
            out += data[begin : begin + 254]
            begin += 254
            if begin == end:
                return bytes(out)
        out.append(stop - begin + 1)
        out += data[begin:stop]
        if zero < 0:
            return bytes(out)
        begin = zero + 1


def decode(block: bytes) -> bytes | None:
    """What `block` encodes; None where it holds a zero, ends within a group, or is not what `encode` gives."""
    out = bytearray()
    at, end = 0, len(block)
    if end == 0 or 0 in block:
        return None
    while True:
        code = block[at]
        group = block[at + 1 : at + code]
        if len(group) != code - 1:
            return None
        out += group
        at += code
        if at == end:
            return bytes(out)
        if code != 255:
            out.append(0)
        elif at == end - 1 and block[at] == 1:
            return None  # an empty group behind a full one at the end: `encode` never writes it
