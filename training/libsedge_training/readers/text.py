"""Lines and numbers out of text files: any line end, any of the usual separators, errors that name the
line."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from libsedge.errors import FileFormatError

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d+)?$")
_LINE_END = re.compile(r"\r\n|\n|\r")


def is_utf16(data: bytes) -> bool:
    """Whether the text begins with the byte-order mark of UTF-16, as "Unicode text" of Windows programs does."""
    return data[:2] in (b"\xff\xfe", b"\xfe\xff")


def decode(data: bytes) -> str:
    """UTF-16 where it says so, UTF-8 (byte-order marks are dropped), else Latin-1, which every byte string is."""
    if is_utf16(data):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def lines_of(data: bytes) -> list[str]:
    """The lines without their ends; CR, LF and CRLF all end a line."""
    return _LINE_END.split(decode(data))


def read_lines(path: Path) -> list[str]:
    """All lines of a text file; `FileFormatError` where it cannot be read or holds NUL bytes."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileFormatError(f"cannot be read: {error.strerror}", file=path) from error
    if b"\0" in data and not is_utf16(data):
        raise FileFormatError("is not text", file=path, field="byte", value=data.index(b"\0"))
    return lines_of(data)


def cells_of(line: str, separator: str = ",") -> list[str]:
    """The stripped cells of one line of CSV; none where it is no CSV (a cell longer than the csv module takes)."""
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])]
    except csv.Error:
        return []


def csv_rows(
    lines: Sequence[str], *, path: Path, separator: str = ",", first: int = 1
) -> list[tuple[int, list[str]]]:
    """(number, cells) of every row of CSV, the first one's number is ``first``; `FileFormatError` names the line
    that is no CSV."""
    reader = csv.reader(lines, delimiter=separator)
    rows: list[tuple[int, list[str]]] = []
    try:
        rows.extend(enumerate(reader, first))
    except csv.Error as wrong:
        line = first + reader.line_num - 1
        raise FileFormatError(f"is no CSV: {wrong}", file=path, field=f"line {line}") from wrong
    return rows


def is_number(text: str, *, decimal_comma: bool = False) -> bool:
    text = text.strip()
    return bool(_NUMBER.match(text.replace(",", ".", 1) if decimal_comma else text))


def number(text: str, *, path: Path, line: int, column: int, decimal_comma: bool = False) -> float:
    """One finite number; ``line`` and ``column`` count from 1 and only serve the error."""
    cell = text.strip()
    if not is_number(cell, decimal_comma=decimal_comma):
        why = "is missing: the file may be cut here" if not cell else "is not a number"
        raise FileFormatError(why, file=path, field=f"line {line}, column {column}", value=cell)
    value = float((cell.replace(",", ".") if decimal_comma else cell).replace("D", "E").replace("d", "e"))
    if not np.isfinite(value):
        raise FileFormatError("is out of range", file=path, field=f"line {line}, column {column}", value=cell)
    return value


def table(
    rows: Sequence[tuple[int, Sequence[str]]], *, columns: int, path: Path, decimal_comma: bool = False
) -> np.ndarray:
    """Cells as float64 [len(rows), columns]; each row is (line number, cells), all of the same length."""
    for line, cells in rows:
        if len(cells) != columns:
            why = f"has {len(cells)} values where {columns} belong: the file is cut or damaged here"
            raise FileFormatError(why, file=path, field=f"line {line}")
    out = np.empty((len(rows), columns))
    for i, (line, cells) in enumerate(rows):
        for j, cell in enumerate(cells):
            out[i, j] = number(cell, path=path, line=line, column=j + 1, decimal_comma=decimal_comma)
    return out
