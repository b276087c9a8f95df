"""A float32 bundle: held to its tolerance and to no more, and never taken for an int8 one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from libsedge import archive, manifest
from libsedge.bundle import TOLERANCE, Bundle, off, target
from libsedge.classifier import Classifier
from libsedge.cli import main
from libsedge.errors import BundleError, SelfTestError, SignatureError, UnknownIsaError
from libsedge.preprocess import PreprocessConfig, Preprocessor, Segment
from libsedge_native import float_reference
from libsedge_native.bundle_writer import BundleInfo, json_bytes, write_bundle
from libsedge_native.generate import GeneratedModel, generate
from libsedge_native.ir import REAL, Conv1d, Dense, Flatten, GlobalAveragePool, Graph, MaxPool1d, Tensor
from libsedge_native.toolchain import HOST_TARGET, compile_shared
from small_bundle import KEY, TRUSTED, forge, relist

pytestmark = pytest.mark.skipif(
    target() != HOST_TARGET, reason=f"models are compiled for {HOST_TARGET} only, this is {target()}"
)
POINTS, CLASSES = 96, 3
CALIBRATION = {
    "temperature": 1.5,
    "min_confidence": 0.5,
    "min_contrast": 0.0,
    "max_saturated_fraction": 0.01,
}


def network(factor: float = 1.0) -> Graph:
    """Its second convolution takes a Toom-Cook scheme; factor : of the weights of one class."""
    rng = np.random.default_rng(5)

    def parameters(*shape: int) -> tuple[Any, Any, Any]:
        weight = (rng.standard_normal(shape) / 4).astype(np.float32)
        return weight, rng.standard_normal(shape[0]).astype(np.float32), np.ones(shape[0], np.float32)

    first, second, dense = parameters(8, 1, 5), parameters(16, 8, 7), parameters(CLASSES, 16)
    dense[0][1] *= np.float32(factor)
    ops = (
        *(Conv1d("conv1", *first, REAL, relu=True), MaxPool1d("pool1", 2, 2)),
        *(Conv1d("conv2", *second, REAL, relu=True), GlobalAveragePool("average", REAL), Flatten("flat")),
        Dense("fc", *dense, REAL),
    )
    return Graph("small", Tensor(1, POINTS, REAL), ops)


@cache
def built(factor: float = 1.0) -> tuple[GeneratedModel, bytes]:
    generated = generate(network(factor), isas=("avx512", "avx2"), precision="float32")
    return generated, compile_shared(generated, extra_flags=("-O1",))


def inputs() -> np.ndarray:
    return np.random.default_rng(1).random((6, POINTS), np.float32)


def outputs(graph: Graph) -> np.ndarray:
    return float_reference.run(graph, inputs()).astype(np.float32)


def write(out: Path, **changes: Any) -> Bundle:
    """A signed float32 bundle with right digests, whatever else in it is wrong."""
    generated, shared = built()
    info = BundleInfo("small", "1.0.0", 1, "bench", generated.arena_bytes, ("x",), {"simulated": True})
    parts: dict[str, Any] = {
        "onnx": generated.onnx,
        "sources": {name: generated.files[name] for name in ("model.cpp", "model.h")},
        "kernels": {HOST_TARGET: shared},
        "preprocess": PreprocessConfig((Segment(300.0, 396.0, POINTS),)),
        "labels": ["a", "b", "c"],
        "calibration": CALIBRATION,
        "goldens": (inputs(), outputs(network())),
        "model_card": "# small\n",
    }
    return write_bundle(out, info=info, private=KEY, **(parts | changes))


@pytest.fixture
def good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIBSEDGE_HOME", str(tmp_path))
    (tmp_path / "trusted.keys").write_text(TRUSTED[0].line())
    write(tmp_path / "good.sedge")
    return tmp_path / "good.sedge"


def test_it_runs_on_every_instruction_set_of_this_machine(good: Path) -> None:
    opened = Bundle.open(good)
    assert opened.precision == opened.manifest["training"]["precision"] == "float32"
    x = np.random.default_rng(2).random((20, POINTS), np.float32)
    wanted = float_reference.run(network(), x).astype(np.float32)
    for isa, runnable in opened.model().isas:
        if runnable:
            assert not off(opened.model(isa).run_batch(x), wanted).any()
    with pytest.raises(UnknownIsaError):
        opened.model("sse9")


def test_a_decision_is_that_of_the_network(good: Path) -> None:
    opened = Bundle.open(good)
    counts = np.random.default_rng(3).integers(100, 4000, (9, POINTS)).astype(np.uint16)
    x = Preprocessor(opened.preprocess, opened.preprocess.grid_nm).float(counts)
    logits = float_reference.run(network(), x) / CALIBRATION["temperature"]
    wanted = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    decisions = Classifier(opened).bind().classify_many(counts)
    np.testing.assert_allclose([d.probabilities for d in decisions], wanted, rtol=1e-4)
    assert [d.index for d in decisions] == wanted.argmax(axis=1).tolist()
    assert [d.accepted for d in decisions] == (wanted.max(axis=1) >= 0.5).tolist()
    assert Classifier(opened).bind().classify_many(counts[:0]) == []


@pytest.mark.parametrize(("share", "held"), [(0.2, True), (3.0, False), (-3.0, False)])
def test_the_tolerance_is_what_it_says(tmp_path: Path, share: float, held: bool) -> None:
    """One golden logit moved by a share of the tolerance; the goldens in the model itself are not moved."""
    moved = outputs(network())
    moved[2, 1] += np.float32(share * TOLERANCE * np.abs(moved[2]).max())
    opened = write(tmp_path / "a.sedge", goldens=(inputs(), moved))
    if held:
        opened.model()
    else:
        with pytest.raises(SelfTestError, match=r"golden vectors \[2\] of 6"):
            opened.model()


def test_a_logit_that_is_not_a_number_is_off() -> None:
    wanted = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    found = np.array([[1.0, np.nan], [3.0, 4.0]], np.float32)
    assert off(found, wanted).tolist() == [[False, True], [False, False]]
    assert not off(np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float32)).any()


def test_a_wrong_kernel_under_a_good_signature_is_caught_by_the_goldens(tmp_path: Path) -> None:
    """The weights of one class differ by 2 %; its digest, its own self-test and its CRC hold."""
    (generated, _), (other, shared) = built(), built(1.02)
    impostor = shared.replace(other.digest.encode(), generated.digest.encode())
    with pytest.raises(SelfTestError, match="come out different"):
        write(tmp_path / "a.sedge", kernels={HOST_TARGET: impostor}).model()
    # negative control: with goldens of the wrong network nothing is left that could tell
    wrong = (inputs(), outputs(network(1.02)))
    write(tmp_path / "b.sedge", kernels={HOST_TARGET: impostor}, goldens=wrong).model()


def test_a_flipped_bit_of_a_weight_is_caught(tmp_path: Path) -> None:
    weights = network().ops[-1].weight.tobytes()  # type: ignore[union-attr]
    _, shared = built()
    assert weights in shared
    broken = bytearray(weights)
    broken[4] ^= 1  # the last bit of a mantissa: no logit shows it
    with pytest.raises(SelfTestError, match="CRC"):
        write(tmp_path / "a.sedge", kernels={HOST_TARGET: shared.replace(weights, bytes(broken))}).model(
            "scalar"
        )


def test_changed_goldens_without_a_new_signature_are_refused(good: Path) -> None:
    members = archive.unpack(good.read_bytes())
    members["goldens/outputs.npy"] = archive.pack_array(outputs(network()) * np.float32(2))
    good.write_bytes(archive.pack(members))
    with pytest.raises(SignatureError, match=r"goldens/outputs\.npy"):
        Bundle.open(good)


def _members(change: Callable[[dict[str, bytes]], None]) -> Callable[[dict, dict], None]:
    def changed(members: dict, table: dict) -> None:
        change(members)
        relist(members, table)

    return changed


def _calibrate(members: dict[str, bytes]) -> None:
    members["calibration.json"] = json_bytes({**CALIBRATION, "logit_scale": 0.1, "logit_zero_point": 0})


def _quantise(members: dict[str, bytes]) -> None:
    config = json.loads(members["preprocess.json"])
    full = replace(PreprocessConfig.from_json(config), scale=0.1, zero_point=0)
    members["preprocess.json"] = json_bytes(full.to_json())


def _golden(array: np.ndarray) -> Callable[[dict[str, bytes]], None]:
    return lambda members: members.update({"goldens/outputs.npy": archive.pack_array(array)})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda m, t: t.update(schema_version=1), "training.precision = 'float32': is int8"),
        (lambda m, t: t["training"].pop("precision"), "training.precision = 'int8': is float32"),
        (lambda m, t: t["training"].update(precision="float16"), "is float32 in schema_version 2"),
        (_members(_calibrate), "calibration.json"),
        (_members(_quantise), "quantises the input of a float32 network"),
        (_members(_golden(np.zeros((6, CLASSES), np.int8))), "canonical .npy of float32"),
        (_members(_golden(np.full((6, CLASSES), np.inf, np.float32))), "not finite"),
    ],
)
def test_what_does_not_hold_together_is_refused_though_signed(
    good: Path, change: Callable[[dict, dict], None], match: str
) -> None:
    forge(good, KEY, change)
    with pytest.raises(BundleError, match=match):
        Bundle.open(good)


def test_an_older_runtime_refuses_the_version_by_name(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys of both schemas are the same, so an older runtime meets the version first."""
    monkeypatch.setattr(manifest, "SCHEMAS", {1: "int8"})
    with pytest.raises(BundleError, match="schema_version = 2: this runtime reads 1"):
        Bundle.open(good)


def test_two_precisions_in_one_bundle_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"goldens/outputs\.npy"):
        write(tmp_path / "a.sedge", goldens=(inputs(), outputs(network()).astype(np.int8)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("layer-goldens", "-o", "out"),
        ("inspect", "--memory", "--optimise", "size"),
    ],
)
def test_what_works_on_int8_alone_says_so(good: Path, arguments: tuple[str, ...]) -> None:
    name, *options = arguments
    result = CliRunner().invoke(main, [name, str(good), *options])
    assert result.exit_code == 2, result.output
    assert "is float32, and" in result.output
    assert "takes int8 networks only" in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("verify",), f"6 of 6 within {TOLERANCE:g} of the largest logit"),
        (("inspect",), f"float32 [{POINTS}]"),
        (("inspect", "--memory"), "scalar: "),
        (("bench", "--count", "10", "--layers"), "every layer alone"),
        (("selftest",), f"6 of 6 goldens within {TOLERANCE:g} of the largest logit with "),
        (("compare-target",), f"cells within {TOLERANCE:g} of the largest logit"),
    ],
)
def test_the_commands_take_it(good: Path, arguments: tuple[str, ...], said: str) -> None:
    name, *options = arguments
    result = CliRunner().invoke(main, [name, str(good), *options])
    assert result.exit_code == 0, result.output
    assert said in result.output


def test_compare_target_sees_a_wrong_kernel(good: Path) -> None:
    """Negative control of the two comparisons: a kernel that is 2 % off in one class."""
    (generated, _), (other, shared) = built(), built(1.02)
    impostor = shared.replace(other.digest.encode(), generated.digest.encode())
    write(good, kernels={HOST_TARGET: impostor})
    result = CliRunner().invoke(main, ["compare-target", str(good), "--json"])
    assert result.exit_code == 1
    rows = {row["what"]: row["different"] for row in json.loads(result.output)["comparisons"]}
    assert rows["goldens, scalar"] > 0
    assert not any(count for what, count in rows.items() if "against" in what)


def test_its_sources_are_float32_without_being_asked(good: Path, tmp_path: Path) -> None:
    made = CliRunner().invoke(main, ["sources", str(good), "-o", str(tmp_path / "drop")])
    assert made.exit_code == 0, made.output
    assert "sedge_net_f32" in (tmp_path / "drop" / "model.h").read_text()
    refused = CliRunner().invoke(
        main, ["sources", str(good), "-o", str(tmp_path / "two"), "--precision", "int8"]
    )
    assert refused.exit_code == 2
    assert "--precision = 'int8'" in refused.output
    assert "is float32" in refused.output
