"""What the ONNX importer checks apart from single nodes: the model's frame, bounds of a Clip, unread results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

import numpy as np
from libsedge.errors import ModelError
from onnx import GraphProto, ModelProto, TensorProto

from libsedge_native.ir import MAX_LENGTH, Flatten, Op, Quant

MAX_BYTES = 1 << 28
MAX_NODES = 2048
#: ops that clamp their result: a Relu joins them
CLAMPS = ("Conv", "Gemm", "MatMul", "Add")
ELEM = {TensorProto.INT8: "int8", TensorProto.UINT8: "uint8", TensorProto.FLOAT: "float32"}
#: from 22 on the ops that are read only got more types, such as float8 and int2
OPSETS = range(13, 29)
MAX_IR_VERSION = 14


def covers(quant: Quant, low: float, high: float) -> bool:
    """Whether clipping to [low, high] changes nothing that int8 can hold: each bound is quantised to its end."""
    with np.errstate(over="ignore"):
        ends = np.array([low, high], np.float32) / np.float32(quant.scale)
    return bool(np.rint(ends[0]) + quant.zero_point <= -128 and np.rint(ends[1]) + quant.zero_point >= 127)


def alone(graph: GraphProto, name: str) -> bool:
    """Whether `name` is the dequantised result of an op that can clamp, and nothing else reads it on the way."""
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(output.name for output in graph.output)
    for node in reversed(graph.node):
        if name not in node.output or not node.input:
            continue
        if readers[name] != 1 or node.op_type not in (
            *CLAMPS,
            "QuantizeLinear",
            "DequantizeLinear",
            "Relu",
            "Clip",
        ):
            return False
        if node.op_type in CLAMPS:
            return True
        name = node.input[0]
    return False


def without_unread(ops: list[Op], output: str) -> tuple[Op, ...]:
    """Without the Flattens that only served a shape; every other unread op is the graph's to refuse."""
    kept = list(ops)
    for op in reversed(ops):
        read = {name for other in kept for name in other.inputs}
        if isinstance(op, Flatten) and op.name not in read and op.name != output:
            kept.remove(op)
    return tuple(kept)


def _names(graph: GraphProto) -> Iterator[str]:
    yield graph.name
    for item in (*graph.initializer, *graph.input, *graph.output):
        yield item.name
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)


def check_model(model: ModelProto) -> None:
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
    for name in _names(model.graph):
        if not isinstance(name, str):  # protobuf gives the bytes of what is not UTF-8
            raise ModelError("names must be UTF-8", field="graph", value=bytes(name))
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise ModelError(
                "external data is refused: a model is one file", field="initialiser", value=tensor.name
            )


def read_input(graph: GraphProto, constants: Collection[str]) -> tuple[str, list[int], str]:
    """Name, dimensions and element type of the one input; a batch of any size is read as one."""
    inputs = [v for v in graph.input if v.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        why = "exactly one input and one output are needed"
        raise ModelError(why, field="graph", value=(len(inputs), len(graph.output)))
    kind, field = inputs[0].type.tensor_type, f"input {inputs[0].name!r}"
    dims = [d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim]
    dims[:1] = [1 if size == -1 else size for size in dims[:1]]
    if kind.elem_type not in ELEM or not 2 <= len(dims) <= 4 or dims[0] != 1:
        why = "must be int8, uint8 or float [1, channels, length], or 2-D with H or W 1"
        raise ModelError(why, field=field, value=dims)
    if not all(1 <= size <= MAX_LENGTH for size in dims):
        raise ModelError(f"dimensions must be 1 to {MAX_LENGTH}", field=field, value=dims)
    if len(dims) == 4 and 1 not in dims[2:]:
        raise ModelError("only 1-D nets are supported: H or W must be 1", field=field, value=dims)
    return inputs[0].name, dims, ELEM[kind.elem_type]


def parse(data: bytes) -> ModelProto:
    """The model in `data`, its frame checked; raises ModelError."""
    if len(data) > MAX_BYTES:
        raise ModelError(f"larger than {MAX_BYTES} bytes", field="model", value=len(data))
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as broken:  # protobuf's DecodeError has moved between versions
        raise ModelError(f"not an ONNX model: {broken}", field="model") from broken
    check_model(model)
    return model
