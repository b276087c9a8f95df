"""Plain float32 ONNX to IR: the ops of `onnx_import` without quantisation, in the same 1-D and 2-D spellings.

What is proved about shapes, attributes and order is proved by the same code. An op is closed by whatever reads it: a
Relu (or Clip from 0 upwards) joins it, a BatchNormalization behind a convolution is folded into its weights, and
any other reader takes it as it is.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from libsedge.errors import ModelError
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from libsedge_native.ir import REAL, Conv1d, Op, Quant
from libsedge_native.onnx_checks import CLAMPS, parse
from libsedge_native.onnx_constants import Constants, clean_name, refuse
from libsedge_native.onnx_import import Imported, Reader
from libsedge_native.onnx_values import Value


class FloatConstants(Constants):
    """Initialisers that are float32 weights as they stand."""

    def _array(self, node: NodeProto, name: str, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
        values = self.array(node, name)
        if values.dtype != np.float32 or not np.all(np.isfinite(values)):
            raise refuse(node, f"initialiser {name!r} must be float32 and finite", str(values.dtype))
        if shape is not None and values.shape != shape:
            raise refuse(node, f"initialiser {name!r} must have shape {shape}", values.shape)
        return values

    def weights(
        self, node: NodeProto, x_scale: float, transposed: bool
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float32]]:
        """Weight [O, ...], bias [O], both float32, and scales of 1."""
        if len(node.input) not in (2, 3):
            raise refuse(node, "needs input, weight and at most a bias", len(node.input))
        weight = self._array(node, node.input[1])
        if weight.ndim < 2 or (transposed and weight.ndim != 2):
            raise refuse(node, "the weight must be a matrix or a kernel", weight.shape)
        weight = weight.T if transposed else weight
        out = weight.shape[0]
        given = len(node.input) == 3 and node.input[2]
        bias = self._array(node, node.input[2], (out,)) if given else np.zeros(out, np.float32)
        return weight, bias, np.ones(out, np.float32)

    def normalisation(self, node: NodeProto, channels: int, epsilon: float) -> tuple[NDArray[Any], ...]:
        """Factor and offset, float64 [channels], of a BatchNormalization in inference."""
        if len(node.input) != 5:
            raise refuse(node, "needs scale, bias, mean and variance", len(node.input))
        scale, bias, mean, variance = (
            self._array(node, name, (channels,)).astype(np.float64) for name in node.input[1:]
        )
        if np.any(variance + epsilon <= 0):
            raise refuse(node, "variance and epsilon must be positive together", epsilon)
        factor = scale / np.sqrt(variance + epsilon)
        return factor, bias - mean * factor


class FloatReader(Reader):
    """One pass over the nodes; a result is "pending" until its first reader says what joins it."""

    CONSTANTS = FloatConstants

    def __init__(self, model: ModelProto) -> None:
        super().__init__(model)
        first = self.values[self.input_name]
        if first.dtype != "float32":
            raise ModelError("must be float32", field=f"input {self.input_name!r}", value=first.dtype)
        self.set_input(REAL)
        self.values[self.input_name] = replace(first, state="real", quant=REAL)
        self.joined_by: dict[str, str] = {}

    def value(self, node: NodeProto, name: str) -> Value:
        """The value, closed: whatever reads it here is not fused with it."""
        if name in self.joined_by:
            raise refuse(node, f"reads {name!r}, which {self.joined_by[name]!r} already joined", name)
        if name in self.values and self.values[name].pending is not None:
            self.values[name] = self.closed(self.values[name])
        return super().value(node, name)

    def closed(self, value: Value) -> Value:
        pending = value.pending
        assert pending is not None
        op, tensor = self.build(pending, REAL, pending.relu)
        return Value("real", op.name, pending.layout.shape(*tensor.shape), REAL, "float32")

    def activation(self, node: NodeProto) -> None:
        """A Relu, a Clip that is one, or a BatchNormalization, joined with the op in front of it."""
        value = self.values.get(node.input[0])
        if node.input[0] in self.joined_by:
            raise refuse(node, f"reads what {self.joined_by[node.input[0]]!r} already joined", node.input[0])
        pending = None if value is None else value.pending
        if value is None or pending is None or pending.node.op_type not in CLAMPS:
            why = f"{node.op_type} is supported behind Conv, Gemm, MatMul and Add that nothing else reads"
            raise refuse(node, why, node.input[0])
        bounds = self.constants.bounds(node)
        if bounds != (0.0, math.inf):
            raise refuse(node, "only a Clip from 0 upwards, a ReLU, can be joined", bounds)
        self.joined_by[node.input[0]] = clean_name(node.name, node.output[0])
        self.values[node.output[0]] = replace(value, pending=replace(pending, relu=True))

    def normalise(self, node: NodeProto, given: dict[str, Any]) -> None:
        """BatchNormalization: `(x - mean) / sqrt(variance + epsilon) * scale + bias`, into weight and bias."""
        value = self.values.get(node.input[0])
        pending = None if value is None else value.pending
        if value is None or pending is None or pending.node.op_type != "Conv" or pending.relu:
            raise refuse(node, "is supported behind a Conv that nothing else reads", node.input[0])
        if node.input[0] in self.joined_by:
            raise refuse(node, f"reads what {self.joined_by[node.input[0]]!r} already joined", node.input[0])
        assert isinstance(self.constants, FloatConstants)
        constants, build = self.constants, pending.build

        def folded(quant: Quant, relu: bool) -> Op:
            op = build(quant, relu)
            assert isinstance(op, Conv1d)
            factor, offset = constants.normalisation(node, op.weight.shape[0], given["epsilon"])
            with np.errstate(over="ignore"):
                weight = (op.weight * factor[:, None, None]).astype(np.float32)
                bias = (op.bias * factor + offset).astype(np.float32)
            return replace(op, weight=weight, bias=bias)

        self.note(
            f"BatchNormalization {clean_name(node.name, node.output[0])} is folded into its convolution"
        )
        self.joined_by[node.input[0]] = clean_name(node.name, node.output[0])
        self.values[node.output[0]] = replace(value, pending=replace(pending, build=folded))

    def node(self, node: NodeProto) -> None:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            raise refuse(node, "the model is quantised; a float32 kernel needs the float32 model")
        super().node(node)

    def read(self) -> Imported:
        for node in self.graph.node:
            self.node(node)
        last = self.graph.output[0]
        if last.name in self.values and self.values[last.name].pending is not None:
            self.values[last.name] = self.closed(self.values[last.name])
        return self.result()


def read_float_onnx(data: bytes) -> Imported:
    """The float32 graph of a plain float ONNX model, and notes; the limits and errors of `read_onnx`."""
    return FloatReader(parse(data)).read()
