"""Does a compiled model equal the reference, and does the reference equal ONNX Runtime? Counted, cell by cell."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from libsedge import _core
from libsedge.errors import ToolchainError
from numpy.typing import NDArray

from libsedge_native import reference
from libsedge_native.ir import Conv1d, Dense, Graph
from libsedge_native.onnx_export import to_onnx
from libsedge_native.random_graph import random_inputs

#: op types that mean "ONNX Runtime computes in float here"
FLOAT_OPS = (
    "Conv",
    "DequantizeLinear",
    "FusedConv",
    "FusedGemm",
    "Gemm",
    "GlobalAveragePool",
    "MatMul",
    "QuantizeLinear",
    "Relu",
)


@dataclass(frozen=True)
class KernelCheck:
    """A compiled model against the reference. `cells` logits of `inputs` inputs were compared on every ISA."""

    isas: tuple[str, ...]
    #: built, but not runnable on this machine: not checked
    skipped: tuple[str, ...]
    inputs: int
    cells: int
    different: int
    #: outputs of the fused groups of the scalar kernel, one input
    layer_cells: int
    layer_different: int

    @property
    def equal(self) -> bool:
        return self.cells > 0 and self.different == 0 and self.layer_different == 0


@dataclass(frozen=True)
class OrtCheck:
    """ONNX Runtime against the reference: optimised with int8 and with uint8 activations, and unoptimised."""

    cells: int
    different: int
    max_difference: int
    #: float op types left in the optimised graphs; () where everything ran on integers
    float_ops: tuple[str, ...]
    #: optimisations off: every op in float between QuantizeLinear and DequantizeLinear; up to some steps apart
    float_different: int
    float_max_difference: int

    @property
    def equal(self) -> bool:
        return self.cells > 0 and self.different == 0


def verify_kernel(
    so: bytes, graph: Graph, inputs: NDArray[np.int8] | None = None, *, count: int = 64, seed: int = 0
) -> KernelCheck:
    """Run the bytes of a model.so on every instruction set of this machine and compare with `reference.run`.

    inputs : int8 [n, input_len]; `count` random ones with extremes by default.
    """
    x = random_inputs(graph, seed, count) if inputs is None else np.ascontiguousarray(inputs)
    want = reference.run(graph, x)
    built = _core.Model(so, "scalar").isas
    isas = tuple(name for name, runnable in built if runnable)
    different = 0
    for isa in isas:
        model = _core.Model(so, isa)
        different += int((model.run_batch(x) != want).sum())
        model.check_canaries()
    layers = reference.layers(graph, x[-1])
    cells = wrong = 0
    for name, value in _core.Model(so, "scalar").trace(x[-1]):
        cells += value.size
        wrong += int((value != layers[name]).sum())
    skipped = tuple(name for name, runnable in built if not runnable)
    return KernelCheck(isas, skipped, len(x), want.size * len(isas), different, cells, wrong)


def ort_session(data: bytes, *, optimised: bool = True, int8: bool = False, save: Path | None = None) -> Any:
    """A single-threaded ONNX Runtime session. `int8` keeps int8 activations, which x86 otherwise turns to uint8."""
    import onnxruntime as ort  # type: ignore[import-untyped]

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    if int8:
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    if save is not None:
        options.optimized_model_filepath = str(save)
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def ort_run(session: Any, graph: Graph, x: NDArray[Any], *, unsigned: bool = False) -> NDArray[Any]:
    """[n, classes] of a session for [n, input_len], int8 or float32 as the model; `unsigned` flips the top bit of int8
    on both sides."""
    rows = x.view(np.uint8) ^ np.uint8(0x80) if unsigned else x
    name = session.get_inputs()[0].name
    out = [session.run(None, {name: row.reshape(1, *graph.input.shape)})[0].reshape(-1) for row in rows]
    y = np.stack(out)
    return (y ^ np.uint8(0x80)).view(np.int8) if unsigned else y


class OrtLayers:
    """ONNX Runtime on the integers of one graph, every op's output shown: `run(x)` gives int8 by op name.

    Raises ToolchainError where its optimised model holds a float op, because such a run proves nothing.
    """

    def __init__(self, graph: Graph, *, unsigned: bool, layers: bool = True) -> None:
        import onnx
        from onnx import TensorProto, helper

        self.graph, self.unsigned = graph, unsigned
        last = graph.ops[-1].name
        self.names = [last, *(op.name for op in graph.ops[:-1] if layers)]
        model = onnx.load_from_string(to_onnx(graph, unsigned=unsigned))
        kind = TensorProto.UINT8 if unsigned else TensorProto.INT8
        for name in self.names[1:]:
            model.graph.output.append(helper.make_tensor_value_info(f"{name}_q", kind, None))
        with tempfile.TemporaryDirectory(prefix="sedge-") as folder:
            path = Path(folder) / "optimised.onnx"
            self.session = ort_session(model.SerializeToString(), int8=not unsigned, save=path)
            #: op type -> how many, of the optimised model
            self.ops = Counter(node.op_type for node in onnx.load(path).graph.node)
        for op_type, quantised in ((Conv1d, "QLinearConv"), (Dense, "QGemm")):
            if self.ops[quantised] != sum(isinstance(op, op_type) for op in graph.ops):
                raise ToolchainError(f"not every {op_type.__name__} became a {quantised}", field=graph.name)
        if left := sorted(set(self.ops) & set(FLOAT_OPS)):
            raise ToolchainError(
                "ONNX Runtime would compute in float", field=graph.name, value=", ".join(left)
            )

    def run(self, x: NDArray[np.int8]) -> dict[str, NDArray[np.int8]]:
        """int8 [input_len] to the flat int8 output of every op, the last one first."""
        flip = np.uint8(0x80)
        row = (x.view(np.uint8) ^ flip) if self.unsigned else x
        found = self.session.run(None, {"input": row.reshape(1, *self.graph.input.shape)})
        flat = [out.reshape(-1) for out in found]
        if self.unsigned:
            flat = [(out ^ flip).view(np.int8) for out in flat]
        return dict(zip(self.names, flat, strict=True))


def float_ops(path: Path) -> tuple[str, ...]:
    """Float op types in a saved optimised model, sorted."""
    import onnx

    return tuple(sorted({node.op_type for node in onnx.load(path).graph.node} & set(FLOAT_OPS)))


def verify_ort(
    graph: Graph, inputs: NDArray[np.int8] | None = None, *, count: int = 32, seed: int = 0
) -> OrtCheck:
    """Compare `reference.run` with ONNX Runtime (needs onnxruntime)."""
    x = random_inputs(graph, seed, count) if inputs is None else inputs
    want = reference.run(graph, x).astype(np.int16)
    found: set[str] = set()
    gaps: list[NDArray[np.int16]] = []
    with tempfile.TemporaryDirectory(prefix="sedge-") as folder:
        for unsigned in (False, True):
            path = Path(folder) / f"optimised_{unsigned}.onnx"
            session = ort_session(to_onnx(graph, unsigned=unsigned), int8=not unsigned, save=path)
            gaps.append(np.abs(ort_run(session, graph, x, unsigned=unsigned) - want))
            found |= set(float_ops(path))
    plain = np.abs(ort_run(ort_session(to_onnx(graph), optimised=False), graph, x) - want)
    both = np.stack(gaps)
    return OrtCheck(
        cells=both.size,
        different=int((both > 0).sum()),
        max_difference=int(both.max()),
        float_ops=tuple(sorted(found)),
        float_different=int((plain > 0).sum()),
        float_max_difference=int(plain.max()),
    )
