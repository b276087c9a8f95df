"""A spectrometer drawn at random, and what it makes of a plasma's light.

One to seven detectors side by side, each with its own line spread (0.05 to 1 nm, Gaussian with wings), pixels, axis
error (at most 0.6 nm, but for the few whose axis is lost; half of the axes are in air and do not say so), smooth
response and gain, then shot and read noise, offset, saturation, and in some a removed continuum as in the archives of
ChemCam and SuperCam. Ranges are our judgement, wide enough for the axes and the line spreads of the real files. The
spectrum is given on the model's grid by the board's own rule: linear interpolation between pixels.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from libsedge.air import vacuum_to_air
from scipy.ndimage import gaussian_filter1d, grey_opening, uniform_filter1d  # type: ignore[import-untyped]

from libsedge_training.simulate.absorption import STEP_NM, grid

START_NM, STOP_NM = 239.5, 850.5
#: largest axis error, nm; the share of the spectrometers whose axis is that of another one or of another year, the
#: standard deviation of their detectors' errors and the largest of these, nm (JSC's files: 0.6, 0.5 and 2.5 nm)
MOST_ERROR = 0.6
LOST, LOST_ERROR, MOST_LOST = 0.05, 1.2, 3.0
_TO_SIGMA = 1 / np.sqrt(8 * np.log(2))


@dataclass(frozen=True)
class Detector:
    """One detector: range, line spread (FWHM), wings (share of the light in a Gaussian three times as wide), pixel, all
    nm; axis error at its two ends, nm; response float64 [5] as amplitudes of a cosine series of its logarithm.
    """

    start: float
    stop: float
    fwhm: float
    wings: float
    pixel: float
    error: tuple[float, float]
    response: tuple[float, ...]


@dataclass(frozen=True)
class RandomInstrument:
    """Detectors; electrons in the brightest pixel; read noise and offset over the brightest pixel; share of the light
    that strays over its detector; share of the pixels that saturate; width over which the continuum is removed, nm
    (0 = it is not).
    """

    detectors: tuple[Detector, ...]
    electrons: float
    read_noise: float
    offset: float
    stray: float
    saturated: float
    opening: float


def draw(rng: np.random.Generator) -> RandomInstrument:
    """A random spectrometer."""
    count = int(rng.integers(1, 8))
    edges = START_NM + (STOP_NM - START_NM) * np.sort(rng.random(count - 1))
    ends = np.concatenate([[START_NM], edges, [STOP_NM]])
    usual = 10 ** rng.uniform(np.log10(0.06), np.log10(0.6))
    calibrated = rng.random() < 0.5
    common = 0.0 if calibrated else float(np.clip(rng.normal(0.0, 0.2), -0.5, 0.5))
    lost = rng.random() < LOST
    most = MOST_LOST if lost else MOST_ERROR
    in_air = rng.random() < 0.5  # and nobody said so
    detectors = []
    for start, stop in itertools.pairwise(ends):
        fwhm = float(np.clip(usual * rng.uniform(0.6, 1.8), 0.05, 1.0))
        error = common + rng.normal(0.0, 0.015 if calibrated else 0.08, 2)
        if lost:
            error += rng.normal(0.0, LOST_ERROR)
        if in_air:
            error += vacuum_to_air(np.array([start, stop])) - [start, stop]
        response = (rng.normal(0.0, 0.6), *(rng.normal(0.0, 0.5 / k) for k in range(1, 5)))
        wings = float(rng.uniform(0.0, 0.4)) if rng.random() < 0.7 else 0.0
        low, high = (float(np.clip(e, -most, most)) for e in error)
        detectors.append(
            Detector(
                float(start), float(stop), fwhm, wings, fwhm / rng.uniform(1.5, 5.0), (low, high), response
            )
        )
    offset = 10 ** rng.uniform(-3.0, -1.2) if rng.random() < 0.3 else rng.normal(0.0, 0.0005)
    return RandomInstrument(
        tuple(detectors),
        electrons=10 ** rng.uniform(3.5, 6.5),
        read_noise=10 ** rng.uniform(-5.0, -2.7),
        offset=float(offset),
        stray=10 ** rng.uniform(-3.5, -1.5),
        saturated=10 ** rng.uniform(-4.0, -2.0) if rng.random() < 0.25 else 0.0,
        opening=float(rng.uniform(3.0, 12.0)) if rng.random() < 0.2 else 0.0,
    )


def _detector(light: np.ndarray, part: Detector) -> tuple[np.ndarray, np.ndarray]:
    """(axis as the file says, signal) of one detector, float64 [pixels] each."""
    nm = grid()
    inside = (nm > part.start - 4.5) & (nm < part.stop + 4.5)
    here, seen = nm[inside], light[inside].astype(np.float64)
    sigma = part.fwhm * _TO_SIGMA / STEP_NM
    spread = gaussian_filter1d(seen, sigma, truncate=4.0)
    if part.wings > 0:
        spread = (1 - part.wings) * spread + part.wings * gaussian_filter1d(seen, 3 * sigma, truncate=3.0)
    pixels = max(8, int((part.stop - part.start) / part.pixel))
    u = (np.arange(pixels) + 0.5) / pixels
    axis = part.start + (part.stop - part.start) * u
    error = part.error[0] + (part.error[1] - part.error[0]) * u
    signal = np.interp(axis - error, here, spread)
    series = sum(a * np.cos(np.pi * k * u) for k, a in enumerate(part.response))
    return axis, signal * np.exp(series)


def measure(
    light: np.ndarray, instrument: RandomInstrument, at: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The spectrum of ``light`` [points of `absorption.grid`] at the wavelengths ``at`` (vacuum nm), float32.

    Relative counts with 1 the brightest pixel; negative values stay.
    """
    axes, signals = zip(*(_detector(light, part) for part in instrument.detectors), strict=True)
    signal = np.concatenate([(1 - instrument.stray) * s + instrument.stray * s.mean() for s in signals])
    signal /= signal.max()
    noisy = rng.poisson(np.maximum(signal, 0.0) * instrument.electrons) / instrument.electrons
    noisy = noisy + instrument.read_noise * rng.standard_normal(signal.size) + instrument.offset
    if instrument.saturated > 0:
        noisy = np.minimum(noisy, np.quantile(noisy, 1 - instrument.saturated))
    out = np.empty(at.size, np.float32)
    begin = 0
    for part, axis in zip(instrument.detectors, axes, strict=True):
        counts = noisy[begin : begin + axis.size]
        begin += axis.size
        if instrument.opening > 0:
            width = max(3, int(instrument.opening / part.pixel)) | 1
            low = grey_opening(counts, width)
            counts = counts - uniform_filter1d(low, width)
        here = (at >= part.start) & (at < part.stop)
        out[here] = np.interp(at[here], axis, counts)
    return out
