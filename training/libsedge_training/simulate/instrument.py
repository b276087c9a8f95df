"""From radiance to 16-bit counts; by default in the shape of MarSCoDe's spectrometer, three channels of 1,800 pixels.

The line spread widths (0.19, 0.31, 0.45 nm) are remembered figures for MarSCoDe, which a second source
contradicts; response, gain, noise and dark level are assumptions in the usual range of such detectors. Left
out: blooming of saturated pixels, stray light, smear, cosmic rays, dead pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from libsedge_training.simulate.plasma import Band

_OVERSAMPLING = 3  # points of the fine grid a pixel
_MARGIN_NM = 0.6  # of the fine grid beyond the channel, for the drift


@dataclass(frozen=True)
class Channel:
    """One detector: range (vacuum nm), pixels, line spread (FWHM, nm), bend of its axis, relative
    sensitivity.

    The pixel axis is start + span (u + bend u (1 - u)) with u from 0 to 1: dispersion varies by +- ``bend``.
    """

    start_nm: float
    stop_nm: float
    pixels: int
    fwhm_nm: float
    bend: float
    sensitivity: float

    def axis(self) -> np.ndarray:
        """Wavelength of every pixel's middle, vacuum nm, float64 [pixels], increasing, within the range."""
        u = (np.arange(self.pixels) + 0.2) / (self.pixels - 0.6)
        return self.start_nm + (self.stop_nm - self.start_nm) * (u + self.bend * u * (1 - u))

    def band(self) -> Band:
        """The fine grid the plasma is computed on."""
        step = (self.stop_nm - self.start_nm) / self.pixels / _OVERSAMPLING
        count = int(np.ceil((self.stop_nm - self.start_nm + 2 * _MARGIN_NM) / step)) + 1
        return Band(self.start_nm - _MARGIN_NM + step * np.arange(count), self.fwhm_nm)

    def response(self) -> np.ndarray:
        """Sensitivity of every pixel to photons, float64 [pixels]: a dome, 45 % lower at the ends."""
        u = (np.arange(self.pixels) + 0.5) / self.pixels
        return self.sensitivity * (1 - 0.45 * (2 * u - 1) ** 2)


CHANNELS = (
    Channel(240.0, 340.0, 1800, 0.19, 0.030, 0.5),
    Channel(340.0, 540.0, 1800, 0.31, -0.025, 1.0),
    Channel(540.0, 850.0, 1800, 0.45, 0.020, 0.8),
)


@dataclass(frozen=True)
class InstrumentConfig:
    """Detector figures. Counts and electrons an exposure; wavelengths in nm.

    ``electrons`` from a pixel for radiance (W m^-2 sr^-1 nm^-1) x wavelength (nm) x pixel width (nm),
    sensitivity 1. ``drift_cell_nm`` is the largest axis drift of a channel in one measuring session (a
    material at one distance), ``drift_shot_nm`` the standard deviation from shot to shot.
    """

    name: str = "marscode"
    channels: tuple[Channel, ...] = CHANNELS
    electrons: float = 0.0095
    electrons_per_count: float = 4.0
    read_noise_electrons: float = 20.0
    dark_level_counts: float = 900.0
    dark_pattern_counts: float = 25.0
    dark_noise_electrons: float = 10.0
    dark_frames: int = 60
    saturation_counts: int = 65535
    drift_cell_nm: float = 0.09
    drift_shot_nm: float = 0.01


class Spectrometer:
    """Turns radiance on the fine grids into counts. ``wavelength`` float64 [pixels], vacuum nm; ``bands`` for
    `emission`.
    """

    def __init__(self, config: InstrumentConfig) -> None:
        self.config = config
        self.bands = [channel.band() for channel in config.channels]
        self._axes = [channel.axis() for channel in config.channels]
        self.wavelength = np.concatenate(self._axes)
        widths = np.concatenate([np.gradient(axis) for axis in self._axes])
        response = np.concatenate([channel.response() for channel in config.channels])
        self._electrons = config.electrons * response * self.wavelength * widths

    def electrons(self, radiance: np.ndarray, drift_nm: np.ndarray) -> np.ndarray:
        """Expected photo-electrons [n, pixels] of ``radiance`` [n, points], each channel moved by
        ``drift_nm`` [n, 3].

        A drift of +0.1 nm means that a pixel sees light 0.1 nm redder than its nominal wavelength.
        """
        out = np.empty((len(radiance), self.wavelength.size))
        for row, (spectrum, drift) in enumerate(zip(radiance, drift_nm, strict=True)):
            point = pixel = 0
            for band, axis, moved in zip(self.bands, self._axes, drift, strict=True):
                part = spectrum[point : point + band.grid.size]
                out[row, pixel : pixel + axis.size] = np.interp(axis + moved, band.grid, part)
                point, pixel = point + band.grid.size, pixel + axis.size
        return out * self._electrons

    def radiance(self, counts: np.ndarray, dark: np.ndarray) -> np.ndarray:
        """Photon radiance [n, pixels] (any unit) of ``counts`` [n, pixels]: less ``dark`` [pixels], over the
        response and width of each pixel, which a calibrated instrument knows.
        """
        return (counts - dark) / (self._electrons / self.wavelength)

    def draw_drift(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Axis drift (nm) [count, channels] of one session."""
        cell = rng.uniform(-1, 1, len(self.bands)) * self.config.drift_cell_nm
        return cell + self.config.drift_shot_nm * rng.standard_normal((count, len(self.bands)))

    def draw_pattern(self, rng: np.random.Generator) -> np.ndarray:
        """The detector's true mean dark level, counts [pixels]; constant over a set."""
        noise = rng.standard_normal(self.wavelength.size)
        return self.config.dark_level_counts + self.config.dark_pattern_counts * noise

    def expose(self, electrons: np.ndarray, pattern: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Counts uint16 [n, pixels] of expected ``electrons`` [n, pixels]: shot, dark and read noise, then
        the ADC.
        """
        config = self.config
        noise = np.hypot(config.read_noise_electrons, config.dark_noise_electrons)
        collected = rng.poisson(electrons) + noise * rng.standard_normal(electrons.shape)
        counts = np.rint(collected / config.electrons_per_count + pattern)
        return np.clip(counts, 0, config.saturation_counts).astype(np.uint16)

    def mean_dark(self, pattern: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Mean of `InstrumentConfig.dark_frames` frames without light, float32 [pixels]: what a user would
        subtract.
        """
        frames = self.expose(np.zeros((self.config.dark_frames, pattern.size)), pattern, rng)
        return frames.mean(axis=0).astype(np.float32)
