"""ChemCam CCS (calibrated, RDR) CSV of the MSL archive.

``# KEY = value`` lines, a line ``# wave , shot1 , ...``, then 6,144 rows. Radiance in photon/shot/mm2/sr/nm
on a vacuum axis; UV, VIO and VNIR one below the other, with gaps at 341-382 and 469-473 nm that the file
simply leaves out. The ``median`` and ``mean`` columns are no shots and are left out. The header's length
varies over the mission, so the line that begins ``# wave`` is looked for. The archive names the target
elsewhere; without a TARGET line the specimen is the sequence (``CCAM02013``) that the DARK line, else the
file's name, carries. DISTT is the stand-off in mm.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from libsedge.errors import FileFormatError

from ..spectra import SpectraSet
from .base import Reader, metres
from .text import is_number, lines_of, read_lines, table

CHANNELS = 6144  # three detectors of 2,048
_WAVE = re.compile(r"#\s*wave\s*,", re.IGNORECASE)
_KEY = re.compile(r"#\s*([A-Z0-9_]+(?:\s+FLOAT)?)\s*=\s*(.*?)[\s,]*$")
_SHOT = re.compile(r"shot\s*(\d+)$", re.IGNORECASE)
_SEQUENCE = re.compile(r"CCAM\d{5}", re.IGNORECASE)


class ChemCamCcs(Reader):
    name = "chemcam-ccs"
    title = "ChemCam CCS CSV (MSL, calibrated single shots)"
    medium = "vacuum"

    def sniff(self, head: bytes, path: Path) -> bool:
        return any(_WAVE.match(line) and "shot1" in line.replace(" ", "") for line in lines_of(head)[:64])

    def read(self, path: Path, *, medium: str | None = None, members: Sequence[Path] = ()) -> SpectraSet:
        lines = read_lines(path)
        start = next((i for i, line in enumerate(lines) if _WAVE.match(line)), None)
        if start is None:
            raise FileFormatError("has no line '# wave , shot1 , ...'", file=path)
        header = {m[1]: m[2].strip() for m in map(_KEY.match, lines[:start]) if m}
        names = [name.strip() for name in lines[start].lstrip("# ").split(",")]
        shots = {i: int(m[1]) for i, m in enumerate(map(_SHOT.match, names)) if m}
        said = header.get("NSHOTS", "")
        if not shots or (said and int(float(said)) != len(shots)):
            raise FileFormatError(f"has {len(shots)} shot columns", file=path, field="NSHOTS", value=said)
        rows = [(i, cells(line)) for i, line in enumerate(lines[start + 1 :], start + 2) if line.strip()]
        values = table(rows, columns=len(names), path=path)
        if len(rows) != CHANNELS or lines[-1].strip():
            raise FileFormatError(
                f"a whole file has {CHANNELS} complete rows", file=path, field="rows", value=len(rows)
            )
        distance = header.get("DISTT", "")
        sequence = _SEQUENCE.search(header.get("DARK", "")) or _SEQUENCE.search(path.name)
        specimen = header.get("TARGET") or (sequence[0].upper() if sequence else path.stem)
        n = len(shots)
        return self.build(
            [path],
            wavelength=values[:, 0],
            counts=values[:, list(shots)].T,
            medium=medium,
            distance_m=np.full(n, metres(float(distance)) if is_number(distance) else np.nan),
            specimen=np.full(n, specimen),
            shot=np.array(list(shots.values())),
            quantity="radiance",
            instrument="ChemCam",
        )


def cells(line: str) -> list[str]:
    """The cells of a row, without the empty ones that trailing commas make."""
    return line.rstrip(" ,").split(",")
