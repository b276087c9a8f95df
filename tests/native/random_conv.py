"""A convolution with random weights, for graphs whose shapes are what a test is about."""

from __future__ import annotations

import numpy as np
from libsedge_native.ir import Conv1d, Quant


def conv(name: str, shape: tuple[int, int, int], seed: int, **changes: object) -> Conv1d:
    weight = np.random.default_rng(seed).integers(-127, 128, shape).astype(np.int8)
    scale = np.full(shape[0], 0.02 / np.sqrt(shape[1] * shape[2]), np.float32)
    fields: dict = changes
    return Conv1d(name, weight, np.zeros(shape[0], np.int32), scale, Quant(0.8, -128), **fields)
