"""The contract of a reader of one file format.

A reader knows a format by its content: `Reader.sniff` sees the file's first bytes and decides; a name decides
nothing about the format. `Reader.read` returns a validated `SpectraSet` on an increasing vacuum axis. It

* leaves out columns that are not single measurements (means, medians) where the format tells them apart;
* takes the stand-off distance from the file's own header, NaN where there is none;
* takes the specimen from the header, else an identifier in the file, else the file's stem;
* never fills a gap: missing channels between detectors are a jump of the axis (preprocessing masks grid
  points in a step wider than five times the local spacing), bad channels a mask;
* sorts (stably) an axis that runs backwards, says so in ``source``, and refuses equal wavelengths;
* says in ``source`` the format, the files' names (no folders) and the medium, and if that was assumed;
* says in ``source``, and by the warning `UnprovenReader` (on standard error), where no real file of the format could
  be had to prove it on;
* refuses a truncated, contradictory or non-finite file by `FileFormatError`, `AxisError` or `SpectrumError`
  naming file, line or field, and value.

A new format is one file with one subclass, one row in `libsedge_training.readers.READERS`, and one row in
tests/training/test_readers.py, which runs `checks.check_reader` on it.
"""

from __future__ import annotations

import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from libsedge.air import air_to_vacuum
from libsedge.errors import AxisError, ConfigError, SedgeError

from ..spectra import SpectraSet
from .wavelength import MEDIA, in_order

HEAD_BYTES = 1 << 16
#: what every HDF5 file begins with
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


class UnprovenReader(UserWarning):
    """Spectra came from a reader that was never run on a real file of its format."""


class Reader(ABC):
    """One format. Instances hold no state."""

    name: ClassVar[str]  # the id, e.g. "chemcam-ccs"
    title: ClassVar[str]  # one line for people
    multipart: ClassVar[bool] = False  # whether one measurement may be several files
    medium: ClassVar[str]  # of the axis when neither file nor user says: "vacuum" or "air"
    from_anywhere: ClassVar[bool] = False  # files of any instrument: then ``medium`` is a guess
    unproven: ClassVar[str] = ""  # what the reader was built on, where no real file could be had; "" = proven

    @abstractmethod
    def sniff(self, head: bytes, path: Path) -> bool:
        """Whether ``head``, the first `HEAD_BYTES` of ``path``, begins a file of this format. Never
        raises."""

    def members(self, path: Path, among: Sequence[Path]) -> list[Path]:
        """``path`` and those of ``among`` that hold other parts of the same measurement (if `multipart`)."""
        return [path]

    @abstractmethod
    def read(self, path: Path, *, medium: str | None = None, members: Sequence[Path] = ()) -> SpectraSet:
        """Read one measurement; ``medium`` overrides the format's, ``members`` is what `members` returned."""

    def build(
        self,
        files: Sequence[Path],
        *,
        wavelength: np.ndarray,
        counts: np.ndarray,
        medium: str | None,
        mask: np.ndarray | None = None,
        notes: Sequence[str] = (),
        **fields: Any,
    ) -> SpectraSet:
        """A validated `SpectraSet`: axis [channels] sorted and in vacuum, ``counts`` [n, channels]
        alongside."""
        if medium not in (None, *MEDIA):
            raise ConfigError(f"must be one of {MEDIA}", file=files[0], field="medium", value=medium)
        used = medium or self.medium
        axis = np.asarray(wavelength, dtype=np.float64)
        try:
            if not np.isfinite(axis).all():
                raise AxisError("must be finite", field="wavelength")
            order, back = in_order(axis)
            said = [f"{self.name}: {', '.join(file.name for file in files)}"]
            said.append(f"axis in {used} ({'given' if medium else 'by format'})")
            if used == "air":
                axis, said[-1] = air_to_vacuum(axis), f"{said[-1]}, converted to vacuum"
            if order is not None:
                axis, counts = axis[order], counts[:, order]
                mask = None if mask is None else mask[order]
                if fields.get("dark") is not None:
                    fields["dark"] = fields["dark"][order]
                said.append(f"axis sorted, {back} step(s) went back")
            said += [f"proven on no real file: {self.unproven}"] if self.unproven else []
            source = "; ".join([*said, *notes])
            fields |= {} if mask is None else {"mask": mask}
            spectra = SpectraSet(counts=counts, wavelength=axis, source=source, **fields).validate()
        except SedgeError as error:
            raise type(error)(error.why, file=files[0], field=error.field, value=error.value) from error
        if self.unproven:
            why = f"{self.name} is proven on no real file ({self.unproven}): check the result against a line you know"
            warnings.warn(why, UnprovenReader, stacklevel=3)
        return spectra


def metres(millimetres: float) -> float:
    """A header's distance in mm as m; NaN where the header holds zero, a negative or no number."""
    return millimetres / 1000.0 if np.isfinite(millimetres) and millimetres > 0 else float("nan")


def distance_from_name(path: str | Path) -> float:
    """The stand-off in metres that a file's name gives as ``1545mm``, ``3m`` or ``4.25m``; else NaN.

    For files whose content holds none, and only when a user asks for it: a name is a claim, not a
    measurement. Two different distances in one name are a `ConfigError`.
    """
    name = Path(path).name
    found = re.findall(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)(mm|m)(?![A-Za-z0-9])", name)
    values = sorted({float(number) / (1000.0 if unit == "mm" else 1.0) for number, unit in found})
    if len(values) > 1:
        raise ConfigError(f"holds more than one distance: {values} m", file=path, field="name", value=name)
    return values[0] if values and values[0] > 0 else float("nan")
