"""What the ONNX importer reads besides activations: attributes, initialisers, quantisation, weights."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from libsedge.errors import ModelError
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from libsedge_native.ir import INPUT, MAX_WEIGHTS, Quant

_WINDOW: dict[str, Any] = {"auto_pad": b"NOTSET", "dilations": None, "pads": None, "strides": None}

#: every op that is read, with the attributes it may have and their defaults
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "QuantizeLinear": {"axis": 1, "saturate": 1, "output_dtype": 0, "block_size": 0, "precision": 0},
    "DequantizeLinear": {"axis": 1, "block_size": 0},
    "Conv": {**_WINDOW, "group": 1, "kernel_shape": None},
    "MaxPool": {**_WINDOW, "ceil_mode": 0, "kernel_shape": None, "storage_order": 0},
    "AveragePool": {**_WINDOW, "ceil_mode": 0, "count_include_pad": 0, "kernel_shape": None},
    "GlobalAveragePool": {},
    "Gemm": {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0},
    "MatMul": {},
    "Add": {},
    "Concat": {"axis": None},
    "BatchNormalization": {"epsilon": 1e-5, "momentum": 0.9, "training_mode": 0},
    "Relu": {},
    "Clip": {},
    "Softmax": {"axis": -1},
    "Flatten": {"axis": 1},
    "Reshape": {"allowzero": 0},
    "Squeeze": {},
    "Unsqueeze": {},
    "Transpose": {"perm": None},
    "Identity": {},
}
_LISTS = ("dilations", "kernel_shape", "pads", "perm", "strides")
#: attributes that must keep their default, because nothing else is proved
_FIXED = (
    "allowzero",
    "alpha",
    "auto_pad",
    "beta",
    "block_size",
    "ceil_mode",
    "output_dtype",
    "precision",
    "saturate",
    "storage_order",
    "training_mode",
    "transA",
)


def refuse(node: NodeProto, why: str, value: object = None) -> ModelError:
    """The error that names node, op and reason."""
    name = node.name or next(iter(node.output), "")
    return ModelError(why, field=f"node {name!r} ({node.op_type})", value=value)


def clean_name(text: str, fallback: str) -> str:
    """An identifier that the IR and C++ take."""
    clean = re.sub(r"[^0-9A-Za-z_]", "_", text)[:64].lstrip("_")
    return clean if clean.isidentifier() and clean != INPUT and not clean.startswith("sedge_") else fallback


def _is_of_its_type(name: str, default: Any, value: Any) -> bool:
    """Lists of integers, strings and numbers as the operator's definition says; a damaged file may hold others."""
    if name in _LISTS:
        return isinstance(value, (list, tuple)) and all(isinstance(item, int) for item in value)
    return isinstance(value, type(0 if default is None else default))


def attributes(node: NodeProto) -> dict[str, Any]:
    """Attributes with their defaults; unknown ones, and values that are not proved, are refused."""
    known = ATTRIBUTES[node.op_type]
    out = dict(known)
    for attribute in node.attribute:
        if attribute.name not in known:
            raise refuse(node, "unknown attribute", attribute.name)
        value = helper.get_attribute_value(attribute)
        if not _is_of_its_type(attribute.name, known[attribute.name], value):
            raise refuse(node, f"attribute {attribute.name} has another type", type(value).__name__)
        out[attribute.name] = value
    for name in _FIXED:
        if name in known and out[name] != known[name]:
            raise refuse(node, f"attribute {name} must be {known[name]!r}", out[name])
    return out


@dataclass(frozen=True)
class Parameter:
    """A dequantised initialiser: integers and their scale, one value or one per index of `axis`."""

    values: NDArray[Any]
    scale: NDArray[np.float32]
    axis: int


class Constants:
    """The initialisers of a graph, and those that a DequantizeLinear turned into parameters."""

    def __init__(self, graph: GraphProto) -> None:
        self.tensors: dict[str, TensorProto] = {}
        for tensor in graph.initializer:
            if tensor.name in self.tensors:
                raise ModelError("defined twice", field="initialiser", value=tensor.name)
            self.tensors[tensor.name] = tensor
        self.parameters: dict[str, Parameter] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.tensors or name in self.parameters

    def array(self, node: NodeProto, name: str) -> NDArray[Any]:
        tensor = self.tensors.get(name)
        if tensor is None:
            raise refuse(node, "this input must be an initialiser", name)
        sizes = [int(d) for d in tensor.dims]
        if any(d < 0 for d in sizes) or np.prod(sizes, dtype=object) > MAX_WEIGHTS:
            raise refuse(node, "the initialiser is too large", sizes)
        try:
            return np.asarray(numpy_helper.to_array(tensor))
        except Exception as broken:  # onnx raises many types for malformed tensors
            raise refuse(node, f"initialiser {name!r} cannot be read: {broken}") from broken

    def integers(self, node: NodeProto, name: str) -> list[int]:
        """A short int64 vector: the shape of a Reshape, the axes of a Squeeze."""
        values = self.array(node, name)
        if values.dtype != np.int64 or values.ndim != 1 or values.size > 8:
            raise refuse(node, "needs an int64 vector of at most 8 values", name)
        return [int(v) for v in values]

    def real(self, node: NodeProto, name: str) -> float:
        """A float32 number, as it is or dequantised."""
        parameter = self.parameters.get(name)
        if parameter is not None and parameter.values.size == 1 and parameter.scale.size == 1:
            return float(np.float32(parameter.values.reshape(())) * parameter.scale[0])
        value = self.array(node, name)
        if value.dtype != np.float32 or value.size != 1 or np.isnan(value).any():
            raise refuse(node, "needs one float32 number", name)
        return float(value.reshape(()))

    def quant(self, node: NodeProto) -> tuple[Quant, str]:
        """The quantisation of an activation, and its stored type.

        uint8 is shifted: `q - 128` with zero point `z - 128` stands for the same real numbers, and everything
        that is computed depends on differences `q - z` and on the clamp, which shifts with them.
        """
        if len(node.input) != 3:
            raise refuse(node, "scale and zero point must both be given", list(node.input))
        scale, zero = self.array(node, node.input[1]), self.array(node, node.input[2])
        if scale.dtype != np.float32 or scale.size != 1 or zero.size != 1:
            raise refuse(node, "activations need one float32 scale and one zero point", scale.shape)
        if zero.dtype not in (np.int8, np.uint8):
            raise refuse(node, "activations need an int8 or uint8 zero point", str(zero.dtype))
        shift = 128 if zero.dtype == np.uint8 else 0
        try:
            return Quant(float(scale.reshape(())), int(zero.reshape(())) - shift), str(zero.dtype)
        except ModelError as wrong:
            raise refuse(node, str(wrong)) from wrong

    def dequantise(self, node: NodeProto, axis: int) -> None:
        """DequantizeLinear of an initialiser."""
        values = self.array(node, node.input[0])
        if len(node.input) < 2 or len(node.input) > 3:
            raise refuse(node, "needs values, a scale and at most a zero point")
        scale = self.array(node, node.input[1])
        if scale.dtype != np.float32 or not scale.size:
            raise refuse(node, "the scale must be float32", str(scale.dtype))
        if scale.size > 1:
            if not -values.ndim <= axis < values.ndim or scale.size != values.shape[axis]:
                raise refuse(node, f"the scale must have 1 value or one along axis {axis}", scale.shape)
            axis %= values.ndim
        if not (np.all(np.isfinite(scale)) and np.all(scale > 0)):
            raise refuse(node, "scales must be positive and finite")
        if len(node.input) == 3 and np.any(self.array(node, node.input[2]) != 0):
            raise refuse(
                node, "the zero point of weights and biases must be 0 (asymmetric weights are refused)"
            )
        if node.output[0] in self:
            raise refuse(node, "defined twice", node.output[0])
        self.parameters[node.output[0]] = Parameter(values, scale.reshape(-1), axis)

    def weights(
        self, node: NodeProto, x_scale: float, transposed: bool
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float32]]:
        """Integer weight [O, ...], integer bias [O], weight scale [O]; the bias's scale is proved to be s_x *
        s_w.
        """
        if len(node.input) not in (2, 3):
            raise refuse(node, "needs input, weight and at most a bias", len(node.input))
        weight = self.parameters.get(node.input[1])
        if weight is None or weight.values.dtype != np.int8 or weight.values.ndim < 2:
            raise refuse(node, "the weight must be a dequantised int8 initialiser", node.input[1])
        if transposed and weight.values.ndim != 2:
            raise refuse(node, "the weight must be a matrix", weight.values.shape)
        values = weight.values.T if transposed else weight.values
        out = values.shape[0]
        if weight.scale.size > 1 and weight.axis != int(transposed):
            raise refuse(node, "the weight's scale must run along the output channels", weight.axis)
        scale = np.array(np.broadcast_to(weight.scale, (out,)))
        if len(node.input) == 2 or not node.input[2]:
            return values, np.zeros(out, np.int32), scale
        bias = self.parameters.get(node.input[2])
        if bias is None or bias.values.dtype != np.int32 or bias.values.shape != (out,):
            raise refuse(node, f"the bias must be a dequantised int32 initialiser [{out}]", node.input[2])
        if not np.array_equal(np.broadcast_to(bias.scale, (out,)), np.float32(x_scale) * scale):
            raise refuse(node, "the bias's scale must be float32(input scale * weight scale)")
        return values, bias.values, scale
