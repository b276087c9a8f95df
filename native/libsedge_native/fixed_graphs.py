"""Graphs that the proofs of kernels share, the same every time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from libsedge_native.ir import Conv1d, Dense, Flatten, GlobalAveragePool, Graph, MaxPool1d, Quant, Tensor


def m_net(length: int = 5400, classes: int = 12) -> Graph:
    """The shapes of the product's network (architecture.md) with random weights."""
    rng = np.random.default_rng(11)

    def parameters(*shape: int) -> tuple[NDArray[np.int8], NDArray[np.int32], NDArray[np.float32]]:
        weight = rng.integers(-60, 61, shape).astype(np.int8)
        bias = rng.integers(-2000, 2000, shape[0]).astype(np.int32)
        return weight, bias, (rng.uniform(0.5, 1.5, shape[0]) * 0.002).astype(np.float32)

    ops = (
        Conv1d("conv1", *parameters(16, 1, 11), Quant(0.05, -128), stride=2),
        MaxPool1d("pool1", 2, 2),
        Conv1d("conv2", *parameters(32, 16, 7), Quant(0.06, -128)),
        MaxPool1d("pool2", 2, 2),
        Conv1d("conv3", *parameters(64, 32, 5), Quant(0.05, -128)),
        MaxPool1d("pool3", 2, 2),
        Conv1d("conv4", *parameters(64, 64, 3), Quant(0.04, -128)),
        GlobalAveragePool("gap", Quant(0.01, -128)),
        Flatten("flat"),
        Dense("fc", *parameters(classes, 64), Quant(0.02, 3)),
    )
    return Graph("m", Tensor(1, length, Quant(0.02, -128)), ops)


def ties() -> tuple[Graph, NDArray[np.int8]]:
    """A graph and int8 [7, 1] inputs whose odd ones make every result a tie: rounding half away from zero shows."""
    weight = np.arange(-60, 60, 2, dtype=np.int8).reshape(60, 1, 1) + np.int8(1)
    conv = Conv1d("conv", weight, np.zeros(60, np.int32), np.full(60, 0.5, np.float32), Quant(1.0, 0))
    inputs = np.arange(-3, 4, dtype=np.int8).reshape(-1, 1)
    return Graph("ties", Tensor(1, 1, Quant(1.0, 0)), (conv,)), inputs
