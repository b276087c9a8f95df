"""SuperCam CL1 (calibrated LIBS) FITS of the Mars 2020 archive, HDUs by name.

Radiance on a vacuum axis, one column a shot in SPECTRA, axis in WAVELENGTH, clipped pixels per shot in
SATURATION. A set has one channel mask, so a channel that was clipped in any shot is masked in all. The gaps
at 341-382 and 464-535 nm are jumps of the axis. FOC_DIST is the stand-off in mm, TARGETNM the target; where
that is empty the sequence (EMD_SEQN) stands in.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from libsedge.errors import FileFormatError, SedgeError

from ..spectra import SpectraSet
from .base import Reader, metres

_CARDS = (b"FOC_DIST=", b"TARGETNM=", b"ACTIVES =")


class SuperCamCl1(Reader):
    name = "supercam-cl1"
    title = "SuperCam CL1 FITS (Mars 2020, calibrated single shots)"
    medium = "vacuum"

    def sniff(self, head: bytes, path: Path) -> bool:
        return head.startswith(b"SIMPLE  =") and all(card in head for card in _CARDS)

    def read(self, path: Path, *, medium: str | None = None, members: Sequence[Path] = ()) -> SpectraSet:
        from astropy.io import fits  # type: ignore[import-untyped,unused-ignore]

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # astropy only warns about a truncated file
                # from memory: astropy leaves a file open when it refuses it
                with fits.open(io.BytesIO(path.read_bytes()), checksum=True) as hdus:
                    return self._read(path, hdus, medium)
        except SedgeError:
            raise
        except Exception as error:  # a damaged header makes astropy raise nearly anything
            raise FileFormatError(f"not a whole SuperCam CL1 file: {error}", file=path) from error

    def _read(self, path: Path, hdus: Any, medium: str | None) -> SpectraSet:
        primary = hdus[0].header
        for name in ("SPECTRA", "WAVELENGTH", "SATURATION"):
            if name not in hdus:
                raise FileFormatError("this HDU is missing", file=path, field=name)
        wavelength = _table(path, hdus, "WAVELENGTH", r"Wavelength$")[0]
        counts = _table(path, hdus, "SPECTRA", r"Spectrum\d+$")
        clipped = _table(path, hdus, "SATURATION", r"SaturationMask\d+$")
        n, channels = counts.shape
        if wavelength.shape != (channels,) or clipped.shape != counts.shape:
            shapes = (counts.shape, wavelength.shape, clipped.shape)
            raise FileFormatError(
                "SPECTRA, WAVELENGTH and SATURATION differ in shape", file=path, value=shapes
            )
        if not np.isin(clipped, (0.0, 1.0)).all():
            raise FileFormatError("must hold 0 and 1", file=path, field="SATURATION")
        parts = [int(primary[key]) for key in ("N_UV", "N_VIO", "N_GRE", "N_ORA", "N_RED")]
        if sum(parts) != channels:
            raise FileFormatError(
                f"but SPECTRA has {channels} rows", file=path, field="N_UV + ... + N_RED", value=parts
            )
        if int(primary["ACTIVES"]) != n:
            raise FileFormatError(
                f"but SPECTRA has {n} columns", file=path, field="ACTIVES", value=primary["ACTIVES"]
            )
        specimen = str(primary["TARGETNM"]).strip() or str(primary.get("EMD_SEQN", "")).strip() or path.stem
        masked = (clipped != 0).any(axis=0)
        notes = (
            [f"{int(masked.sum())} channel(s) clipped in some shot, masked in all"] if masked.any() else []
        )
        distance = primary["FOC_DIST"]
        return self.build(
            [path],
            wavelength=wavelength,
            counts=counts,
            medium=medium,
            mask=~masked,
            notes=notes,
            distance_m=np.full(n, metres(float(distance)) if isinstance(distance, int | float) else np.nan),
            specimen=np.full(n, specimen),
            quantity="radiance",
            instrument="SuperCam",
        )


def _table(path: Path, hdus: Any, hdu: str, pattern: str) -> np.ndarray:
    """The columns of an HDU whose names match, native float64 [columns, rows] (the file is big-endian)."""
    data = hdus[hdu].data
    names = [name for name in data.columns.names if re.match(pattern, name)]
    if not names:
        raise FileFormatError(f"has no column {pattern!r}", file=path, field=hdu)
    return np.stack([np.asarray(data[name]).astype(np.float64) for name in names])
