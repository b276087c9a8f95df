"""The graph the generator works on: frozen dataclasses that validate themselves.

Tensors are int8 with one scale and one zero point: `real = scale * (q - zero_point)`. A tensor is
`(channels, length)`; a vector is `(n, 1)`. Weights are int8 in [-127, 127], symmetric, one scale per output
channel. A ReLU is a flag: outputs below the zero point become the zero point; with zero point -128 the clip
to int8 already is that ReLU, so there the flag is always set. The meaning of every op is in
docs/quant_spec.md; `reference.py` runs it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
from libsedge.errors import ModelError
from numpy.typing import NDArray

MAX_CHANNELS = 4096
MAX_LENGTH = 1 << 20
MAX_TAPS = 4096
MAX_WEIGHTS = 1 << 26
INT32_MAX = (1 << 31) - 1

Int8Array = NDArray[np.int8]
Int32Array = NDArray[np.int32]
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
class Tensor:
    """An int8 activation of shape (channels, length)."""

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


def _check_weights(op: Conv1d | Dense) -> None:
    kind = type(op).__name__
    if op.weight.size > MAX_WEIGHTS:
        raise _refuse(op.name, kind, f"more than {MAX_WEIGHTS} weights", op.weight.size)
    if op.weight.size == 0 or int(op.weight.min()) < -127:
        raise _refuse(op.name, kind, "weights must be non-empty and in [-127, 127]; -128 is refused")
    if op.bias.shape != op.weight.shape[:1] or op.weight_scale.shape != op.weight.shape[:1]:
        raise _refuse(op.name, kind, "bias and weight_scale must have one value per output channel")
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
    weight: Int8Array
    bias: Int32Array
    weight_scale: Float32Array
    quant: Quant
    stride: int = 1
    dilation: int = 1
    pads: tuple[int, int] = (0, 0)
    groups: int = 1
    relu: bool = False

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "weight", _frozen(self.weight, np.int8, self.name, "Conv1d", "weight", 3))
        set_(self, "bias", _frozen(self.bias, np.int32, self.name, "Conv1d", "bias", 1))
        set_(
            self,
            "weight_scale",
            _frozen(self.weight_scale, np.float32, self.name, "Conv1d", "weight_scale", 1),
        )
        set_(self, "relu", bool(self.relu) or self.quant.zero_point == -128)
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


@dataclass(frozen=True, eq=False)
class MaxPool1d:
    """Maximum over `kernel` positions, no padding; scale and zero point pass through."""

    name: str
    kernel: int
    stride: int

    def __post_init__(self) -> None:
        if not 1 <= self.kernel <= MAX_TAPS or not 1 <= self.stride <= MAX_TAPS:
            raise _refuse(self.name, "MaxPool1d", f"kernel and stride must be 1 to {MAX_TAPS}")

    def output(self, x: Tensor) -> Tensor:
        if x.length < self.kernel:
            raise _refuse(self.name, "MaxPool1d", "the window is longer than the input", x.length)
        return Tensor(x.channels, (x.length - self.kernel) // self.stride + 1, x.quant)


@dataclass(frozen=True, eq=False)
class GlobalAveragePool:
    """Mean over all positions, requantised to `quant`."""

    name: str
    quant: Quant

    def output(self, x: Tensor) -> Tensor:
        _check_scales(self.name, "GlobalAveragePool", x.quant, 1.0 / x.length, self.quant)
        if x.length * 255 >= 1 << 24:
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

    def output(self, x: Tensor) -> Tensor:
        return Tensor(x.channels * x.length, 1, x.quant)


@dataclass(frozen=True, eq=False)
class Dense:
    """weight int8 [O, I], bias int32 [O] with scale s_x * weight_scale[o]; input (I, 1)."""

    name: str
    weight: Int8Array
    bias: Int32Array
    weight_scale: Float32Array
    quant: Quant
    relu: bool = False

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "weight", _frozen(self.weight, np.int8, self.name, "Dense", "weight", 2))
        set_(self, "bias", _frozen(self.bias, np.int32, self.name, "Dense", "bias", 1))
        set_(
            self,
            "weight_scale",
            _frozen(self.weight_scale, np.float32, self.name, "Dense", "weight_scale", 1),
        )
        set_(self, "relu", bool(self.relu) or self.quant.zero_point == -128)
        _check_weights(self)
        if self.weight.shape[0] > MAX_CHANNELS:
            raise _refuse(self.name, "Dense", f"at most {MAX_CHANNELS} outputs", self.weight.shape[0])

    def output(self, x: Tensor) -> Tensor:
        _check_scales(self.name, "Dense", x.quant, self.weight_scale, self.quant)
        if x.shape != (self.weight.shape[1], 1):
            raise _refuse(self.name, "Dense", f"expects input ({self.weight.shape[1]}, 1)", x.shape)
        return Tensor(self.weight.shape[0], 1, self.quant)


Op: TypeAlias = Conv1d | MaxPool1d | GlobalAveragePool | Flatten | Dense


@dataclass(frozen=True, eq=False)
class Graph:
    """A chain of ops from one int8 input to the logits (classes, 1). Invalid graphs cannot be built.

    Raises libsedge.errors.ModelError naming the op and the reason.
    """

    name: str
    input: Tensor
    ops: tuple[Op, ...]
    #: `tensors[i]` is the input of `ops[i]`; the last one is the output
    tensors: tuple[Tensor, ...] = field(init=False)

    OPS: ClassVar[tuple[type, ...]] = (Conv1d, MaxPool1d, GlobalAveragePool, Flatten, Dense)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ops", tuple(self.ops))
        if not self.ops or len(self.ops) > 256:
            raise ModelError("a graph needs 1 to 256 ops", field="graph", value=len(self.ops))
        if not (self.name.isascii() and self.name.isidentifier()):
            raise ModelError("the name must be an ASCII identifier", field="graph", value=self.name)
        names = [op.name for op in self.ops]
        for name in names:
            if not (name.isascii() and name.isidentifier()):
                raise ModelError("op names must be ASCII identifiers", field="op", value=name)
            if name.startswith("sedge_"):
                raise ModelError("names that begin with sedge_ are the generator's", field="op", value=name)
        if len(set(names)) != len(names):
            raise ModelError("op names must differ", field="graph", value=self.name)
        tensors = [self.input]
        flat = False
        for op in self.ops:
            if not isinstance(op, self.OPS):
                raise ModelError("unknown op", field="graph", value=type(op).__name__)
            if flat != isinstance(op, Dense):
                raise _refuse(
                    op.name, type(op).__name__, "Dense, and only Dense, stands behind a Flatten or Dense"
                )
            flat = flat or isinstance(op, Flatten)
            tensors.append(op.output(tensors[-1]))
        if tensors[-1].length != 1:
            raise ModelError("the output must have length 1", field="graph", value=tensors[-1].shape)
        if tensors[-1].channels > MAX_CHANNELS:
            why = f"at most {MAX_CHANNELS} outputs"
            raise ModelError(why, field="graph", value=tensors[-1].channels)
        object.__setattr__(self, "tensors", tuple(tensors))

    @property
    def output(self) -> Tensor:
        return self.tensors[-1]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference, padding included."""
        total = 0
        for op, out in zip(self.ops, self.tensors[1:], strict=True):
            if isinstance(op, (Conv1d, Dense)):
                total += op.weight.size * out.length
        return total

    @property
    def digest(self) -> str:
        """sha256 over every field in a fixed order; equal graphs have equal digests on every machine."""
        h = hashlib.sha256()
        for part in (self.name, self.input, *self.ops):
            _feed(h, part)
        return h.hexdigest()


def _feed(h: hashlib._Hash, value: object) -> None:
    if isinstance(value, np.ndarray):
        h.update(f"{value.dtype.str}{value.shape}".encode())
        h.update(np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<")).tobytes())
    elif isinstance(value, float):
        h.update(value.hex().encode())
    elif isinstance(value, tuple):
        for item in value:
            _feed(h, item)
    elif is_dataclass(value):
        h.update(type(value).__name__.encode())
        for f in fields(value):
            h.update(f.name.encode() + b"=")
            _feed(h, getattr(value, f.name))
    else:
        h.update(repr(value).encode())
    h.update(b";")
