"""From raw spectra to the network's input: the same compiled steps in training and on the board.

The steps, in this fixed order: `dark` (subtract; negative values stay), `mask`, `smooth` and `continuum` where the
model asks for them, `resample`, `normalise`, `compress`, `quantise`. Values are float32 with one rounding per
operation, axis positions and sums float64, so that the same spectrum gives the same bits on every machine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from libsedge import _core
from libsedge.errors import AxisError, ConfigError, SpectrumError

FORMAT = "libsedge-preprocess"
VERSION = 1
COMPRESSIONS = ("sqrt", "none")
MAX_POINTS = 1 << 20

_UINT16, _FLOAT32 = np.dtype(np.uint16), np.dtype(np.float32)

# `Preprocessor.float` hides the built-in name in that class.
_Real: TypeAlias = float


@dataclass(frozen=True, slots=True)
class Segment:
    """`channels` equal bins between `start_nm` and `stop_nm` (vacuum); a grid point sits at the middle of its
    bin."""

    start_nm: float
    stop_nm: float
    channels: int

    def __post_init__(self) -> None:
        for name in ("start_nm", "stop_nm"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise ConfigError("must be a positive wavelength in nm", field=f"segment.{name}", value=value)
        if not self.start_nm < self.stop_nm:
            raise ConfigError("must be above start_nm", field="segment.stop_nm", value=self.stop_nm)
        if isinstance(self.channels, bool) or not isinstance(self.channels, int) or self.channels < 1:
            raise ConfigError("must be a positive integer", field="segment.channels", value=self.channels)

    @property
    def spacing_nm(self) -> float:
        """Distance between grid points, nm."""
        return (self.stop_nm - self.start_nm) / self.channels


#: Like MarSCoDe's three spectrometers on Tianwen-1.
DEFAULT_SEGMENTS = (Segment(240.0, 340.0, 1800), Segment(340.0, 540.0, 1800), Segment(540.0, 850.0, 1800))


@dataclass(frozen=True, slots=True)
class Smooth:
    """Savitzky-Golay smoothing on the instrument's pixels: a polynomial of `order` fitted to `window` pixels around
    each (Savitzky & Golay, Anal. Chem. 36, 1627, 1964). window : odd, at most 101, above order; order : 0 to 5."""

    window: int
    order: int

    def __post_init__(self) -> None:
        _check_int("smooth.window", self.window, 3, 101)
        _check_int("smooth.order", self.order, 0, 5)
        if self.window % 2 == 0 or self.order >= self.window:
            raise ConfigError("must be odd, and above the order", field="smooth.window", value=self.window)


@dataclass(frozen=True, slots=True)
class Snip:
    """Subtraction of the continuum by SNIP on the instrument's pixels (Ryan et al., Nucl. Instrum. Methods B 34, 396,
    1988): for p = half_window ... 1, c[i] = min(c[i], (c[i-p] + c[i+p]) / 2). half_window : 1 to 1000 pixels."""

    half_window: int

    def __post_init__(self) -> None:
        _check_int("continuum.half_window", self.half_window, 1, 1000)


def _check_int(field: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"must be an integer of {low} to {high}", field=field, value=value)


@dataclass(frozen=True, slots=True)
class PreprocessConfig:
    """What `preprocess.json` holds.

    Parameters
    ----------
    segments : the model's grid, in order, not overlapping.
    compress : "sqrt" (of the positive part) or "none".
    scale, zero_point : of the int8 input; both None before quantisation.
    smooth, continuum : these steps' parameters; None = the step is left out, also of the JSON.

    Raises ConfigError naming the field.
    """

    segments: tuple[Segment, ...] = DEFAULT_SEGMENTS
    compress: str = "sqrt"
    scale: float | None = None
    zero_point: int | None = None
    smooth: Smooth | None = None
    continuum: Snip | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "segments", tuple(self.segments))
        if not self.segments:
            raise ConfigError("at least one segment is needed", field="segments", value=[])
        for left, right in zip(self.segments, self.segments[1:], strict=False):
            if right.start_nm < left.stop_nm:
                raise ConfigError(
                    f"segments overlap or are out of order: the one before ends at {left.stop_nm} nm",
                    field="segment.start_nm",
                    value=right.start_nm,
                )
        if self.points > MAX_POINTS:
            raise ConfigError(f"at most {MAX_POINTS} grid points", field="segments", value=self.points)
        if self.compress not in COMPRESSIONS:
            raise ConfigError(f"one of {', '.join(COMPRESSIONS)}", field="compress", value=self.compress)
        if (self.scale is None) != (self.zero_point is None):
            raise ConfigError("scale and zero_point are given together", field="scale", value=self.scale)
        if self.scale is not None and not 1e-30 < np.float32(self.scale) < 1e30:
            raise ConfigError("must be between 1e-30 and 1e30", field="scale", value=self.scale)
        if self.zero_point is not None and not -128 <= self.zero_point <= 127:
            raise ConfigError("must be -128 to 127", field="zero_point", value=self.zero_point)

    @property
    def points(self) -> int:
        """Number of grid points: the network's input length."""
        return sum(segment.channels for segment in self.segments)

    @property
    def grid_nm(self) -> np.ndarray:
        """The grid, float64 [points], nm in vacuum, strictly increasing."""
        return np.concatenate(
            [
                s.start_nm + (np.arange(s.channels) + 0.5) * ((s.stop_nm - s.start_nm) / s.channels)
                for s in self.segments
            ]
        )

    def to_json(self) -> dict[str, Any]:
        """JSON-able dict; `from_json` is its inverse."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "segments": [asdict(segment) for segment in self.segments],
            "compress": self.compress,
            "scale": self.scale,
            "zero_point": self.zero_point,
            **{name: asdict(step) for name in _STEPS if (step := getattr(self, name)) is not None},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | str) -> PreprocessConfig:
        """From a dict or its JSON text. Raises ConfigError naming a key that is unknown, missing or wrong."""
        parsed: Any = data
        if isinstance(data, str):
            try:
                parsed = json.loads(data)
            except ValueError as error:
                raise ConfigError(f"not JSON: {error}", field="preprocess") from None
        fields = ("format", "version", "segments", "compress", "scale", "zero_point")
        _check_keys(parsed, fields, "preprocess", optional=tuple(_STEPS))
        for key, wanted in (("format", FORMAT), ("version", VERSION)):
            if parsed[key] != wanted or isinstance(parsed[key], bool):
                raise ConfigError(f"must be {wanted!r}", field=f"preprocess.{key}", value=parsed[key])
        if not isinstance(parsed["segments"], (list, tuple)):
            raise ConfigError("must be a list", field="preprocess.segments", value=parsed["segments"])
        for index, segment in enumerate(parsed["segments"]):
            _check_keys(segment, ("start_nm", "stop_nm", "channels"), f"preprocess.segments[{index}]")
        for key, kinds in (("compress", (str,)), ("scale", (int, float)), ("zero_point", (int,))):
            value = parsed[key]
            if (value is None and key != "compress") or (
                isinstance(value, kinds) and not isinstance(value, bool)
            ):
                continue
            raise ConfigError(
                f"must not be of type {type(value).__name__}", field=f"preprocess.{key}", value=value
            )
        steps = {}
        for name, kind in _STEPS.items():
            if name in parsed:
                _check_keys(
                    parsed[name], tuple(field.name for field in dataclass_fields(kind)), f"preprocess.{name}"
                )
                steps[name] = kind(**parsed[name])
        return cls(
            **steps,
            segments=tuple(Segment(**segment) for segment in parsed["segments"]),
            compress=parsed["compress"],
            scale=parsed["scale"],
            zero_point=parsed["zero_point"],
        )


#: optional steps of the JSON
_STEPS: dict[str, Any] = {"smooth": Smooth, "continuum": Snip}


def _check_keys(data: object, keys: tuple[str, ...], where: str, optional: tuple[str, ...] = ()) -> None:
    if not isinstance(data, Mapping):
        raise ConfigError("must be an object", field=where, value=data)
    for key in data:
        if key not in keys and key not in optional:
            raise ConfigError(f"unknown key; known are {', '.join(keys)}", field=f"{where}.{key}")
    for key in keys:
        if key not in data:
            raise ConfigError("is missing", field=f"{where}.{key}")


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
        self._core = _core.Preprocessor(axis, valid, grid, sizes, root, window, order, half_window)
        self.grid_mask: np.ndarray = self._core.grid_mask(0.0)
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
        self._core.set_mask(np.ascontiguousarray(mask, np.uint8))
        self.grid_mask = self._core.grid_mask(0.0)

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
        if counts.ndim not in (1, 2) or counts.shape[-1] != self.channels:
            raise SpectrumError(
                f"must end in {self.channels} channels", field="counts.shape", value=counts.shape
            )
        quantisation = None
        if want_int8:
            if self.config.scale is None or self.config.zero_point is None:
                raise ConfigError("the model's input is not quantised yet", field="scale")
            quantisation = (self.config.scale, self.config.zero_point)
        if dark is not None:
            dark = _float32(dark)
            if dark.shape != (self.channels,):
                raise SpectrumError(f"must be ({self.channels},)", field="dark.shape", value=dark.shape)
        if not math.isfinite(shift_nm):
            raise SpectrumError("must be finite", field="shift_nm", value=shift_nm)
        rows = counts[None] if counts.ndim == 1 else counts
        if not _is(rows, _UINT16):
            rows = _float32(rows)
        floats, int8s, table = self._core.run(rows, dark, shift_nm, want_float, quantisation, saturation)
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
        return np.ascontiguousarray(values, dtype=np.float32)


def _level(saturation: float | None) -> float:
    return math.nan if saturation is None else float(saturation)
