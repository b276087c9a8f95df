"""A trained net as a float32 `ir.Graph`, without quantisation: what `libsedge sources --precision float32` compiles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from libsedge_native import ir

from .model import FoldedConv, FoldedDense, FoldedGap, FoldedLayer


def float_graph(layers: Sequence[FoldedLayer], points: int, name: str) -> ir.Graph:
    """The graph of folded layers for preprocessed spectra of `points` grid points (before `quantise`)."""
    ops: list[ir.Op] = []
    for number, layer in enumerate(layers, 1):
        if isinstance(layer, FoldedGap):
            ops.append(ir.GlobalAveragePool("gap", ir.REAL))
            continue
        ones = np.ones(len(layer.bias), np.float32)
        if isinstance(layer, FoldedDense):
            if not isinstance(ops[-1], ir.Dense):
                ops.append(ir.Flatten("flatten"))
            ops.append(ir.Dense(f"dense{number}", layer.weight, layer.bias, ones, ir.REAL, layer.relu))
            continue
        assert isinstance(layer, FoldedConv)
        conv = ir.Conv1d(
            f"conv{number}",
            layer.weight,
            layer.bias,
            ones,
            ir.REAL,
            stride=layer.stride,
            pads=(layer.padding, layer.padding),
            relu=layer.relu,
        )
        ops.append(conv)
        if layer.pool > 1:
            ops.append(ir.MaxPool1d(f"pool{number}", layer.pool, layer.pool))
    return ir.Graph(name, ir.Tensor(1, points, ir.REAL), tuple(ops))
