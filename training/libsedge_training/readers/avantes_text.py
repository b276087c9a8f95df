"""Avantes ASCII export (AvaSoft): lines of settings, a line of names, a line of units, then rows with ``;``.

::

    Integration time [ms]: 105,000
    Averaging Nr. [scans]: 2
    Smoothing Nr. [pixels]: 0
    Data measured with spectrometer [name]: 0512042U1
    Wavelength ;Sample
    [nm] ;[counts]
    238,10;812,350

Decimal commas or points. Columns called Dark, Reference, Wave or Wavelength are what they say, the spectrum is the
first other one; Dark becomes the set's dark. The axis is in air, as such spectrometers are calibrated.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from libsedge.errors import FileFormatError

from ..spectra import SpectraSet
from .base import Reader
from .text import is_number, lines_of, read_lines, table

_FIRST = "integration time [ms]:"
_NAME = "[name]:"


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.rstrip("; \t").split(";")]


def _start(lines: Sequence[str]) -> int | None:
    """Index of the line of names: the one before ``[nm] ;...``."""
    for i, line in enumerate(lines[1:32]):
        if _cells(line)[0].lower() == "[nm]" and ";" in line:
            return i
    return None


class AvantesText(Reader):
    name = "avantes-text"
    title = "Avantes ASCII export"
    medium = "air"
    unproven = "the layout as it is described"

    def sniff(self, head: bytes, path: Path) -> bool:
        lines = lines_of(head)
        begins = any(line.strip().lower().startswith(_FIRST) for line in lines[:8])
        return b"\0" not in head and begins and _start(lines) is not None

    def read(self, path: Path, *, medium: str | None = None, members: Sequence[Path] = ()) -> SpectraSet:
        lines = read_lines(path)
        start = _start(lines)
        if start is None:
            raise FileFormatError("has no line of units that begins with [nm]", file=path)
        names = [name.lower() for name in _cells(lines[start])]
        rows = [(i, _cells(line)) for i, line in enumerate(lines[start + 2 :], start + 3) if line.strip()]
        text = "".join(lines[start + 2 :])
        if "," in text and "." in text:
            raise FileFormatError("mixes decimal commas and points", file=path, field="rows")
        values = table(rows, columns=len(names), path=path, decimal_comma="," in text)
        spectra = [i for i, name in enumerate(names) if i and name not in ("dark", "reference", "ref")]
        if len(rows) < 2 or not spectra:
            raise FileFormatError(
                "has no rows of wavelength and counts", file=path, field="columns", value=names
            )
        fields = {"dark": values[:, names.index("dark")]} if "dark" in names else {}
        device = next((line.partition(_NAME)[2].strip() for line in lines[:start] if _NAME in line), "")
        averaged = [line.partition(":")[2].strip() for line in lines[:start] if line.startswith("Averaging")]
        notes = [f"average of {n} scans" for n in averaged if is_number(n)]
        return self.build(
            [path],
            wavelength=values[:, 0],
            counts=values[:, spectra[0]][np.newaxis],
            medium=medium,
            specimen=np.array([path.stem]),
            quantity="counts",
            instrument=f"Avantes {device}".strip(),
            notes=notes,
            **fields,
        )
