"""Float32 ONNX or graph to C++ sources: import, passes, goldens, emission."""

from __future__ import annotations

import hashlib
from importlib import resources

import libsedge
import numpy as np
from libsedge.errors import ModelError
from numpy.typing import NDArray

from libsedge_native import constants, float_emit, float_reference
from libsedge_native.generate import GeneratedModel
from libsedge_native.ir import Graph
from libsedge_native.lowered import Source
from libsedge_native.onnx_export import to_onnx
from libsedge_native.onnx_float import read_float_onnx
from libsedge_native.passes.float_pipeline import lower_float

#: hand-written files that a float32 model is compiled with
RUNTIME = (
    "include/libsedge/api_common.h",
    "include/libsedge/libsedge.h",
    "src/float_api.cpp",
    "src/model_api.cpp",
)

#: of the largest golden logit: how far a kernel may be from float64 in its self-test
TOLERANCE = 1e-5


def default_inputs(graph: Graph, count: int = 2) -> NDArray[np.float32]:
    """float32 [count, input_len] in [0, 1): bytes of SHA-256 in counter mode, the same on every machine."""
    size = graph.input.channels * graph.input.length
    blocks = -(-count * size * 2 // 32)
    stream = b"".join(hashlib.sha256(b"libsedge golden %d" % i).digest() for i in range(blocks))
    values = np.frombuffer(stream[: count * size * 2], "<u2").astype(np.float32)
    return (values / np.float32(65536)).reshape(count, size)


def generate_float(
    model: Graph | bytes, goldens: NDArray[np.float32] | None = None, isas: tuple[str, ...] | None = None
) -> GeneratedModel:
    """Generate the sources of a float32 network.

    model : a float32 ir.Graph, or the bytes of a plain float32 ONNX model.
    goldens : float32 [n, input_len], inputs of the embedded golden vectors; two pseudo-random ones by default.
    isas : instruction sets to build besides "scalar" (passes/float_isas.py); all by default. A header leaves out
    what the compiler's target cannot have.
    Raises ModelError. The same model and goldens give the same bytes.
    """
    onnx = model if isinstance(model, bytes) else to_onnx(model)
    imported = read_float_onnx(onnx)
    graph = imported.graph
    digest = hashlib.sha256(onnx).hexdigest()
    inputs = default_inputs(graph) if goldens is None else np.asarray(goldens)
    size = graph.input.channels * graph.input.length
    if inputs.dtype != np.float32 or inputs.ndim != 2 or inputs.shape[1] != size or not len(inputs):
        raise ModelError(f"must be float32 [n, {size}], n >= 1", field="goldens", value=inputs.shape)
    program = lower_float(graph, isas)
    with np.errstate(over="ignore"):
        outputs = float_reference.run(graph, inputs).astype(np.float32)
    if not np.all(np.isfinite(inputs)) or not np.all(np.isfinite(outputs)):
        raise ModelError("a golden vector is not finite in float32", field="goldens", value=graph.name)
    crcs = tuple(
        (constants.crc32c(constants.image(k, "<")), constants.crc32c(constants.image(k, ">")))
        for k in program.kernels
    )
    source = Source(program, libsedge.__version__, digest, inputs, outputs, crcs, imported.notes)
    root = resources.files("libsedge_native")
    paths = [*RUNTIME, *(f"include/libsedge/{name}" for name in float_emit.headers(program.kernels))]
    files = {path.rsplit("/", 1)[1]: (root / path).read_text(encoding="utf-8") for path in paths}
    files["model.cpp"] = float_emit.model_cpp(source, TOLERANCE)
    files["model.h"] = float_emit.model_h(source, TOLERANCE)
    return GeneratedModel(
        name=graph.name,
        digest=digest,
        files=dict(sorted(files.items())),
        arena_bytes=source.arena_bytes,
        arena_align=float_emit.ALIGN,
        input_len=size,
        classes=graph.output.channels,
        isas=tuple(float_emit.isa_name(kernel) for kernel in program.kernels),
        onnx=onnx,
        notes=imported.notes,
    )
