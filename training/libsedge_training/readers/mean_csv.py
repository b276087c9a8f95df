"""A table of spectra by columns: ``wave`` and one named column a spectrum, as the ChemCam and SuperCam archives'
mean spectra are passed on (LIBS_CCS_mean_spectra.csv).

The names are the archive's product names (``cl5_<clock>ccs_<site><drive>ccam<sequence>p<version>``): then the
instrument is ChemCam, the spectra are radiance and the specimen is the sequence (``CCAM02013``), as in a CCS file;
of other names the specimen is the name, the quantity unknown. Vacuum unless the user says otherwise: so are both
archives' axes. Distances are elsewhere (MOC table). A file with a single column of spectra is column text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from libsedge.errors import FileFormatError

from ..spectra import SpectraSet
from .base import Reader
from .text import cells_of, is_number, lines_of, read_lines, table

_CCS = re.compile(r"cl5_\d{9}ccs_f\d{7}(ccam\d{5})p\d+$", re.IGNORECASE)


def _header(line: str) -> list[str]:
    """The names of the columns, or nothing where the line is no header of this format."""
    names = cells_of(line)
    sound = len(names) > 2 and names[0].lower() == "wave" and len(set(names)) == len(names)
    return names if sound and all(name and not is_number(name) for name in names) else []


class MeanCsv(Reader):
    name = "mean-csv"
    title = "CSV with the axis in its first column, wave, and a named spectrum in each further one"
    medium = "vacuum"
    from_anywhere = True

    def sniff(self, head: bytes, path: Path) -> bool:
        return b"\0" not in head and bool(_header(lines_of(head)[0]))

    def read(self, path: Path, *, medium: str | None = None, members: Sequence[Path] = ()) -> SpectraSet:
        lines = read_lines(path)
        names = _header(lines[0])
        if not names:
            raise FileFormatError("has no header 'wave,name,name...'", file=path, field="line 1")
        rows = [(i, line.split(",")) for i, line in enumerate(lines[1:], 2) if line.strip()]
        if len(rows) < 2:
            raise FileFormatError("has no rows of wavelength and spectra", file=path)
        values = table(rows, columns=len(names), path=path)
        products = [_CCS.match(name) for name in names[1:]]
        chemcam = all(products)
        specimens = [m[1].upper() if m else name for m, name in zip(products, names[1:], strict=True)]
        return self.build(
            [path],
            wavelength=values[:, 0],
            counts=values[:, 1:].T,
            medium=medium,
            specimen=np.array(specimens),
            shot=np.zeros(len(specimens), np.int32) if chemcam else None,
            quantity="radiance" if chemcam else "intensity",
            instrument="ChemCam" if chemcam else "",
            notes=["means, not shots"] if chemcam else (),
        )
