"""Files of spectra as the board sees them: a spectra store, or whatever the host's readers know, where
installed."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from libsedge.errors import FileFormatError
from libsedge.sources.base import Axis

_HDF5 = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class SpectraFile:
    """One file of spectra: `axis`, `dark` float32 [channels] or None, `distance_m` float32 [n] (NaN =
    unknown), `specimen` and `label` str [n]; `rows(slice)` gives counts [k, channels], uint16 or float32."""

    path: Path
    axis: Axis
    dark: np.ndarray | None
    distance_m: np.ndarray
    specimen: np.ndarray
    label: np.ndarray
    simulated: bool
    rows: Callable[[slice], np.ndarray]
    close: Callable[[], None]

    def __len__(self) -> int:
        return len(self.distance_m)

    def stream_id(self) -> int:
        """32 bits of the content's SHA-256, never 0: the same spectra are the same stream, whatever their
        name."""
        digest = hashlib.sha256()
        mask = np.ones(len(self.axis.wavelength_nm), np.uint8) if self.axis.mask is None else self.axis.mask
        dark = np.zeros(0, np.float32) if self.dark is None else self.dark
        digest.update(repr((len(self), len(self.axis.wavelength_nm), len(dark))).encode())
        for array, dtype in (
            (self.axis.wavelength_nm, "<f8"),
            (mask, "u1"),
            (dark, "<f4"),
            (self.distance_m, "<f4"),
        ):
            digest.update(np.ascontiguousarray(array, dtype=dtype).tobytes())
        for start in range(0, len(self), 64):
            block = self.rows(slice(start, min(start + 64, len(self))))
            digest.update(np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("<")).tobytes())
        return int.from_bytes(digest.digest()[:4], "little") or 1


def _is_store(path: Path) -> bool:
    """True for a spectra store, and for any HDF5 file that only `StoreReader` can say more about. FileFormatError for a
    pipe, which opening would wait for, or a device."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise FileFormatError("is not a regular file", file=path)
    with open(path, "rb") as stream:
        if stream.read(8) != _HDF5:
            return False
    try:
        h5py: Any = importlib.import_module("h5py")
    except ImportError:
        return True
    try:
        with h5py.File(path, "r") as file:
            return bool(file.attrs.get("format") == "libsedge-spectra")
    except OSError:
        return True


def _wire(counts: np.ndarray) -> np.ndarray:
    return counts if counts.dtype == np.uint16 else np.asarray(counts, np.float32)


def open_spectra(path: str | PathLike[str]) -> SpectraFile:
    """Open a file of spectra, chosen by content; FileFormatError where nothing here can read it."""
    path = Path(path)
    try:
        store = _is_store(path)
    except OSError as error:
        raise FileFormatError(f"cannot be read: {error.strerror}", file=path) from error
    if store:
        from libsedge.store import StoreReader

        reader = StoreReader(path)
        return _spectra_file(path, reader, lambda rows: _wire(reader.rows(rows)), reader.close)
    for point in sorted(entry_points(group="libsedge.readers"), key=lambda point: point.name):
        try:
            read = point.load()
        except ImportError:  # the host part is not installed on this machine
            continue
        return _host_file(path, read(path))
    raise FileFormatError(
        "not a spectra store, and no other reader is installed; convert it on the host, "
        "or install libsedge[training] here",
        file=path,
    )


def _host_file(path: Path, spectra: Any) -> SpectraFile:
    return _spectra_file(path, spectra, lambda rows: _wire(spectra.counts[rows]), lambda: None)


def _spectra_file(
    path: Path, it: Any, rows: Callable[[slice], np.ndarray], close: Callable[[], None]
) -> SpectraFile:
    return SpectraFile(
        path=path,
        axis=Axis(
            np.asarray(it.wavelength, np.float64),
            None if it.mask is None else np.asarray(it.mask, bool),
            float("nan") if it.saturation is None else float(it.saturation),
        ),
        dark=None if it.dark is None else np.asarray(it.dark, np.float32),
        distance_m=np.asarray(it.distance_m, np.float32),
        specimen=np.asarray(it.specimen),
        label=np.asarray(it.label),
        simulated=bool(it.simulated),
        rows=rows,
        close=close,
    )
