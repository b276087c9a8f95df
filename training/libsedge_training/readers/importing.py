"""Anyone's files and a table of what they are, as one `SpectraSet` on one axis.

The table is CSV (comma, or semicolon with decimal commas allowed) with a header row:

* ``file``: path below the folder of the files; several rows may name different spectra of one file;
* ``label``: the class, empty = unlabelled;
* ``specimen``: the physical thing that was shot; empty = what the file says, else its stem;
* ``distance_m``: stand-off; empty = what the file says;
* ``spectra`` (optional): which of the file's spectra, counted from 0, such as ``0-9 20-29``; empty = all;
* ``medium`` (optional): ``air`` or ``vacuum`` of the file's axis; empty = the format's rule.

Axes that differ are resampled linearly onto that of the first row. A channel that some file does not cover, or that
lies in a gap of its axis (a step above five times the local spacing) or beside one of its masked channels, is masked
for the whole set: nothing is interpolated across a gap. A dark spectrum is then subtracted first.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from libsedge.errors import AxisError, ConfigError, FileFormatError, SedgeError

from ..spectra import SpectraSet
from . import find, read
from .text import is_number, read_lines
from .wavelength import MEDIA

REQUIRED, OPTIONAL = ("file", "label"), ("specimen", "distance_m", "spectra", "medium")
GAP_STEPS = 5.0
_RANGE = re.compile(r"(\d+)(?:-(\d+))?$")


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


def _refuse(table: Path, line: int, column: str, why: str, value: object) -> FileFormatError:
    return FileFormatError(why, file=table, field=f"row in line {line}, {column}", value=value)


def _distance(text: str, comma: bool) -> float | None:
    if not text:
        return None
    value = float(text.replace(",", ".")) if is_number(text, decimal_comma=comma) else -1.0
    if not 0 < value < np.inf:
        raise ValueError("must be a positive number of metres, or empty")
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


def read_table(table: Path, folder: Path) -> list[Entry]:
    """The rows of a table of labels; `FileFormatError` names the line and the column that is wrong."""
    lines = read_lines(table)
    separator = ";" if ";" in lines[0] else ","
    rows = [(i, row) for i, row in enumerate(csv.reader(lines, delimiter=separator), 1)]
    names = [name.strip().lower() for name in rows[0][1]] if rows else []
    unknown = [name for name in names if name not in (*REQUIRED, *OPTIONAL)]
    if any(name not in names for name in REQUIRED) or unknown or len(set(names)) != len(names):
        why = f"needs the columns {', '.join(REQUIRED)} and may have {', '.join(OPTIONAL)}, each once"
        raise FileFormatError(why, file=table, field="line 1", value=names)
    entries = []
    root = folder.resolve()
    for line, cells in rows[1:]:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(names):
            raise _refuse(table, line, "cells", f"has {len(cells)} cells where {len(names)} belong", cells)
        row = {name: cell.strip() for name, cell in zip(names, cells, strict=True)}
        path = folder / row["file"]
        if not row["file"] or root not in path.resolve().parents:
            raise _refuse(table, line, "file", f"must name a file below {folder.name}", row["file"])
        if not path.is_file():
            raise _refuse(table, line, "file", "does not exist", row["file"])
        medium = row.get("medium", "").lower() or None
        if medium not in (None, *MEDIA):
            raise _refuse(table, line, "medium", f"must be one of {MEDIA}, or empty", medium)
        values: dict[str, object] = {}
        for name, convert in (
            ("distance_m", lambda t: _distance(t, separator == ";")),
            ("spectra", _spectra),
        ):
            try:
                values[name] = convert(row.get(name, ""))
            except ValueError as error:
                raise _refuse(table, line, name, str(error), row[name]) from error
        entries.append(
            Entry(line, path, row["label"], row.get("specimen", ""), medium=medium, **values)  # type: ignore[arg-type]
        )
    if not entries:
        raise FileFormatError("has no row below its header", file=table)
    return entries


def _read(table: Path, entry: Entry) -> tuple[SpectraSet, tuple[Path, ...]]:
    """The spectra that a row names, with what it says of them, and the files they come from."""
    try:
        reader = find(entry.file)
        members = [entry.file]
        if reader is not None and reader.multipart:
            members = reader.members(entry.file, sorted(entry.file.parent.iterdir()))
        spectra = read(
            entry.file,
            medium=entry.medium,
            distance_m=entry.distance_m,
            specimen=entry.specimen or None,
            label=entry.label,
        )
    except SedgeError as error:
        raise _refuse(table, entry.line, "file", str(error), entry.file.name) from error
    if entry.spectra is not None:
        if max(entry.spectra) >= len(spectra):
            why = f"the file has {len(spectra)} spectra, counted from 0"
            raise _refuse(table, entry.line, "spectra", why, max(entry.spectra))
        spectra = spectra.select(np.array(entry.spectra))
    return spectra, tuple(members)


def covered(spectra: SpectraSet, axis: np.ndarray) -> np.ndarray:
    """Which points of ``axis`` [m] are valid channels of ``spectra`` or lie between two neighbouring ones, bool [m]."""
    wavelength = spectra.wavelength
    steps = np.diff(wavelength)
    local = np.array([np.median(steps[max(0, i - 8) : i + 9]) for i in range(steps.size)])
    sound = (steps <= GAP_STEPS * local) & spectra.mask[:-1] & spectra.mask[1:]
    right = np.clip(np.searchsorted(wavelength, axis, side="left"), 1, wavelength.size - 1)
    inside = (axis >= wavelength[0]) & (axis <= wavelength[-1])
    return np.asarray(inside & sound[right - 1]) | np.isin(axis, wavelength[spectra.mask])


def resample(spectra: SpectraSet, axis: np.ndarray) -> SpectraSet:
    """``spectra`` less their dark, linear on ``axis``; the mask says what they cover."""
    counts = spectra.counts.astype(np.float64) - (0.0 if spectra.dark is None else spectra.dark)
    made = np.stack([np.interp(axis, spectra.wavelength, row) for row in counts])
    mask = covered(spectra, axis)
    return replace(
        spectra, counts=made.astype(np.float32), wavelength=axis, mask=mask, dark=None, saturation=np.nan
    )


def import_folder(
    folder: Path, table: Path, *, advance: Callable[[], None] = lambda: None
) -> tuple[SpectraSet, list[str]]:
    """The set that ``table`` describes, and the files of ``folder`` that no row names.

    ``advance`` is called after every row. Raises `FileFormatError` or `AxisError` naming the table's line;
    `ConfigError` where the folder is none.
    """
    if not folder.is_dir():
        raise ConfigError("is not a folder", file=folder, field="folder")
    entries = read_table(table, folder)
    sets: list[SpectraSet] = []
    used: dict[Path, dict[int, int]] = {}  # file -> spectrum -> the table's line that took it
    labels: dict[str, tuple[str, int]] = {}
    for entry in entries:
        spectra, members = _read(table, entry)
        rows = entry.spectra or tuple(range(len(spectra)))
        taken = used.setdefault(min(members), {})
        for row in rows:
            if taken.setdefault(row, entry.line) != entry.line:
                why = f"its spectrum {row} is already in the row in line {taken[row]}"
                raise _refuse(table, entry.line, "file", why, entry.file.name)
        for name in spectra.specimens:
            label, line = labels.setdefault(name, (entry.label, entry.line))
            if label != entry.label:
                why = f"the specimen is labelled {label!r} in line {line}: a specimen has one label"
                raise _refuse(table, entry.line, "label", f"{name!r}: {why}", entry.label)
        if sets and spectra.quantity != sets[0].quantity:
            why = f"holds {spectra.quantity}, the first row {sets[0].quantity}: these are not one set"
            raise _refuse(table, entry.line, "file", why, entry.file.name)
        sets.append(spectra)
        used.update({member: used[min(members)] for member in members})
        advance()
    joined = _join(table, entries, sets)
    everything = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    left = [
        str(p.relative_to(folder)) for p in everything if p not in used and p.resolve() != table.resolve()
    ]
    return joined, left


def _join(table: Path, entries: list[Entry], sets: list[SpectraSet]) -> SpectraSet:
    first = sets[0]

    def alike(other: SpectraSet) -> bool:
        same = np.array_equal(other.wavelength, first.wavelength) and np.array_equal(other.mask, first.mask)
        dark = (other.dark is None) == (first.dark is None)
        dark = dark and (first.dark is None or np.array_equal(other.dark, first.dark))  # type: ignore[arg-type]
        return bool(same and dark and np.array_equal(other.saturation, first.saturation, equal_nan=True))

    note = f"imported by {table.name}, {len(entries)} rows"
    if all(alike(other) for other in sets):
        joined = SpectraSet.concat(sets)
        return replace(joined, source=f"{note}; {joined.source}").validate()
    axis = first.wavelength
    moved = [resample(part, axis) for part in sets]
    mask = np.ones(axis.size, bool)
    for entry, part in zip(entries, moved, strict=True):
        mask = mask & part.mask
        if not mask.any():
            why = "no wavelength is left that this file and those above it all cover"
            raise AxisError(why, file=table, field=f"row in line {entry.line}, file", value=entry.file.name)
    for part in moved:
        part.counts[:, ~mask] = 0.0
    joined = SpectraSet.concat([replace(part, mask=mask) for part in moved])
    kept = f"axis of line {entries[0].line}, {int(mask.sum())} of {axis.size} channels covered by every file"
    return replace(joined, source=f"{note}; {kept}; {joined.source}").validate()
