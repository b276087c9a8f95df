"""Is the compiled kernel the network? Cell by cell against the NumPy reference, and against ONNX Runtime."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
from libsedge._core import Model
from libsedge.errors import ModelError
from libsedge_native import ir, reference
from libsedge_native.onnx_export import to_onnx

#: ops that ONNX Runtime may run besides QLinear* and QGemm: they move int8 values and compute nothing
_MOVES = frozenset({"MaxPool", "NhwcMaxPool", "Flatten", "Reshape", "Squeeze", "Transpose"})


@dataclass(frozen=True)
class Comparison:
    """int8 cells compared, how many differ, and by how much at most."""

    cells: int
    different: int
    worst: int

    @property
    def exact(self) -> bool:
        return self.cells > 0 and self.different == 0

    def __str__(self) -> str:
        return f"{self.different} of {self.cells:,} cells differ" + (
            f", by up to {self.worst}" if self.worst else ""
        )


def compare(first: np.ndarray, second: np.ndarray) -> Comparison:
    """Two int8 arrays of one shape; raises ValueError where the shapes differ."""
    if first.shape != second.shape:
        raise ValueError(f"shapes {first.shape} and {second.shape} cannot be compared")
    difference = np.abs(first.astype(np.int16) - second.astype(np.int16))
    return Comparison(difference.size, int((difference > 0).sum()), int(difference.max(initial=0)))


def against_reference(model: Model, graph: ir.Graph, inputs: np.ndarray) -> Comparison:
    """Logits of the kernel and of `reference.run` for int8 inputs [n, input length]."""
    return compare(model.run_batch(inputs), reference.run(graph, inputs))


def onnxruntime_session(model: bytes, optimised: Path | None = None) -> onnxruntime.InferenceSession:
    """ONNX Runtime on one CPU thread, all optimisations on; writes the optimised graph where asked to.

    On x86 it turns inner int8 tensors into uint8 ones by default (`session.qdqisint8allowed` = 0), but not
    the graph's own input and output: the first convolution and the dense layer then mix the two and fall
    back to float. Allowed to stay int8, the whole net runs quantised (onnxruntime 1.31, seen in its
    optimised graph).
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    options.log_severity_level = 3
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_onnxruntime(graph: ir.Graph, inputs: np.ndarray) -> np.ndarray:
    """int8 logits [n, classes] of ONNX Runtime for int8 inputs [n, input length]."""
    session = onnxruntime_session(to_onnx(graph))
    feed = session.get_inputs()[0]
    rows = [session.run(None, {feed.name: row.reshape(feed.shape)})[0].reshape(-1) for row in inputs]
    return np.stack(rows)


def quantised_ops(model: bytes) -> list[str]:
    """The ops of ONNX Runtime's optimised graph; raises ModelError where one of them computes in float.

    A quantised model whose optimised graph holds Conv or Gemm runs in float: its agreement proves nothing.
    """
    with tempfile.TemporaryDirectory(prefix="sedge-") as folder:
        file = Path(folder) / "optimised.onnx"
        onnxruntime_session(model, file)
        ops = [node.op_type for node in onnx.load(file).graph.node]
    for op in ops:
        if not (op.startswith("QLinear") or op == "QGemm" or op in _MOVES):
            raise ModelError("runs in float in ONNX Runtime's optimised graph", field="model.onnx", value=op)
    return ops
