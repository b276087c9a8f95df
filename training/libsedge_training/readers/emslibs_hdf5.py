"""HDF5 of the EMSLIBS 2019 contest (Vrabel et al., Sci. Data 7, 175, 2020): 138 soils and ores in 12 classes.

``/Wavelengths/1`` [channels]; for training ``/Spectra/001`` ... one dataset a sample, [channels, spectra] (or the other
way round), and ``/Class/1``, one number a spectrum in the samples' order; for the test ``/UNKNOWN/1`` ... blocks of
spectra without sample or class. The specimen is the sample's name, the label the class's number as text.

The axis is taken as air: the files do not say, and the spectra are from an echelle spectrometer in a laboratory. A
whole training file (50,000 spectra of 40,002 channels) takes 8 GB of memory, 16 GB while it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from libsedge.errors import FileFormatError, SedgeError

from ..spectra import SpectraSet
from .base import HDF5_MAGIC, Reader

_PARTS = ("Spectra", "UNKNOWN")


class EmslibsHdf5(Reader):
    name = "emslibs-hdf5"
    title = "EMSLIBS 2019 contest (HDF5)"
    medium = "air"
    unproven = "the layout that loaders of the contest's files read"

    def sniff(self, head: bytes, path: Path) -> bool:
        if not head.startswith(HDF5_MAGIC):
            return False
        import h5py  # type: ignore[import-untyped,unused-ignore]

        try:
            with h5py.File(path, "r") as file:
                return "Wavelengths" in file and any(name in file for name in _PARTS)
        except Exception:  # h5py raises nearly anything on a damaged file
            return False

    def read(self, path: Path, *, medium: str | None = None, members: Sequence[Path] = ()) -> SpectraSet:
        import h5py  # type: ignore[import-untyped,unused-ignore]

        try:
            with h5py.File(path, "r") as file:
                return self._read(path, file, medium)
        except SedgeError:
            raise
        except Exception as error:
            raise FileFormatError(f"not a whole EMSLIBS file: {error}", file=path) from error

    def _read(self, path: Path, file: Any, medium: str | None) -> SpectraSet:
        axis = _numbers(path, file["Wavelengths/1"]).ravel()
        part = next(name for name in _PARTS if name in file)
        names = sorted(file[part], key=lambda name: (not name.isdigit(), name.zfill(12)))
        blocks = [_block(path, file[f"{part}/{name}"], axis.size) for name in names]
        if not blocks:
            raise FileFormatError("holds no spectra", file=path, field=f"/{part}")
        sizes = [len(block) for block in blocks]
        label = None
        if part == "Spectra":
            classes = _numbers(path, file["Class/1"]).ravel()
            if classes.size != sum(sizes) or (classes != np.rint(classes)).any():
                why = f"one whole number a spectrum belongs, {sum(sizes)} in all"
                raise FileFormatError(why, file=path, field="/Class/1", value=classes.size)
            label = np.array([str(int(c)) for c in classes])
        specimens = names if part == "Spectra" else [path.stem] * len(names)
        return self.build(
            [path],
            wavelength=axis,
            counts=np.concatenate(blocks),
            medium=medium,
            specimen=np.repeat(np.array(specimens), sizes),
            label=label,
            shot=np.concatenate([np.arange(n) for n in sizes]),
            quantity="intensity",
            instrument="EMSLIBS 2019",
        )


def _numbers(path: Path, data: Any) -> np.ndarray:
    values = np.asarray(data)
    if values.dtype.kind not in "fiu":
        raise FileFormatError("must hold real numbers", file=path, field=data.name, value=str(values.dtype))
    return values


def _block(path: Path, data: Any, channels: int) -> np.ndarray:
    """The spectra of one dataset, float32 [n, channels]."""
    values = _numbers(path, data)
    if values.ndim != 2 or channels not in values.shape:
        why = f"must be [{channels} channels, spectra]"
        raise FileFormatError(why, file=path, field=data.name, value=values.shape)
    return np.asarray(values.T if values.shape[0] == channels else values, np.float32)
