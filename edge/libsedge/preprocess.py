"""From raw spectra to the network's input: the same compiled steps in training and on the board.

The steps, in this fixed order: `dark` (subtract; negative values stay), `mask`, `smooth` and `continuum` where the
model asks for them, `resample`, `normalise`, `compress`, `quantise`. Values are float32 with one rounding per
operation, axis positions and sums float64, so that the same spectrum gives the same bits on every machine.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from libsedge import _core
from libsedge.errors import AxisError, ConfigError, SpectrumError
from libsedge.preprocess_config import DEFAULT_SEGMENTS, PreprocessConfig, Segment, Smooth, Snip

__all__ = ["DEFAULT_SEGMENTS", "PreprocessConfig", "Preprocessor", "Report", "Segment", "Smooth", "Snip"]

_UINT16, _FLOAT32 = np.dtype(np.uint16), np.dtype(np.float32)

# `Preprocessor.float` hides the built-in name in that class.
_Real: TypeAlias = float


class Report(NamedTuple):
    """What one spectrum was like before it was normalised; pixels under the channel mask do not count.

    Attributes
    ----------
    non_finite : pixels that are NaN, infinite or beyond 1e20; treated as masked.
    saturated : pixels whose raw counts reach the saturation level; 0 where that is unknown.
    valid_fraction : share of the grid points that got a value.
    signal : mean of the dark-subtracted counts over the valid pixels.
    contrast : (99.5th percentile - median) / noise of the dark-subtracted valid pixels within the grid; noise
        is 1.4826 * median|d| / sqrt(2) over differences d of neighbouring pixels (their standard deviation for
        white noise). Median and noise are those of every fourth pixel and pair, order statistics are the lower
        ones. About 2.6 for white noise, tens to hundreds for a
        plasma; 0 where the percentile does not exceed the median, at most 1e6. Pixels and not grid points:
        interpolation correlates neighbours and would make the noise look smaller than it is.
    """

    non_finite: int
    saturated: int
    valid_fraction: float
    signal: float
    contrast: float


class Preprocessor:
    """Brings spectra of one instrument onto a model's grid.

    Linear interpolation at the grid points. A grid point is masked, and its output 0 (int8: `zero_point`),
    where it lies outside the axis, where one of the two pixels around it is masked or not finite, or where
    these two are further apart than 5 times the local median spacing (15 spacings around): a detector gap.
    Each segment is divided by its mean over the valid points, floored at 1e-12.

    Calls may come from several threads; they run one after the other, without the GIL.

    Parameters
    ----------
    config : the model's grid and the steps' parameters.
    wavelength_nm : the instrument's axis, [channels], nm in vacuum, strictly increasing, at least 2 channels.
    mask : [channels], true = valid; None = all valid.

    Raises AxisError when the axis is unusable or no grid point at all lies on it.
    """

    def __init__(
        self, config: PreprocessConfig, wavelength_nm: np.ndarray, mask: np.ndarray | None = None
    ) -> None:
        axis = np.ascontiguousarray(wavelength_nm, dtype=np.float64)
        if axis.ndim != 1 or axis.size < 2:
            raise AxisError(
                "one dimension of at least 2 channels", field="wavelength.shape", value=axis.shape
            )
        if not np.isfinite(axis).all():
            bad = int(np.argmin(np.isfinite(axis)))
            raise AxisError("must be finite", field=f"wavelength[{bad}]", value=float(axis[bad]))
        if not (np.diff(axis) > 0).all():
            bad = int(np.argmin(np.diff(axis) > 0)) + 1
            raise AxisError(
                f"must increase; the channel before is at {axis[bad - 1]} nm",
                field=f"wavelength[{bad}]",
                value=float(axis[bad]),
            )
        valid = (
            np.ones(axis.size, np.uint8)
            if mask is None
            else np.ascontiguousarray(np.asarray(mask) != 0, np.uint8)
        )
        if valid.shape != axis.shape:
            raise AxisError(f"must match the axis, {axis.shape}", field="mask.shape", value=valid.shape)
        self.config = config
        self.channels = int(axis.size)
        self._valid = self._used = valid.astype(bool)
        sizes = [segment.channels for segment in config.segments]
        grid = config.grid_nm
        smooth, continuum = config.smooth, config.continuum
        window, order = (0, 0) if smooth is None else (smooth.window, smooth.order)
        half_window = 0 if continuum is None else continuum.half_window
        root = config.compress == "sqrt"
        self.core = _core.Preprocessor(axis, valid, grid, sizes, root, window, order, half_window)
        self.grid_mask: np.ndarray = self.core.grid_mask(0.0)
        """bool [points]: grid points that a finite spectrum gives a value when the axis is not shifted."""
        if not self.grid_mask.any():
            raise AxisError(
                f"{axis[0]:.2f}-{axis[-1]:.2f} nm has no valid channel on the model's grid, "
                f"{grid[0]:.2f}-{grid[-1]:.2f} nm",
                field="wavelength",
            )

    def leave_out(self, bad: np.ndarray | None) -> None:
        """Take these pixels, bool [channels], for masked from now on, besides the mask; None takes none.

        Raises AxisError for another shape, or where no grid point would be left; nothing is changed then.
        """
        mask = self._valid if bad is None else self._valid & ~np.asarray(bad, bool)
        if mask.shape != self._valid.shape:
            raise AxisError(f"must match the axis, {self._valid.shape}", field="bad.shape", value=mask.shape)
        before = self._used
        self._use(mask)
        if not self.grid_mask.any():
            self._use(before)
            raise AxisError("leaves no valid channel on the model's grid", field="bad")

    def _use(self, mask: np.ndarray) -> None:
        self._used = mask
        self.core.set_mask(np.ascontiguousarray(mask, np.uint8))
        self.grid_mask = self.core.grid_mask(0.0)

    def float(self, counts: np.ndarray, dark: np.ndarray | None = None, shift_nm: _Real = 0.0) -> np.ndarray:
        """Everything but `quantise`.

        Parameters
        ----------
        counts : [channels] or [n, channels]; taken as float32, uint16 as it is.
        dark : [channels], in counts, or None.
        shift_nm : added to every position of the wavelength axis.

        Returns float32 [points] or [n, points], never NaN. Raises SpectrumError for a wrong shape.
        """
        return self._run(counts, dark, shift_nm, want_float=True)[0]

    def int8(self, counts: np.ndarray, dark: np.ndarray | None = None, shift_nm: _Real = 0.0) -> np.ndarray:
        """All steps: `clamp(round_half_even(float(...) / scale) + zero_point)`; int8, shapes as `float`.

        Raises ConfigError when the configuration has no scale.
        """
        return self._run(counts, dark, shift_nm, want_int8=True)[1]

    def report(
        self,
        counts: np.ndarray,
        saturation: _Real | None = None,
        dark: np.ndarray | None = None,
        shift_nm: _Real = 0.0,
    ) -> Report | list[Report]:
        """One Report for [channels], a list for [n, channels]. `saturation` None or NaN = unknown."""
        return self._run(counts, dark, shift_nm, saturation=_level(saturation))[2]

    def input(self, counts: np.ndarray, dark: np.ndarray | None = None, shift_nm: _Real = 0.0) -> np.ndarray:
        """What the network takes: `int8` where the configuration has a scale, else `float`."""
        steps = self.float if self.config.scale is None else self.int8
        return steps(counts, dark, shift_nm)

    def input_and_report(
        self,
        counts: np.ndarray,
        saturation: _Real | None = None,
        dark: np.ndarray | None = None,
        shift_nm: _Real = 0.0,
    ) -> tuple[np.ndarray, Any]:
        """`input` and `report` of the same spectra in one pass."""
        quantised = self.config.scale is not None
        wanted = {"want_int8": quantised, "want_float": not quantised}
        floats, int8s, reports = self._run(counts, dark, shift_nm, **wanted, saturation=_level(saturation))
        return (int8s if quantised else floats), reports

    def taken(
        self, counts: np.ndarray, dark: np.ndarray | None, shift_nm: _Real
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """`counts` [n, channels] and `dark` as the compiled part takes them; SpectrumError for what it cannot."""
        if counts.ndim != 2 or counts.shape[1] != self.channels:
            raise SpectrumError(
                f"must end in {self.channels} channels", field="counts.shape", value=counts.shape
            )
        if dark is not None:
            dark = _float32(dark)
            if dark.shape != (self.channels,):
                raise SpectrumError(f"must be ({self.channels},)", field="dark.shape", value=dark.shape)
        if not math.isfinite(shift_nm):
            raise SpectrumError("must be finite", field="shift_nm", value=shift_nm)
        return counts if _is(counts, _UINT16) else _float32(counts), dark

    def _run(
        self,
        counts: np.ndarray,
        dark: np.ndarray | None,
        shift_nm: _Real,
        *,
        want_float: bool = False,
        want_int8: bool = False,
        saturation: _Real | None = None,
    ) -> tuple[Any, Any, Any]:
        counts = np.asarray(counts)
        rows, dark = self.taken(counts[None] if counts.ndim == 1 else counts, dark, shift_nm)
        quantisation = None
        if want_int8:
            if self.config.scale is None or self.config.zero_point is None:
                raise ConfigError("the model's input is not quantised yet", field="scale")
            quantisation = (self.config.scale, self.config.zero_point)
        floats, int8s, table = self.core.run(rows, dark, shift_nm, want_float, quantisation, saturation)
        reports = None if table is None else [Report(int(a), int(b), *rest) for a, b, *rest in table.tolist()]
        if counts.ndim == 2:
            return floats, int8s, reports
        first, second, third = (None if result is None else result[0] for result in (floats, int8s, reports))
        return first, second, third


def _is(values: np.ndarray, dtype: np.dtype[Any]) -> bool:
    """True where the compiled part takes the array as it stands."""
    return values.dtype == dtype and values.flags.c_contiguous and values.flags.aligned


def _float32(values: np.ndarray) -> np.ndarray:
    if _is(values, _FLOAT32):
        return values
    with np.errstate(over="ignore"):  # beyond float32: infinite, and counted as non-finite
        return np.require(values, np.float32, ("C", "A"))


def _level(saturation: float | None) -> float:
    return math.nan if saturation is None else float(saturation)
