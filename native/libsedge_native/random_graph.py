"""Random valid graphs for tests and for `verify`: every op, every attribute, extremes on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libsedge_native import reference
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
    """Ops so far and a sample of every activation, from which output scales are chosen to use the int8 range."""

    def __init__(self, rng: Rng, x: Tensor) -> None:
        self.rng, self.ops, self.last = rng, list[Op](), INPUT
        self.tensors = {INPUT: x}
        self.samples = {INPUT: rng.integers(-128, 128, x.shape).astype(np.int8)}

    @property
    def x(self) -> Tensor:
        """The tensor that the next op reads."""
        return self.tensors[self.last]

    def scaled(self, op: Op, xs: list[NDArray[np.int8]], ts: list[Tensor]) -> Op:
        """The op with an output scale that fits its sums."""
        if isinstance(op, Conv1d):
            real = reference.conv1d_sum(op, xs[0], ts[0]) * (ts[0].quant.scale * op.weight_scale[:, None])
        elif isinstance(op, Dense):
            real = reference.dense_sum(op, xs[0], ts[0]) * (ts[0].quant.scale * op.weight_scale[:, None])
        elif isinstance(op, Add):
            first, second = (
                (x.astype(np.float64) - t.quant.zero_point) * t.quant.scale
                for x, t in zip(xs, ts, strict=True)
            )
            real = first + second + max(t.quant.scale for t in ts)
        else:
            return op
        spread = max(float(np.abs(real).mean()), 1e-4)
        return replace(
            op, quant=Quant(spread / float(self.rng.choice([8.0, 40.0, 90.0])), op.quant.zero_point)
        )

    def add(self, op: Op) -> str:
        """Append an op that reads the last one, or what it names; returns its name."""
        if not op.inputs:
            op = replace(op, inputs=(self.last,))
        xs, ts = [self.samples[n] for n in op.inputs], [self.tensors[n] for n in op.inputs]
        op = self.scaled(op, xs, ts)
        self.samples[op.name] = reference.apply(op, xs, ts)
        self.tensors[op.name] = op.output(*ts)
        self.ops.append(op)
        self.last = op.name
        return op.name

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
        if x.channels > 1 and rng.random() < 0.2:
            groups = out = x.channels  # depthwise
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
        pads = (0, 0)
        if rng.random() < 0.3:
            pads = (int(rng.integers(0, kernel)), int(rng.integers(0, kernel)))
        if rng.random() < 0.3:
            quant = Quant(self.x.quant.scale * float(rng.choice([0.3, 0.5, 1.0])), _zero_point(rng))
            self.add(AveragePool1d(name, kernel, stride, quant, pads, bool(rng.random() < 0.5)))
        else:
            self.add(MaxPool1d(name, kernel, stride, pads))

    def same_length(self, name: str, source: str, out: int) -> str:
        """An op on `source` that keeps its length: a convolution to `out` channels, or a pool where that fits."""
        rng, x = self.rng, self.tensors[source]
        taps, dilation = int(rng.integers(1, 6)), int(rng.choice([1, 1, 2]))
        left = int(rng.integers(0, dilation * (taps - 1) + 1))
        kind = rng.random()
        if kind < 0.2 and out == x.channels:
            return self.add(MaxPool1d(name, 3, 1, (1, 1), (source,)))
        if kind < 0.4 and out == x.channels:
            return self.add(AveragePool1d(name, 3, 1, x.quant, (2, 0), kind < 0.3, (source,)))
        weight, bias, scale, quant = self.parameters((out, x.channels, taps))
        pads = (left, dilation * (taps - 1) - left)
        return self.add(Conv1d(name, weight, bias, scale, quant, 1, dilation, pads, inputs=(source,)))

    def residual(self, name: str) -> None:
        source = self.last
        other = self.same_length(f"{name}_a", source, self.x.channels)
        pair = (source, other) if self.rng.random() < 0.5 else (other, source)
        self.add(Add(name, Quant(1.0, _zero_point(self.rng)), pair, bool(self.rng.random() < 0.3)))

    def branches(self, name: str) -> None:
        rng, source = self.rng, self.last
        parts = [source] if rng.random() < 0.3 else []
        for i in range(int(rng.integers(2, 4)) - len(parts)):
            out = self.tensors[source].channels if rng.random() < 0.5 else int(rng.integers(1, 40))
            parts.append(self.same_length(f"{name}_{i}", source, out))
        quant = self.tensors[parts[0]].quant
        if rng.random() < 0.5:
            quant = Quant(quant.scale * float(rng.choice([0.5, 1.0, 1.7])), int(rng.integers(-128, 128)))
        self.add(Concat(name, quant, tuple(parts)))

    def shown(self, name: str) -> None:
        """A dense layer whose output is its input: logits that hide no difference behind a sum."""
        one, count = self.x, self.x.channels
        unit = np.eye(count, dtype=np.int8)
        op = Dense(
            name, unit, np.zeros(count, np.int32), np.ones(count, np.float32), one.quant, False, (self.last,)
        )
        self.samples[name], self.tensors[name], self.last = self.samples[self.last], op.output(one), name
        self.ops.append(op)

    def dense(self, name: str) -> None:
        rng, before = self.rng, self.last
        residual = isinstance(self.ops[-1], Dense) and rng.random() < 0.3
        out = self.x.channels if residual else int(rng.integers(2, 40))
        weight, bias, scale, quant = self.parameters((out, self.x.channels))
        relu = bool(rng.random() < 0.3) and quant.zero_point < 100
        self.add(Dense(name, weight, bias, scale, quant, relu))
        if residual:
            self.add(Add(f"{name}_sum", Quant(1.0, _zero_point(rng)), (before, name)))


def random_graph(seed: int, name: str = "net", *, max_length: int = 300) -> Graph:
    """A random graph; the same seed gives the same graph.

    Lengths up to max_length, 1 to 80 channels, taps, stride, dilation, padding, groups, depthwise, pools of
    kernel = stride and not, padded and not, residual sums, branches that are concatenated, one or two dense
    layers, weights of +-127, every kind of zero point.
    """
    rng = np.random.default_rng(seed)
    channels, length = int(rng.choice([1, 1, 2, 3, 5, 16])), int(rng.integers(1, max_length + 1))
    first = Tensor(channels, length, Quant(float(rng.uniform(0.005, 0.05)), int(rng.integers(-128, 128))))
    net = _Builder(rng, first)
    for i in range(int(rng.integers(1, 5))):
        kind = rng.random()
        if kind < 0.2 and net.x.channels <= 64:
            net.residual(f"sum{i}")
        elif kind < 0.35 and net.x.channels <= 64:
            net.branches(f"cat{i}")
        else:
            net.conv(f"conv{i}")
        if rng.random() < 0.6 and net.x.length > 1:
            net.pool(f"pool{i}")
    if rng.random() < 0.6 or net.x.channels * net.x.length > 2000:
        spread = float(rng.choice([0.1, 0.3, 1.0]))
        net.add(GlobalAveragePool("average", Quant(net.x.quant.scale * spread, int(rng.integers(-128, 128)))))
    net.add(Flatten("flat"))
    for i in range(int(rng.integers(1, 4))):
        net.dense(f"dense{i}")
    return Graph(name, first, tuple(net.ops))


def small_graph(seed: int, name: str = "net") -> Graph:
    """One or two layers as in `random_graph` on a short input, cheap to compile; the same seed gives the same graph.

    The last layer's activations are the logits as they are, or averaged, or summed up by a dense layer.
    """
    rng = np.random.default_rng((seed, 1))
    channels, longest = int(rng.choice([1, 1, 2, 3, 5, 16, 33])), int(rng.choice([8, 33, 70]))
    quant = Quant(float(rng.uniform(0.005, 0.05)), int(rng.integers(-128, 128)))
    first = Tensor(channels, int(rng.integers(1, longest + 1)), quant)
    net = _Builder(rng, first)
    layers: list[Callable[[str], None]] = [net.conv, net.conv, net.conv, net.conv, net.residual, net.branches]
    layers[rng.integers(len(layers))]("first")
    if rng.random() < 0.5 and net.x.length > 1:
        net.pool("pool")
    if rng.random() < 0.2 and net.x.channels <= 64:
        layers[rng.integers(len(layers))]("second")
    if rng.random() < 0.45 or net.x.channels * net.x.length > 600:
        spread = float(rng.choice([0.03, 0.1, 0.3]))
        net.add(GlobalAveragePool("average", Quant(net.x.quant.scale * spread, int(rng.integers(-128, 128)))))
        return Graph(name, first, tuple(net.ops))
    net.add(Flatten("flat"))
    if net.x.channels > 200 or rng.random() < 0.2:
        net.dense("dense")
    else:
        net.shown("shown")
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
