"""A bundle's compiled model runs only after its goldens came out bit for bit on this machine.

The net is small and its weights are random: it stands for any model.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from libsedge import bundle, keys
from libsedge.bundle import Bundle
from libsedge.cli import main
from libsedge.errors import BundleError, KernelError, SelfTestError, UnknownIsaError
from libsedge.preprocess import PreprocessConfig, Segment
from libsedge_native import ir, reference
from libsedge_native.bundle_writer import BundleInfo, write_bundle
from libsedge_native.generate import GeneratedModel, generate
from libsedge_native.onnx_export import to_onnx
from libsedge_native.toolchain import HOST_TARGET, compile_shared

pytestmark = pytest.mark.skipif(
    bundle.target() != HOST_TARGET,
    reason=f"models are compiled for {HOST_TARGET} only, this is {bundle.target()}",
)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
TRUSTED = [keys.TrustedKey(keys.public_bytes(KEY), "signing")]
POINTS, CLASSES = 64, 3


def network(flip: bool = False) -> ir.Graph:
    """Conv, max pool, mean, dense with random weights; `flip` changes the sign of one dense weight."""
    rng = np.random.default_rng(0)
    dense = rng.integers(-127, 128, (CLASSES, 8)).astype(np.int8)
    if flip:
        dense[1, 5] = -dense[1, 5]
    return ir.Graph(
        "small",
        ir.Tensor(1, POINTS, ir.Quant(0.05, -128)),
        (
            ir.Conv1d(
                "conv1",
                rng.integers(-127, 128, (8, 1, 5)).astype(np.int8),
                rng.integers(-500, 500, 8).astype(np.int32),
                np.full(8, 0.01, np.float32),
                ir.Quant(0.06, -128),
                relu=True,
            ),
            ir.MaxPool1d("pool1", 2, 2),
            ir.GlobalAveragePool("gap", ir.Quant(0.04, -128)),
            ir.Flatten("flatten"),
            ir.Dense(
                "dense",
                dense,
                np.zeros(CLASSES, np.int32),
                np.full(CLASSES, 0.01, np.float32),
                ir.Quant(0.5, 0),
            ),
        ),
    )


@dataclass(frozen=True)
class Built:
    graph: ir.Graph
    generated: GeneratedModel
    shared: bytes


@pytest.fixture(scope="module")
def built() -> Built:
    graph = network()
    generated = generate(to_onnx(graph))
    return Built(graph, generated, compile_shared(generated))


@pytest.fixture(scope="module")
def other() -> Built:
    """The same net but for one weight, as a compiler's bug or a bit flip before compilation would leave it."""
    graph = network(flip=True)
    generated = generate(to_onnx(graph))
    return Built(graph, generated, compile_shared(generated))


def inputs(graph: ir.Graph, count: int = 6) -> np.ndarray:
    return np.random.default_rng(1).integers(-128, 128, (count, POINTS)).astype(np.int8)


def write(out: Path, built: Built, shared: bytes | None = None, outputs: np.ndarray | None = None) -> Bundle:
    """A signed bundle with right digests, whatever `shared` and the golden `outputs` are."""
    golden = inputs(built.graph)
    return write_bundle(
        out,
        info=BundleInfo(
            "small", "1.0.0", 1, "bench", built.generated.arena_bytes, ("x",), {"simulated": True}
        ),
        onnx=built.generated.onnx,
        sources={name: built.generated.files[name] for name in ("model.cpp", "model.h")},
        kernels={HOST_TARGET: built.shared if shared is None else shared},
        preprocess=PreprocessConfig((Segment(300.0, 332.0, POINTS),), scale=0.05, zero_point=-128),
        labels=["a", "b", "c"],
        calibration={
            "temperature": 1.0,
            "min_confidence": 0.5,
            "min_contrast": 4.0,
            "max_saturated_fraction": 0.01,
            "logit_scale": 0.5,
            "logit_zero_point": 0,
        },
        goldens=(golden, reference.run(built.graph, golden) if outputs is None else outputs),
        model_card="# small\n",
        private=KEY,
    )


def impostor(built: Built, other: Built) -> bytes:
    """The other model's shared object under this model's digest: consistent in itself, and wrong."""
    old, new = other.generated.digest.encode(), built.generated.digest.encode()
    assert other.shared.count(old) == 1
    return other.shared.replace(old, new)


def test_a_good_model_runs_on_every_instruction_set_of_this_machine(tmp_path: Path, built: Built) -> None:
    write(tmp_path / "a.sedge", built)
    opened = Bundle.open(tmp_path / "a.sedge", TRUSTED)
    model = opened.model()
    x = np.random.default_rng(2).integers(-128, 128, (50, POINTS)).astype(np.int8)
    wanted = reference.run(built.graph, x)
    np.testing.assert_array_equal(model.run_batch(x), wanted)
    assert model.digest == hashlib.sha256(opened.members["model.onnx"]).hexdigest()
    for isa, runnable in model.isas:
        if runnable:
            np.testing.assert_array_equal(opened.model(isa).run_batch(x), wanted)
    with pytest.raises(UnknownIsaError):
        opened.model("sse9")


def test_the_environment_demands_an_instruction_set(
    tmp_path: Path, built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.sedge", built)
    opened = Bundle.open(tmp_path / "a.sedge", TRUSTED)
    monkeypatch.setenv("LIBSEDGE_ISA", "scalar")
    assert opened.model().isa == "scalar"
    monkeypatch.setenv("LIBSEDGE_ISA", "sse9")
    with pytest.raises(UnknownIsaError):  # never another one without a word
        opened.model()
    assert opened.model("scalar").isa == "scalar"  # a name that is given wins
    monkeypatch.setenv("LIBSEDGE_ISA", "")
    assert opened.model().isa == opened.model().isas[0][0]


def test_same_sources_same_bundle(tmp_path: Path, built: Built) -> None:
    again = compile_shared(generate(to_onnx(network())))
    assert again == built.shared
    assert write(tmp_path / "a.sedge", built).digest == write(tmp_path / "b.sedge", built, again).digest


def test_a_wrong_kernel_under_a_good_signature_is_caught_by_the_goldens(
    tmp_path: Path, built: Built, other: Built
) -> None:
    """Digests, signature, the model's own self-test and its CRC all hold; only the goldens tell."""
    wrong = impostor(built, other)
    write(tmp_path / "a.sedge", built, wrong)
    opened = Bundle.open(tmp_path / "a.sedge", TRUSTED)
    with pytest.raises(SelfTestError, match=r"a\.sedge.*golden vectors .* come out different"):
        opened.model()
    # Negative control: with goldens made by the wrong kernel nothing is left that could tell.
    write(tmp_path / "b.sedge", built, wrong, reference.run(other.graph, inputs(built.graph)))
    Bundle.open(tmp_path / "b.sedge", TRUSTED).model()


def test_one_changed_golden_byte_is_caught(tmp_path: Path, built: Built) -> None:
    outputs = reference.run(built.graph, inputs(built.graph))
    outputs[3, 1] ^= 1
    write(tmp_path / "a.sedge", built, outputs=outputs)
    with pytest.raises(SelfTestError, match=r"golden vectors \[3\] of 6"):
        Bundle.open(tmp_path / "a.sedge", TRUSTED).model()


def test_a_flipped_weight_byte_in_the_shared_object_is_caught(tmp_path: Path, built: Built) -> None:
    """Every copy of the dense weights is damaged; digests and signature are made anew, so they hold."""
    weights = built.graph.ops[-1].weight.tobytes()  # type: ignore[union-attr]
    assert weights in built.shared
    broken = bytearray(weights)
    broken[8 + 5] ^= 0x80  # class 1, channel 5
    write(tmp_path / "a.sedge", built, built.shared.replace(weights, bytes(broken)))
    opened = Bundle.open(tmp_path / "a.sedge", TRUSTED)
    with pytest.raises(SelfTestError):
        opened.model("scalar")


def test_a_damaged_constant_that_no_golden_shows_is_caught_by_its_crc(tmp_path: Path, built: Built) -> None:
    """A weight of a channel that is always zero: no output moves, so only the constants' CRC-32C can tell."""
    weights = built.graph.ops[-1].weight.tobytes()  # type: ignore[union-attr]
    broken = bytearray(weights)
    broken[8 + 2] ^= 0x80  # class 1, channel 2
    write(tmp_path / "a.sedge", built, built.shared.replace(weights, bytes(broken)))
    opened = Bundle.open(tmp_path / "a.sedge", TRUSTED)
    with pytest.raises(SelfTestError, match="CRC"):
        opened.model("scalar")


def test_a_model_of_another_network_is_refused(tmp_path: Path, built: Built, other: Built) -> None:
    write(tmp_path / "a.sedge", built, other.shared)
    with pytest.raises(BundleError, match=r"not generated from model\.onnx"):
        Bundle.open(tmp_path / "a.sedge", TRUSTED).model()


@pytest.mark.parametrize("shared", [b"", b"not an object", b"\x7fELF" + bytes(200)])
def test_a_shared_object_that_is_none_is_refused(tmp_path: Path, built: Built, shared: bytes) -> None:
    write(tmp_path / "a.sedge", built, shared)
    with pytest.raises(KernelError):
        Bundle.open(tmp_path / "a.sedge", TRUSTED).model()


def test_verify_command_runs_the_goldens(
    tmp_path: Path, built: Built, other: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIBSEDGE_HOME", str(tmp_path))
    (tmp_path / "trusted.keys").write_text(TRUSTED[0].line())
    file = tmp_path / "a.sedge"
    write(file, built)
    good = CliRunner().invoke(main, ["verify", str(file)])
    assert good.exit_code == 0, good.output
    assert "6 of 6 bit for bit" in good.output
    assert "with scalar" in good.output
    write(file, built, impostor(built, other))
    bad = CliRunner().invoke(main, ["verify", str(file)])
    assert bad.exit_code == 2
    assert "come out different" in bad.output
    assert "accepted" not in bad.output
