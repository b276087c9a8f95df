"""The ops of a graph: frozen dataclasses that validate themselves (see `ir` for the graph).

Tensors are int8 with one scale and one zero point: `real = scale * (q - zero_point)`. A tensor is
`(channels, length)`; a vector is `(n, 1)`. Weights are int8 in [-127, 127], symmetric, one scale per output
channel. A ReLU is a flag: outputs below the zero point become the zero point; with zero point -128 the clip
to int8 already is that ReLU, so there the flag is always set. `inputs` names the ops an op reads, or "input";
left empty, it is the op in front of it. The meaning of every op is in docs/quant_spec.md; `reference.py` runs it.

The same ops without quantisation have `quant=REAL`: tensors, weights and biases are then float32, weight scales 1,
and `float_reference.py` runs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from libsedge.errors import ModelError
from numpy.typing import NDArray

MAX_CHANNELS = 4096
MAX_LENGTH = 1 << 20
MAX_TAPS = 4096
MAX_WEIGHTS = 1 << 26
#: values that the windows of one inference read: 60 times the largest net of the benchmarks; without a limit a tiny
#: file could ask for hours
MAX_WORK = 1 << 32
INT32_MAX = (1 << 31) - 1

Float32Array = NDArray[np.float32]


def _refuse(name: str, op: str, why: str, value: object = None) -> ModelError:
    return ModelError(why, field=f"{op} {name!r}", value=value)


def _frozen(array: object, dtype: type, name: str, op: str, what: str, ndim: int) -> NDArray[Any]:
    """A read-only, contiguous copy; refuses another type or number of axes instead of converting."""
    got = np.asarray(array)
    if got.dtype != np.dtype(dtype) or got.ndim != ndim:
        raise _refuse(
            name, op, f"{what} must be {np.dtype(dtype)} with {ndim} axes, is {got.dtype} {got.shape}"
        )
    copy: NDArray[Any] = np.array(got, dtype=dtype, order="C", copy=True)
    copy.setflags(write=False)
    return copy


@dataclass(frozen=True)
class Quant:
    """`real = scale * (q - zero_point)`; `scale` is a float32 value, positive, finite and normal."""

    scale: float
    zero_point: int

    def __post_init__(self) -> None:
        with np.errstate(over="ignore"):
            scale = np.float32(self.scale)
        if not np.isfinite(scale) or scale < np.finfo(np.float32).tiny:
            raise ModelError("must be a positive, finite, normal float32", field="scale", value=self.scale)
        if isinstance(self.zero_point, bool) or int(self.zero_point) != self.zero_point:
            raise ModelError("must be an integer", field="zero_point", value=self.zero_point)
        if not -128 <= self.zero_point <= 127:
            raise ModelError("must be in [-128, 127]", field="zero_point", value=self.zero_point)
        object.__setattr__(self, "scale", float(scale))
        object.__setattr__(self, "zero_point", int(self.zero_point))


@dataclass(frozen=True)
class Real(Quant):
    """No quantisation: the values are float32 and are what they mean."""

    scale: float = 1.0
    zero_point: int = 0


REAL = Real()


@dataclass(frozen=True)
class Tensor:
    """An activation of shape (channels, length): int8, or float32 where `quant` is REAL."""

    channels: int
    length: int
    quant: Quant

    def __post_init__(self) -> None:
        if self.channels < 1 or self.length < 1 or self.length > MAX_LENGTH:
            raise ModelError(
                f"channels and length must be 1 to {MAX_LENGTH}", field="shape", value=self.shape
            )
        if self.channels * self.length > MAX_WEIGHTS:
            raise ModelError(f"more than {MAX_WEIGHTS} values", field="shape", value=self.shape)

    @property
    def shape(self) -> tuple[int, int]:
        return (self.channels, self.length)


def _freeze_weights(op: Conv1d | Dense) -> None:
    """Weight, bias and weight scale as read-only arrays of the type that the quantisation asks for."""
    kind, axes = type(op).__name__, 3 if isinstance(op, Conv1d) else 2
    weight, bias = (np.float32, np.float32) if isinstance(op.quant, Real) else (np.int8, np.int32)
    for field, dtype, ndim in (("weight", weight, axes), ("bias", bias, 1), ("weight_scale", np.float32, 1)):
        object.__setattr__(op, field, _frozen(getattr(op, field), dtype, op.name, kind, field, ndim))


def _check_weights(op: Conv1d | Dense) -> None:
    kind = type(op).__name__
    if op.weight.size > MAX_WEIGHTS:
        raise _refuse(op.name, kind, f"more than {MAX_WEIGHTS} weights", op.weight.size)
    if op.bias.shape != op.weight.shape[:1] or op.weight_scale.shape != op.weight.shape[:1]:
        raise _refuse(op.name, kind, "bias and weight_scale must have one value per output channel")
    if isinstance(op.quant, Real):
        if op.weight.size == 0 or not np.all(np.isfinite(op.weight)) or not np.all(np.isfinite(op.bias)):
            raise _refuse(op.name, kind, "weights must be non-empty, weights and biases finite")
        if not np.all(op.weight_scale == 1.0):
            raise _refuse(op.name, kind, "float weights have scale 1")
        return
    if op.weight.size == 0 or int(op.weight.min()) < -127:
        raise _refuse(
            op.name,
            kind,
            "weights must be non-empty and in [-127, 127]; -128 is refused: quantise to the narrow range",
        )
    tiny = np.finfo(np.float32).tiny
    if not np.all(np.isfinite(op.weight_scale)) or not np.all(op.weight_scale >= tiny):
        raise _refuse(op.name, kind, "weight scales must be positive, finite, normal float32")
    # No accumulation order, with or without the zero point folded into the bias, may leave int32.
    taps = np.abs(op.weight.astype(np.int64)).reshape(op.weight.shape[0], -1).sum(axis=1)
    if int((taps * 511 + np.abs(op.bias.astype(np.int64))).max()) > INT32_MAX:
        raise _refuse(op.name, kind, "the accumulator could leave int32")


def _check_scales(name: str, kind: str, x: Quant, weight_scale: Float32Array | float, y: Quant) -> None:
    """Every float32 on the way to the multiplier must stay normal, with room to spare."""
    product = np.asarray(weight_scale, np.float64) * x.scale
    ratio = product / y.scale
    if (
        product.min() < 2.0**-100
        or product.max() > 2.0**60
        or ratio.min() < 2.0**-60
        or ratio.max() > 2.0**30
    ):
        raise _refuse(
            name, kind, "input scale * weight scale / output scale is out of range", float(ratio.max())
        )


@dataclass(frozen=True, eq=False)
class Conv1d:
    """1-D convolution (cross-correlation).

    weight int8 [O, I/groups, K], bias int32 [O] with scale s_x * weight_scale[o]; `quant` is the output's.
    """

    name: str
    weight: NDArray[Any]
    bias: NDArray[Any]
    weight_scale: Float32Array
    quant: Quant
    stride: int = 1
    dilation: int = 1
    pads: tuple[int, int] = (0, 0)
    groups: int = 1
    relu: bool = False
    inputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _freeze_weights(self)
        object.__setattr__(self, "relu", bool(self.relu) or self.quant.zero_point == -128)
        _check_weights(self)
        if self.stride < 1 or self.dilation < 1 or self.groups < 1 or min(self.pads) < 0:
            raise _refuse(self.name, "Conv1d", "stride, dilation, groups >= 1 and pads >= 0 are required")
        if max(self.stride, self.dilation, *self.pads) > MAX_LENGTH or self.weight.shape[2] > MAX_TAPS:
            raise _refuse(self.name, "Conv1d", "stride, dilation, padding or taps are out of range")
        if self.weight.shape[0] > MAX_CHANNELS or self.weight.shape[0] % self.groups:
            raise _refuse(
                self.name, "Conv1d", f"output channels must be <= {MAX_CHANNELS}, a multiple of groups"
            )

    def output(self, x: Tensor) -> Tensor:
        _check_scales(self.name, "Conv1d", x.quant, self.weight_scale, self.quant)
        out, per_group, taps = self.weight.shape
        if x.channels != per_group * self.groups:
            raise _refuse(
                self.name, "Conv1d", f"expects {per_group * self.groups} input channels", x.channels
            )
        length = (x.length + sum(self.pads) - self.dilation * (taps - 1) - 1) // self.stride + 1
        if x.length + sum(self.pads) < self.dilation * (taps - 1) + 1:
            raise _refuse(self.name, "Conv1d", "the window is longer than the padded input", x.length)
        return Tensor(out, length, self.quant)


def _check_window(op: MaxPool1d | AveragePool1d) -> None:
    kind = type(op).__name__
    if not 1 <= op.kernel <= MAX_TAPS or not 1 <= op.stride <= MAX_TAPS:
        raise _refuse(op.name, kind, f"kernel and stride must be 1 to {MAX_TAPS}")
    if len(op.pads) != 2 or not all(0 <= pad < op.kernel for pad in op.pads):
        raise _refuse(op.name, kind, "padding must be narrower than the window", op.pads)


def _windows(op: MaxPool1d | AveragePool1d, x: Tensor) -> int:
    """Number of windows; each sees at least one value, because padding is narrower than the window."""
    padded = x.length + sum(op.pads)
    if padded < op.kernel:
        raise _refuse(op.name, type(op).__name__, "the window is longer than the padded input", x.length)
    return (padded - op.kernel) // op.stride + 1


@dataclass(frozen=True, eq=False)
class MaxPool1d:
    """Maximum over `kernel` positions; padding never wins. Scale and zero point pass through."""

    name: str
    kernel: int
    stride: int
    pads: tuple[int, int] = (0, 0)
    inputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_window(self)

    def output(self, x: Tensor) -> Tensor:
        return Tensor(x.channels, _windows(self, x), x.quant)


@dataclass(frozen=True, eq=False)
class AveragePool1d:
    """Mean over `kernel` positions, requantised to `quant`.

    Padding is real zero. It counts in the divisor where `include_pad` is set; else the divisor is the number of
    values that the window sees.
    """

    name: str
    kernel: int
    stride: int
    quant: Quant
    pads: tuple[int, int] = (0, 0)
    include_pad: bool = False
    inputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_window(self)
        # without padding both ways of counting are the same op
        object.__setattr__(self, "include_pad", bool(self.include_pad) and any(self.pads))

    def output(self, x: Tensor) -> Tensor:
        _check_scales(
            self.name, "AveragePool1d", x.quant, np.array([1.0, 1.0 / self.kernel], np.float32), self.quant
        )
        return Tensor(x.channels, _windows(self, x), self.quant)


@dataclass(frozen=True, eq=False)
class GlobalAveragePool:
    """Mean over all positions, requantised to `quant`."""

    name: str
    quant: Quant
    inputs: tuple[str, ...] = ()

    def output(self, x: Tensor) -> Tensor:
        _check_scales(self.name, "GlobalAveragePool", x.quant, 1.0 / x.length, self.quant)
        if not isinstance(x.quant, Real) and x.length * 255 >= 1 << 24:
            raise _refuse(
                self.name,
                "GlobalAveragePool",
                "sums must be exact in float32: at most 65793 positions",
                x.length,
            )
        return Tensor(x.channels, 1, self.quant)


@dataclass(frozen=True, eq=False)
class Flatten:
    """(channels, length) to (channels * length, 1), channel by channel."""

    name: str
    inputs: tuple[str, ...] = ()

    def output(self, x: Tensor) -> Tensor:
        return Tensor(x.channels * x.length, 1, x.quant)


@dataclass(frozen=True, eq=False)
class Dense:
    """weight int8 [O, I], bias int32 [O] with scale s_x * weight_scale[o]; input (I, 1)."""

    name: str
    weight: NDArray[Any]
    bias: NDArray[Any]
    weight_scale: Float32Array
    quant: Quant
    relu: bool = False
    inputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _freeze_weights(self)
        object.__setattr__(self, "relu", bool(self.relu) or self.quant.zero_point == -128)
        _check_weights(self)
        if self.weight.shape[0] > MAX_CHANNELS:
            raise _refuse(self.name, "Dense", f"at most {MAX_CHANNELS} outputs", self.weight.shape[0])

    def output(self, x: Tensor) -> Tensor:
        _check_scales(self.name, "Dense", x.quant, self.weight_scale, self.quant)
        if x.shape != (self.weight.shape[1], 1):
            raise _refuse(self.name, "Dense", f"expects input ({self.weight.shape[1]}, 1)", x.shape)
        return Tensor(self.weight.shape[0], 1, self.quant)


@dataclass(frozen=True, eq=False)
class Add:
    """Sum of two tensors of one shape, requantised to `quant`."""

    name: str
    quant: Quant
    inputs: tuple[str, ...]
    relu: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "relu", bool(self.relu) or self.quant.zero_point == -128)
        if len(self.inputs) != 2:
            raise _refuse(self.name, "Add", "must name two inputs", self.inputs)

    def output(self, a: Tensor, b: Tensor) -> Tensor:
        if a.shape != b.shape:
            raise _refuse(self.name, "Add", "both inputs must have one shape", (a.shape, b.shape))
        ratios = [np.float64(x.quant.scale) / self.quant.scale for x in (a, b)]
        if max(ratios) > 1 << 14 or min(ratios) < 2.0**-40:
            raise _refuse(self.name, "Add", "input scale / output scale is out of range", float(max(ratios)))
        return Tensor(a.channels, a.length, self.quant)


@dataclass(frozen=True, eq=False)
class Concat:
    """Channels of two or more tensors of one length, one behind the other, each requantised to `quant`."""

    name: str
    quant: Quant
    inputs: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 2 <= len(self.inputs) <= 64:
            raise _refuse(self.name, "Concat", "must name 2 to 64 inputs", len(self.inputs))

    def output(self, *xs: Tensor) -> Tensor:
        if len({x.length for x in xs}) != 1:
            raise _refuse(self.name, "Concat", "inputs must have one length", [x.shape for x in xs])
        for x in xs:
            _check_scales(self.name, "Concat", x.quant, 1.0, self.quant)
        channels = sum(x.channels for x in xs)
        if channels > MAX_CHANNELS:
            raise _refuse(self.name, "Concat", f"at most {MAX_CHANNELS} channels", channels)
        return Tensor(channels, xs[0].length, self.quant)


Op: TypeAlias = Conv1d | MaxPool1d | AveragePool1d | GlobalAveragePool | Flatten | Dense | Add | Concat
