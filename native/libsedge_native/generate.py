"""ONNX or graph to C++ sources: import, passes, goldens, emission; int8 or float32."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Any

import libsedge
import numpy as np
from libsedge.bundle import TOLERANCE
from libsedge.errors import ModelError
from libsedge.manifest import Precision
from numpy.typing import NDArray

from libsedge_native import constants, emit, float_reference, reference
from libsedge_native.headers import headers
from libsedge_native.ir import Graph
from libsedge_native.lowered import ALIGN, Optimise, Program, Source
from libsedge_native.onnx_export import to_onnx
from libsedge_native.onnx_float import read_float_onnx
from libsedge_native.onnx_import import Imported, read_onnx
from libsedge_native.passes import lower


@dataclass(frozen=True)
class GeneratedModel:
    """C++ sources of one network: put `files` into one folder, compile every .cpp, link.

    files : name -> text, in a fixed order; `model.h` and `model.cpp` are generated, the rest is copied.
    digest : sha256 of the ONNX model, hex. arena_bytes : exact. isas : fastest first, "scalar" last.
    """

    name: str
    digest: str
    files: dict[str, str]
    arena_bytes: int
    arena_align: int
    input_len: int
    classes: int
    isas: tuple[str, ...]
    onnx: bytes
    #: what the import converted or left to others, one line each
    notes: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(name for name in self.files if name.endswith(".cpp"))


def read_model(onnx: bytes, precision: Precision) -> Imported:
    """The graph of an int8 QDQ or of a plain float32 ONNX model, and notes; raises ModelError."""
    return read_float_onnx(onnx) if precision == "float32" else read_onnx(onnx)


def _stream(size: int) -> bytes:
    """Bytes of SHA-256 in counter mode, the same on every machine."""
    blocks = -(-size // 32)
    return b"".join(hashlib.sha256(b"libsedge golden %d" % i).digest() for i in range(blocks))[:size]


def default_goldens(graph: Graph) -> NDArray[Any]:
    """Pseudo-random inputs [n, input_len]: four of int8, or two of float32 in [0, 1)."""
    size = graph.input.channels * graph.input.length
    if graph.is_float:
        values = np.frombuffer(_stream(2 * size * 2), "<u2").astype(np.float32)
        return (values / np.float32(65536)).reshape(2, size)
    return np.frombuffer(_stream(4 * size), np.int8).reshape(4, size).copy()


def golden_outputs(graph: Graph, inputs: NDArray[Any]) -> NDArray[Any]:
    """What the reference makes of golden inputs, in the graph's precision; ModelError where that is not finite."""
    if not graph.is_float:
        return np.stack([reference.run(graph, row) for row in inputs])
    with np.errstate(over="ignore"):
        outputs = float_reference.run(graph, inputs).astype(np.float32)
    if not np.all(np.isfinite(inputs)) or not np.all(np.isfinite(outputs)):
        raise ModelError("a golden vector is not finite in float32", field="goldens", value=graph.name)
    return outputs


def _runtime_files(program: Program) -> dict[str, str]:
    root = resources.files("libsedge_native")
    both = ("include/libsedge/api_common.h", "include/libsedge/libsedge.h", "src/model_api.cpp")
    paths = [*both, *(f"include/libsedge/{name}" for name in headers(program.kernels))]
    if program.graph.is_float:
        paths.append("src/float_api.cpp")
    return {path.rsplit("/", 1)[1]: (root / path).read_text(encoding="utf-8") for path in paths}


def generate(
    model: Graph | bytes,
    goldens: NDArray[Any] | None = None,
    isas: tuple[str, ...] | None = None,
    optimise: Optimise = "speed",
    precision: Precision = "int8",
) -> GeneratedModel:
    """Generate the sources of a network.

    model : an ir.Graph, or the bytes of an int8 QDQ or a plain float32 ONNX model, as `precision` says.
    goldens : [n, input_len], inputs of the embedded golden vectors; a few pseudo-random ones by default.
    isas : instruction sets to build besides "scalar"; those of x86-64 by default, all of float32
    (`targets.isas_of` names those of other machines). A header leaves out what the compiler's target cannot have, so
    one set of sources can serve every machine.
    optimise : "speed"; "size" for the smallest arena at nearly the same time (layers are streamed wherever that is
    smaller); "layers" for whole layers only, as all float32 layers are.
    Raises ModelError. The same model and goldens give the same bytes.
    """
    onnx = model if isinstance(model, bytes) else to_onnx(model)
    imported = read_model(onnx, precision)
    graph = imported.graph
    digest = hashlib.sha256(onnx).hexdigest()
    inputs = default_goldens(graph) if goldens is None else np.asarray(goldens)
    size = graph.input.channels * graph.input.length
    if inputs.dtype != precision or inputs.ndim != 2 or inputs.shape[1] != size or not len(inputs):
        raise ModelError(f"must be {precision} [n, {size}], n >= 1", field="goldens", value=inputs.shape)
    program = lower(graph, isas, optimise)
    source = Source(
        program,
        libsedge.__version__,
        digest,
        inputs,
        golden_outputs(graph, inputs),
        tuple(
            (constants.crc32c(constants.image(k, "<")), constants.crc32c(constants.image(k, ">")))
            for k in program.kernels
        ),
        imported.notes,
        TOLERANCE if graph.is_float else 0.0,
    )
    files = {"model.cpp": emit.model_cpp(source), "model.h": emit.model_h(source)}
    files.update(_runtime_files(program))
    return GeneratedModel(
        name=graph.name,
        digest=digest,
        files=dict(sorted(files.items())),
        arena_bytes=source.arena_bytes,
        arena_align=ALIGN,
        input_len=size,
        classes=graph.output.channels,
        isas=tuple(k.name for k in program.kernels),
        onnx=onnx,
        notes=imported.notes,
    )
