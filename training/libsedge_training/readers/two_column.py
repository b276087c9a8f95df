"""Two columns of text: wavelength (nm) and intensity, one spectrum a file.

Separators: tab, semicolon, comma or blanks. With a tab, a semicolon or blanks the numbers may have decimal
commas (then no number has a decimal point). ``#`` lines and blank lines are skipped; up to two lines of names
or units may come first; trailing separators are dropped.

The format says neither medium nor distance nor specimen: the axis is vacuum unless the user gives
``medium="air"`` (never guessed from the numbers or the name), the distance NaN, the specimen the file's stem.
A file cut exactly at the end of a line, or inside its last number, cannot be told from a whole one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from libsedge.errors import FileFormatError

from ..spectra import SpectraSet
from .base import HEAD_BYTES, Reader
from .text import is_number, lines_of, read_lines, table

_HEADER_LINES = 2


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
    """Stripped cells of a line, trailing empty ones dropped."""
    cells = [cell.strip() for cell in line.split(separator)]
    while len(cells) > 1 and not cells[-1]:
        cells.pop()
    return cells


def _data(lines: Sequence[str]) -> list[tuple[int, str]]:
    """(line number, text) of what is neither blank nor a comment."""
    return [
        (i, line) for i, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")
    ]


def _is_row(line: str, dialect: Dialect) -> bool:
    cells = split(line, dialect.separator)
    return len(cells) == 2 and all(is_number(cell, decimal_comma=dialect.decimal_comma) for cell in cells)


def dialect_of(data: Sequence[tuple[int, str]]) -> tuple[Dialect, int] | None:
    """The dialect that reads the file's first rows, and how many lines of header come before; None = no
    dialect."""
    for header in range(_HEADER_LINES + 1):
        first = [line for _, line in data[header : header + 16]]
        if not first or any(is_number(split(line, ",")[0]) for _, line in data[:header]):
            return None
        for dialect in _DIALECTS:
            if _is_row(first[0], dialect):
                fits = sum(_is_row(line, dialect) for line in first)
                comma = Dialect(dialect.separator, True)
                if fits < len(first) and sum(_is_row(line, comma) for line in first) > fits:
                    return comma, header
                return dialect, header
    return None


class TwoColumn(Reader):
    name = "two-column"
    title = "text with two columns: wavelength nm, intensity"
    medium = "vacuum"

    def sniff(self, head: bytes, path: Path) -> bool:
        if b"\0" in head:
            return False
        lines = lines_of(head)
        data = _data(lines[:-1] if len(head) == HEAD_BYTES else lines)
        return dialect_of(data) is not None

    def read(self, path: Path, *, medium: str | None = None, members: Sequence[Path] = ()) -> SpectraSet:
        data = _data(read_lines(path))
        found = dialect_of(data)
        if found is None:
            raise FileFormatError("has no rows of wavelength and intensity", file=path)
        dialect, header = found
        body = data[header:]
        decimal_comma = dialect.decimal_comma
        if dialect.separator != "," and not decimal_comma:
            decimal_comma = any("," in line for _, line in body)
        if decimal_comma:
            mixed = next((line for line, text in body if "." in text), None)
            if mixed is not None:
                raise FileFormatError("mixes decimal commas and points", file=path, field=f"line {mixed}")
        rows = [(line, split(text, dialect.separator)) for line, text in body]
        values = table(rows, columns=2, path=path, decimal_comma=decimal_comma)
        return self.build(
            [path],
            wavelength=values[:, 0],
            counts=values[:, 1][np.newaxis],
            medium=medium,
            specimen=np.array([path.stem]),
            quantity="intensity",
        )
