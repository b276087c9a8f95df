"""QDQ ONNX to IR. What cannot be proved to mean an IR graph is refused by name, op and reason.

Accepted are graphs of float ops whose activations are dequantised and whose results are quantised again:
`DequantizeLinear, op, [Relu or Clip], QuantizeLinear`, with int8 or uint8 activations, in the 1-D spelling or
the 2-D one with H = 1 or W = 1; ops that move nothing in between; and behind the logits a DequantizeLinear and
a Softmax, which are left to the decision. One pass over the nodes in file order: a node may only use what
stands before it, so cycles cannot pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from libsedge.errors import ModelError
from onnx import ModelProto, NodeProto

from libsedge_native.ir import (
    INPUT,
    MAX_OPS,
    MAX_WEIGHTS,
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
from libsedge_native.onnx_checks import CLAMPS, ELEM, alone, covers, parse, read_input, without_unread
from libsedge_native.onnx_constants import ATTRIBUTES, DOMAINS, Constants, attributes, clean_name, refuse
from libsedge_native.onnx_shapes import Layout, layout, moved, window
from libsedge_native.onnx_values import Pending, Value

MOVES = ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose")


@dataclass(frozen=True)
class Imported:
    """A graph and what the model said around it: notes on what was converted or left out."""

    graph: Graph
    notes: tuple[str, ...]


class Reader:
    """One pass over the nodes of a QDQ model; `onnx_float` reads the same ops without quantisation."""

    CONSTANTS: type[Constants] = Constants

    def __init__(self, model: ModelProto) -> None:
        self.graph = model.graph
        self.constants = self.CONSTANTS(model.graph)
        self.values: dict[str, Value] = {}
        self.pending_used: set[str] = set()
        self.tensors: dict[str, Tensor] = {}
        self.flat: set[str] = set()
        self.ops: list[Op] = []
        self.weights = 0
        self.note = self.constants.note
        #: pending results that a QuantizeLinear closed, by the name that it read
        self.closed_as: dict[str, Value] = {}
        self.input_shape, self.input_name = self._input()

    def _input(self) -> tuple[tuple[int, int], str]:
        name, dims, kind = read_input(self.graph, [*self.constants.tensors])
        self.values[name] = Value("float" if kind == "float32" else "stored", INPUT, tuple(dims), dtype=kind)
        return (dims[1], math.prod(dims[2:])) if len(dims) > 2 else (1, dims[1]), name

    def set_input(self, quant: Quant) -> None:
        self.tensors[INPUT] = Tensor(*self.input_shape, quant)

    def name(self, node: NodeProto) -> str:
        """An IR name for a node: its own, made an identifier, and never one that is taken."""
        fallback = f"{node.op_type.lower()}_{len(self.ops)}"
        taken = {op.name for op in self.ops}
        name = clean_name(node.name, fallback)
        return (
            name
            if name not in taken
            else next(n for i in range(512) if (n := f"{fallback}_{i}") not in taken)
        )

    def add(self, op: Op) -> Tensor:
        tensor = op.output(*(self.tensors[name] for name in op.inputs))
        self.weights += op.weight.size if isinstance(op, (Conv1d, Dense)) else 0
        if len(self.ops) >= MAX_OPS or self.weights > MAX_WEIGHTS:
            why = f"more than {MAX_OPS} ops or {MAX_WEIGHTS} weights"
            raise ModelError(why, field=f"{type(op).__name__} {op.name!r}")
        self.ops.append(op)
        self.tensors[op.name] = tensor
        return tensor

    # -- activations --------------------------------------------------------------------------------------

    def value(self, node: NodeProto, name: str) -> Value:
        value = self.values.get(name)
        if value is None:
            raise refuse(node, "reads what no node in front of it gives", name)
        if value.state == "pending":
            if name in self.pending_used:
                raise refuse(node, "a result that two nodes read needs its own quantisation", name)
            self.pending_used.add(name)
        return value

    def real(self, node: NodeProto, name: str) -> Value:
        value = self.value(node, name)
        if value.state != "real":
            raise refuse(
                node, "expected behind a DequantizeLinear: every op needs its own quantisation", name
            )
        return value

    def positions(self, node: NodeProto, value: Value, kernel: list[int] | None = None) -> Layout:
        """The layout in front of an op with windows; the IR's (channels, length) must be what the shape says."""
        where = layout(node, value.shape, kernel)
        tensor = self.tensors[value.source]
        if value.source in self.flat or where.shape(*tensor.shape) != value.shape:
            raise refuse(node, f"a shape that moves data: it was {tensor.shape}", value.shape)
        return where

    def vector(self, node: NodeProto, value: Value) -> str:
        """The IR name of a rank-2 activation."""
        if len(value.shape) != 2:
            raise refuse(node, "needs [1, n]", value.shape)
        if value.source not in self.flat:
            return self.flatten(f"flatten_{len(self.ops)}", value.source)
        return value.source

    def flatten(self, name: str, source: str) -> str:
        self.add(Flatten(name, (source,)))
        self.flat.add(name)
        return name

    def move(self, node: NodeProto, given: dict[str, Any]) -> None:
        value = self.value(node, node.input[0])
        if value.state == "pending":
            raise refuse(node, "expected behind a QuantizeLinear or DequantizeLinear")
        shape = moved(node, value.shape, given, self.constants)
        source = value.source
        flatter = len(shape) == 2 and len(value.shape) > 2 and source not in self.flat
        if flatter and source in self.tensors and value.state != "decided":
            source = self.flatten(self.name(node), source)
        self.values[node.output[0]] = replace(value, shape=shape, source=source)

    # -- nodes --------------------------------------------------------------------------------------------

    def window_op(self, node: NodeProto, given: dict[str, Any], x: Value) -> Pending:
        name, inputs = self.name(node), (x.source,)
        kernel = None if given["kernel_shape"] is None else list(given["kernel_shape"])
        assert x.quant is not None
        if node.op_type == "Conv":
            values, bias, scale = self.constants.weights(node, x.quant.scale, False)
            if kernel is not None and kernel != list(values.shape[2:]):
                raise refuse(node, "kernel_shape contradicts the weight", kernel)
            kernel = list(values.shape[2:])
            where = self.positions(node, x, kernel)
            w = window(node, given, kernel, where, self.tensors[x.source].length)
            values = values.reshape(*values.shape[:2], w.kernel)
            rest = (w.stride, w.dilation, w.pads, given["group"])
            return Pending(
                node, lambda q, relu: Conv1d(name, values, bias, scale, q, *rest, relu, inputs), where
            )
        if kernel is None:
            raise refuse(node, "kernel_shape must be given")
        where = self.positions(node, x, kernel)
        w = window(node, given, kernel, where, self.tensors[x.source].length)
        if w.dilation != 1:
            raise refuse(node, "dilated pooling is not supported", w.dilation)
        if node.op_type == "MaxPool":
            return Pending(node, lambda q, relu: MaxPool1d(name, w.kernel, w.stride, w.pads, inputs), where)
        include = given["count_include_pad"] != 0
        return Pending(
            node, lambda q, relu: AveragePool1d(name, w.kernel, w.stride, q, w.pads, include, inputs), where
        )

    def joined(self, node: NodeProto, given: dict[str, Any]) -> Pending:
        """Add and Concat: inputs of one spelling, all vectors or none."""
        if any(name in self.constants for name in node.input):
            raise refuse(node, "constants are not supported here", list(node.input))
        xs = [self.real(node, name) for name in node.input]
        rank = len(xs[0].shape)
        if any(len(x.shape) != rank for x in xs):
            raise refuse(node, "inputs must have the same number of axes", [x.shape for x in xs])
        if rank == 2:
            where = Layout(2, 1)
            inputs = tuple(self.vector(node, x) for x in xs)
        else:
            where = self.positions(node, xs[0])
            if any(self.positions(node, x) != where for x in xs):
                raise refuse(node, "inputs must be spelled alike", [x.shape for x in xs])
            inputs = tuple(x.source for x in xs)
        name = self.name(node)
        if node.op_type == "Add":
            return Pending(node, lambda q, relu: Add(name, q, inputs, relu), where)
        if given["axis"] not in (1, 1 - rank):
            raise refuse(node, "axis must be that of the channels, 1", given["axis"])
        return Pending(node, lambda q, relu: Concat(name, q, inputs), where)

    def pending(self, node: NodeProto, given: dict[str, Any]) -> Pending:
        """How to build the IR op of a float node once the QuantizeLinear behind it is known."""
        if node.op_type in ("Add", "Concat"):
            return self.joined(node, given)
        x = self.real(node, node.input[0])
        assert x.quant is not None
        if "kernel_shape" in given:
            return self.window_op(node, given, x)
        if node.op_type == "GlobalAveragePool":
            name, source = self.name(node), (x.source,)
            return Pending(node, lambda q, relu: GlobalAveragePool(name, q, source), self.positions(node, x))
        if node.op_type == "MatMul" and len(node.input) != 2:
            raise refuse(node, "needs two inputs", len(node.input))
        values, bias, scale = self.constants.weights(node, x.quant.scale, not given.get("transB", 0))
        inputs = (self.vector(node, x),)
        name = self.name(node)
        return Pending(node, lambda q, relu: Dense(name, values, bias, scale, q, relu, inputs), Layout(2, 1))

    def activation(self, node: NodeProto) -> None:
        """Relu or Clip: fused with the op in front of it, or nothing where no value lies outside its bounds."""
        value = self.value(node, node.input[0])
        low, high = self.constants.bounds(node)
        pending = value.pending
        if pending is not None and pending.node.op_type in CLAMPS:
            if pending.clip != (-math.inf, math.inf):
                raise refuse(node, "only one Clip can be fused")
            pending = replace(pending, relu=pending.relu or low == 0.0, clip=(low, high))
            if node.op_type == "Relu":
                pending = replace(pending, clip=(-math.inf, math.inf))
            self.values[node.output[0]] = replace(value, pending=pending)
            return
        quant = value.quant if value.state == "real" else None
        op = next((op for op in self.ops if op.name == value.source), None)
        rectifies = quant is not None and low == 0.0 and covers(quant, -math.inf, high)
        if rectifies and isinstance(op, (Conv1d, Dense, Add)) and alone(self.graph, node.input[0]):
            self.ops[self.ops.index(op)] = replace(op, relu=True)  # clamps what its quantisation gives
        elif quant is None or not covers(quant, low, high):
            why = f"{node.op_type} is supported behind {', '.join(CLAMPS)} that nothing else reads"
            raise refuse(node, why)
        self.values[node.output[0]] = value

    def quantise(self, node: NodeProto) -> None:
        """QuantizeLinear closes the pending op; what is closed already may be quantised alike once more."""
        quant, dtype = self.constants.quant(node)
        again = self.closed_as.get(node.input[0])
        if again is not None and (again.quant, again.dtype) == (quant, dtype):
            self.values[node.output[0]] = again
            return
        value = self.value(node, node.input[0])
        if dtype == "uint8":
            self.note("uint8 activations are read as int8: value and zero point minus 128")
        stored = replace(value, state="stored", quant=quant, dtype=dtype, pending=None)
        if value.state == "float":
            if self.tensors:
                raise refuse(node, "the input can be quantised only once")
            self.set_input(quant)
            self.note(
                f"the float input is quantised outside: scale {quant.scale:.9g}, zero {quant.zero_point}"
            )
        elif value.state == "decided":
            stored = replace(value, dtype=dtype)
        elif value.state == "real":
            if quant != value.quant:
                raise refuse(node, "must keep scale and zero point: no op stands in front of it", quant)
        elif value.pending is None:
            raise refuse(node, "expected behind a float op", value.state)
        else:
            stored = self.close(node, value.pending, stored, quant)
            self.closed_as[node.input[0]] = stored
        self.values[node.output[0]] = stored

    def close(self, node: NodeProto, pending: Pending, stored: Value, quant: Quant) -> Value:
        relu = pending.relu
        low, high = pending.clip
        if not covers(quant, -math.inf if relu else low, high):
            raise refuse(
                pending.node, f"the Clip behind it to {low:.9g}, {high:.9g} is not what int8 clips to"
            )
        op, tensor = self.build(pending, quant, relu)
        if isinstance(op, MaxPool1d) and quant != self.tensors[op.inputs[0]].quant:
            raise refuse(node, f"{pending.node.op_type} must keep scale and zero point", quant)
        return replace(stored, source=op.name, shape=pending.layout.shape(*tensor.shape))

    def build(self, pending: Pending, quant: Quant, relu: bool) -> tuple[Op, Tensor]:
        """The op and its output, added; what the IR refuses is refused by the node's name."""
        try:
            op = pending.build(quant, relu)
            tensor = self.add(op)
        except ModelError as wrong:
            raise refuse(pending.node, wrong.why, wrong.value) from wrong
        if pending.layout.rank == 2:
            self.flat.add(op.name)
        return op, tensor

    def dequantise(self, node: NodeProto) -> None:
        value = self.value(node, node.input[0])
        quant, dtype = self.constants.quant(node, value.dtype)
        if value.state == "decided":
            self.values[node.output[0]] = value
            return
        if value.source == INPUT and not self.tensors and value.state == "stored":
            self.set_input(quant)
            if dtype == "uint8":
                self.note("the input is uint8: its values minus 128 are this graph's int8 input")
        known = value.quant or self.tensors.get(INPUT, Tensor(1, 1, quant)).quant
        if value.state != "stored" or quant != known or dtype != value.dtype:
            raise refuse(node, "must undo the QuantizeLinear in front of it, same scale and zero point")
        self.values[node.output[0]] = replace(value, state="real", quant=quant)

    def softmax(self, node: NodeProto, axis: int) -> None:
        value = self.real(node, node.input[0])
        rank = len(value.shape)
        if axis not in (1, 1 - rank) or math.prod(value.shape) != value.shape[1]:
            raise refuse(node, "must run over the classes", (axis, value.shape))
        self.note(f"Softmax {clean_name(node.name, 'softmax')} is left to the decision")
        self.values[node.output[0]] = replace(value, state="decided", quant=None)

    def node(self, node: NodeProto) -> None:
        standard = node.domain in ("", "ai.onnx") or node.op_type in DOMAINS.get(node.domain, ())
        if not standard or node.op_type not in ATTRIBUTES:
            raise refuse(node, "this op is not supported", f"{node.domain or 'ai.onnx'}.{node.op_type}")
        if (not node.input and node.op_type != "Constant") or len(node.output) != 1:
            raise refuse(node, "needs inputs and exactly one output", len(node.output))
        if node.output[0] in self.values or node.output[0] in self.constants:
            raise refuse(node, "defined twice", node.output[0])
        kind = node.op_type
        if kind == "Constant":
            self.constants.define(node)
            return
        given = attributes(node)
        if self.constants.folds(node, given):
            return
        if kind == "DequantizeLinear":
            self.dequantise(node)
        elif kind == "QuantizeLinear":
            self.quantise(node)
        elif kind in ("Relu", "Clip"):
            self.activation(node)
        elif kind == "BatchNormalization":
            self.normalise(node, given)
        elif kind in ("Identity", "Dropout"):
            self.same(node)
        elif kind in MOVES:
            self.move(node, given)
        elif kind == "Softmax":
            self.softmax(node, given["axis"])
        else:
            pending = self.pending(node, given)
            self.values[node.output[0]] = Value("pending", "", (), pending=pending)

    def same(self, node: NodeProto) -> None:
        """Identity, or a Dropout in inference."""
        if len(node.input) == 3 and node.input[2] and self.constants.array(node, node.input[2]).any():
            raise refuse(node, "a Dropout that drops is for training", node.input[2])
        self.values[node.output[0]] = self.value(node, node.input[0])

    def normalise(self, node: NodeProto, given: dict[str, Any]) -> None:
        raise refuse(node, "must be folded into its convolution before a model is quantised")

    def read(self) -> Imported:
        for node in self.graph.node:
            self.node(node)
        return self.result()

    def result(self) -> Imported:
        """The graph up to the model's output."""
        last = self.graph.output[0]
        value = self.values.get(last.name)
        if value is None or value.state not in ("stored", "real", "decided") or not self.ops:
            raise ModelError("the graph's output must be quantised", field="output", value=last.name)
        got = ELEM.get(last.type.tensor_type.elem_type)
        if got != (value.dtype if value.state == "stored" else "float32") and value.state != "decided":
            raise ModelError(f"has another type than {value.dtype}", field=f"output {last.name!r}", value=got)
        ops = without_unread(self.ops, value.source)
        if not ops or ops[-1].name != value.source:
            raise ModelError("must be the last result", field=f"output {last.name!r}", value=value.source)
        graph = Graph(clean_name(self.graph.name, "net"), self.tensors[INPUT], ops)
        return Imported(graph, tuple(self.constants.notes))


def read_onnx(data: bytes) -> Imported:
    """The graph of a quantised QDQ ONNX model, and notes on what was converted or left out.

    Raises ModelError naming node, op and reason for everything that is not proved to be one. Time and memory
    are linear in the size of `data`.
    """
    return Reader(parse(data)).read()


def from_onnx(data: bytes) -> Graph:
    """The graph of a quantised QDQ ONNX model; see read_onnx."""
    return read_onnx(data).graph
