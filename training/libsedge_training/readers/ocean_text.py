"""Text files of Ocean Optics OceanView and SpectraSuite, one per spectrometer, joined to one axis.

``Key: value`` lines, ``>>>>>Begin Spectral Data<<<<<``, then either two columns (one scan) or a row of
wavelengths behind two tabs and rows ``time <tab> epoch ms <tab> counts ...``. Axes are air.

A measurement with several spectrometers is several files. Files of this format are siblings where their names
differ only in UV/VIS/NIR. Siblings must agree on the time of every shot (one scan: on the Date line), else
they are refused: shots are never paired by guess. The axis jumps between spectrometers. The specimen is the
file's stem without UV/VIS/NIR.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from libsedge.errors import FileFormatError

from ..spectra import SpectraSet
from .base import HEAD_BYTES, Reader
from .text import is_number, number, read_lines, table

_BEGIN, _END = ">>>>>Begin", ">>>>>End"
_PART = re.compile(r"(?<![A-Za-z0-9])(UV|VIS|NIR)(?![A-Za-z0-9])", re.IGNORECASE)


class _Part(NamedTuple):
    path: Path
    axis: np.ndarray  # [channels], air nm as written
    counts: np.ndarray  # [shots, channels]
    times: tuple[str, ...]  # what siblings must agree on, one a shot
    spectrometer: str


class OceanText(Reader):
    name = "ocean-text"
    title = "Ocean Optics OceanView/SpectraSuite text, spectrometers joined"
    multipart = True
    medium = "air"

    def sniff(self, head: bytes, path: Path) -> bool:
        return _BEGIN.encode() in head and b"Spectral Data<<<<<" in head and b"\0" not in head

    def members(self, path: Path, among: Sequence[Path]) -> list[Path]:
        key = _key(path)
        siblings = [p for p in among if p != path and key is not None and _key(p) == key and self._is_ours(p)]
        return sorted({path, *siblings})

    def _is_ours(self, path: Path) -> bool:
        try:
            with open(path, "rb") as file:
                return self.sniff(file.read(HEAD_BYTES), path)
        except OSError:
            return False

    def read(self, path: Path, *, medium: str | None = None, members: Sequence[Path] = ()) -> SpectraSet:
        parts = sorted((_read(p) for p in (members or [path])), key=lambda part: float(part.axis.min()))
        first = parts[0]
        n = len(first.times)
        for part in parts[1:]:
            if part.times != first.times:
                why = f"its {len(part.times)} shots are not the {n} of {first.path.name}"
                differing = next((t for t in part.times if t not in first.times), part.times[0])
                raise FileFormatError(why, file=part.path, field="shot time", value=differing)
        devices = dict.fromkeys(part.spectrometer for part in parts if part.spectrometer)
        return self.build(
            [part.path for part in parts],
            wavelength=np.concatenate([part.axis for part in parts]),
            counts=np.concatenate([part.counts for part in parts], axis=1),
            medium=medium,
            notes=[f"{len(parts)} spectrometer file(s) joined"],
            specimen=np.full(n, _specimen(path)),
            quantity="counts",
            instrument=" ".join(["Ocean Optics", *devices]),
        )


def _key(path: Path) -> str | None:
    """The name without its spectrometer; None where it names none."""
    name, found = _PART.subn("*", path.name)
    return name.lower() if found == 1 else None


def _specimen(path: Path) -> str:
    return re.sub(r"[_\- ]{2,}", "_", _PART.sub("", path.stem)).strip("_- ") or path.stem


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("\t")]


def _read(path: Path) -> _Part:
    lines = read_lines(path)
    begin = next((i for i, line in enumerate(lines) if line.startswith(_BEGIN)), None)
    if begin is None:
        raise FileFormatError(f"has no line {_BEGIN!r}", file=path)
    header = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines[:begin])}
    end = next((i for i, line in enumerate(lines) if line.startswith(_END)), len(lines))
    rows = [(i + 1, _cells(lines[i])) for i in range(begin + 1, end) if lines[i].strip()]
    if not rows:
        raise FileFormatError("has no data: the file is cut", file=path, field=f"line {begin + 1}")
    if end == len(lines) and lines[-1].strip():
        raise FileFormatError(
            "the last line has no end: the file is cut", file=path, field=f"line {len(lines)}"
        )
    comma = any("," in cell for _, row in rows for cell in row[2:]) or any("," in row[-1] for _, row in rows)
    (line, first), scans = rows[0], rows[1:]
    if first[:2] == ["", ""]:
        cells = first[2:]
        axis = [
            number(c, path=path, line=line, column=j, decimal_comma=comma) for j, c in enumerate(cells, 3)
        ]
        short = next((row for row in scans if len(row[1]) != len(first)), None)
        if short is not None or not scans:
            line = short[0] if short else line
            raise FileFormatError("is cut or damaged here", file=path, field=f"line {line}")
        times = tuple(row[1] for _, row in scans)
        body = [(line, row[2:]) for line, row in scans]
        counts = table(body, columns=len(axis), path=path, decimal_comma=comma)
        wavelength = np.array(axis)
    else:
        values = table(rows, columns=2, path=path, decimal_comma=comma)
        wavelength, counts = values[:, 0], values[:, 1][np.newaxis]
        times = (header.get("Date", ""),)
    pixels = header.get("Number of Pixels in Spectrum", "")
    if is_number(pixels) and int(pixels) != wavelength.size:
        why = f"but the file holds {wavelength.size} channels: it is cut or damaged"
        raise FileFormatError(why, file=path, field="Number of Pixels in Spectrum", value=pixels)
    return _Part(path, wavelength, counts, times, header.get("Spectrometer", ""))
