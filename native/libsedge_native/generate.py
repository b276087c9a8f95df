"""int8 ONNX or graph to C++ sources: import, passes, goldens, emission."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources

import libsedge
import numpy as np
from libsedge.errors import ModelError
from numpy.typing import NDArray

from libsedge_native import constants, emit, reference
from libsedge_native.ir import Graph
from libsedge_native.lowered import Kernel, Optimise, Source
from libsedge_native.onnx_export import to_onnx
from libsedge_native.onnx_import import read_onnx
from libsedge_native.passes import lower

#: hand-written files that a model is compiled with; copied beside the generated ones
RUNTIME = ("include/libsedge/api_common.h", "include/libsedge/libsedge.h", "src/model_api.cpp")


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


def default_goldens(graph: Graph, count: int = 4) -> NDArray[np.int8]:
    """int8 [count, input_len]: pseudo-random bytes of SHA-256 in counter mode, the same on every machine."""
    size = graph.input.channels * graph.input.length
    blocks = -(-count * size // 32)
    stream = b"".join(hashlib.sha256(b"libsedge golden %d" % i).digest() for i in range(blocks))
    return np.frombuffer(stream[: count * size], np.int8).reshape(count, size).copy()


def _runtime_files(kernels: tuple[Kernel, ...]) -> dict[str, str]:
    root = resources.files("libsedge_native")
    headers = [f"include/libsedge/{h}" for h in emit.headers(kernels)]
    paths = sorted([*RUNTIME, *headers], key=lambda p: p.rsplit("/", 1)[1])
    return {p.rsplit("/", 1)[1]: (root / p).read_text(encoding="utf-8") for p in paths}


def generate(
    model: Graph | bytes,
    goldens: NDArray[np.int8] | None = None,
    isas: tuple[str, ...] | None = None,
    optimise: Optimise = "speed",
) -> GeneratedModel:
    """Generate the sources of a network.

    model : an ir.Graph, or the bytes of an int8 QDQ ONNX model.
    goldens : int8 [n, input_len], inputs of the embedded golden vectors; four pseudo-random ones by default.
    isas : instruction sets to build besides "scalar"; those of x86-64 by default (`targets.isas_of` names those
    of other machines). A header leaves out what the compiler's target cannot have, so one set of sources can
    serve every machine.
    optimise : "speed"; "size" for the smallest arena at nearly the same time (layers are streamed wherever that is
    smaller); "layers" for whole layers only.
    Raises ModelError. The same model and goldens give the same bytes.
    """
    onnx = model if isinstance(model, bytes) else to_onnx(model)
    imported = read_onnx(onnx)
    graph = imported.graph
    digest = hashlib.sha256(onnx).hexdigest()
    inputs = default_goldens(graph) if goldens is None else np.asarray(goldens)
    size = graph.input.channels * graph.input.length
    if inputs.dtype != np.int8 or inputs.ndim != 2 or inputs.shape[1] != size or not len(inputs):
        raise ModelError(f"must be int8 [n, {size}], n >= 1", field="goldens", value=inputs.shape)
    program = lower(graph, isas, optimise)
    source = Source(
        program,
        libsedge.__version__,
        digest,
        inputs,
        np.stack([reference.run(graph, row) for row in inputs]),
        tuple(
            (constants.crc32c(constants.image(k, "<")), constants.crc32c(constants.image(k, ">")))
            for k in program.kernels
        ),
        imported.notes,
    )
    files = {"model.cpp": emit.model_cpp(source), "model.h": emit.model_h(source)}
    files.update(_runtime_files(program.kernels))
    return GeneratedModel(
        name=graph.name,
        digest=digest,
        files=dict(sorted(files.items())),
        arena_bytes=source.arena_bytes,
        arena_align=emit.ALIGN,
        input_len=size,
        classes=graph.output.channels,
        isas=tuple(k.isa for k in program.kernels),
        onnx=onnx,
        notes=imported.notes,
    )
