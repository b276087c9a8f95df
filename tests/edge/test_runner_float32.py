"""`libsedge-run` of a float32 bundle: the Python runtime's decisions of the same kernel, bit for bit."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from libsedge import keys
from libsedge.bundle import Bundle, target
from libsedge.classifier import Classifier
from libsedge.preprocess import PreprocessConfig, Segment, Smooth
from runner_tools import (
    AXIS,
    AXIS_NM,
    MASK,
    comparable,
    differences,
    frames,
    python_run,
    run_stdin,
    stream_bytes,
)

pytest.importorskip("libsedge_native.runner", reason="the generator is not installed")

POINTS, LABELS = 400, ["andesite", "basalt", "gypsum", "olivine"]
CALIBRATION = {"temperature": 0.7, "min_confidence": 0.8, "min_contrast": 8.0, "max_saturated_fraction": 0.01}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Random weights; the second convolution takes a Toom-Cook scheme."""
    from libsedge_native import float_reference
    from libsedge_native.bundle_writer import BundleInfo, write_bundle
    from libsedge_native.generate import generate
    from libsedge_native.ir import REAL, Conv1d, Dense, Flatten, Graph, MaxPool1d, Tensor
    from libsedge_native.toolchain import HOST_TARGET, compile_shared

    rng = np.random.default_rng(5)

    def parameters(*shape: int) -> tuple[Any, Any, Any]:
        weight = (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        return weight, rng.standard_normal(shape[0]).astype(np.float32), np.ones(shape[0], np.float32)

    first, second, dense = parameters(8, 1, 5), parameters(16, 8, 7), parameters(len(LABELS), 16 * 23)
    dense[0][:] = 20 * (dense[0] - dense[0].mean(axis=1, keepdims=True))  # no class by itself
    dense[1][:] = 0
    ops = (
        *(Conv1d("conv1", *first, REAL, relu=True), MaxPool1d("pool1", 4, 4)),
        *(Conv1d("conv2", *second, REAL, relu=True), MaxPool1d("pool2", 4, 4), Flatten("flat")),
        Dense("fc", *dense, REAL),
    )
    graph = Graph("small", Tensor(1, POINTS, REAL), ops)
    generated = generate(graph, isas=("avx2",), precision="float32")
    inputs = rng.random((4, POINTS), np.float32)
    out = tmp_path_factory.mktemp("float32") / "small.sedge"
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    write_bundle(
        out,
        info=BundleInfo("small", "1.0.0", 1, "none", generated.arena_bytes, (), {"simulated": True}),
        onnx=generated.onnx,
        sources={name: generated.files[name] for name in ("model.cpp", "model.h")},
        kernels={HOST_TARGET: compile_shared(generated, extra_flags=("-O1",))},
        preprocess=PreprocessConfig((Segment(240.0, 850.0, POINTS),), smooth=Smooth(5, 2)),
        labels=LABELS,
        calibration=CALIBRATION,
        goldens=(inputs, float_reference.run(graph, inputs).astype(np.float32)),
        model_card="# small\n",
        private=private,
    )
    return Bundle.open(out, (keys.TrustedKey(keys.public_bytes(private), "signing"),))


@pytest.fixture(scope="module")
def program(opened: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from libsedge_native.runner import build

    out = tmp_path_factory.mktemp("runner32") / "libsedge-run"
    assert f"model    {opened.model().digest}" in build(opened, out, axis=AXIS, isas=("avx2",))
    return out


@pytest.mark.skipif(target() != "x86_64-linux", reason="the bundle is compiled for x86_64-linux")
def test_the_same_decisions_as_the_python_runtime(program: Path, opened: Bundle, tmp_path: Path) -> None:
    data = stream_bytes(frames(150, 3), 0.2, 3)
    confidences = {}
    for isa in [name for name, runs in opened.model().isas if runs]:
        (tmp_path / isa).mkdir()
        classifier = Classifier(opened, isa).bind(AXIS_NM, MASK)
        records, report = python_run(classifier, data, tmp_path / isa)
        ours = run_stdin(program, data, "--isa", isa)
        assert ours.code == 0
        assert differences(records, ours.rows) == []
        assert comparable(ours.account) == comparable(report.ledger)
        confidences[isa] = [row["confidence"] for row in ours.rows]
        labels = {row["label"] for row in ours.rows}
        assert len(labels) > 2
        assert {row["reason"] for row in ours.rows} >= {"low_confidence", "too_dim", None}
    # Negative control: the bits are looked at, and those of the scalar kernel are others.
    assert len({str(found) for found in confidences.values()}) > 1


def test_the_scalar_kernel_gives_the_same_bits_on_another_machine(
    program: Path, opened: Bundle, tmp_path: Path
) -> None:
    """aarch64 under qemu-user; its NEON kernel sums in another order and is close."""
    from libsedge_native.runner import build, emulator
    from libsedge_native.targets import TARGETS

    if os.environ.get("LIBSEDGE_ARM") != "required":
        pytest.skip("by `make test-arm` only, to keep `make test` short")
    machine = TARGETS["aarch64-linux"]
    if machine.native or None in (shutil.which(machine.compiler), shutil.which(machine.emulator)):
        pytest.skip(f"{machine.compiler} and {machine.emulator} are needed, on another machine")
    out = tmp_path / "foreign"
    build(opened, out, axis=AXIS, static=True, target=machine.name)
    data = stream_bytes(frames(60, 8), 0.0, 8)
    host = run_stdin(program, data, "--isa", "scalar")
    scalar, neon = (
        run_stdin(out, data, "--isa", isa, prefix=emulator(machine)) for isa in ("scalar", "neon")
    )
    assert (scalar.rows, scalar.account) == (host.rows, host.account)
    wanted, found = ([row["confidence"] for row in run.rows if row["confidence"]] for run in (host, neon))
    assert len(wanted) > 20
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
