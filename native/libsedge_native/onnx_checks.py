"""What the ONNX importer checks apart from single nodes: the model's frame, bounds of a Clip, unread results."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from libsedge.errors import ModelError
from onnx import GraphProto, ModelProto, TensorProto

from libsedge_native.ir import Flatten, Op, Quant

MAX_BYTES = 1 << 28
MAX_NODES = 2048
OPSETS = range(13, 22)
MAX_IR_VERSION = 10


def covers(quant: Quant, low: float, high: float) -> bool:
    """Whether clipping to [low, high] changes nothing that int8 can hold: each bound is quantised to its end."""
    with np.errstate(over="ignore"):
        ends = np.array([low, high], np.float32) / np.float32(quant.scale)
    return bool(np.rint(ends[0]) + quant.zero_point <= -128 and np.rint(ends[1]) + quant.zero_point >= 127)


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
