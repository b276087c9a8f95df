"""IR to ONNX in QDQ form (QuantizeLinear/DequantizeLinear around float ops), int8 in and int8 out.

The form is the one that ONNX Runtime turns into QLinearConv, QGemm and quantised pools, nothing left in
float: activations int8, biases int32 behind a DequantizeLinear of scale `s_x * s_w`, and no Relu node where
the output's zero point is -128, because the clip to int8 is that ReLU. A graph without
quantisation becomes plain float32 ONNX.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from libsedge.errors import ModelError
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

from libsedge_native.ir import INPUT as IR_INPUT
from libsedge_native.ir import (
    Add,
    AveragePool1d,
    Conv1d,
    Dense,
    Flatten,
    GlobalAveragePool,
    Graph,
    MaxPool1d,
    Op,
    Quant,
    Real,
    Tensor,
)

OPSET = 17
IR_VERSION = 8
INPUT = "input"
OUTPUT = "logits"


class _Writer:
    """Nodes and initialisers in the order they are written; nothing depends on hashing."""

    def __init__(self, unsigned: bool) -> None:
        self.unsigned = unsigned
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, name: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=name or output, **attributes))
        return output

    def quant(self, name: str, quant: Quant) -> list[str]:
        scale = self.constant(f"{name}_scale", np.array(quant.scale, np.float32))
        zero = np.uint8(quant.zero_point + 128) if self.unsigned else np.int8(quant.zero_point)
        return [scale, self.constant(f"{name}_zero_point", np.array(zero))]

    def dequantise(self, x: str, quant: Quant) -> str:
        if isinstance(quant, Real):
            return x
        return self.node("DequantizeLinear", [x, *self.quant(f"{x}_dq", quant)], f"{x}_dq")

    def quantise(self, x: str, output: str, quant: Quant) -> str:
        if isinstance(quant, Real):  # the op's own node gives the output its name
            self.nodes[-1].output[0] = output
            return output
        return self.node("QuantizeLinear", [x, *self.quant(output, quant)], output)

    def parameters(self, op: Conv1d | Dense, x_scale: float) -> list[str]:
        """Dequantised weight and bias of a layer; the bias's scale is float32(s_x * s_w)."""
        if isinstance(op.quant, Real):
            return [self.constant(f"{op.name}_{k}", v) for k, v in (("weight", op.weight), ("bias", op.bias))]
        out = []
        bias_scale = np.float32(x_scale) * op.weight_scale
        for kind, value, scale in (("weight", op.weight, op.weight_scale), ("bias", op.bias, bias_scale)):
            name = self.constant(f"{op.name}_{kind}", value)
            zero = np.zeros(value.shape[0], value.dtype)
            inputs = [
                name,
                self.constant(f"{name}_scale", scale),
                self.constant(f"{name}_zero_point", np.array(zero)),
            ]
            out.append(self.node("DequantizeLinear", inputs, f"{name}_dq", axis=0))
        return out

    def window(self, op: MaxPool1d | AveragePool1d, kind: str, x: str, y: str, **attributes: Any) -> str:
        if any(op.pads):
            attributes["pads"] = list(op.pads)
        return self.node(kind, [x], y, op.name, kernel_shape=[op.kernel], strides=[op.stride], **attributes)

    def op(self, op: Op, xs: list[str], ts: tuple[Tensor, ...]) -> str:
        """The float node of an op; returns the name of its result."""
        y = f"{op.name}_float"
        if isinstance(op, Conv1d):
            return self.node(
                "Conv",
                [xs[0], *self.parameters(op, ts[0].quant.scale)],
                y,
                op.name,
                kernel_shape=[op.weight.shape[2]],
                strides=[op.stride],
                dilations=[op.dilation],
                pads=list(op.pads),
                group=op.groups,
            )
        if isinstance(op, MaxPool1d):
            return self.window(op, "MaxPool", xs[0], y)
        if isinstance(op, AveragePool1d):
            return self.window(op, "AveragePool", xs[0], y, count_include_pad=int(op.include_pad))
        if isinstance(op, GlobalAveragePool):
            return self.node("GlobalAveragePool", xs, y, op.name)
        if isinstance(op, Flatten):
            return self.node("Flatten", xs, y, op.name, axis=1)
        if isinstance(op, Dense):
            return self.node("Gemm", [xs[0], *self.parameters(op, ts[0].quant.scale)], y, op.name, transB=1)
        if isinstance(op, Add):
            return self.node("Add", xs, y, op.name)
        return self.node("Concat", xs, y, op.name, axis=1)


def to_onnx(graph: Graph, *, unsigned: bool = False) -> bytes:
    """Serialise a graph as QDQ ONNX, or as plain float32 ONNX where nothing is quantised (opset 17).

    The same graph gives the same bytes. Input `input` [1, channels, length], output `logits` [1, classes], both int8
    or both float32.

    unsigned : write the same network with uint8 activations (every value plus 128), the form in which ONNX
        Runtime is fastest on x86; for comparing with it.
    """
    w = _Writer(unsigned)
    if graph.is_float and unsigned:
        raise ModelError("a float32 graph has no unsigned form", field="unsigned", value=unsigned)
    kind = TensorProto.UINT8 if unsigned else TensorProto.FLOAT if graph.is_float else TensorProto.INT8
    real = {IR_INPUT: w.dequantise(INPUT, graph.input.quant)}
    last = graph.ops[-1].name
    flat: set[str] = set()
    for op, out in zip(graph.ops, graph.tensors[1:], strict=True):
        y = w.op(op, [real[name] for name in op.inputs], graph.sources(op))
        if isinstance(op, (Conv1d, Dense, Add)) and op.relu and op.quant.zero_point != -128:
            y = w.node("Relu", [y], f"{op.name}_relu")
        if isinstance(op, Flatten) or flat & set(op.inputs):
            flat.add(op.name)
        stored = w.quantise(y, OUTPUT if op.name == last else f"{op.name}_q", out.quant)
        if op.name != last:
            real[op.name] = w.dequantise(stored, out.quant)
    shape = [1, graph.output.channels] if last in flat else [1, graph.output.channels, 1]
    proto = helper.make_graph(
        w.nodes,
        graph.name,
        [helper.make_tensor_value_info(INPUT, kind, [1, *graph.input.shape])],
        [helper.make_tensor_value_info(OUTPUT, kind, shape)],
        w.constants,
    )
    model: ModelProto = helper.make_model(
        proto,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="libsedge",
    )
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))
