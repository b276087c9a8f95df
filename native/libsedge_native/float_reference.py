"""The meaning of every op of a float32 graph, in float64: the oracle of the float32 kernels.

float32 inputs, weights and biases are exact in float64; what is computed from them is wrong by 1e-16 of the sum of
the magnitudes, nine decimal digits less than what a float32 kernel may be wrong by.
"""

from __future__ import annotations

from collections.abc import Sequence
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
)

Float64 = NDArray[np.float64]


def conv_windows(op: Conv1d, x: Float64) -> Float64:
    """(groups, I/groups, L', K): what every output position sees; padding is zero."""
    padded = np.pad(x, ((0, 0), op.pads))
    taps = op.weight.shape[2]
    windows = sliding_window_view(padded, op.dilation * (taps - 1) + 1, axis=1)
    windows = windows[:, :: op.stride, :: op.dilation]
    return np.asarray(windows.reshape(op.groups, -1, windows.shape[1], taps))


def conv_sum(op: Conv1d, x: Float64, weight: Float64) -> Float64:
    """(O, L') of (I, L): the products of `weight`, shaped as the op's, without bias and ReLU."""
    out, per_group, taps = weight.shape
    grouped = weight.reshape(op.groups, out // op.groups, per_group, taps)
    return np.einsum("gilk,goik->gol", conv_windows(op, x), grouped, optimize=True).reshape(out, -1)


def _windows(op: MaxPool1d | AveragePool1d, x: Float64, padding: float) -> Float64:
    padded = np.pad(x, ((0, 0), op.pads), constant_values=padding)
    return np.asarray(sliding_window_view(padded, op.kernel, axis=1)[:, :: op.stride])


def average_pool(op: AveragePool1d, x: Float64) -> Float64:
    """(C, L') of (C, L); padding is zero and counts in the divisor where the op says so."""
    seen = _windows(op, np.ones((1, x.shape[1])), 0.0).sum(axis=2)
    return np.asarray(_windows(op, x, 0.0).sum(axis=2) / (op.kernel if op.include_pad else seen))


def apply(op: Op, xs: Sequence[Float64]) -> Float64:
    """Output of one op, float64 (channels, length), for its inputs in the order it names them."""
    x = xs[0]
    if isinstance(op, Conv1d):
        y = conv_sum(op, x, op.weight.astype(np.float64)) + op.bias[:, None]
    elif isinstance(op, Dense):
        y = op.weight.astype(np.float64) @ x + op.bias[:, None]
    elif isinstance(op, MaxPool1d):
        y = _windows(op, x, -np.inf).max(axis=2)
    elif isinstance(op, AveragePool1d):
        y = average_pool(op, x)
    elif isinstance(op, GlobalAveragePool):
        y = x.mean(axis=1, keepdims=True)
    elif isinstance(op, Flatten):
        y = x.reshape(-1, 1)
    elif isinstance(op, Add):
        y = x + xs[1]
    else:
        assert isinstance(op, Concat)
        y = np.concatenate(xs)
    return np.maximum(y, 0.0) if isinstance(op, (Conv1d, Dense, Add)) and op.relu else y


def _input(graph: Graph, x: NDArray[Any]) -> Float64:
    if not graph.is_float:
        raise ModelError("is quantised: reference runs it", field="graph", value=graph.name)
    if x.dtype != np.float32 or x.size != graph.input.channels * graph.input.length:
        why = f"expects float32 {graph.input.shape}"
        raise ModelError(why, field="input", value=(str(x.dtype), x.shape))
    return x.astype(np.float64).reshape(graph.input.shape)


def layers(graph: Graph, x: NDArray[np.float32]) -> dict[str, Float64]:
    """Output of every op by name, each float64 (channels, length), for one float32 input of input_len values."""
    known: dict[str, Float64] = {INPUT: _input(graph, np.asarray(x))}
    for op in graph.ops:
        known[op.name] = apply(op, [known[name] for name in op.inputs])
    del known[INPUT]
    return known


def run(graph: Graph, x: NDArray[np.float32]) -> Float64:
    """float64 [n, classes] for float32 [n, input_len]."""
    out = [layers(graph, row)[graph.ops[-1].name].reshape(-1) for row in np.asarray(x)]
    return np.array(out, np.float64).reshape(-1, graph.output.channels)
