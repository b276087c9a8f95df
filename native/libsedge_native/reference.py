"""The meaning of every op in NumPy: the oracle that every kernel equals bit for bit (docs/quant_spec.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from libsedge.errors import ModelError
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from libsedge_native.ir import (
    INPUT,
    Add,
    AveragePool1d,
    Concat,
    Conv1d,
    Dense,
    Flatten,
    GlobalAveragePool,
    Graph,
    MaxPool1d,
    Op,
    Quant,
    Tensor,
)

Int8 = NDArray[np.int8]

#: values of the windows that are multiplied at a time: the memory that a convolution needs, not its result
BLOCK_VALUES = 1 << 24


def requantise(acc: NDArray[Any], multiplier: NDArray[np.float32], zero_point: int, low: int = -128) -> Int8:
    """`clamp(rint_half_even(float32(acc) * multiplier) + zero_point, low, 127)` in float32 (spec 3)."""
    scaled = acc.astype(np.int32).astype(np.float32) * multiplier
    assert scaled.dtype == np.float32
    rounded = np.rint(np.clip(scaled, np.float32(-1024), np.float32(1024))).astype(np.int32)
    return np.clip(rounded + np.int32(zero_point), low, 127).astype(np.int8)


def requantise_inside(acc: NDArray[Any], multiplier: NDArray[np.float32], zero_point: int) -> Int8:
    """`clamp(rint_half_even(float32(float32(acc) * multiplier) + zero_point))`, the sum exact (spec 3.3).

    Unlike `requantise` it adds the zero point first: of two neighbours equally near, the even sum is taken.
    """
    scaled = np.clip(
        acc.astype(np.int32).astype(np.float32) * multiplier, np.float32(-1024), np.float32(1024)
    )
    exact = scaled.astype(np.float64) + zero_point  # float64 holds every bit that decides
    return np.clip(np.rint(exact), -128, 127).astype(np.int8)


def multiplier(x_scale: float, weight_scale: NDArray[np.float32], y_scale: float) -> NDArray[np.float32]:
    """`float32(float32(s_x * s_w) / s_y)` per output channel (spec section 3.1)."""
    product: NDArray[np.float32] = np.float32(x_scale) * weight_scale
    return product / np.float32(y_scale)


def average_multiplier(x_scale: float, y_scale: float, length: int) -> np.float32:
    """`float32(s_x / float32(s_y * float32(n)))` (spec section 3.3)."""
    return np.float32(np.float32(x_scale) / (np.float32(y_scale) * np.float32(length)))


def _low(op: Conv1d | Dense) -> int:
    return op.quant.zero_point if op.relu else -128


def conv1d_sum(op: Conv1d, x: Int8, t: Tensor) -> NDArray[np.int64]:
    """int8 (I, L) to the exact accumulators (O, L'); padding holds the zero point, that is, real zero."""
    centred = x.astype(np.int64) - t.quant.zero_point
    padded = np.pad(centred, ((0, 0), op.pads))
    out, per_group, taps = op.weight.shape
    span = op.dilation * (taps - 1) + 1
    windows = sliding_window_view(padded, span, axis=1)[:, :: op.stride, :: op.dilation]
    windows = windows.reshape(op.groups, per_group, windows.shape[1], taps)
    weight = op.weight.astype(np.int64).reshape(op.groups, out // op.groups, per_group, taps)
    block = max(1, BLOCK_VALUES // (per_group * op.groups * taps))
    parts = [
        np.einsum("gilk,goik->gol", windows[:, :, at : at + block], weight, optimize=True)
        for at in range(0, windows.shape[2], block)
    ]
    return np.asarray(np.concatenate(parts, axis=2).reshape(out, -1) + op.bias[:, None].astype(np.int64))


def conv1d(op: Conv1d, x: Int8, t: Tensor) -> Int8:
    """int8 (I, L) to int8 (O, L')."""
    scale = multiplier(t.quant.scale, op.weight_scale, op.quant.scale)
    return requantise(conv1d_sum(op, x, t), scale[:, None], op.quant.zero_point, _low(op))


def max_pool(op: MaxPool1d, x: Int8, t: Tensor) -> Int8:
    """int8 (C, L) to int8 (C, L'); padding is -128, so it never beats a value."""
    padded = np.pad(x, ((0, 0), op.pads), constant_values=-128)
    return np.asarray(sliding_window_view(padded, op.kernel, axis=1)[:, :: op.stride].max(axis=2))


def average_pool(op: AveragePool1d, x: Int8, t: Tensor) -> Int8:
    """int8 (C, L) to int8 (C, L'): sum of (q - zero point) over the window, by its divisor."""

    def window_sums(values: NDArray[np.int64]) -> NDArray[np.int64]:
        padded = np.pad(values, ((0, 0), op.pads))
        return np.asarray(sliding_window_view(padded, op.kernel, axis=1)[:, :: op.stride].sum(axis=2))

    acc = window_sums(x.astype(np.int64) - t.quant.zero_point)
    seen = window_sums(np.ones((1, t.length), np.int64))[0]
    by_count = np.array(
        [average_multiplier(t.quant.scale, op.quant.scale, n) for n in range(1, op.kernel + 1)], np.float32
    )
    scale = by_count[np.full_like(seen, op.kernel) - 1 if op.include_pad else seen - 1]
    return requantise_inside(acc, scale, op.quant.zero_point)


def global_average_pool(op: GlobalAveragePool, x: Int8, t: Tensor) -> Int8:
    """int8 (C, L) to int8 (C, 1): requantise(sum of (q - zero point))."""
    acc = x.astype(np.int64).sum(axis=1, keepdims=True) - t.quant.zero_point * t.length
    scale = average_multiplier(t.quant.scale, op.quant.scale, t.length)
    return requantise(acc, np.asarray(scale), op.quant.zero_point)


def flatten(op: Flatten, x: Int8, t: Tensor) -> Int8:
    """int8 (C, L) to int8 (C * L, 1)."""
    return x.reshape(-1, 1)


def dense_sum(op: Dense, x: Int8, t: Tensor) -> NDArray[np.int64]:
    """int8 (I, 1) to the exact accumulators (O, 1)."""
    centred = x.astype(np.int64) - t.quant.zero_point
    return np.asarray(op.weight.astype(np.int64) @ centred + op.bias[:, None].astype(np.int64))


def dense(op: Dense, x: Int8, t: Tensor) -> Int8:
    """int8 (I, 1) to int8 (O, 1)."""
    scale = multiplier(t.quant.scale, op.weight_scale, op.quant.scale)
    return requantise(dense_sum(op, x, t), scale[:, None], op.quant.zero_point, _low(op))


def add_factors(a: Quant, b: Quant, y: Quant) -> tuple[int, int, int]:
    """Integers (f_a, f_b, shift): `s_a / s_y` is `f_a / 2^shift`, as fine as int32 sums allow (spec 3.5)."""
    ratios = [np.float64(np.float32(x.scale) / np.float32(y.scale)) for x in (a, b)]
    for shift in range(24, 7, -1):
        first, second = (int(np.rint(ratio * 2.0**shift)) for ratio in ratios)
        if 255 * (first + second) + 129 * (1 << shift) < 1 << 31:
            return first, second, shift
    raise AssertionError("Add.output bounds the ratios")


def add(op: Add, xs: Sequence[Int8], ts: Sequence[Tensor]) -> Int8:
    """Two int8 (C, L) to int8 (C, L): rint_half_even(sum / 2^shift) in exact integers."""
    first, second, shift = add_factors(ts[0].quant, ts[1].quant, op.quant)
    acc = first * (xs[0].astype(np.int64) - ts[0].quant.zero_point)
    acc += second * (xs[1].astype(np.int64) - ts[1].quant.zero_point)
    acc += op.quant.zero_point << shift
    below, rest = acc >> shift, acc & ((1 << shift) - 1)
    half = 1 << (shift - 1)
    rounded = below + ((rest > half) | ((rest == half) & (below % 2 == 1)))
    return np.clip(rounded, op.quant.zero_point if op.relu else -128, 127).astype(np.int8)


def rescale_table(x: Quant, y: Quant) -> Int8:
    """int8 [256]: the value that stands for q = index - 128 under another quantisation (spec 3.6)."""
    q = np.arange(-128, 128, dtype=np.int32)
    if x == y:
        return q.astype(np.int8)
    real = (q - np.int32(x.zero_point)).astype(np.float32) * np.float32(x.scale)
    with np.errstate(over="ignore"):
        rounded = np.rint(np.clip(real / np.float32(y.scale), np.float32(-1024), np.float32(1024)))
    return np.clip(rounded.astype(np.int32) + y.zero_point, -128, 127).astype(np.int8)


def concat(op: Concat, xs: Sequence[Int8], ts: Sequence[Tensor]) -> Int8:
    """int8 (C_i, L) to int8 (sum of C_i, L)."""
    tables = [rescale_table(t.quant, op.quant) for t in ts]
    return np.concatenate([table[x.astype(np.int16) + 128] for table, x in zip(tables, xs, strict=True)])


#: ops of one input: meaning(op, x, tensor of x)
MEANING: dict[type, Callable[[Any, Int8, Tensor], Int8]] = {
    Conv1d: conv1d,
    MaxPool1d: max_pool,
    AveragePool1d: average_pool,
    GlobalAveragePool: global_average_pool,
    Flatten: flatten,
    Dense: dense,
}


def apply(op: Op, xs: Sequence[Int8], ts: Sequence[Tensor]) -> Int8:
    """Output of one op, int8 (channels, length), for the inputs and tensors it names, in that order."""
    if isinstance(op, Add):
        return add(op, xs, ts)
    if isinstance(op, Concat):
        return concat(op, xs, ts)
    return MEANING[type(op)](op, xs[0], ts[0])


def _input(graph: Graph, x: Int8) -> Int8:
    x = np.asarray(x)
    if graph.is_float:
        raise ModelError("is float32: float_reference runs it", field="graph", value=graph.name)
    if x.dtype != np.int8 or x.size != graph.input.channels * graph.input.length:
        raise ModelError(f"expects int8 {graph.input.shape}", field="input", value=(str(x.dtype), x.shape))
    return x.reshape(graph.input.shape)


def layers(graph: Graph, x: Int8) -> dict[str, Int8]:
    """Output of every op by name, each int8 (channels, length), for one int8 input of input_len values."""
    known: dict[str, Int8] = {INPUT: _input(graph, x)}
    for op in graph.ops:
        known[op.name] = apply(op, [known[name] for name in op.inputs], graph.sources(op))
    del known[INPUT]
    return known


def run(graph: Graph, x: Int8) -> Int8:
    """int8 [classes] for int8 [input_len]; int8 [n, classes] for int8 [n, input_len]."""
    x = np.asarray(x)
    size = graph.input.channels * graph.input.length
    if x.ndim == 2 and x.shape != graph.input.shape and x.shape[1] == size:
        return (
            np.stack([run(graph, row) for row in x])
            if len(x)
            else np.zeros((0, graph.output.channels), np.int8)
        )
    return layers(graph, x)[graph.ops[-1].name].reshape(-1)
