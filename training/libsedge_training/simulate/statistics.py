"""The statistics that real and simulated spectra are compared by: the same functions for both sides.

Spectra are float64 [n, pixels], calibrated to photon radiance (any unit) unless a function says counts; axes are
vacuum nm. A detector is a run of pixels without a jump of the axis above 2 nm.
"""

from __future__ import annotations

from itertools import combinations, pairwise, product
from typing import NamedTuple

import numpy as np
from scipy.ndimage import grey_opening, uniform_filter1d  # type: ignore[import-untyped,unused-ignore]

GAP_NM = 2.0


class Line(NamedTuple):
    """A line or multiplet: ``kind`` is ion or neutral; the window is ``centre`` +- ``half`` nm (vacuum)."""

    name: str
    kind: str
    centre: float
    half: float


#: windows on SuperCam's axis; those of research on the same files (Si II 634.7, Mg II 279.6, Ca II 393, ...)
LINES = (
    Line("Si II 634.9", "ion", 634.889, 1.1),
    Line("Mg II 279.6", "ion", 279.9, 0.9),
    Line("Al I 394.5", "neutral", 394.512, 0.35),
    Line("Al I 396.3", "neutral", 396.264, 0.30),
    Line("Ca I 422.8", "neutral", 422.792, 0.40),
    Line("Ca I 445.6", "neutral", 445.600, 0.40),
    Line("Ca I 616.4", "neutral", 616.390, 0.80),
    Line("Fe I 438.5", "neutral", 438.480, 0.35),
    Line("K I 766.7", "neutral", 766.700, 1.1),
    Line("Na I 589.4", "neutral", 589.400, 1.5),
    Line("Si I 288.2", "neutral", 288.242, 0.40),
)
CA_II_K = 393.477  # nm, vacuum, NIST


def detectors(wavelength: np.ndarray) -> list[slice]:
    """The pixels of each detector of an axis."""
    ends = [0, *(np.flatnonzero(np.diff(wavelength) > GAP_NM) + 1).tolist(), wavelength.size]
    return [slice(a, b) for a, b in pairwise(ends)]


def gaps(wavelength: np.ndarray) -> list[tuple[float, float]]:
    """(last wavelength before, first after) of every gap between detectors."""
    parts = detectors(wavelength)
    return [(float(wavelength[a.stop - 1]), float(wavelength[b.start])) for a, b in pairwise(parts)]


def without_continuum(wavelength: np.ndarray, spectra: np.ndarray, width_nm: float = 5.0) -> np.ndarray:
    """Spectra [n, pixels] less their lower envelope: a morphological opening over ``width_nm``, smoothed over as much,
    in each detector. The archives of ChemCam and SuperCam have the continuum removed; taken off both sides, what is
    left is compared alike.
    """
    out = np.empty_like(spectra)
    for part in detectors(wavelength):
        size = round(width_nm / float(np.median(np.diff(wavelength[part])))) | 1
        low = grey_opening(spectra[:, part], (1, size))
        out[:, part] = spectra[:, part] - np.minimum(uniform_filter1d(low, size, axis=1), spectra[:, part])
    return out


def normalised(wavelength: np.ndarray, spectra: np.ndarray, by: str) -> np.ndarray:
    """Spectra without negative values over their ``total``, or per ``detector`` over that detector's total."""
    positive = np.clip(spectra, 0.0, None)
    parts = detectors(wavelength) if by == "detector" else [slice(None)]
    return np.concatenate([positive[:, p] / positive[:, p].sum(axis=1, keepdims=True) for p in parts], axis=1)


def bray_curtis(a: np.ndarray, b: np.ndarray) -> float:
    """sum |a - b| / sum (a + b) of two spectra [pixels]."""
    return float(np.abs(a - b).sum() / (a + b).sum())


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of the angle between two spectra [pixels]."""
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def within(measure: object, spectra: np.ndarray) -> list[float]:
    """``measure`` of every pair of ``spectra`` [n, pixels]."""
    return [measure(a, b) for a, b in combinations(spectra, 2)]  # type: ignore[operator]


def across(measure: object, near: np.ndarray, far: np.ndarray) -> list[float]:
    """``measure`` of every pair of one near and one far spectrum."""
    return [measure(a, b) for a, b in product(near, far)]  # type: ignore[operator]


def area(wavelength: np.ndarray, spectrum: np.ndarray, line: Line) -> float:
    """Area of a line over the straight line between the ends of its window."""
    window = np.abs(wavelength - line.centre) < line.half
    x, y = wavelength[window], spectrum[window]
    return float(np.trapezoid(y - np.interp(x, x[[0, -1]], y[[0, -1]]), x))


def line_ratios(wavelength: np.ndarray, near: np.ndarray, far: np.ndarray, line: Line) -> list[float]:
    """Area near over area far of a line, for every pair of one near and one far spectrum."""
    below = [area(wavelength, spectrum, line) for spectrum in far]
    return [area(wavelength, n, line) / f for n, f in product(near, below)]


def shot_rsd(counts: np.ndarray, strongest: int = 20) -> tuple[float, float]:
    """Relative standard deviation over shots [n, pixels] of the total, and of strong normalised lines.

    The latter: the median over the ``strongest`` local maxima (+- 3 pixels) of the mean spectrum of the RSD of the
    peak pixel over the total of its shot.
    """
    total = counts.sum(axis=1)
    share = counts / total[:, None]
    mean = counts.mean(axis=0)
    around = np.lib.stride_tricks.sliding_window_view(mean, 7).max(axis=1)
    peaks = np.flatnonzero(mean[3:-3] == around) + 3
    peaks = peaks[np.argsort(-mean[peaks], kind="stable")[:strongest]]
    lines = share[:, peaks].std(axis=0, ddof=1) / share[:, peaks].mean(axis=0)
    return float(total.std(ddof=1) / total.mean()), float(np.median(lines))


def power_law(distance: np.ndarray, signal: np.ndarray) -> tuple[float, float]:
    """(exponent, scatter): least squares of ln signal on ln distance, and the residuals' standard deviation."""
    x, y = np.log(distance), np.log(signal)
    slope, offset = np.polyfit(x, y, 1)
    return float(slope), float((y - slope * x - offset).std())


def line_offset(
    wavelength: np.ndarray, spectrum: np.ndarray, centre: float = CA_II_K, reach: float = 0.7
) -> float:
    """Where the highest pixel within ``reach`` of ``centre`` lies, less ``centre``, nm; refined by a parabola."""
    near = np.flatnonzero(np.abs(wavelength - centre) < reach)
    k = int(near[np.argmax(spectrum[near])])
    low, top, high = (float(v) for v in spectrum[k - 1 : k + 2])
    curve = low - 2 * top + high
    part = 0.0 if curve >= 0 else float(np.clip(0.5 * (low - high) / curve, -0.5, 0.5))
    step = wavelength[k + 1] - wavelength[k] if part > 0 else wavelength[k] - wavelength[k - 1]
    return float(wavelength[k] + part * step - centre)
