"""A quantised graph's float32 twin: the same ops on the real numbers that its integers stand for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from libsedge_native.ir import REAL, Conv1d, Dense, Flatten, Graph, MaxPool1d, Op, Tensor


def _real(op: Op, xs: tuple[Tensor, ...]) -> Op:
    if isinstance(op, (Flatten, MaxPool1d)):
        return op
    if not isinstance(op, (Conv1d, Dense)):
        return replace(op, quant=REAL)
    scale = op.weight_scale.astype(np.float64)
    weight = op.weight * scale.reshape(-1, *[1] * (op.weight.ndim - 1))
    bias = op.bias * scale * xs[0].quant.scale
    return replace(
        op,
        weight=weight.astype(np.float32),
        bias=bias.astype(np.float32),
        weight_scale=np.ones_like(op.weight_scale),
        quant=REAL,
    )


def dequantised(graph: Graph) -> Graph:
    """The float32 graph of an int8 one: scales multiplied into weights and biases, nothing rounded to int8.

    A value that int8 would have clipped keeps its size here; where the clip at zero point -128 was the ReLU, the
    flag of the op says so and stays.
    """
    ops = tuple(_real(op, graph.sources(op)) for op in graph.ops)
    return Graph(graph.name, Tensor(*graph.input.shape, REAL), ops)
