"""Columns of text: wavelength, then one spectrum or several; any header, any of the usual separators.

Spectrometer programs (SciAps, Andor Solis, echelle exports, LIBS Discovery, hand-made tables) write this in many
dialects. Separators: tab, semicolon, comma or blanks. With any but the comma, numbers may have decimal commas (then no
number has a decimal point). ``#`` lines, blank lines, up to `HEADER_LINES` of header and, behind a blank line, a footer
are skipped; trailing separators are dropped. With commas, more than one spectrum needs decimal points: ``240,5,1,5``
would be ambiguous.

The line of names, if there is one, says which column is the axis (a name with wave, lambda or nm; else the first),
its unit (nm, else Angstrom or micrometre) and its medium (air, vacuum). Columns before it and a column that only
counts rows are left out, as are means, medians and deviations beside shots; a column dark or background is the set's
dark.

The medium is vacuum unless the names or the user say air (never guessed from the numbers), the distance NaN. The
specimen is the file's stem, or the columns' names where they are no mere numbers of shots. A file that is named as
SciAps names a shot, ``<test>_<YYYY>_<MM>_<DD>_<HHMMSS...>_<shot>.csv``, has that test as its specimen. A file cut
exactly at the end of a line, or inside its last number, cannot be told from a whole one. Equal wavelengths (echelle
orders that overlap exactly) are refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from libsedge.errors import FileFormatError

from ..spectra import SpectraSet
from .avantes_text import AvantesText
from .base import HEAD_BYTES, Reader
from .chemcam_ccs import ChemCamCcs
from .mean_csv import MeanCsv
from .ocean_text import OceanText
from .pyhat_csv import PyhatCsv
from .row_csv import RowCsv
from .text import is_number, is_utf16, lines_of, read_lines, table
from .wavelength import named_axis

HEADER_LINES = 64
_SURE_LINES = 2  # a longer header needs three rows below it that fit
_SPECIAL = (ChemCamCcs(), OceanText(), PyhatCsv(), MeanCsv(), AvantesText(), RowCsv())
_NO_SHOT = re.compile(r"(mean|median|average|avg|std|stdev|sd|sem|error|uncertainty)\b", re.IGNORECASE)
_DARK = re.compile(r"(dark|background|bg)\b", re.IGNORECASE)
_NUMBERED = re.compile(
    r"((shot|spectrum|spec|scan|pulse|int|intensity|counts?|signal|y|s|#)[\s_.#-]*)?\d*\W*"
    r"(\[.*\]|\(.*\)|a\.?u\.?|counts)?$",
    re.IGNORECASE,
)
_SCIAPS = re.compile(r"(.+)_\d{4}_\d{2}_\d{2}_\d{6,}_(\d+)$")


class Dialect(NamedTuple):
    separator: str | None  # None = any run of blanks
    decimal_comma: bool


_DIALECTS = (
    Dialect("\t", False),
    Dialect("\t", True),
    Dialect(";", False),
    Dialect(";", True),
    Dialect(",", False),
    Dialect(None, False),
    Dialect(None, True),
)


def split(line: str, separator: str | None) -> list[str]:
    """Stripped cells of a line without their quotes, trailing empty ones dropped."""
    cells = [cell.strip().strip('"').strip() for cell in line.split(separator)]
    while len(cells) > 1 and not cells[-1]:
        cells.pop()
    return cells


def _data(lines: Sequence[str]) -> list[tuple[int, str]]:
    """(line number, text) of what is neither blank nor a comment, without the footer."""
    kept = [
        (i, line) for i, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")
    ]
    start = next((k for k in range(len(kept) - 1, -1, -1) if is_number(_first(kept[k][1]))), None)
    if start is None or start + 1 == len(kept):
        return kept
    behind = kept[start][0]  # the last line that begins with a number; index of the next line in `lines`
    return kept if lines[behind].strip() else kept[: start + 1]


def _first(line: str) -> str:
    return re.split(r"[\t; ]|,\s", line.strip(), maxsplit=1)[0].split(",")[0].strip('"')


def _width(line: str, dialect: Dialect) -> int:
    """How many numbers the line holds, 0 where a cell is none or the count cannot be sure."""
    cells = split(line, dialect.separator)
    if len(cells) < 2 or not all(is_number(cell, decimal_comma=dialect.decimal_comma) for cell in cells):
        return 0
    return 0 if dialect.separator == "," and len(cells) > 2 and "." not in line else len(cells)


def dialect_of(data: Sequence[tuple[int, str]]) -> tuple[Dialect, int] | None:
    """The dialect that reads the file's first rows, and how many lines of header come before; None = no
    dialect."""
    for header in range(min(HEADER_LINES, len(data)) + 1):
        first = [line for _, line in data[header : header + 16]]
        if not first or (header and is_number(split(data[header - 1][1], ",")[0])):
            return None
        for dialect in _DIALECTS:
            width = _width(first[0], dialect)
            if width:
                fits = [_width(line, dialect) == width for line in first]
                if header > _SURE_LINES and not (len(fits) > 2 and all(fits[:3])):
                    continue
                comma = Dialect(dialect.separator, True)
                if not all(fits) and sum(_width(line, comma) == width for line in first) > sum(fits):
                    return comma, header
                return dialect, header
    return None


class ColumnText(Reader):
    name = "column-text"
    title = "text with columns: wavelength, then one spectrum or several (SciAps, Andor, echelle, by hand)"
    medium = "vacuum"
    from_anywhere = True

    def sniff(self, head: bytes, path: Path) -> bool:
        if (b"\0" in head and not is_utf16(head)) or any(reader.sniff(head, path) for reader in _SPECIAL):
            return False
        lines = lines_of(head)
        return dialect_of(_data(lines[:-1] if len(head) == HEAD_BYTES else lines)) is not None

    def read(self, path: Path, *, medium: str | None = None, members: Sequence[Path] = ()) -> SpectraSet:
        data = _data(read_lines(path))
        found = dialect_of(data)
        if found is None:
            raise FileFormatError("has no rows of wavelength and intensity", file=path)
        dialect, header = found
        values = _values(path, data[header:], dialect)
        names = _names(data[:header], dialect, values.shape[1])
        axis = _axis_column(names, values)
        unit, said = named_axis(names[axis])
        shots, fields, notes = _shots(path, names, values, axis)
        return self.build(
            [path],
            wavelength=values[:, axis] * unit,
            counts=values[:, shots].T,
            medium=medium or said,
            quantity="intensity",
            notes=notes,
            **fields,
        )


def _values(path: Path, body: Sequence[tuple[int, str]], dialect: Dialect) -> np.ndarray:
    """The numbers, float64 [rows, columns]."""
    decimal_comma = dialect.decimal_comma
    if dialect.separator != "," and not decimal_comma:
        decimal_comma = any("," in line for _, line in body)
    if decimal_comma:
        mixed = next((line for line, text in body if "." in text), None)
        if mixed is not None:
            raise FileFormatError("mixes decimal commas and points", file=path, field=f"line {mixed}")
    rows = [(line, split(text, dialect.separator)) for line, text in body]
    return table(rows, columns=len(rows[0][1]), path=path, decimal_comma=decimal_comma)


def _names(header: Sequence[tuple[int, str]], dialect: Dialect, columns: int) -> list[str]:
    """The columns' names with the units below them; "" where there are none."""
    lines = [split(line, dialect.separator) for _, line in header[-2:]]
    rows = [cells for cells in lines if len(cells) == columns]
    return [" ".join(cells) for cells in zip(*rows, strict=True)] if rows else [""] * columns


def _axis_column(names: Sequence[str], values: np.ndarray) -> int:
    named = [i for i, name in enumerate(names) if re.match(r"wave|lambda|λ|.*\bnm\b", name, re.IGNORECASE)]
    if named:
        return named[0]
    counts_rows = np.array_equal(values[:, 0] - values[0, 0], np.arange(len(values))) and values[0, 0] in (
        0,
        1,
    )
    return int(counts_rows and values.shape[1] > 2 and bool((np.diff(values[:, 1]) > 0).all()))


def _shots(
    path: Path, names: Sequence[str], values: np.ndarray, axis: int
) -> tuple[list[int], dict[str, Any], list[str]]:
    """The columns that are spectra, their specimens (and dark), and what to say of the others."""
    rest = range(axis + 1, len(names)) if axis + 1 < len(names) else range(axis)
    shots = [i for i in rest if not _NO_SHOT.match(names[i]) and not _DARK.match(names[i])]
    shots = shots or [i for i in rest if not _DARK.match(names[i])]
    if not shots:
        raise FileFormatError("has no column of intensities", file=path, field="columns", value=list(names))
    left = [names[i] or str(i) for i in range(len(names)) if i != axis and i not in shots]
    notes = [f"columns left out: {', '.join(left)}"] if left else []
    fields: dict[str, Any] = {}
    dark = [i for i in rest if _DARK.match(names[i])]
    if dark:
        fields["dark"] = values[:, dark[0]]
    own = [names[i] for i in shots]
    sciaps = _SCIAPS.match(path.stem)
    if len(shots) > 1 and len(set(own)) == len(own) and not any(_NUMBERED.match(name) for name in own):
        fields |= {"specimen": np.array(own), "shot": np.zeros(len(own), np.int32)}
    elif sciaps and len(shots) == 1:
        fields |= {"specimen": np.array([sciaps[1]]), "shot": np.array([int(sciaps[2]) % 2**31])}
    else:
        fields["specimen"] = np.full(len(shots), path.stem)
    return shots, fields, notes
