"""IR to ONNX in QDQ form (QuantizeLinear/DequantizeLinear around float ops), int8 in and int8 out.

The form is the one that ONNX Runtime turns into QLinearConv, QGemm and quantised pools, nothing left in
float: activations int8, biases int32 behind a DequantizeLinear of scale `s_x * s_w`, and no Relu node where
the output's zero point is -128, because the clip to int8 is that ReLU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

from libsedge_native.ir import Conv1d, Dense, Flatten, GlobalAveragePool, Graph, MaxPool1d, Quant

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
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, name: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=name or output, **attributes))
        return output

    def quant(self, name: str, quant: Quant) -> list[str]:
        scale = self.constant(f"{name}_scale", np.array(quant.scale, np.float32))
        zero = np.uint8(quant.zero_point + 128) if self.unsigned else np.int8(quant.zero_point)
        return [scale, self.constant(f"{name}_zero_point", np.array(zero))]

    def dequantise(self, x: str, quant: Quant) -> str:
        return self.node("DequantizeLinear", [x, *self.quant(f"{x}_dq", quant)], f"{x}_dq")

    def quantise(self, x: str, output: str, quant: Quant) -> str:
        return self.node("QuantizeLinear", [x, *self.quant(output, quant)], output)

    def parameters(self, op: Conv1d | Dense, x_scale: float) -> list[str]:
        """Dequantised weight and bias of a layer; the bias's scale is float32(s_x * s_w)."""
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


def to_onnx(graph: Graph, *, unsigned: bool = False) -> bytes:
    """Serialise a graph as QDQ ONNX (opset 17). The same graph gives the same bytes.

    Input `input` int8 [1, channels, length], output `logits` int8 [1, classes].

    unsigned : write the same network with uint8 activations (every value plus 128), the form in which ONNX
        Runtime is fastest on x86; for comparing with it only, `from_onnx` refuses it.
    """
    w = _Writer(unsigned)
    kind = TensorProto.UINT8 if unsigned else TensorProto.INT8
    x = w.dequantise(INPUT, graph.input.quant)
    flat = False
    last = graph.ops[-1].name
    for op, tensor, out in zip(graph.ops, graph.tensors, graph.tensors[1:], strict=False):
        y = f"{op.name}_float"
        if isinstance(op, Conv1d):
            y = w.node(
                "Conv",
                [x, *w.parameters(op, tensor.quant.scale)],
                y,
                op.name,
                kernel_shape=[op.weight.shape[2]],
                strides=[op.stride],
                dilations=[op.dilation],
                pads=list(op.pads),
                group=op.groups,
            )
        elif isinstance(op, MaxPool1d):
            y = w.node("MaxPool", [x], y, op.name, kernel_shape=[op.kernel], strides=[op.stride])
        elif isinstance(op, GlobalAveragePool):
            y = w.node("GlobalAveragePool", [x], y, op.name)
        elif isinstance(op, Flatten):
            y, flat = w.node("Flatten", [x], y, op.name, axis=1), True
        elif isinstance(op, Dense):
            y = w.node("Gemm", [x, *w.parameters(op, tensor.quant.scale)], y, op.name, transB=1)
        if isinstance(op, (Conv1d, Dense)) and op.relu and op.quant.zero_point != -128:
            y = w.node("Relu", [y], f"{op.name}_relu")
        x = w.quantise(y, OUTPUT if op.name == last else f"{op.name}_q", out.quant)
        if op.name != last:
            x = w.dequantise(x, out.quant)
    shape = [1, graph.output.channels] if flat else [1, graph.output.channels, 1]
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
