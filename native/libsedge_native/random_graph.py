"""Random valid graphs for tests and for `verify`: every op, every attribute, extremes on purpose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libsedge_native import reference
from libsedge_native.ir import Conv1d, Dense, Flatten, GlobalAveragePool, Graph, MaxPool1d, Op, Quant, Tensor

Rng = np.random.Generator


def _weight(rng: Rng, shape: tuple[int, ...]) -> NDArray[np.int8]:
    style = rng.integers(5)
    if style == 0:  # extremes: the largest sums
        return np.where(rng.random(shape) < 0.5, -127, 127).astype(np.int8)
    if style == 1:
        return np.full(shape, rng.choice([-127, 127]), np.int8)
    return rng.integers(-127, 128, shape).astype(np.int8)


def _zero_point(rng: Rng) -> int:
    return int(rng.choice([-128, -128, int(rng.integers(-128, 128)), 0]))


class _Builder:
    """Ops so far and a sample of their activations, from which output scales are chosen to use the int8
    range.
    """

    def __init__(self, rng: Rng, x: Tensor) -> None:
        self.rng, self.x, self.ops = rng, x, list[Op]()
        self.sample = rng.integers(-128, 128, x.shape).astype(np.int8)

    def add(self, op: Op) -> None:
        if isinstance(op, (Conv1d, Dense)):
            if isinstance(op, Conv1d):
                total = reference.conv1d_sum(op, self.sample, self.x)
            else:
                total = reference.dense_sum(op, self.sample, self.x)
            real = total * (self.x.quant.scale * op.weight_scale[:, None])
            spread = max(float(np.abs(real).mean()), 1e-4)
            quant = Quant(spread / float(self.rng.choice([8.0, 40.0, 90.0])), op.quant.zero_point)
            op = replace(op, quant=quant)
        self.sample = reference.MEANING[type(op)](op, self.sample, self.x)
        self.x = op.output(self.x)
        self.ops.append(op)

    def parameters(self, shape: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], Quant]:
        """Weight, bias, weight scales and a provisional output quantisation."""
        rng, out = self.rng, shape[0]
        bias = rng.integers(-3000, 3001, out).astype(np.int32)
        scale = rng.uniform(0.0005, 0.005, out).astype(np.float32)
        return _weight(rng, shape), bias, scale, Quant(1.0, _zero_point(rng))

    def conv(self, name: str) -> None:
        rng, x = self.rng, self.x
        groups = 1
        if rng.random() < 0.25:
            groups = int(rng.choice([g for g in range(1, x.channels + 1) if x.channels % g == 0]))
        out = groups * int(rng.integers(1, max(2, 80 // groups)))
        taps = int(rng.integers(1, min(12, x.length) + 1))
        dilation = int(rng.choice([1, 1, 1, 2, 3]))
        while dilation > 1 and dilation * (taps - 1) + 1 > x.length:
            dilation -= 1
        pads = (int(rng.integers(0, taps + 1)), int(rng.integers(0, taps + 1)))
        if rng.random() < 0.4:
            pads = (0, 0)
        weight, bias, scale, quant = self.parameters((out, x.channels // groups, taps))
        stride = int(rng.choice([1, 1, 2, 3]))
        relu = bool(rng.random() < 0.4) and quant.zero_point < 100
        self.add(Conv1d(name, weight, bias, scale, quant, stride, dilation, pads, groups, relu))

    def pool(self, name: str) -> None:
        rng, length = self.rng, self.x.length
        kernel = int(rng.integers(2, min(6, length) + 1)) if rng.random() < 0.9 else min(length, 30)
        stride = kernel if rng.random() < 0.75 else int(rng.integers(1, 5))
        self.add(MaxPool1d(name, kernel, stride))


def random_graph(seed: int, name: str = "net", *, max_length: int = 300) -> Graph:
    """A random graph; the same seed gives the same graph.

    Lengths up to max_length, 1 to 80 channels, taps, stride, dilation, padding, groups, pools of kernel =
    stride and not, one or two dense layers, weights of +-127, every kind of zero point.
    """
    rng = np.random.default_rng(seed)
    channels, length = int(rng.choice([1, 1, 2, 3, 5, 16])), int(rng.integers(1, max_length + 1))
    first = Tensor(channels, length, Quant(float(rng.uniform(0.005, 0.05)), int(rng.integers(-128, 128))))
    net = _Builder(rng, first)
    for i in range(int(rng.integers(1, 5))):
        net.conv(f"conv{i}")
        if rng.random() < 0.6 and net.x.length > 1:
            net.pool(f"pool{i}")
    if rng.random() < 0.6 or net.x.channels * net.x.length > 2000:
        spread = float(rng.choice([0.1, 0.3, 1.0]))
        net.add(GlobalAveragePool("average", Quant(net.x.quant.scale * spread, int(rng.integers(-128, 128)))))
    net.add(Flatten("flat"))
    for i in range(int(rng.integers(1, 3))):
        weight, bias, scale, quant = net.parameters((int(rng.integers(2, 40)), net.x.channels))
        net.add(
            Dense(
                f"dense{i}", weight, bias, scale, quant, bool(rng.random() < 0.3) and quant.zero_point < 100
            )
        )
    return Graph(name, first, tuple(net.ops))


def random_inputs(graph: Graph, seed: int, count: int) -> NDArray[np.int8]:
    """int8 [count, input_len]: all -128, all 127, the zero point, alternating extremes, then uniform noise."""
    size = graph.input.channels * graph.input.length
    rng = np.random.default_rng(seed)
    rows = rng.integers(-128, 128, (count, size)).astype(np.int8)
    special = [
        np.full(size, -128),
        np.full(size, 127),
        np.full(size, graph.input.quant.zero_point),
        np.where(np.arange(size) % 2, -128, 127),
    ]
    for row, values in zip(rows, special, strict=False):
        row[:] = values
    return rows
