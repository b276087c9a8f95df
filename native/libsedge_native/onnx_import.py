"""QDQ ONNX to IR. What cannot be proved to mean an IR graph is refused by name, op and reason.

Accepted is a chain: int8 input, DequantizeLinear, then groups of float ops (Conv, Relu, MaxPool,
GlobalAveragePool, Flatten, Gemm), each closed by QuantizeLinear and DequantizeLinear, the last one by the
QuantizeLinear that is the output. One pass over the nodes in file order: a node may only use what stands
before it, so cycles cannot pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from libsedge.errors import ModelError
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from libsedge_native.ir import (
    MAX_LENGTH,
    MAX_WEIGHTS,
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

MAX_BYTES = 1 << 28
MAX_NODES = 2048
OPSETS = range(13, 22)
MAX_IR_VERSION = 10

_ATTRIBUTES: dict[str, dict[str, Any]] = {
    "QuantizeLinear": {"axis": 1, "saturate": 1, "output_dtype": 0, "block_size": 0, "precision": 0},
    "DequantizeLinear": {"axis": 1, "block_size": 0},
    "Conv": {
        "auto_pad": b"NOTSET",
        "dilations": [1],
        "group": 1,
        "kernel_shape": None,
        "pads": [0, 0],
        "strides": [1],
    },
    "MaxPool": {
        "auto_pad": b"NOTSET",
        "ceil_mode": 0,
        "dilations": [1],
        "kernel_shape": None,
        "pads": [0, 0],
        "storage_order": 0,
        "strides": [1],
    },
    "GlobalAveragePool": {},
    "Flatten": {"axis": 1},
    "Gemm": {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0},
    "Relu": {},
}
#: attributes that must keep their default, because nothing else is proved
_FIXED = {
    "auto_pad",
    "ceil_mode",
    "storage_order",
    "saturate",
    "output_dtype",
    "block_size",
    "precision",
    "transA",
}


@dataclass(frozen=True)
class _Parameter:
    """A dequantised initialiser: integers and their scale per output channel."""

    values: NDArray[Any]
    scale: NDArray[np.float32]


@dataclass(frozen=True)
class _Pending:
    """A float op that waits for its output quantisation; `relu` once a Relu node stands behind it."""

    kind: str
    build: Callable[[Quant, bool], Op]
    relu: bool = False


@dataclass(frozen=True)
class _Chain:
    """The activation at the end of the chain so far."""

    name: str
    #: "int8" (quantised), "real" (dequantised) or "pending" (float op that waits for its QuantizeLinear)
    state: str
    quant: Quant | None
    pending: _Pending | None = None


def _name(text: str, fallback: str) -> str:
    clean = re.sub(r"[^0-9A-Za-z_]", "_", text)[:64]
    return clean if clean.isidentifier() else fallback


class _Reader:
    def __init__(self, model: ModelProto) -> None:
        self.graph = model.graph
        self.constants: dict[str, TensorProto] = {}
        for tensor in self.graph.initializer:
            if tensor.name in self.constants:
                raise ModelError("defined twice", field="initialiser", value=tensor.name)
            self.constants[tensor.name] = tensor
        self.parameters: dict[str, _Parameter] = {}
        self.ops: list[Op] = []
        self.input_quant: Quant | None = None
        self.input, self.chain = self._input()

    def _input(self) -> tuple[tuple[int, int], _Chain]:
        inputs = [v for v in self.graph.input if v.name not in self.constants]
        if len(inputs) != 1 or len(self.graph.output) != 1:
            raise ModelError("exactly one input and one output are needed", field="graph", value=len(inputs))
        kind = inputs[0].type.tensor_type
        dims = [d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim]
        if kind.elem_type != TensorProto.INT8 or len(dims) != 3 or dims[0] != 1:
            raise ModelError(
                "must be int8 [1, channels, length]", field=f"input {inputs[0].name!r}", value=dims
            )
        if not (1 <= dims[1] <= MAX_LENGTH and 1 <= dims[2] <= MAX_LENGTH):
            raise ModelError(f"dimensions must be 1 to {MAX_LENGTH}", field="input", value=dims)
        return (dims[1], dims[2]), _Chain(inputs[0].name, "int8", None)

    def refuse(self, node: NodeProto, why: str, value: object = None) -> ModelError:
        return ModelError(why, field=f"node {node.name or node.output[0]!r} ({node.op_type})", value=value)

    def constant(self, node: NodeProto, name: str) -> NDArray[Any]:
        tensor = self.constants.get(name)
        if tensor is None:
            raise self.refuse(node, "this input must be an initialiser", name)
        if (
            any(d < 0 for d in tensor.dims)
            or np.prod([int(d) for d in tensor.dims], dtype=object) > MAX_WEIGHTS
        ):
            raise self.refuse(node, "the initialiser is too large", list(tensor.dims))
        try:
            return np.asarray(numpy_helper.to_array(tensor))
        except Exception as broken:  # onnx raises many types for malformed tensors
            raise self.refuse(node, f"initialiser {name!r} cannot be read: {broken}") from broken

    def attributes(self, node: NodeProto) -> dict[str, Any]:
        known = _ATTRIBUTES[node.op_type]
        out = dict(known)
        for attribute in node.attribute:
            if attribute.name not in known:
                raise self.refuse(node, "unknown attribute", attribute.name)
            out[attribute.name] = helper.get_attribute_value(attribute)
        for name in sorted(_FIXED & set(known)):
            if out[name] != known[name]:
                raise self.refuse(node, f"attribute {name} must be {known[name]!r}", out[name])
        return out

    def quant(self, node: NodeProto) -> Quant:
        if len(node.input) != 3:
            raise self.refuse(node, "scale and zero point must both be given", list(node.input))
        scale, zero = self.constant(node, node.input[1]), self.constant(node, node.input[2])
        if scale.dtype != np.float32 or scale.size != 1 or zero.dtype != np.int8 or zero.size != 1:
            raise self.refuse(
                node, "activations need one float32 scale and one int8 zero point", str(zero.dtype)
            )
        try:
            return Quant(float(scale.reshape(())), int(zero.reshape(())))
        except ModelError as wrong:
            raise self.refuse(node, str(wrong)) from wrong

    def parameter(self, node: NodeProto, axis: int) -> None:
        """DequantizeLinear of an initialiser."""
        values = self.constant(node, node.input[0])
        if len(node.input) < 2 or len(node.input) > 3 or values.ndim < 1:
            raise self.refuse(node, "needs values, a scale and at most a zero point")
        scale = self.constant(node, node.input[1])
        channels = values.shape[axis if -values.ndim <= axis < values.ndim else 0]
        if scale.dtype != np.float32 or scale.size not in (1, channels):
            raise self.refuse(node, f"the scale must be float32 with 1 or {channels} values", scale.shape)
        if not (np.all(np.isfinite(scale)) and np.all(scale > 0)):
            raise self.refuse(node, "scales must be positive and finite")
        if len(node.input) == 3 and np.any(self.constant(node, node.input[2]) != 0):
            raise self.refuse(node, "the zero point of weights and biases must be 0")
        if scale.size > 1 and axis not in (0, 1, -values.ndim) and channels > 1:
            raise self.refuse(node, "the scale must run along the output channels", axis)
        per_channel = np.broadcast_to(scale.reshape(-1), (channels,)).astype(np.float32)
        if node.output[0] in self.parameters:
            raise self.refuse(node, "defined twice", node.output[0])
        self.parameters[node.output[0]] = _Parameter(
            values, per_channel if scale.size > 1 else scale.reshape(-1)
        )

    def weights(
        self, node: NodeProto, transposed: bool
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float32]]:
        """Integer weight [O, ...], integer bias [O], weight scale [O]; the bias's scale is proved to be s_x
        * s_w.
        """
        if len(node.input) not in (2, 3):
            raise self.refuse(node, "needs input, weight and at most a bias", len(node.input))
        weight = self.parameters.get(node.input[1])
        if weight is None or weight.values.dtype != np.int8:
            raise self.refuse(node, "the weight must be a dequantised int8 initialiser", node.input[1])
        values = weight.values.T if transposed else weight.values
        out = values.shape[0]
        if weight.scale.size not in (1, out):
            raise self.refuse(node, f"weight scale must have 1 or {out} values", weight.scale.size)
        scale = np.array(np.broadcast_to(weight.scale, (out,)))
        if len(node.input) == 2:
            return values, np.zeros(out, np.int32), scale
        bias = self.parameters.get(node.input[2])
        if bias is None or bias.values.dtype != np.int32 or bias.values.shape != (out,):
            raise self.refuse(
                node, f"the bias must be a dequantised int32 initialiser [{out}]", node.input[2]
            )
        assert self.chain.quant is not None
        if not np.array_equal(
            np.broadcast_to(bias.scale, (out,)), np.float32(self.chain.quant.scale) * scale
        ):
            raise self.refuse(node, "the bias's scale must be float32(input scale * weight scale)")
        return values, bias.values, scale

    def pending(self, node: NodeProto, attributes: dict[str, Any]) -> Callable[[Quant, bool], Op]:
        """How to build the IR op of a float node once the QuantizeLinear behind it is known."""
        name = _name(node.name, f"{node.op_type.lower()}_{len(self.ops)}")
        if node.op_type == "Conv":
            values, bias, scale = self.weights(node, False)
            lists = [attributes["strides"], attributes["dilations"]]
            if values.ndim != 3 or any(len(v) != 1 for v in lists) or len(attributes["pads"]) != 2:
                raise self.refuse(node, "only 1-D convolution is supported", values.shape)
            if attributes["kernel_shape"] is not None and list(attributes["kernel_shape"]) != [
                values.shape[2]
            ]:
                raise self.refuse(node, "kernel_shape contradicts the weight", attributes["kernel_shape"])
            pads = (attributes["pads"][0], attributes["pads"][1])
            stride, dilation = attributes["strides"][0], attributes["dilations"][0]
            group = attributes["group"]
            return lambda q, relu: Conv1d(name, values, bias, scale, q, stride, dilation, pads, group, relu)
        if node.op_type == "Gemm":
            if attributes["alpha"] != 1.0 or attributes["beta"] != 1.0:
                raise self.refuse(node, "alpha and beta must be 1")
            values, bias, scale = self.weights(node, not attributes["transB"])
            return lambda q, relu: Dense(name, values, bias, scale, q, relu)
        if node.op_type == "MaxPool":
            kernel, strides = attributes["kernel_shape"], attributes["strides"]
            if kernel is None or len(kernel) != 1 or len(strides) != 1:
                raise self.refuse(node, "only 1-D pooling is supported", kernel)
            if list(attributes["pads"]) != [0, 0] or list(attributes["dilations"]) != [1]:
                raise self.refuse(node, "padded or dilated pooling is not supported")
            return lambda q, relu: MaxPool1d(name, kernel[0], strides[0])
        if node.op_type == "Flatten":
            if attributes["axis"] != 1:
                raise self.refuse(node, "axis must be 1", attributes["axis"])
            return lambda q, relu: Flatten(name)
        return lambda q, relu: GlobalAveragePool(name, q)

    def quantise(self, node: NodeProto) -> None:
        """QuantizeLinear closes the pending op."""
        quant, pending = self.quant(node), self.chain.pending
        if pending is None:
            raise self.refuse(node, "expected behind a float op")
        if pending.kind in ("MaxPool", "Flatten") and quant != self.chain.quant:
            raise self.refuse(
                node, f"{pending.kind} must keep scale and zero point", (quant, self.chain.quant)
            )
        self.ops.append(pending.build(quant, pending.relu))
        self.chain = _Chain(node.output[0], "int8", quant)

    def node(self, node: NodeProto) -> None:
        if node.domain not in ("", "ai.onnx") or node.op_type not in _ATTRIBUTES:
            raise self.refuse(node, "this op is not supported", f"{node.domain or 'ai.onnx'}.{node.op_type}")
        if not node.input or len(node.output) != 1:
            raise self.refuse(node, "needs inputs and exactly one output", len(node.output))
        attributes = self.attributes(node)
        if node.op_type == "DequantizeLinear" and node.input[0] in self.constants:
            self.parameter(node, attributes["axis"])
            return
        if node.input[0] != self.chain.name:
            raise self.refuse(node, f"not a chain: expected input {self.chain.name!r}", node.input[0])
        state = self.chain.state
        if node.op_type == "DequantizeLinear":
            quant = self.quant(node)
            if state != "int8" or self.chain.quant not in (None, quant):
                raise self.refuse(
                    node, "must undo the QuantizeLinear in front of it, same scale and zero point"
                )
            if self.chain.quant is None:
                self.input_quant = quant
            self.chain = _Chain(node.output[0], "real", quant)
        elif node.op_type == "QuantizeLinear":
            self.quantise(node)
        elif node.op_type == "Relu":
            pending = self.chain.pending
            if pending is None or pending.kind not in ("Conv", "Gemm"):
                raise self.refuse(node, "Relu is supported behind Conv and Gemm only")
            self.chain = replace(self.chain, name=node.output[0], pending=replace(pending, relu=True))
        elif state != "real":
            raise self.refuse(node, "expected behind a DequantizeLinear: every op needs its own quantisation")
        else:
            op = _Pending(node.op_type, self.pending(node, attributes))
            self.chain = replace(self.chain, name=node.output[0], state="pending", pending=op)

    def read(self) -> Graph:
        for node in self.graph.node:
            self.node(node)
        if self.chain.state != "int8" or not self.ops or self.chain.name != self.graph.output[0].name:
            raise ModelError(
                "the chain must end in the graph's int8 output", field="output", value=self.chain.name
            )
        if self.graph.output[0].type.tensor_type.elem_type != TensorProto.INT8:
            raise ModelError("must be int8", field=f"output {self.chain.name!r}")
        assert self.input_quant is not None  # the first node of every chain sets it
        x = Tensor(self.input[0], self.input[1], self.input_quant)
        return Graph(_name(self.graph.name, "net"), x, tuple(self.ops))


def _check_model(model: ModelProto) -> None:
    """What can be refused before any node is read."""
    if not 3 <= model.ir_version <= MAX_IR_VERSION:
        raise ModelError(f"must be 3 to {MAX_IR_VERSION}", field="ir_version", value=model.ir_version)
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    if len(versions) != 1 or versions[0] not in OPSETS:
        why = f"exactly one default opset, {OPSETS[0]} to {OPSETS[-1]}, is needed"
        raise ModelError(why, field="opset_import", value=versions)
    if model.functions or model.graph.sparse_initializer:
        raise ModelError("functions and sparse initialisers are not supported", field="model")
    if len(model.graph.node) > MAX_NODES or len(model.graph.initializer) > 4 * MAX_NODES:
        raise ModelError(f"more than {MAX_NODES} nodes", field="graph", value=len(model.graph.node))
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise ModelError(
                "external data is refused: a model is one file", field="initialiser", value=tensor.name
            )


def from_onnx(data: bytes) -> Graph:
    """The graph of an int8 QDQ ONNX model.

    Raises ModelError naming node, op and reason for everything that is not proved to be one. Time and memory
    are linear in the size of `data`.
    """
    if len(data) > MAX_BYTES:
        raise ModelError(f"larger than {MAX_BYTES} bytes", field="model", value=len(data))
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as broken:  # protobuf's DecodeError has moved between versions
        raise ModelError(f"not an ONNX model: {broken}", field="model") from broken
    _check_model(model)
    return _Reader(model).read()
