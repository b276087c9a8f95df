"""The int8 network of a run: quantised, and proved equal to the NumPy reference on every cell compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from libsedge._core import Model
from libsedge.errors import ModelError, SelfTestError
from libsedge.preprocess import PreprocessConfig
from libsedge_native import emulate, ir, reference, verify
from libsedge_native.onnx_export import to_onnx
from libsedge_native.random_graph import random_inputs
from libsedge_native.targets import target_of

from . import quantise
from .calibrate import Calibration
from .model import FoldedLayer

#: spectra that the slow NumPy reference runs beside the kernel
REFERENCE_ROWS = 16
#: of real and of random inputs that an emulated machine runs
EMULATED_ROWS = 4

Say = Callable[[str, str], None]


def run_onnxruntime(graph: ir.Graph, inputs: np.ndarray) -> np.ndarray:
    """int8 logits [n, classes] of ONNX Runtime, every op quantised, for int8 inputs [n, input length]."""
    return verify.ort_run(verify.ort_session(to_onnx(graph), int8=True), graph, inputs)


def prove_kernel(graph: ir.Graph, shared: bytes, real: np.ndarray, say: Say) -> None:
    """Every instruction set that runs here equals the reference; ONNX Runtime is within 1 step, none in float.

    real : int8 inputs [n, input length] of preprocessed spectra. The slow reference meets REFERENCE_ROWS of them
    and as many random ones; the kernels meet each other and ONNX Runtime on all. Raises SelfTestError where a
    kernel differs, ModelError where ONNX Runtime does.
    """
    some = real[np.linspace(0, len(real) - 1, REFERENCE_ROWS).astype(np.int64)]
    few = np.concatenate([some, random_inputs(graph, 0, REFERENCE_ROWS)])
    kernel = verify.verify_kernel(shared, graph, few)
    counts = f"{kernel.different} of {kernel.cells:,} logits differ"
    counts += f", {kernel.layer_different} of {kernel.layer_cells:,} layer outputs"
    if not kernel.equal:
        raise SelfTestError(f"differs from the reference: {counts}", field="kernel")
    say("kernel", f"{', '.join(kernel.isas)} beside the NumPy reference: {counts}")
    if kernel.skipped:
        say("kernel", f"{', '.join(kernel.skipped)}: this machine cannot run it; not compared")
    oracle = verify.verify_ort(graph, few)
    if oracle.float_ops:
        raise ModelError(
            "run in float in ONNX Runtime's optimised graph", field="ops", value=oracle.float_ops
        )
    theirs = run_onnxruntime(graph, real).astype(np.int16)
    logits = [Model(shared, isa).run_batch(real) for isa in kernel.isas]
    if any((other != logits[0]).any() for other in logits):
        raise SelfTestError("the instruction sets differ from each other", field="kernel")
    gaps = np.abs(logits[0] - theirs)
    worst = max(int(gaps.max()), oracle.max_difference)
    counts = f"{oracle.different + int((gaps > 0).sum())} of {oracle.cells + gaps.size:,} logits differ"
    if worst > 1:
        raise ModelError(f"ONNX Runtime disagrees: {counts}, by up to {worst} steps", field="model.onnx")
    say("oracle", f"beside ONNX Runtime: {counts}{f', by {worst}' if worst else ''}; no op runs in float")


def prove_elsewhere(graph: ir.Graph, name: str, shared: bytes, real: np.ndarray, say: Say) -> None:
    """The model of another machine, emulated CPU by emulated CPU, equals the reference; says so where it was not
    compared.

    real : int8 inputs [n, input length]; a few of them and a few random ones are run. Raises SelfTestError.
    """
    machine = target_of(name)
    if why := emulate.available(machine):
        say("kernel", f"{name}: not compared here: {why}")
        return
    some = real[np.linspace(0, len(real) - 1, EMULATED_ROWS).astype(np.int64)]
    few = np.concatenate([some, random_inputs(graph, 0, EMULATED_ROWS)])
    with emulate.Machine(name) as board:
        for cpu, _ in machine.cpus:
            check = emulate.verify_emulated(board, shared, graph, few, cpu=cpu)
            counts = f"{check.different} of {check.cells:,} logits differ"
            counts += f", {check.layer_different} of {check.layer_cells:,} layer outputs"
            if not check.equal:
                raise SelfTestError(f"differs from the reference on an emulated {cpu}: {counts}", field=name)
            say("kernel", f"{name}, emulated {cpu} ({', '.join(check.isas)}): {counts}")


class Int8:
    """What `export` asks of a network, for int8 (see `float_export.Float32`)."""

    def __init__(
        self,
        layers: Sequence[FoldedLayer],
        train: np.ndarray,
        held: np.ndarray,
        name: str,
        say: Say,
        trained: Sequence[ir.Quant] | None,
    ) -> None:
        """train, held : preprocessed spectra float32 [n, points], to quantise by and to choose the rule on. trained :
        the scales that the net was trained with (`qat.py`), None where it was not.
        """
        self.choice = quantise.choose(layers, train, held, run_onnxruntime, name, trained)
        self.graph = self.choice.graph
        shares = ", ".join(f"{rule} {share:.4f}" for rule, share in self.choice.agreement.items())
        say("quantise", f"rule {self.choice.rule}; top-1 agreement with the float net, by rule: {shares}")

    def preprocessing(self, config: PreprocessConfig) -> PreprocessConfig:
        """With what makes the network's input of a spectrum."""
        quant = self.graph.input.quant
        return replace(config, scale=quant.scale, zero_point=quant.zero_point)

    def inputs(self, x: np.ndarray) -> np.ndarray:
        """The network's inputs [n, points] of preprocessed spectra."""
        return quantise.quantise_input(self.graph, x)

    def kernel(self, shared: bytes) -> Model:
        """The fastest kernel of a compiled model."""
        return Model(shared)

    def logits(self, outputs: np.ndarray) -> np.ndarray:
        """Real logits, float64, of what a kernel gives."""
        return quantise.dequantise_logits(self.graph, outputs)

    def outputs(self, inputs: np.ndarray) -> np.ndarray:
        """What every kernel must give, by the reference."""
        return reference.run(self.graph, inputs)

    def calibration(self, found: Calibration) -> dict[str, Any]:
        """The members of calibration.json."""
        quant = self.graph.output.quant
        return {**found.to_json(), "logit_scale": quant.scale, "logit_zero_point": quant.zero_point}

    def prove(self, shared: bytes, real: np.ndarray, say: Say) -> None:
        prove_kernel(self.graph, shared, real, say)

    def prove_elsewhere(self, name: str, shared: bytes, real: np.ndarray, say: Say) -> None:
        prove_elsewhere(self.graph, name, shared, real, say)
