"""The table of labels that `libsedge import` reads.

The table is text with a header row; comma, semicolon or tab (with these two, decimal commas allowed):

* ``file``: path below the folder of the files; the folder's own name before it, a missing extension and, where only one
  file below the folder has that name, missing subfolders are understood; several rows may name different spectra of
  one file;
* ``label``: the class; empty = what the file says, else unlabelled;
* ``specimen``: the physical thing that was shot; empty = what the file says, else its stem;
* ``distance_m``: stand-off; empty = what the file says;
* ``spectra`` (optional): which of the file's spectra, counted from 0, such as ``0-9 20-29``; empty = all;
* ``medium`` (optional): ``air`` or ``vacuum`` of the file's axis; empty = the format's rule.

Usual other spellings of these names are in `ALIASES`; of two columns for one thing the first spelling there counts.
Columns with other names are not used, and named in a warning.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from libsedge.errors import FileFormatError

from .text import csv_rows, is_number, read_lines
from .wavelength import MEDIA

#: each column's name and other spellings of it (lower case; blanks, dots and hyphens are underscores), the first counts
ALIASES = {
    "file": ("file", "filename", "file_name", "path", "filepath", "file_path", "spectrum_file"),
    "label": (
        "label",
        "class",
        "class_label",
        "category",
        "mineral_class",
        "chemical_class",
        "family",
        "type",
    ),
    "specimen": ("specimen", "specimen_id", "sample", "sample_id", "sample_name", "target", "target_id"),
    "distance_m": (
        "distance_m",
        "distance",
        "distance_(m)",
        "distance_[m]",
        "dist_m",
        "dist",
        "standoff_m",
        "standoff",
    ),
    "distance_mm": ("distance_mm", "distance_(mm)", "distance_[mm]", "dist_mm", "standoff_mm"),
    "spectra": ("spectra", "shots"),
    "medium": ("medium", "axis_medium"),
}
REQUIRED = ("file", "label")
_FAR_M = 500.0
_RANGE = re.compile(r"(\d+)(?:-(\d+))?$")


class ImportNote(UserWarning):
    """Something in the table or the files that was left aside or assumed."""


@dataclass(frozen=True)
class Entry:
    """One row of the table; ``line`` counts from 1 in the table's file."""

    line: int
    file: Path
    label: str
    specimen: str
    distance_m: float | None
    spectra: tuple[int, ...] | None
    medium: str | None


def refuse(table: Path, line: int, column: str, why: str, value: object) -> FileFormatError:
    """The error for one row of the table."""
    return FileFormatError(why, file=table, field=f"row in line {line}, {column}", value=value)


def _distance(text: str, comma: bool, per_metre: float = 1.0) -> float | None:
    text = re.sub(r"\s*m$" if per_metre == 1 else r"\s*mm$", "", text)
    if not text or text.lower() in ("nan", "na", "n/a", "-", "unknown"):
        return None
    value = float(text.replace(",", ".")) / per_metre if is_number(text, decimal_comma=comma) else -1.0
    if not 0 < value < np.inf:
        raise ValueError(
            f"must be a positive number of {'metres' if per_metre == 1 else 'millimetres'}, or empty"
        )
    if value > _FAR_M:
        raise ValueError(f"is above {_FAR_M:g} m; if it is millimetres, name the column distance_mm")
    return value


def _spectra(text: str) -> tuple[int, ...] | None:
    chosen: list[int] = []
    for item in re.split(r"[\s,;]+", text.strip()) if text.strip() else []:
        match = _RANGE.match(item)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first or last > 10_000_000:
            raise ValueError("must be numbers or ranges from 0 on, such as 0-9 20-29")
        chosen += range(first, last + 1)
    if len(set(chosen)) != len(chosen):
        raise ValueError("names a spectrum twice")
    return tuple(chosen) or None


def _columns(table: Path, names: list[str]) -> dict[str, int]:
    """Where each known column is; a warning names those that are not used."""
    spelt = [re.sub(r"[\s.\-_]+", "_", name.strip().lower()).strip("_") for name in names]
    found = {}
    for column, known in ALIASES.items():
        spelling = next((name for name in known if name in spelt), None)
        if spelling is not None:
            if spelt.count(spelling) > 1:
                raise FileFormatError("is there twice", file=table, field="line 1", value=spelling)
            found[column] = spelt.index(spelling)
    missing = [name for name in REQUIRED if name not in found]
    if missing or {"distance_m", "distance_mm"} <= set(found):
        others = ", ".join(name for name in ALIASES if name not in REQUIRED)
        why = f"needs the columns {', '.join(REQUIRED)}, and may have {others} (one distance)"
        raise FileFormatError(why, file=table, field="line 1", value=names)
    unused = [name.strip() for i, name in enumerate(names) if i not in found.values() and name.strip()]
    if unused:
        warnings.warn(f"{table.name}: columns not used: {', '.join(unused)}", ImportNote, stacklevel=2)
    return found


def _locate(folder: Path, name: str, files: Sequence[Path]) -> Path | None:
    """The file that a row means, or None: by its path, else by the only one of ``files`` with that name."""
    wanted = Path(name.replace("\\", "/"))
    root = folder.resolve()
    for path in (folder / wanted, root.parent / wanted):
        if root in path.resolve().parents and path.is_file():
            return folder / path.resolve().relative_to(root) if path.parent != folder else path
    if len(wanted.parts) > 1:
        return None
    for alike in (
        [p for p in files if p.name == wanted.name],
        [p for p in files if p.stem == wanted.name],
        [p for p in files if wanted.name.lower() in (p.name.lower(), p.stem.lower())],
    ):
        if alike:
            return alike[0] if len(alike) == 1 else None
    return None


def _why_not(folder: Path, name: str, files: Sequence[Path]) -> str:
    here = f"below {folder.resolve().name}"
    alike = [p for p in files if Path(name).name in (p.name, p.stem)]
    if len(alike) > 1:
        return f"is {len(alike)} files {here}: say which, such as {alike[0].relative_to(folder)}"
    inside = name and folder.resolve() in (folder / name).resolve().parents
    return f"does not exist {here}" if inside else f"must name a file {here}"


def below(folder: Path) -> list[Path]:
    """Every file below the folder that is not hidden, sorted."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))


def read_table(table: Path, folder: Path) -> list[Entry]:
    """The rows of a table of labels; `FileFormatError` names the line and the column that is wrong."""
    lines = read_lines(table)
    separator = next((mark for mark in ("\t", ";") if mark in lines[0]), ",")
    rows = csv_rows(lines, path=table, separator=separator)
    columns = _columns(table, rows[0][1] if rows else [])
    width = len(rows[0][1])
    files = [p for p in below(folder) if p.resolve() != table.resolve()]
    entries = []
    for line, cells in rows[1:]:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != width:
            raise refuse(table, line, "cells", f"has {len(cells)} cells where {width} belong", cells)
        row = {name: cells[place].strip() for name, place in columns.items()}
        path = _locate(folder, row["file"], files) if row["file"] else None
        if path is None:
            why = _why_not(folder, row["file"], files)
            raise refuse(table, line, "file", why, row["file"])
        medium = row.get("medium", "").lower() or None
        if medium not in (None, *MEDIA):
            raise refuse(table, line, "medium", f"must be one of {MEDIA}, or empty", medium)
        values: dict[str, object] = {}
        for name, field, convert in (
            ("distance_m", "distance_m", lambda t: _distance(t, separator != ",")),
            ("distance_mm", "distance_m", lambda t: _distance(t, separator != ",", 1000.0)),
            ("spectra", "spectra", _spectra),
        ):
            try:
                if name in row or field not in values:
                    values[field] = convert(row.get(name, ""))
            except ValueError as error:
                raise refuse(table, line, name, str(error), row[name]) from error
        entries.append(
            Entry(line, path, row["label"], row.get("specimen", ""), medium=medium, **values)  # type: ignore[arg-type]
        )
    if not entries:
        raise FileFormatError("has no row below its header", file=table)
    return entries
