"""The constants of a kernel as bytes, and their CRC-32C (Castagnoli, reflected, polynomial 0x82F63B78)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from libsedge_native.lowered import Kernel

DTYPES = {"int8_t": np.int8, "int16_t": np.int16, "int32_t": np.int32, "float": np.float32}


def image(kernel: Kernel, byte_order: Literal["<", ">"]) -> bytes:
    """The bytes of the kernel's constants in memory; byte_order `<` or `>`."""
    parts: list[bytes] = []
    for constant in kernel.constants:
        dtype = np.dtype(DTYPES[constant.ctype])
        flat = np.zeros(constant.count, dtype)
        flat[: constant.values.size] = constant.values.reshape(-1)
        parts.append(flat.astype(dtype.newbyteorder(byte_order)).tobytes())
    return b"".join(parts)


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """CRC-32C of `data`; crc32c(b"123456789") is 0xE3069283."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
