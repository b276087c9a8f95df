"""The networks of the benchmark: shapes of the product's nets, random weights.

S, M and L are one family (four convolutions, global average, one dense layer) at 1,800 inputs, 5,400 inputs and 5,400
inputs with twice the channels; M_fc has a dense head instead of the average. Weights are pseudo-random, scales follow
the accumulators of a random input, so activations use the int8 range; speed does not depend on their values.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from libsedge_native import reference, toolchain
from libsedge_native.generate import generate
from libsedge_native.ir import Conv1d, Dense, Flatten, GlobalAveragePool, Graph, MaxPool1d, Op, Quant, Tensor
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

CLASSES = 12


@dataclass(frozen=True)
class Spec:
    """Length of the input, factor of the channel counts, and whether the head is dense."""

    length: int
    width: int = 1
    dense_head: bool = False


NETS: dict[str, Spec] = {
    "S": Spec(1800),
    "M": Spec(5400),
    "L": Spec(5400, width=2),
    "M_fc": Spec(5400, dense_head=True),
}


class _Builder:
    """Appends layers; the output scale of each follows its accumulators for one random input."""

    def __init__(self, length: int) -> None:
        self.rng = np.random.default_rng(2026)
        self.input = self.x = Tensor(1, length, Quant(0.02, -128))
        self.sample = self.rng.integers(-128, 128, (1, length)).astype(np.int8)
        self.ops: list[Op] = []

    def add(self, op: Op) -> None:
        self.sample = reference.MEANING[type(op)](op, self.sample, self.x)
        self.x = op.output(self.x)
        self.ops.append(op)

    def parameters(self, *shape: int) -> tuple[NDArray[np.int8], NDArray[np.int32], NDArray[np.float32]]:
        weight = self.rng.integers(-60, 61, shape).astype(np.int8)
        bias = self.rng.integers(-2000, 2000, shape[0]).astype(np.int32)
        return weight, bias, (self.rng.uniform(0.5, 1.5, shape[0]) * 0.002).astype(np.float32)

    def _quant(self, total: NDArray[np.int64], scale: NDArray[np.float32], zero: int) -> Quant:
        real = np.abs(total * (self.x.quant.scale * scale[:, None].astype(np.float64)))
        return Quant(float(np.quantile(real, 0.98)) / (255 if zero == -128 else 120), zero)

    def conv(self, name: str, out: int, taps: int, stride: int = 1) -> None:
        weight, bias, scale = self.parameters(out, self.x.channels, taps)
        trial = Conv1d(name, weight, bias, scale, Quant(1.0, -128), stride)
        quant = self._quant(reference.conv1d_sum(trial, self.sample, self.x), scale, -128)
        self.add(Conv1d(name, weight, bias, scale, quant, stride))

    def dense(self, name: str, out: int, zero: int) -> None:
        weight, bias, scale = self.parameters(out, self.x.channels)
        trial = Dense(name, weight, bias, scale, Quant(1.0, zero))
        quant = self._quant(reference.dense_sum(trial, self.sample, self.x), scale, zero)
        self.add(Dense(name, weight, bias, scale, quant))


def build(name: str) -> Graph:
    """The int8 graph of `NETS[name]`; the same every time."""
    spec = NETS[name]
    net = _Builder(spec.length)
    for i, (out, taps, stride) in enumerate(((16, 11, 2), (32, 7, 1), (64, 5, 1), (64, 3, 1)), start=1):
        net.conv(f"conv{i}", out * spec.width, taps, stride)
        if i < 4:
            net.add(MaxPool1d(f"pool{i}", 2, 2))
    if not spec.dense_head:
        net.add(GlobalAveragePool("average", net.x.quant))
    net.add(Flatten("flat"))
    if spec.dense_head:
        net.dense("hidden", 128, -128)
    net.dense("fc", CLASSES, 0)
    return Graph(name.lower(), net.input, tuple(net.ops))


@cache
def compiled(name: str) -> bytes:
    """The shared object of `build(name)`, compiled once a process."""
    return toolchain.compile_shared(generate(build(name)))


def real_weights(op: Conv1d | Dense, x: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Dequantised weight and bias of a layer with input `x`."""
    scale = op.weight_scale.astype(np.float64)
    weight = op.weight * scale.reshape(-1, *[1] * (op.weight.ndim - 1))
    return weight.astype(np.float32), (op.bias * scale * x.quant.scale).astype(np.float32)


def float_onnx(graph: Graph, *, two_d: bool) -> bytes:
    """The dequantised network as float32 ONNX, spelled with Conv1d, or with Conv2d of height 1."""
    high = [1] if two_d else []
    nodes, constants = [], []

    def constant(name: str, value: NDArray[np.generic]) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    x = "input"
    for op, tensor in zip(graph.ops, graph.tensors, strict=False):
        y = f"{op.name}_out"
        if isinstance(op, Conv1d):
            weight, bias = real_weights(op, tensor)
            names = [
                constant(f"{op.name}_w", weight[:, :, None] if two_d else weight),
                constant(f"{op.name}_b", bias),
            ]
            kernel = [*high, weight.shape[2]]
            strides = [*high, op.stride]
            nodes.append(
                helper.make_node("Conv", [x, *names], [f"{y}_c"], kernel_shape=kernel, strides=strides)
            )
            nodes.append(helper.make_node("Relu", [f"{y}_c"], [y]))
        elif isinstance(op, MaxPool1d):
            kernel, strides = [*high, op.kernel], [*high, op.stride]
            nodes.append(helper.make_node("MaxPool", [x], [y], kernel_shape=kernel, strides=strides))
        elif isinstance(op, GlobalAveragePool):
            nodes.append(helper.make_node("GlobalAveragePool", [x], [y]))
        elif isinstance(op, Flatten):
            nodes.append(helper.make_node("Flatten", [x], [y]))
        else:
            weight, bias = real_weights(op, tensor)
            names = [constant(f"{op.name}_w", weight), constant(f"{op.name}_b", bias)]
            nodes.append(helper.make_node("Gemm", [x, *names], [f"{y}_g" if op.relu else y], transB=1))
            if op.relu:
                nodes.append(helper.make_node("Relu", [f"{y}_g"], [y]))
        x = y
    shape = [1, graph.input.channels, *high, graph.input.length]
    proto = helper.make_graph(
        nodes,
        graph.name,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, graph.output.channels])],
        constants,
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString(deterministic=True))
