"""The float32 network of a run: folded, not quantised, and proved to be within the tolerance of its float64 meaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from libsedge._core import FloatModel
from libsedge.bundle import TOLERANCE
from libsedge.errors import ModelError, SelfTestError
from libsedge.preprocess import PreprocessConfig
from libsedge_native import emulate, float_reference, ir, verify
from libsedge_native.float_bound import error_bound
from libsedge_native.generate import golden_outputs
from libsedge_native.onnx_export import to_onnx
from libsedge_native.targets import target_of

from .calibrate import Calibration
from .int8_export import EMULATED_ROWS, REFERENCE_ROWS, Say
from .model import FoldedConv, FoldedDense, FoldedGap, FoldedLayer


def float_graph(layers: Sequence[FoldedLayer], points: int, name: str) -> ir.Graph:
    """The float32 graph of folded layers for preprocessed spectra of `points` grid points (before `quantise`)."""
    ops: list[ir.Op] = []
    for number, layer in enumerate(layers, 1):
        if isinstance(layer, FoldedGap):
            ops.append(ir.GlobalAveragePool("gap", ir.REAL))
            continue
        ones = np.ones(len(layer.bias), np.float32)
        if isinstance(layer, FoldedDense):
            if not isinstance(ops[-1], ir.Dense):
                ops.append(ir.Flatten("flatten"))
            ops.append(ir.Dense(f"dense{number}", layer.weight, layer.bias, ones, ir.REAL, layer.relu))
            continue
        assert isinstance(layer, FoldedConv)
        conv = ir.Conv1d(
            f"conv{number}",
            layer.weight,
            layer.bias,
            ones,
            ir.REAL,
            stride=layer.stride,
            pads=(layer.padding, layer.padding),
            relu=layer.relu,
        )
        ops.append(conv)
        if layer.pool > 1:
            ops.append(ir.MaxPool1d(f"pool{number}", layer.pool, layer.pool))
    return ir.Graph(name, ir.Tensor(1, points, ir.REAL), tuple(ops))


def run_onnxruntime(graph: ir.Graph, inputs: np.ndarray) -> np.ndarray:
    """float32 logits [n, classes] of ONNX Runtime for float32 inputs [n, input length]."""
    session = verify.ort_session(to_onnx(graph))
    return verify.ort_run(session, graph, inputs)


def worst(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference of logits [n, classes], as a share of the largest wanted logit of its spectrum; NaN where
    a logit is not a number."""
    wide = wanted.astype(np.float64)
    return float((np.abs(found - wide) / np.abs(wide).max(axis=1, keepdims=True)).max())


def prove_kernel(graph: ir.Graph, shared: bytes, real: np.ndarray, say: Say) -> None:
    """Every instruction set that runs here is within TOLERANCE of float64, and inside the proved bound; ONNX
    Runtime is within twice that of every one, because both may be off.

    real : inputs [n, input length]; the slow reference meets REFERENCE_ROWS of them, the bound one. Raises
    SelfTestError where a kernel differs, ModelError where ONNX Runtime does.
    """
    few = real[np.linspace(0, len(real) - 1, REFERENCE_ROWS).astype(np.int64)]
    wanted, bound = float_reference.run(graph, few), error_bound(graph, few[0])
    theirs = run_onnxruntime(graph, real)
    built = FloatModel(shared, "scalar").isas
    for isa in (name for name, runnable in built if runnable):
        kernel = FloatModel(shared, isa)
        logits = kernel.run_batch(few)
        error = worst(logits, wanted)
        if not error <= TOLERANCE or not (np.abs(logits[0] - wanted[0]) <= bound).all():
            why = f"is {error:.2g} of the largest logit from the reference; {TOLERANCE:g} is allowed"
            raise SelfTestError(why, field=f"kernel ({isa})")
        apart = worst(kernel.run_batch(real), theirs)
        if not apart <= 2 * TOLERANCE:
            why = f"ONNX Runtime is {apart:.2g} of the largest logit from the kernel ({isa})"
            raise ModelError(f"{why}; {2 * TOLERANCE:g} is allowed", field="model.onnx")
        figures = f"at most {error:.1e} of the largest logit from float64 in {len(few)} spectra"
        say("kernel", f"{isa}: {figures}, {apart:.1e} from ONNX Runtime in {len(real)}")
    if skipped := [name for name, runnable in built if not runnable]:
        say("kernel", f"{', '.join(skipped)}: this machine cannot run it; not compared")


def prove_elsewhere(graph: ir.Graph, name: str, shared: bytes, real: np.ndarray, say: Say) -> None:
    """The same for another machine's model on every CPU that is emulated for it; says so where it was not
    compared. A few of the inputs are run; raises SelfTestError.
    """
    machine = target_of(name)
    if why := emulate.available(machine):
        say("kernel", f"{name}: not compared here: {why}")
        return
    few = real[np.linspace(0, len(real) - 1, EMULATED_ROWS).astype(np.int64)]
    wanted = float_reference.run(graph, few)
    with emulate.Machine(name) as board:
        for cpu, _ in machine.cpus:
            isas = [isa for isa, runnable in board.isas(shared, cpu) if runnable]
            error = float(np.max([worst(board.run(shared, few, isa, cpu), wanted) for isa in isas]))
            if not error <= TOLERANCE:
                why = f"is {error:.2g} of the largest logit from the reference on an emulated {cpu}"
                raise SelfTestError(f"{why}; {TOLERANCE:g} is allowed", field=name)
            figures = f"at most {error:.1e} of the largest logit from float64"
            say("kernel", f"{name}, emulated {cpu} ({', '.join(isas)}): {figures}")


class Float32:
    """What `export` asks of a network, for float32 (see `int8_export.Int8`)."""

    choice = None  # nothing is quantised

    def __init__(self, layers: Sequence[FoldedLayer], points: int, name: str) -> None:
        self.graph = float_graph(layers, points, name)

    def preprocessing(self, config: PreprocessConfig) -> PreprocessConfig:
        """What makes the network's input of a spectrum: everything but `quantise`."""
        return replace(config, scale=None, zero_point=None)

    def inputs(self, x: np.ndarray) -> np.ndarray:
        """The network's inputs [n, points] of preprocessed spectra."""
        return np.ascontiguousarray(x, np.float32)

    def kernel(self, shared: bytes) -> FloatModel:
        """The fastest kernel of a compiled model."""
        return FloatModel(shared)

    def logits(self, outputs: np.ndarray) -> np.ndarray:
        """Real logits, float64, of what a kernel gives."""
        return outputs.astype(np.float64)

    def outputs(self, inputs: np.ndarray) -> np.ndarray:
        """What every kernel must give, by the reference."""
        return golden_outputs(self.graph, inputs)

    def calibration(self, found: Calibration) -> dict[str, Any]:
        """The members of calibration.json."""
        return found.to_json()

    def prove(self, shared: bytes, real: np.ndarray, say: Say) -> None:
        prove_kernel(self.graph, shared, real, say)

    def prove_elsewhere(self, name: str, shared: bytes, real: np.ndarray, say: Say) -> None:
        prove_elsewhere(self.graph, name, shared, real, say)
