"""What `preprocess.json` says: the model's grid and the parameters of the preprocessing's steps."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from typing import Any

import numpy as np

from libsedge.errors import ConfigError

FORMAT = "libsedge-preprocess"
VERSION = 1
COMPRESSIONS = ("sqrt", "none")
MAX_POINTS = 1 << 20


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
