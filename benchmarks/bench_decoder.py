"""pytest-benchmark: frames out of a byte stream, whole and in pieces, clean and damaged; CRC-32C alone."""

from __future__ import annotations

import numpy as np
import pytest
from libsedge import _core
from libsedge._frames import Decoder
from libsedge.frame import Frame, encode

FRAMES = 32


def _stream() -> bytes:
    rng = np.random.default_rng(3)
    values = rng.integers(0, 60000, (FRAMES, 5400)).astype(np.uint16)
    return b"".join(encode(Frame(1, 1, i, i, 1000, 2000, 0, row)) for i, row in enumerate(values))


def _decode(data: bytes, chunk: int) -> int:
    decoder = Decoder()
    for at in range(0, len(data), chunk):
        decoder.feed(data[at : at + chunk])
    decoder.finish()
    return decoder.frames


@pytest.mark.parametrize("chunk", [1 << 20, 1448, 64], ids=["whole", "tcp_segment", "64_bytes"])
def test_clean(benchmark, chunk: int) -> None:
    data = _stream()
    assert benchmark(_decode, data, chunk) == FRAMES


def test_every_second_frame_damaged(benchmark) -> None:
    data = bytearray(_stream())
    size = len(data) // FRAMES
    for i in range(0, FRAMES, 2):
        data[i * size + 500] ^= 0x40
    assert benchmark(_decode, bytes(data), 1 << 20) == FRAMES // 2


def test_crc32c(benchmark) -> None:
    """10,856 bytes: one frame of 5,400 uint16 channels."""
    data = _stream()[:10856]
    benchmark(_core.crc32c, data)
