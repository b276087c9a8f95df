"""Anyone's files and a table of what they are (`labels_table`), as one `SpectraSet` on one axis.

Axes that differ are resampled linearly onto that of the first row. A channel that some file does not cover, or that
lies in a gap of its axis (a step above five times the local spacing) or beside one of its masked channels, is masked
for the whole set: nothing is interpolated across a gap. A dark spectrum is then subtracted first.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from libsedge.errors import AxisError, ConfigError, SedgeError
from numpy.lib.stride_tricks import sliding_window_view

from ..spectra import SpectraSet
from . import find, read
from .labels_table import Entry, ImportNote, below, read_table, refuse

GAP_STEPS = 5.0


def _read(table: Path, entry: Entry) -> tuple[SpectraSet, tuple[Path, ...], bool]:
    """The spectra that a row names, with what it says of them, the files they come from, and whether their axis'
    medium is a guess."""
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
            label=entry.label or None,
        )
    except SedgeError as error:
        raise refuse(table, entry.line, "file", str(error), entry.file.name) from error
    if entry.spectra is not None:
        if max(entry.spectra) >= len(spectra):
            why = f"the file has {len(spectra)} spectra, counted from 0"
            raise refuse(table, entry.line, "spectra", why, max(entry.spectra))
        spectra = spectra.select(np.array(entry.spectra))
    guessed = reader is not None and reader.from_anywhere and "(by format)" in spectra.source
    return spectra, tuple(members), guessed


def covered(spectra: SpectraSet, axis: np.ndarray) -> np.ndarray:
    """Which points of ``axis`` [m] are valid channels of ``spectra`` or lie between two neighbouring ones, bool [m]."""
    wavelength = spectra.wavelength
    steps = np.diff(wavelength)
    local = _local(steps)
    sound = (steps <= GAP_STEPS * local) & spectra.mask[:-1] & spectra.mask[1:]
    right = np.clip(np.searchsorted(wavelength, axis, side="left"), 1, wavelength.size - 1)
    inside = (axis >= wavelength[0]) & (axis <= wavelength[-1])
    return np.asarray(inside & sound[right - 1]) | np.isin(axis, wavelength[spectra.mask])


def _local(steps: np.ndarray, reach: int = 8) -> np.ndarray:
    """The median of each step and its ``reach`` neighbours on either side, fewer at the ends."""
    inner = np.median(sliding_window_view(np.pad(steps, reach), 2 * reach + 1), axis=1)
    for i in (*range(min(reach, steps.size)), *range(max(0, steps.size - reach), steps.size)):
        inner[i] = np.median(steps[max(0, i - reach) : i + reach + 1])
    return np.asarray(inner)


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
    in_vacuum: list[str] = []
    for entry in entries:
        spectra, members, guessed = _read(table, entry)
        in_vacuum += [entry.file.name] if guessed and spectra.instrument == "" else []
        rows = entry.spectra or tuple(range(len(spectra)))
        taken = used.setdefault(min(members), {})
        for row in rows:
            if taken.setdefault(row, entry.line) != entry.line:
                why = f"its spectrum {row} is already in the row in line {taken[row]}"
                raise refuse(table, entry.line, "file", why, entry.file.name)
        for name, own in sorted(set(zip(spectra.specimen.tolist(), spectra.label.tolist(), strict=True))):
            label, line = labels.setdefault(name, (own, entry.line))
            if label != own:
                why = f"the specimen is labelled {label!r} in line {line}: a specimen has one label"
                raise refuse(table, entry.line, "label", f"{name!r}: {why}", own)
        if sets and spectra.quantity != sets[0].quantity:
            why = f"holds {spectra.quantity}, the first row {sets[0].quantity}: these are not one set"
            raise refuse(table, entry.line, "file", why, entry.file.name)
        sets.append(spectra)
        used.update({member: used[min(members)] for member in members})
        advance()
    if in_vacuum:
        why = f"the axis of {len(in_vacuum)} row(s) is taken as vacuum ({in_vacuum[0]}{', ...' * (len(in_vacuum) > 1)})"
        why += ": a column medium with air says otherwise, as most laboratory spectrometers need"
        warnings.warn(f"{table.name}: {why}", ImportNote, stacklevel=2)
    joined = _join(table, entries, sets)
    left = [
        str(p.relative_to(folder)) for p in below(folder) if p not in used and p.resolve() != table.resolve()
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
    if mask.sum() < axis.size / 2:
        entry, part = min(zip(entries, moved, strict=True), key=lambda pair: int(pair[1].mask.sum()))
        why = f"{table.name}: of {axis.size} channels of line {entries[0].line} every file covers {int(mask.sum())};"
        why += f" line {entry.line} ({entry.file.name}) alone {int(part.mask.sum())}"
        warnings.warn(why, ImportNote, stacklevel=2)
    for part in moved:
        part.counts[:, ~mask] = 0.0
    joined = SpectraSet.concat([replace(part, mask=mask) for part in moved])
    kept = f"axis of line {entries[0].line}, {int(mask.sum())} of {axis.size} channels covered by every file"
    return replace(joined, source=f"{note}; {kept}; {joined.source}").validate()
