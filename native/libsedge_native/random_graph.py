"""Random valid graphs for tests and for `verify`: every op, every attribute, extremes on purpose."""

from __future__ import annotations

import numpy as np

from libsedge_native.ir import Conv1d, Dense, Flatten, GlobalAveragePool, Graph, MaxPool1d, Op, Quant, Tensor


def _weight(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    style = rng.integers(4)
    if style == 0:  # extremes: the largest sums
        return np.where(rng.random(shape) < 0.5, -127, 127).astype(np.int8)
    if style == 1:
        return np.full(shape, rng.choice([-127, 127]), np.int8)
    return rng.integers(-127, 128, shape).astype(np.int8)


def _parameters(
    rng: np.random.Generator, shape: tuple[int, ...], x: Tensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Quant]:
    """Weight, bias, weight scales and an output quantisation that uses its range without only saturating."""
    weight = _weight(rng, shape)
    out, window = shape[0], int(np.prod(shape[1:]))
    bias = rng.integers(-3000, 3001, out).astype(np.int32)
    scale = rng.uniform(0.0005, 0.005, out).astype(np.float32)
    typical = x.quant.scale * 0.003 * 70.0 * 75.0 * np.sqrt(window)
    zero = int(rng.choice([-128, -128, int(rng.integers(-128, 128)), 0, 127]))
    return weight, bias, scale, Quant(float(typical / rng.choice([5.0, 40.0, 120.0])), zero)


def _conv(rng: np.random.Generator, name: str, x: Tensor) -> Conv1d:
    groups = 1
    if rng.random() < 0.25:
        groups = int(rng.choice([g for g in range(1, x.channels + 1) if x.channels % g == 0]))
    out = groups * int(rng.integers(1, max(2, 80 // groups)))
    taps = int(rng.integers(1, min(12, x.length) + 1))
    dilation = int(rng.choice([1, 1, 1, 2, 3]))
    while dilation > 1 and dilation * (taps - 1) + 1 > x.length:
        dilation -= 1
    pads = (0, 0) if rng.random() < 0.4 else (int(rng.integers(0, taps + 1)), int(rng.integers(0, taps + 1)))
    weight, bias, scale, quant = _parameters(rng, (out, x.channels // groups, taps), x)
    stride = int(rng.choice([1, 1, 2, 3]))
    return Conv1d(name, weight, bias, scale, quant, stride, dilation, pads, groups, bool(rng.random() < 0.5))


def random_graph(seed: int, name: str = "net", *, max_length: int = 300) -> Graph:
    """A random graph; the same seed gives the same graph.

    Lengths up to max_length, 1 to 80 channels, taps, stride, dilation, padding, groups, pools of kernel = stride and
    not, one or two dense layers, weights of +-127, every kind of zero point.
    """
    rng = np.random.default_rng(seed)
    x = Tensor(
        int(rng.choice([1, 1, 2, 3, 5, 16])),
        int(rng.integers(1, max_length + 1)),
        Quant(float(rng.uniform(0.005, 0.05)), int(rng.integers(-128, 128))),
    )
    first, ops = x, []

    def add(op: Op) -> Tensor:
        ops.append(op)
        return op.output(x)

    for i in range(int(rng.integers(1, 5))):
        x = add(_conv(rng, f"conv{i}", x))
        if rng.random() < 0.6 and x.length > 1:
            kernel = int(rng.integers(2, min(6, x.length) + 1)) if rng.random() < 0.9 else min(x.length, 30)
            stride = kernel if rng.random() < 0.75 else int(rng.integers(1, 5))
            x = add(MaxPool1d(f"pool{i}", kernel, stride))
    if rng.random() < 0.6 or x.channels * x.length > 2000:
        spread = float(rng.choice([0.3, 1.0]))
        x = add(GlobalAveragePool("average", Quant(x.quant.scale * spread, int(rng.integers(-128, 128)))))
    x = add(Flatten("flat"))
    for i in range(int(rng.integers(1, 3))):
        weight, bias, scale, quant = _parameters(rng, (int(rng.integers(1, 40)), x.channels), x)
        x = add(Dense(f"dense{i}", weight, bias, scale, quant, bool(rng.random() < 0.3)))
    return Graph(name, first, tuple(ops))


def random_inputs(graph: Graph, seed: int, count: int) -> np.ndarray:
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
