"""The benchmark's graph as a TensorFlow Lite flatbuffer, int8 or float32, written with the schema that LiteRT ships.

No TensorFlow is needed. Layers are spelled as Conv2D and MaxPool2D of height 1 over NHWC tensors, which XNNPACK takes
whole; the global average is Mean over height and width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from libsedge_native.ir import Conv1d, Flatten, GlobalAveragePool, Graph, MaxPool1d, Quant, Tensor
from nets import real_weights
from numpy.typing import NDArray


class _Writer:
    """Tensors, buffers and operators of one subgraph in the order they are needed."""

    def __init__(self, schema: Any, quantised: bool) -> None:
        self.s = schema
        self.quantised = quantised
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.description = "libsedge benchmark"
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]

    def _type(self, dtype: np.dtype[Any]) -> int:
        types = {
            "int8": self.s.TensorType.INT8,
            "int32": self.s.TensorType.INT32,
            "float32": self.s.TensorType.FLOAT32,
        }
        return int(types[dtype.name])

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: str,
        data: NDArray[Any] | None = None,
        scales: NDArray[Any] | None = None,
        zero: int = 0,
    ) -> int:
        """Index of a new tensor; `scales` of one value or one per output channel (axis 0)."""
        t = self.s.TensorT()
        t.name, t.shape, t.type = name.encode(), list(shape), self._type(np.dtype(dtype))
        if data is not None:
            buffer = self.s.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            t.buffer = len(self.model.buffers) - 1
        if scales is not None:
            t.quantization = self.s.QuantizationParametersT()
            t.quantization.scale = [float(v) for v in np.atleast_1d(scales)]
            t.quantization.zeroPoint = [zero] * len(t.quantization.scale)
            t.quantization.quantizedDimension = 0
        self.graph.tensors.append(t)
        return len(self.graph.tensors) - 1

    def activation(self, name: str, shape: tuple[int, ...], quant: Quant) -> int:
        if self.quantised:
            return self.tensor(name, shape, "int8", scales=np.array([quant.scale]), zero=quant.zero_point)
        return self.tensor(name, shape, "float32")

    def weights(self, op: Any, x: Tensor, weight: NDArray[Any], real: NDArray[Any]) -> list[int]:
        """Weight and bias tensors of a layer, the weight already in LiteRT's order."""
        if not self.quantised:
            bias = real_weights(op, x)[1]
            return [
                self.tensor(f"{op.name}_w", real.shape, "float32", real),
                self.tensor(f"{op.name}_b", bias.shape, "float32", bias),
            ]
        scales = op.weight_scale
        return [
            self.tensor(f"{op.name}_w", weight.shape, "int8", weight, scales),
            self.tensor(f"{op.name}_b", op.bias.shape, "int32", op.bias, np.float32(x.quant.scale) * scales),
        ]

    def operator(
        self, kind: str, version: int, inputs: list[int], output: int, options: str, **values: Any
    ) -> None:
        code = self.s.OperatorCodeT()
        code.builtinCode = getattr(self.s.BuiltinOperator, kind)
        code.deprecatedBuiltinCode = code.builtinCode
        code.version = version
        self.model.operatorCodes.append(code)
        o = self.s.OperatorT()
        o.opcodeIndex = len(self.model.operatorCodes) - 1
        o.inputs, o.outputs = inputs, [output]
        o.builtinOptionsType = getattr(self.s.BuiltinOptions, options)
        o.builtinOptions = getattr(self.s, options + "T")()
        for key, value in values.items():
            setattr(o.builtinOptions, key, value)
        self.graph.operators.append(o)

    def pack(self, first: int, last: int) -> bytes:
        import flatbuffers  # type: ignore[import-untyped]

        self.graph.inputs, self.graph.outputs = [first], [last]
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def to_tflite(graph: Graph, *, quantised: bool) -> bytes:
    """Input int8 (or float32) [1, 1, length, 1], output [1, classes]; the same numbers as `graph`."""
    from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-not-found]

    w = _Writer(schema, quantised)
    relu, valid = schema.ActivationFunctionType.RELU, schema.Padding.VALID
    none = schema.ActivationFunctionType.NONE
    first = x = w.activation("input", (1, 1, graph.input.length, graph.input.channels), graph.input.quant)
    flattened: Tensor | None = None
    for op, before, after in zip(graph.ops, graph.tensors, graph.tensors[1:], strict=False):
        if isinstance(op, Flatten):
            flattened = before
            continue
        if isinstance(op, (Conv1d, MaxPool1d)):
            y = w.activation(op.name, (1, 1, after.length, after.channels), after.quant)
        else:
            y = w.activation(op.name, (1, after.channels), after.quant)
        if isinstance(op, Conv1d):
            real = real_weights(op, before)[0].transpose(0, 2, 1)[:, None]
            parameters = w.weights(op, before, op.weight.transpose(0, 2, 1)[:, None], real)
            w.operator(
                "CONV_2D", 3, [x, *parameters], y, "Conv2DOptions", padding=valid, strideW=op.stride, strideH=1,
                dilationWFactor=1, dilationHFactor=1, fusedActivationFunction=relu,
            )  # fmt: skip
        elif isinstance(op, MaxPool1d):
            w.operator(
                "MAX_POOL_2D", 2, [x], y, "Pool2DOptions", padding=valid, strideW=op.stride, strideH=1,
                filterWidth=op.kernel, filterHeight=1, fusedActivationFunction=none,
            )  # fmt: skip
        elif isinstance(op, GlobalAveragePool):
            axes = w.tensor("axes", (2,), "int32", np.array([1, 2], np.int32))
            w.operator("MEAN", 2, [x, axes], y, "ReducerOptions", keepDims=False)
        else:
            real, weight = real_weights(op, before)[0], op.weight
            if flattened is not None and flattened.length > 1:  # channel-first to position-first
                order = (-1, flattened.channels, flattened.length)
                weight = weight.reshape(order).transpose(0, 2, 1).reshape(weight.shape)
                real = real.reshape(order).transpose(0, 2, 1).reshape(real.shape)
            if flattened is not None and flattened.length > 1:
                shape = (1, before.channels)
                to = w.tensor("flat_shape", (2,), "int32", np.array(shape, np.int32))
                flat = w.activation("flat", shape, before.quant)
                w.operator("RESHAPE", 1, [x, to], flat, "ReshapeOptions", newShape=list(shape))
                x = flat
            flattened = None
            w.operator(
                "FULLY_CONNECTED", 12, [x, *w.weights(op, before, weight, real)], y, "FullyConnectedOptions",
                fusedActivationFunction=relu if op.relu else none,
            )  # fmt: skip
        x = y
    return w.pack(first, x)
