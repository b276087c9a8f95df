"""What the ONNX importer reads besides activations: attributes, initialisers, quantisation, weights."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from libsedge.errors import ModelError
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper, numpy_helper

from libsedge_native.ir import INPUT, MAX_WEIGHTS, Quant

_WINDOW: dict[str, Any] = {"auto_pad": b"NOTSET", "dilations": None, "pads": None, "strides": None}

#: every op that is read, with the attributes it may have and their defaults
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "QuantizeLinear": {"axis": 1, "saturate": 1, "output_dtype": 0, "block_size": 0, "precision": 0},
    "DequantizeLinear": {"axis": 1, "block_size": 0, "output_dtype": 0},
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
    "Dropout": {"seed": 0},
    "Constant": {},
}
CONSTANTS = ("value", "value_float", "value_floats", "value_int", "value_ints")
#: what ONNX Runtime's quantiser writes with UseQDQContribOps, the same ops under its own domain
DOMAINS = {"com.microsoft": ("QuantizeLinear", "DequantizeLinear")}
_LISTS = ("dilations", "kernel_shape", "pads", "perm", "strides")
#: attributes that must keep their default, because nothing else is proved
_FIXED = (
    "allowzero",
    "alpha",
    "beta",
    "block_size",
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


def attribute_value(node: NodeProto, attribute: AttributeProto) -> Any:
    try:
        return helper.get_attribute_value(attribute)
    except ValueError as broken:
        raise refuse(node, f"attribute {attribute.name} cannot be read: {broken}") from broken


def attributes(node: NodeProto) -> dict[str, Any]:
    """Attributes with their defaults; unknown ones, and values that are not proved, are refused."""
    known = ATTRIBUTES[node.op_type]
    out = dict(known)
    for attribute in node.attribute:
        if attribute.name not in known:
            raise refuse(node, "unknown attribute", attribute.name)
        value = attribute_value(node, attribute)
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
        #: what was converted, for whoever reads the import
        self.notes: list[str] = []
        self.tensors: dict[str, TensorProto] = {}
        for tensor in graph.initializer:
            if tensor.name in self.tensors:
                raise ModelError("defined twice", field="initialiser", value=tensor.name)
            self.tensors[tensor.name] = tensor
        self.parameters: dict[str, Parameter] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.tensors or name in self.parameters

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def folds(self, node: NodeProto, given: dict[str, Any]) -> bool:
        """Whether the node only makes a constant of constants; then it is one now."""
        if node.op_type == "Identity" and node.input[0] in self:
            self.alias(node)
        elif node.op_type == "QuantizeLinear" and node.input[0] in self.tensors:
            self.quantise(node, given["axis"])
        elif node.op_type == "DequantizeLinear" and node.input[0] in self.tensors:
            self.dequantise(node, given["axis"])
        else:
            return False
        return True

    def define(self, node: NodeProto) -> None:
        """A Constant node: an initialiser by another name."""
        if len(node.attribute) != 1 or node.input:
            raise refuse(node, "needs one value and no input", [a.name for a in node.attribute])
        kind, value = node.attribute[0].name, attribute_value(node, node.attribute[0])
        if kind == "value" and isinstance(value, TensorProto):
            if value.data_location == TensorProto.EXTERNAL or value.external_data:
                raise refuse(node, "external data is refused: a model is one file")
            self.tensors[node.output[0]] = value
            return
        number, dtype = (float, np.float32) if kind.startswith("value_float") else (int, np.int64)
        several = value if isinstance(value, (list, tuple)) else [value]
        if kind not in CONSTANTS or not all(isinstance(item, number) for item in several):
            raise refuse(node, f"only {', '.join(CONSTANTS)} are read", kind)
        self.tensors[node.output[0]] = numpy_helper.from_array(np.array(value, dtype), node.output[0])

    def alias(self, node: NodeProto) -> None:
        """An Identity of a constant."""
        tables: tuple[dict[str, Any], ...] = (self.tensors, self.parameters)
        for known in tables:
            if node.input[0] in known:
                known[node.output[0]] = known[node.input[0]]

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

    def bounds(self, node: NodeProto) -> tuple[float, float]:
        """What a Relu or Clip clamps to; without a bound it is infinite."""
        if node.op_type == "Relu":
            return 0.0, math.inf
        low, high = [*list(node.input[1:]), "", ""][:2]
        return self.real(node, low) if low else -math.inf, self.real(node, high) if high else math.inf

    def quant(self, node: NodeProto, stored: str = "uint8") -> tuple[Quant, str]:
        """The quantisation of an activation, and its stored type: that of the zero point, or `stored` without one.

        uint8 is shifted: `q - 128` with zero point `z - 128` stands for the same real numbers, and everything
        that is computed depends on differences `q - z` and on the clamp, which shifts with them.
        """
        if len(node.input) not in (2, 3):
            raise refuse(node, "needs values, a scale and at most a zero point", list(node.input))
        scale, zero = self.array(node, node.input[1]), self._zero(node, stored)
        if scale.dtype != np.float32 or scale.size != 1 or zero.size != 1:
            raise refuse(node, "activations need one float32 scale and one zero point", scale.shape)
        if zero.dtype not in (np.int8, np.uint8):
            raise refuse(node, "activations need an int8 or uint8 zero point", str(zero.dtype))
        shift = 128 if zero.dtype == np.uint8 else 0
        try:
            return Quant(float(scale.reshape(())), int(zero.reshape(())) - shift), str(zero.dtype)
        except ModelError as wrong:
            raise refuse(node, str(wrong)) from wrong

    def _zero(self, node: NodeProto, stored: str) -> NDArray[Any]:
        given = len(node.input) == 3 and node.input[2]
        return self.array(node, node.input[2]) if given else np.zeros((), stored)

    def _scale(self, node: NodeProto, values: NDArray[Any], axis: int) -> tuple[NDArray[np.float32], int]:
        """The scale of a Quantize- or DequantizeLinear of a constant, [1] or [values along axis], and that axis."""
        if len(node.input) not in (2, 3):
            raise refuse(node, "needs values, a scale and at most a zero point", len(node.input))
        scale = self.array(node, node.input[1])
        if scale.dtype != np.float32 or not scale.size:
            raise refuse(node, "the scale must be float32", str(scale.dtype))
        if scale.size > 1:
            if not -values.ndim <= axis < values.ndim or scale.size != values.shape[axis]:
                raise refuse(node, f"the scale must have 1 value or one along axis {axis}", scale.shape)
            axis %= values.ndim
        if not (np.all(np.isfinite(scale)) and np.all(scale > 0)):
            raise refuse(node, "scales must be positive and finite")
        return scale.reshape(-1), axis

    def quantise(self, node: NodeProto, axis: int) -> None:
        """QuantizeLinear of a float initialiser, computed here: `clamp(rint_half_even(x / s))`."""
        values = self.array(node, node.input[0])
        if values.dtype != np.float32 or not np.all(np.isfinite(values)):
            raise refuse(node, "only finite float32 can be quantised", str(values.dtype))
        scale, axis = self._scale(node, values, axis)
        zero = self._zero(node, "uint8")
        if zero.dtype != np.int8 or np.any(zero != 0):
            raise refuse(node, "weights must become int8 with zero point 0", str(zero.dtype))
        along = (
            scale.reshape([-1 if i == axis else 1 for i in range(values.ndim)]) if scale.size > 1 else scale
        )
        with np.errstate(over="ignore"):
            stored = np.clip(np.rint(values / along), -128, 127).astype(np.int8)
        self.tensors[node.output[0]] = numpy_helper.from_array(stored.reshape(values.shape), node.output[0])

    def dequantise(self, node: NodeProto, axis: int) -> None:
        """DequantizeLinear of an initialiser; uint8 with zero point 128 is int8."""
        values = self.array(node, node.input[0])
        scale, axis = self._scale(node, values, axis)
        zero = self._zero(node, str(values.dtype))
        if values.dtype == np.uint8 and zero.dtype == np.uint8 and np.all(zero == 128):
            values = (values ^ np.uint8(128)).view(np.int8)
        elif np.any(zero != 0):
            raise refuse(
                node, "the zero point of weights and biases must be 0 (asymmetric weights are refused)"
            )
        self.parameters[node.output[0]] = Parameter(values, scale, axis)

    def weights(
        self, node: NodeProto, x_scale: float, transposed: bool
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float32]]:
        """Integer weight [O, ...], integer bias [O] of scale s_x * s_w, weight scale [O]."""
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
        return values, self._bias(node, np.float32(x_scale) * scale), scale

    def _bias(self, node: NodeProto, scale: NDArray[np.float32]) -> NDArray[np.int32]:
        """The integer bias: dequantised with just this scale, or float32, which is rounded to it."""
        name, out = node.input[2], len(scale)
        if name in self.tensors:
            real = self.array(node, name)
            if real.dtype != np.float32 or real.shape != (out,) or not np.all(np.isfinite(real)):
                raise refuse(node, f"the bias must be int32, dequantised, or finite float32 [{out}]", name)
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
                steps = np.rint(real / scale)
            if not np.all(np.abs(steps) < 2.0**31):
                raise refuse(node, "the bias does not fit int32 at input scale * weight scale", name)
            self.note("float biases are rounded to int32 with scale s_x * s_w")
            return steps.astype(np.int32)
        bias = self.parameters.get(name)
        if bias is None or bias.values.dtype != np.int32 or bias.values.shape != (out,):
            raise refuse(node, f"the bias must be int32, dequantised, or finite float32 [{out}]", name)
        if not np.array_equal(np.broadcast_to(bias.scale, (out,)), scale):
            raise refuse(node, "the bias's scale must be float32(input scale * weight scale)")
        return bias.values
