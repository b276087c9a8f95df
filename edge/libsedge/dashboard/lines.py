"""Which elements' lines a spectrum shows: peaks whose places agree with the table of strong lines.

A peak is the highest of 7 neighbouring channels and stands `SIGMA` times the noise above the median of the 101
channels around it; noise is 1.4826 * MAD of the differences of neighbours / sqrt(2). A line is seen where a peak lies
within the larger of 1.5 channels and `TOLERANCE_NM`. An element is shown as seen when lines that make up at least half
of its strength on this axis are there, at least two of them (one where the axis holds only one).
Places agree, no more is said: no amount, and elements with many lines can agree by chance.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from libsedge.line_table import Line, read_table

SIGMA, TOLERANCE_NM = 6.0, 0.06
_BACKGROUND = 101


def peaks(values: np.ndarray) -> np.ndarray:
    """Indices of the peaks of one spectrum [channels], increasing."""
    values = np.where(np.isfinite(values), values, 0.0).astype(np.float64)
    if values.size < _BACKGROUND:
        return np.zeros(0, np.intp)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, 3, mode="edge"), 7)
    step = _BACKGROUND // 2  # the median at every so many channels, linear between
    blocks = np.lib.stride_tricks.sliding_window_view(values, _BACKGROUND)[::step]
    centres = np.arange(len(blocks)) * step + _BACKGROUND // 2
    background = np.interp(np.arange(values.size), centres, np.median(blocks, axis=1))
    differences = np.diff(values)
    noise = 1.4826 * np.median(np.abs(differences - np.median(differences))) / np.sqrt(2)
    high = (values >= windows.max(axis=1)) & (values - background > SIGMA * max(float(noise), 1e-12))
    return np.flatnonzero(high)


class Identifier:
    """The table on one axis: float64 [channels], nm in vacuum, increasing."""

    def __init__(self, axis: np.ndarray, table: list[Line] | None = None) -> None:
        self.axis = np.asarray(axis, np.float64)
        if self.axis.size < 2:
            table = []
        steps = np.diff(self.axis)
        spacing = np.minimum(
            np.append(steps, np.inf), np.insert(steps, 0, np.inf)
        )  # beside a gap: the other side's
        self.lines: list[Line] = []
        self._tolerance: list[float] = []
        for line in read_table() if table is None else table:
            near = int(np.abs(self.axis - line.wavelength_nm).argmin())
            tolerance = max(TOLERANCE_NM, 1.5 * float(spacing[near]))
            if abs(self.axis[near] - line.wavelength_nm) <= tolerance:  # on the axis, and in no gap of it
                self.lines.append(line)
                self._tolerance.append(tolerance)
        self._elements: dict[str, list[int]] = {}
        for index, line in enumerate(self.lines):
            self._elements.setdefault(line.element, []).append(index)

    def describe(self) -> list[dict[str, Any]]:
        """The elements with a line on this axis, for the page: their lines as [nm, stage, strength]."""
        return [
            {
                "element": element,
                "lines": [
                    [self.lines[i].wavelength_nm, self.lines[i].stage, self.lines[i].strength]
                    for i in indices
                ],
            }
            for element, indices in self._elements.items()
        ]

    def seen(self, values: np.ndarray) -> dict[str, dict[str, Any]]:
        """By element: `lines`, the places in its list that are seen, and `shown`, whether that is enough."""
        found = self.axis[peaks(values)]
        result: dict[str, dict[str, Any]] = {}
        for element, indices in self._elements.items():
            there = [
                place
                for place, i in enumerate(indices)
                if self._near(found, self.lines[i], self._tolerance[i])
            ]
            strength = sum(self.lines[indices[place]].strength for place in there)
            total = sum(self.lines[i].strength for i in indices)
            enough = strength >= 0.5 * total and len(there) >= min(2, len(indices))
            if there:
                result[element] = {"lines": there, "shown": bool(enough), "share": round(strength / total, 3)}
        return result

    @staticmethod
    def _near(found: np.ndarray, line: Line, tolerance: float) -> bool:
        place = int(np.searchsorted(found, line.wavelength_nm))
        around = found[max(0, place - 1) : place + 1]
        return bool(around.size and np.abs(around - line.wavelength_nm).min() <= tolerance)
