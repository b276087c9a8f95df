"""The account of `libsedge-run` at the bounds of its fixed memory."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from libsedge.frame import Frame, encode
from runner_tools import STREAM, plasma, run_stdin

pytest.importorskip("libsedge_native.runner", reason="the generator is not installed")


def test_extreme_sequence_numbers(runner_program: Path) -> None:
    """The whole range of 64 bits is one more than fits."""
    row = plasma(1, 1)[0]
    data = b"".join(encode(Frame(STREAM, 0, s, 0, 0, 0, 0, row)) for s in (0, 2**64 - 1, 2**64 - 2, 0))
    (stream,) = run_stdin(runner_program, data).account["streams"]
    assert stream["expected"] == 2**64
    assert stream["gaps"] == 2**64 - 3
    assert (stream["unique"], stream["duplicates"], stream["exact"]) == (3, 1, True)


def test_more_gaps_than_memory_is_said(runner_program: Path) -> None:
    """5,000 lone sequence numbers: the oldest knowledge is given up, and the count is not called exact."""
    row = np.zeros(1, np.uint16)
    one = bytearray(encode(Frame(STREAM, 0, 0, 0, 0, 0, 0, row)))
    from libsedge import _core

    data = bytearray()
    for sequence in [*range(0, 10_000, 2), 10]:
        struct.pack_into("<Q", one, 16, sequence)
        crc = _core.crc32c(one[56:], _core.crc32c(one[:52]))
        struct.pack_into("<I", one, 52, crc)
        data += one
    (stream,) = run_stdin(runner_program, bytes(data)).account["streams"]
    assert (stream["unique"], stream["expected"], stream["exact"]) == (5000, 9999, False)


def test_more_epochs_than_memory_are_summed(runner_program: Path) -> None:
    row = np.zeros(1, np.uint16)
    data = b"".join(encode(Frame(STREAM, e, s, 0, 0, 0, 0, row)) for e in range(20) for s in (1, 3))
    account = run_stdin(runner_program, data).account
    assert sorted(stream["epoch"] for stream in account["streams"]) == list(range(4, 20))
    assert account["forgotten_epochs"] == {"epochs": 4, "unique": 8, "gaps": 4, "duplicates": 0}
    assert account["rejected"] == {"wrong_length": 40}
