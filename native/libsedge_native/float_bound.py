"""A proved bound on the error of the float32 kernels: running error analysis over the float64 meaning.

Notation of N. Higham, Accuracy and Stability of Numerical Algorithms, 2002, ch. 3: u = 2^-24 is the unit roundoff and
gamma(k) = k u / (1 - k u) bounds k roundings, in whatever order the sums are taken. A kernel computes from values
that are wrong by at most `e`, so a convolution is wrong by

    |w| e  +  gamma(K + 2) (|w| (|x| + e) + |b|)                              direct, K products
    |w| e  +  gamma(2 n + C + 3) (|A| (|U| |B| (|x| + e)) + |b|)              Toom-Cook, n points, C input channels

with A, B the transforms and U the weights at the points, in magnitudes. The bound is that of the vector kernels;
the scalar one takes no Toom-Cook and is below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from libsedge_native import float_reference
from libsedge_native.float_reference import Float64
from libsedge_native.ir import (
    INPUT,
    Add,
    AveragePool1d,
    Concat,
    Conv1d,
    Dense,
    GlobalAveragePool,
    Graph,
    MaxPool1d,
    Op,
)
from libsedge_native.lowered import Program, Stage
from libsedge_native.passes.dense_as_conv import dense_as_conv
from libsedge_native.passes.float_toom import Scheme, at_points, choose_scheme
from libsedge_native.passes.fuse_pool import fuse_pool

UNIT = 2.0**-24


def gamma(roundings: int) -> float:
    """k u / (1 - k u)."""
    return roundings * UNIT / (1 - roundings * UNIT)


def _toom(op: Conv1d, scheme: Scheme, x: Float64, count: int) -> Float64:
    """|A| (|U| |B| x) for the first `count` outputs, tiles as the kernel lays them; x not negative."""
    padded = np.pad(x, ((0, 0), op.pads))
    starts = np.minimum(np.arange(0, count, scheme.outputs), count - scheme.outputs)
    tiles = sliding_window_view(padded, scheme.points, axis=1)[:, starts]  # [C, tile, n]
    products = np.einsum(
        "jn,ctn,jco->jto", np.abs(scheme.inputs()), tiles, np.abs(at_points(scheme, op)), optimize=True
    )
    results = np.einsum("ij,jto->oti", np.abs(scheme.results()), products, optimize=True)
    out = np.zeros((op.weight.shape[0], count))
    for tile, start in enumerate(starts):
        out[:, start : start + scheme.outputs] = results[:, tile]
    return out


def _conv(op: Conv1d, stage: Stage | None, x: Float64, e: Float64) -> Float64:
    magnitude = np.abs(op.weight.astype(np.float64))
    bias = np.abs(op.bias.astype(np.float64))[:, None]
    inherited = float_reference.conv_sum(op, e, magnitude)
    size = np.abs(x) + e
    sums, count = float_reference.conv_sum(op, size, magnitude), magnitude[0].size
    scheme = None if stage is None else choose_scheme(stage)
    if stage is not None and scheme is not None:
        used = stage.y.length * stage.pool  # what the pool drops is not computed
        sums[:, :used], count = _toom(op, scheme, size, used), 2 * scheme.points + len(x) + 1
    return np.asarray(inherited + gamma(count + 2) * (sums + bias))


def _error(op: Op, stage: Stage | None, xs: Sequence[Float64], es: Sequence[Float64], y: Float64) -> Float64:
    x, e = xs[0], es[0]
    if isinstance(op, Conv1d):
        return _conv(op, stage, x, e)
    if isinstance(op, Dense):
        weight, bias = np.abs(op.weight.astype(np.float64)), np.abs(op.bias)[:, None]
        return np.asarray(weight @ e + gamma(len(x) + 2) * (weight @ (np.abs(x) + e) + bias))
    if isinstance(op, MaxPool1d):
        return float_reference.apply(op, es)
    if isinstance(op, (AveragePool1d, GlobalAveragePool)):
        count = op.kernel if isinstance(op, AveragePool1d) else x.shape[1]
        mean_error, mean_size = (float_reference.apply(op, [part]) for part in (e, np.abs(x) + e))
        return mean_error + gamma(count + 2) * mean_size
    if isinstance(op, Add):
        inherited = es[0] + es[1]
        return np.asarray(inherited + gamma(1) * (np.abs(xs[0] + xs[1]) + inherited))
    if isinstance(op, Concat):
        return np.concatenate(es)
    return e.reshape(y.shape)


def error_bound(graph: Graph, x: NDArray[np.float32]) -> Float64:
    """float64 [classes]: how far a vector kernel's logits may be from `float_reference.run` for one input.

    Plus the smallest normal float32 a sum, so that underflow is inside.
    """
    program = Program(graph)
    for apply in (dense_as_conv, fuse_pool):
        program = apply(program)
    stages = {stage.ops[0].name: stage for stage in program.stages}
    values: dict[str, Float64] = {INPUT: np.asarray(x, np.float64).reshape(graph.input.shape)}
    errors: dict[str, Float64] = {INPUT: np.zeros(graph.input.shape)}
    tiny = float(np.finfo(np.float32).tiny)
    for op in graph.ops:
        xs, es = [values[n] for n in op.inputs], [errors[n] for n in op.inputs]
        values[op.name] = float_reference.apply(op, xs)
        error: NDArray[Any] = _error(op, stages.get(op.name), xs, es, values[op.name])
        errors[op.name] = error + tiny
    return errors[graph.ops[-1].name].reshape(-1)
