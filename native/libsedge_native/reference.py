"""The meaning of every op in NumPy: the oracle that every kernel equals bit for bit (docs/quant_spec.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from libsedge.errors import ModelError
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from libsedge_native.ir import Conv1d, Dense, Flatten, GlobalAveragePool, Graph, MaxPool1d, Op, Tensor

Int8 = NDArray[np.int8]


def requantise(acc: NDArray[Any], multiplier: NDArray[np.float32], zero_point: int, low: int = -128) -> Int8:
    """`clamp(rint_half_even(float32(acc) * multiplier) + zero_point, low, 127)` in float32 (spec 3)."""
    scaled = acc.astype(np.int32).astype(np.float32) * multiplier
    assert scaled.dtype == np.float32
    rounded = np.rint(np.clip(scaled, np.float32(-1024), np.float32(1024))).astype(np.int32)
    return np.clip(rounded + np.int32(zero_point), low, 127).astype(np.int8)


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
    acc = np.einsum("gilk,goik->gol", windows, weight, optimize=True).reshape(out, -1)
    return np.asarray(acc + op.bias[:, None].astype(np.int64))


def conv1d(op: Conv1d, x: Int8, t: Tensor) -> Int8:
    """int8 (I, L) to int8 (O, L')."""
    scale = multiplier(t.quant.scale, op.weight_scale, op.quant.scale)
    return requantise(conv1d_sum(op, x, t), scale[:, None], op.quant.zero_point, _low(op))


def max_pool(op: MaxPool1d, x: Int8, t: Tensor) -> Int8:
    """int8 (C, L) to int8 (C, L')."""
    return np.asarray(sliding_window_view(x, op.kernel, axis=1)[:, :: op.stride].max(axis=2))


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


MEANING: dict[type, Callable[[Any, Int8, Tensor], Int8]] = {
    Conv1d: conv1d,
    MaxPool1d: max_pool,
    GlobalAveragePool: global_average_pool,
    Flatten: flatten,
    Dense: dense,
}


def _input(graph: Graph, x: Int8) -> Int8:
    x = np.asarray(x)
    if x.dtype != np.int8 or x.size != graph.input.channels * graph.input.length:
        raise ModelError(f"expects int8 {graph.input.shape}", field="input", value=(str(x.dtype), x.shape))
    return x.reshape(graph.input.shape)


def layers(graph: Graph, x: Int8) -> dict[str, Int8]:
    """Output of every op by name, each int8 (channels, length), for one int8 input of input_len values."""
    out: dict[str, Int8] = {}
    value = _input(graph, x)
    op: Op
    for op, tensor in zip(graph.ops, graph.tensors, strict=False):
        value = MEANING[type(op)](op, value, tensor)
        out[op.name] = value
    return out


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
