"""PyHAT CSV (USGS): two header rows (``meta``/``comp``/``wvl`` over the names), one spectrum a row below
them.

The format does not say the medium. Files met come from laboratory spectrometers in air (the same 224-933 nm
axis as the Ocean Optics text), so air is taken unless the user says otherwise: say ``medium="vacuum"`` for a
PyHAT file of ChemCam spectra. The specimen is the first of Target, Sample ID, Sample, LIBS ID that is filled
in and not ``Unknown``. Compositions are not read. An empty ``wvl`` cell is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from libsedge.errors import FileFormatError

from ..spectra import SpectraSet
from .base import Reader
from .text import csv_rows, lines_of, number, read_lines, table

_SPECIMEN = ("target", "sample id", "sample", "libs id")


class PyhatCsv(Reader):
    name = "pyhat-csv"
    title = "PyHAT CSV (two header rows, one spectrum a row)"
    medium = "air"

    def sniff(self, head: bytes, path: Path) -> bool:
        first = {cell.strip() for cell in lines_of(head)[0].split(",")}
        return "wvl" in first and first <= {"", "meta", "comp", "wvl"}

    def read(self, path: Path, *, medium: str | None = None, members: Sequence[Path] = ()) -> SpectraSet:
        rows = [row for _, row in csv_rows(read_lines(path), path=path) if any(cell.strip() for cell in row)]
        if len(rows) < 3:
            raise FileFormatError("has no spectrum: two header rows and a row each belong", file=path)
        level, names = rows[0], rows[1]
        for line, row in enumerate(rows, 1):
            if len(row) != len(level):
                why = f"has {len(row)} values where {len(level)} belong: the file is cut or damaged here"
                raise FileFormatError(why, file=path, field=f"line {line}")
        channels = [i for i, kind in enumerate(level) if kind.strip() == "wvl"]
        axis = np.array([number(names[i], path=path, line=2, column=i + 1) for i in channels])
        cells = [(line, [row[i] for i in channels]) for line, row in enumerate(rows[2:], 3)]
        counts = table(cells, columns=len(channels), path=path)
        meta = {name.strip().lower(): i for i, name in enumerate(names) if level[i].strip() == "meta"}
        specimen = [_specimen(row, meta) or f"{path.stem}-{i}" for i, row in enumerate(rows[2:])]
        return self.build(
            [path],
            wavelength=axis,
            counts=counts,
            medium=medium,
            specimen=np.array(specimen),
            quantity="counts",
            instrument="",
        )


def _specimen(row: Sequence[str], meta: dict[str, int]) -> str:
    for name in _SPECIMEN:
        text = row[meta[name]].strip() if name in meta else ""
        if text and text.lower() != "unknown":
            return text
    return ""
