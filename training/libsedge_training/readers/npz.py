"""NumPy archives (.npz) of spectra: an axis and a matrix under the usual names, never pickled.

``wavelength_nm``, ``wavelength`` or ``wavelengths`` [channels]; ``intensity``, ``intensities``, ``spectra``,
``counts`` or ``radiance`` [n, channels]. Optional: ``spectra_id``, ``specimen`` or ``id`` [n], ``label`` [n],
``distance_m`` [n]. Vacuum unless the user says otherwise. Without ids the specimen is the stem and the row's number.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from libsedge.errors import FileFormatError, SedgeError

from ..spectra import SpectraSet
from .base import Reader

AXES = ("wavelength_nm", "wavelength", "wavelengths")
SPECTRA = ("intensity", "intensities", "spectra", "counts", "radiance")
SPECIMENS = ("spectra_id", "specimen", "id")
#: bytes of all members, unpacked
LIMIT = 8 << 30


def _names(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError):
        return []


def _first(names: Sequence[str], known: Sequence[str]) -> str | None:
    return next((name for name in known if name in names), None)


class Npz(Reader):
    name = "npz"
    title = "NumPy archive (.npz) with an axis and a matrix of spectra"
    medium = "vacuum"
    from_anywhere = True

    def sniff(self, head: bytes, path: Path) -> bool:
        if not head.startswith(b"PK\x03\x04"):
            return False
        names = _names(path)
        return _first(names, AXES) is not None and _first(names, SPECTRA) is not None

    def read(self, path: Path, *, medium: str | None = None, members: Sequence[Path] = ()) -> SpectraSet:
        try:
            return self._read(path, medium)
        except SedgeError:
            raise
        except Exception as error:  # a damaged archive makes zipfile, zlib and numpy raise nearly anything
            raise FileFormatError(f"not a whole .npz file: {error}", file=path) from error

    def _read(self, path: Path, medium: str | None) -> SpectraSet:
        data = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(item.file_size for item in archive.infolist())
        if size > LIMIT:
            raise FileFormatError(f"holds more than {LIMIT} bytes", file=path, field="size", value=size)
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            names = archive.files
            axis_name, name = _first(names, AXES), _first(names, SPECTRA)
            if axis_name is None or name is None:
                raise FileFormatError("has no axis or no spectra", file=path, field="members", value=names)
            axis, spectra = np.asarray(archive[axis_name]), np.asarray(archive[name])
            if axis.ndim != 1 or spectra.ndim != 2 or spectra.shape[1] != axis.size:
                shapes = {axis_name: axis.shape, name: spectra.shape}
                raise FileFormatError(
                    "must be [channels] and [n, channels]", file=path, field=name, value=shapes
                )
            if axis.dtype.kind not in "fiu" or spectra.dtype.kind not in "fiu":
                raise FileFormatError(
                    "must hold real numbers", file=path, field=name, value=str(spectra.dtype)
                )
            n = len(spectra)
            fields: dict[str, Any] = {"specimen": np.array([f"{path.stem}-{i}" for i in range(n)])}
            for field, key in (
                ("specimen", _first(names, SPECIMENS)),
                ("label", _first(names, ("label",))),
                ("distance_m", _first(names, ("distance_m",))),
            ):
                if key is not None:
                    fields[field] = np.asarray(archive[key])
                    if fields[field].shape != (n,):
                        raise FileFormatError(
                            "must have one value a spectrum", file=path, field=key, value=fields[field].shape
                        )
        return self.build(
            [path],
            wavelength=axis,
            counts=spectra,
            medium=medium,
            quantity=name if name in ("counts", "radiance") else "intensity",
            **fields,
        )
