"""A table with one spectrum a row: the first line names the wavelengths, as tables for machine learning do.

Comma, semicolon or tab. In the first line at least `FEWEST` increasing numbers follow one another (with ``X`` before
them, as R writes, or ``nm`` behind); the columns beside them are what their names say: specimen (or sample, target,
name, id), label (or class), distance_m; others are left out and named in ``source``. Without a specimen it is the stem
and the row's number. The medium is vacuum unless the user says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from libsedge.errors import FileFormatError

from ..spectra import SpectraSet
from .base import Reader
from .text import cells_of, csv_rows, lines_of, number, read_lines, table

FEWEST = 16
_CELL = re.compile(r"[Xx]?(\d+(?:\.\d*)?)\s*(?:nm)?$")
_SPECIMEN = ("specimen", "sample", "sample_id", "sample id", "target", "name", "id")
_LABEL = ("label", "class")
_RANGE_NM = (100.0, 2500.0)


class _Header(NamedTuple):
    separator: str
    names: list[str]
    start: int  # the first column of the axis
    axis: list[float]


def _header(line: str) -> _Header | None:
    for separator in ("\t", ";", ","):
        names = cells_of(line, separator)
        found = [_CELL.match(name) for name in names]
        start = next((i for i, match in enumerate(found) if match), 0)
        axis: list[float] = []
        for match in found[start:]:
            if match is None or (axis and float(match[1]) <= axis[-1]):
                break
            axis.append(float(match[1]))
        if len(axis) >= FEWEST and _RANGE_NM[0] < axis[0] and axis[-1] < _RANGE_NM[1]:
            return _Header(separator, names, start, axis)
    return None


class RowCsv(Reader):
    name = "row-csv"
    title = "CSV with the wavelengths in its first line and a spectrum in each further one"
    medium = "vacuum"
    from_anywhere = True

    def sniff(self, head: bytes, path: Path) -> bool:
        return b"\0" not in head and _header(lines_of(head)[0]) is not None

    def read(self, path: Path, *, medium: str | None = None, members: Sequence[Path] = ()) -> SpectraSet:
        lines = read_lines(path)
        header = _header(lines[0])
        if header is None:
            raise FileFormatError("has no wavelengths", file=path, field="line 1")
        rows = [
            (i, row)
            for i, row in csv_rows(lines[1:], path=path, separator=header.separator, first=2)
            if any(cell.strip() for cell in row)
        ]
        if not rows:
            raise FileFormatError("has no spectrum below its first line", file=path)
        for line, row in rows:
            if len(row) != len(header.names):
                why = (
                    f"has {len(row)} values where {len(header.names)} belong: the file is cut or damaged here"
                )
                raise FileFormatError(why, file=path, field=f"line {line}")
        stop = header.start + len(header.axis)
        cells = [(line, row[header.start : stop]) for line, row in rows]
        fields, left = _columns(path, header, rows, stop)
        return self.build(
            [path],
            wavelength=np.array(header.axis),
            counts=table(cells, columns=len(header.axis), path=path, decimal_comma=_comma(header, cells)),
            medium=medium,
            quantity="intensity",
            notes=[f"columns left out: {', '.join(left)}"] if left else [],
            **fields,
        )


def _comma(header: _Header, cells: Sequence[tuple[int, Sequence[str]]]) -> bool:
    return header.separator != "," and any("," in cell for cell in cells[0][1])


def _columns(
    path: Path, header: _Header, rows: Sequence[tuple[int, Sequence[str]]], stop: int
) -> tuple[dict[str, Any], list[str]]:
    """What the columns beside the spectra say, and the names of those that say nothing known."""
    places = {name.lower(): i for i, name in enumerate(header.names) if name and not header.start <= i < stop}
    fields: dict[str, Any] = {"specimen": np.array([f"{path.stem}-{i}" for i in range(len(rows))])}
    used = []
    for field, known in (("specimen", _SPECIMEN), ("label", _LABEL), ("distance_m", ("distance_m",))):
        name = next((name for name in known if name in places), None)
        if name is None:
            continue
        used.append(name)
        column = [row[places[name]].strip() for _, row in rows]
        if field == "distance_m":
            fields[field] = np.array(
                [
                    number(cell, path=path, line=line, column=places[name] + 1) if cell else np.nan
                    for (line, _), cell in zip(rows, column, strict=True)
                ]
            )
        elif field == "label" or all(column):
            fields[field] = np.array(column)
    return fields, [name for name in places if name not in used]
