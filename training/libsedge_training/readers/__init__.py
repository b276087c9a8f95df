"""Readers of spectra files: one file per format, one registry, chosen by content and never by name."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from libsedge.air import air_to_vacuum, vacuum_to_air
from libsedge.errors import AxisError, ConfigError, FileFormatError, SpectrumError

from ..spectra import SpectraSet
from .avantes_text import AvantesText
from .base import HEAD_BYTES, Reader, UnprovenReader, distance_from_name
from .chemcam_ccs import ChemCamCcs
from .chemcam_edr import ChemCamEdr
from .column_text import ColumnText
from .emslibs_hdf5 import EmslibsHdf5
from .hdf5_store import Hdf5Store
from .mean_csv import MeanCsv
from .npz import Npz
from .ocean_text import OceanText
from .pds4 import Pds4
from .pyhat_csv import PyhatCsv
from .row_csv import RowCsv
from .supercam_cl1 import SuperCamCl1

__all__ = [
    "READERS",
    "Reader",
    "UnprovenReader",
    "air_to_vacuum",
    "distance_from_name",
    "find",
    "formats",
    "read",
    "vacuum_to_air",
]

# No two of these claim the same file (tests/training/test_readers.py).
READERS: tuple[Reader, ...] = (
    Hdf5Store(),
    EmslibsHdf5(),
    SuperCamCl1(),
    ChemCamCcs(),
    ChemCamEdr(),
    OceanText(),
    PyhatCsv(),
    MeanCsv(),
    AvantesText(),
    Npz(),
    Pds4(),
    RowCsv(),
    ColumnText(),
)

Pathish = str | os.PathLike[str]


def formats() -> list[tuple[str, str]]:
    """(id, one line for people) of every format that `read` knows."""
    return [(reader.name, reader.title) for reader in READERS]


def find(path: Pathish) -> Reader | None:
    """The reader that knows the file's content, or None; `FileFormatError` where it cannot be read at all."""
    try:
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening a pipe would wait for its other end
            raise FileFormatError("is not a regular file", file=path)
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise FileFormatError(f"cannot be read: {error.strerror}", file=path) from error
    return next((reader for reader in READERS if reader.sniff(head, Path(path))), None)


def read(
    path: Pathish | Iterable[Pathish],
    *,
    medium: str | None = None,
    distance_m: float | None = None,
    specimen: str | None = None,
    label: str | None = None,
) -> SpectraSet:
    """Spectra of a file, of several files, or of a folder's files, as one validated set.

    A file that is one spectrometer's part of a measurement brings its siblings beside it. Several files must
    share one axis. Of a folder, files that no reader knows are left out and named in ``source``; hidden ones
    and subfolders are not looked at.

    medium : ``"vacuum"`` or ``"air"``, where the user knows better than the format's rule.
    distance_m : stand-off of every spectrum, for formats that hold none; replaces what a file says.
    specimen, label : of every spectrum, where the user knows; no format read here holds a class.

    Raises `FileFormatError`, `AxisError`, `SpectrumError` (naming the file), `ConfigError`.
    """
    if distance_m is not None and not (np.isfinite(distance_m) and distance_m > 0):
        raise ConfigError("must be a positive number of metres", field="distance_m", value=distance_m)
    left_out: list[str] = []
    among: list[Path] | None
    if not isinstance(path, str | os.PathLike):
        wanted = [Path(p) for p in path]
        among = wanted
        if not wanted:
            raise FileFormatError("no file was given", field="path", value=[])
    elif Path(path).is_dir():
        among = sorted(p for p in Path(path).iterdir() if p.is_file() and not p.name.startswith("."))
        wanted = [p for p in among if find(p) is not None]
        left_out = [p.name for p in among if p not in wanted]
        if not wanted:
            raise FileFormatError(f"holds no file of a known format ({_known()})", file=path)
    else:
        wanted, among = [Path(path)], None
    joined = _join(_sets(wanted, among, medium))
    if left_out:
        joined = replace(joined, source=f"{joined.source}; left out: {', '.join(left_out)}")
    if distance_m is not None:
        distances = np.full(len(joined), distance_m, np.float32)
        joined = replace(
            joined, distance_m=distances, source=f"{joined.source}; distance {distance_m:g} m (given)"
        )
    if specimen is not None:
        joined = replace(joined, specimen=np.full(len(joined), specimen))
    if label is not None:
        joined = replace(joined, label=np.full(len(joined), label))
    return joined


def _known() -> str:
    return ", ".join(name for name, _ in formats())


def _sets(
    wanted: Sequence[Path], among: Sequence[Path] | None, medium: str | None
) -> list[tuple[Path, SpectraSet]]:
    """Each measurement's first file and spectra; ``among`` None = siblings are sought beside the file."""
    done: set[Path] = set()
    sets = []
    found = [(path, find(path)) for path in wanted]
    for path, reader in found:  # a label's data file may look like a file of another format
        if reader is not None and reader.multipart:
            done.update(p for p in reader.members(path, among or []) if find(p) is not reader)
    for path, reader in found:
        if path in done:
            continue
        if reader is None:
            raise FileFormatError(f"is of no known format ({_known()})", file=path)
        members = [path]
        if reader.multipart:
            members = reader.members(path, sorted(path.parent.iterdir()) if among is None else among)
        done.update(members)
        sets.append((path, reader.read(path, medium=medium, members=members)))
    return sets


def _join(sets: Sequence[tuple[Path, SpectraSet]]) -> SpectraSet:
    first_path, first = sets[0]
    for path, other in sets[1:]:
        if not np.array_equal(other.wavelength, first.wavelength):
            why = f"its axis ({other.channels} channels) is not that of {first_path.name} ({first.channels})"
            raise AxisError(f"{why}: read them one by one", file=path, field="wavelength")
    if len(sets) == 1:
        return first
    try:
        return SpectraSet.concat([part for _, part in sets])
    except SpectrumError as error:
        path = sets[int((error.field or "concat[0]")[7:].split("]")[0])][0]
        raise SpectrumError(error.why, file=path, field=error.field) from error
