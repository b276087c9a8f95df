"""What every reader must hold, as one check that a new one passes by itself. Needs no test framework."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from libsedge.errors import AxisError, FileFormatError, SpectrumError

from . import READERS, find, read
from .base import HEAD_BYTES, Reader

REFUSALS = (FileFormatError, AxisError, SpectrumError)


def check_reader(
    reader: Reader,
    path: Path,
    scratch: Path,
    *,
    cuts: Sequence[int] | None = None,
    noise_from: Sequence[int] | None = None,
) -> None:
    """Assert the contract of `base` on ``path``, a sound file of the reader's format that stands alone.

    scratch : an empty folder for damaged copies. cuts : sizes in bytes at which a truncated copy must be
    refused; by default 0, 1/3, 2/3 and all but 100 bytes. noise_from : bytes from which on noise must be refused; by
    default the first and the middle one (numbers without a checksum can be noise, and nobody could tell).
    """
    data = path.read_bytes()
    head = data[:HEAD_BYTES]
    claims = [r.name for r in READERS if r.sniff(head, path)]
    assert claims == [reader.name], f"claimed by {claims}"
    renamed = scratch / "no-extension"
    shutil.copyfile(path, renamed)
    found = find(renamed)
    assert found is reader, "the name decided"

    first, second = reader.read(path), reader.read(path)
    for name in ("counts", "wavelength", "distance_m", "specimen", "label", "shot", "mask"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    first.validate()
    assert len(first) > 0
    assert (first.specimen != "").all()
    assert path.name in first.source or reader.name == "libsedge-hdf5"
    assert str(path.parent) not in first.source

    for size in cuts if cuts is not None else (0, len(data) // 3, 2 * len(data) // 3, len(data) - 100):
        (scratch / "cut").write_bytes(data[:size])
        check_refused(scratch / "cut", f"cut to {size} of {len(data)} bytes")
    # the file's own beginning, then noise: sniffed, but not readable
    for position in noise_from if noise_from is not None else (0, len(data) // 2):
        noise = np.random.default_rng(position).bytes(len(data) - position)
        (scratch / "noise").write_bytes(data[:position] + noise)
        check_refused(scratch / "noise", f"noise from byte {position}")


def check_refused(path: Path, what: str) -> None:
    """Assert that `read` refuses the file by a typed error that names it."""
    message = None
    try:
        read(path)
    except REFUSALS as error:
        message = str(error)
    assert message is not None, f"{what}: was read without an error"
    assert path.name in message, f"{what}: the message does not name the file: {message}"
