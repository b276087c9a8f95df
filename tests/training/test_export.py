"""`libsedge export`: from a run to a bundle that this machine accepts, or nothing at all.

The run is real but tiny: net "s", a few epochs on synthetic lines (not LTE plasma, not measured spectra).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from libsedge.bundle import Bundle, target
from libsedge.classifier import Classifier
from libsedge.cli import main
from libsedge.errors import ConfigError, DatasetError, ModelError, RunError, SelfTestError
from libsedge.preprocess import Preprocessor
from libsedge_native import ir, onnx_float, onnx_import, reference, verify
from libsedge_native.generate import GeneratedModel, generate
from libsedge_native.toolchain import HOST_TARGET, compile_shared
from libsedge_training import export, int8_export

from .line_run import CLASSES, lines_set, nothing_written

pytestmark = [
    pytest.mark.skipif(
        target() != HOST_TARGET, reason=f"models are compiled for {HOST_TARGET} only, this is {target()}"
    ),
    pytest.mark.usefixtures("signing_home"),
]


@pytest.fixture(scope="module")
def exported(trained: Path, keys_folder: Path) -> tuple[Path, str]:
    """(bundle, what the command printed)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIBSEDGE_HOME", str(keys_folder))
        out = trained / "model.sedge"
        result = CliRunner().invoke(
            main, ["export", str(trained / "run"), "-o", str(out), "--name", "lines", "--counter", "5"]
        )
    assert result.exit_code == 0, result.output
    return out, result.output


def test_the_bundle_is_accepted_and_equals_the_reference(exported: tuple[Path, str]) -> None:
    bundle = Bundle.open(exported[0])
    model = bundle.model()
    data = lines_set(seed=9)
    x = Preprocessor(bundle.preprocess, data.wavelength, data.mask).int8(data.counts[::8], data.dark)
    graph = onnx_import.from_onnx(bundle.members["model.onnx"])
    np.testing.assert_array_equal(model.run_batch(x), reference.run(graph, x))
    assert bundle.labels == list(CLASSES)
    assert (bundle.manifest["name"], bundle.manifest["counter"]) == ("lines", 5)
    assert bundle.preprocess.scale == graph.input.quant.scale
    assert bundle.preprocess.zero_point == graph.input.quant.zero_point == -128
    assert bundle.calibration["logit_scale"] == graph.output.quant.scale
    assert bundle.calibration["logit_zero_point"] == graph.output.quant.zero_point
    assert len(bundle.goldens[0]) == 8


def test_the_bundle_says_where_it_comes_from(exported: tuple[Path, str], trained: Path) -> None:
    bundle = Bundle.open(exported[0])
    run = json.loads((trained / "run" / "run.json").read_text())
    training = bundle.manifest["training"]
    assert training["simulated"] is True
    assert training["data_sha256"] == run["data"]["digest"]
    assert training["config"]["seed"] == 0
    assert bundle.manifest["instrument"] == "line generator"
    card = bundle.members["MODEL_CARD.md"].decode()
    evaluation = json.loads((trained / "run" / "evaluation.json").read_text())
    for text in (
        "# lines 0.1.0",
        "SIMULATED spectra: synthetic lines",
        "taken at 2 to 5 m",
        f"Accuracy {evaluation['accuracy']:.3f}",
        "Test figures (simulated spectra)",
        "nothing here says how it does on a real instrument",
    ):
        assert text in card
    for row in evaluation["per_distance"]:
        assert f"| {row['distance_m']:g} | {row['n']} | {row['specimens']} | {row['accuracy']:.3f} |" in card
    assert str(trained) not in bundle.members["manifest.json"].decode() + card


def test_the_steps_are_printed_with_their_figures(exported: tuple[Path, str]) -> None:
    lines = exported[1].splitlines()
    steps = [line.split()[0] for line in lines]
    for step in ("run", "spectra", "quantise", "compile", "kernel", "oracle", "calibrate", "bundle"):
        assert step in steps
    assert "top-1 agreement" in exported[1]
    assert "beside the NumPy reference: 0 of " in exported[1]
    assert "no op runs in float" in exported[1]
    assert "arena" in exported[1]
    assert f"{exported[0].stat().st_size:,} bytes" in exported[1]


def test_same_run_same_bundle(exported: tuple[Path, str], trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "elsewhere")
    again = export.export_run(
        tmp_path / "elsewhere" / "run", tmp_path / "again.sedge", name="lines", counter=5
    )
    assert again.digest == Bundle.open(exported[0]).digest


def test_a_float32_bundle_is_proved_and_calibrated_as_an_int8_one(
    exported: tuple[Path, str], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        export, "compile_shared", lambda generated, name: compile_shared(generated, name, ("-O1",))
    )
    out = tmp_path / "f.sedge"
    result = CliRunner().invoke(
        main, ["export", str(trained / "run"), "-o", str(out), "--name", "lines", "--precision", "float32"]
    )
    assert result.exit_code == 0, result.output
    for isa, runnable in Bundle.open(out).load().isas:
        assert (f"kernel     {isa}: at most " in result.output) == runnable
    bundle, int8 = Bundle.open(out), Bundle.open(exported[0])
    assert bundle.precision == "float32"
    assert bundle.calibration.keys() == int8.calibration.keys() - {"logit_scale", "logit_zero_point"}
    assert bundle.calibration["min_contrast"] == int8.calibration["min_contrast"]
    card = bundle.members["MODEL_CARD.md"].decode()
    assert "Validation figures of the float32 model" in card
    assert "None: the network computes in float32" in card
    data = lines_set(seed=9)
    decided = {
        precision: [
            d.label
            for d in Classifier(opened).bind(data.wavelength, data.mask).classify_many(data.counts, data.dark)
        ]
        for precision, opened in (("float32", bundle), ("int8", int8))
    }
    same = np.mean([a == b for a, b in zip(decided["float32"], decided["int8"], strict=True)])
    assert same > 0.8  # another arithmetic, the same net
    assert decided["float32"].count(None) == decided["int8"].count(None)


def test_a_float32_kernel_beyond_the_tolerance_is_never_written(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: a compiler that makes the last layer's weights 1e-4 larger, and goldens that agree with it."""

    def miscompile(generated: GeneratedModel, name: str) -> bytes:
        graph = onnx_float.read_float_onnx(generated.onnx).graph
        last = graph.ops[-1]
        assert isinstance(last, ir.Dense)
        ops = (*graph.ops[:-1], replace(last, weight=last.weight * np.float32(1.0001)))
        wrong = ir.Graph(graph.name, graph.input, ops)
        return compile_shared(generate(wrong, isas=(), precision="float32"), name, ("-O1",))

    monkeypatch.setattr(export, "compile_shared", miscompile)
    with pytest.raises(SelfTestError, match=r"kernel \(scalar\): is .* of the largest logit from the ref"):
        export.export_run(trained / "run", tmp_path / "a.sedge", precision="float32")
    nothing_written(tmp_path)


def test_whole_float32_layers_are_not_streamed(trained: Path, tmp_path: Path) -> None:
    arguments = ["export", str(trained / "run"), "-o", str(tmp_path / "a.sedge"), "--precision", "float32"]
    result = CliRunner().invoke(main, [*arguments, "--optimise", "size"])
    assert result.exit_code == 2
    assert "--optimise = 'size': is for int8 kernels only" in result.output
    nothing_written(tmp_path)


@pytest.fixture
def compiled_before(exported: tuple[Path, str], signing_home: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exported bundle's compiled model for the same sources, to save the compiler's seconds."""
    bundle = Bundle.open(exported[0])

    def known(generated: GeneratedModel, name: str) -> bytes:
        assert generated.onnx == bundle.members["model.onnx"]
        return bundle.kernel(name)

    monkeypatch.setattr(export, "compile_shared", known)


@pytest.mark.usefixtures("compiled_before")
def test_a_run_that_was_not_evaluated_says_so_and_a_promise_is_recorded(
    trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained / "run", tmp_path / "run")
    (tmp_path / "run" / "evaluation.json").unlink()
    bundle = export.export_run(
        tmp_path / "run",
        tmp_path / "a.sedge",
        data=trained / "set.h5",
        name="lines",
        goldens=2,
        max_error=0.9,
    )
    assert bundle.calibration["max_error"] == 0.9
    assert "so that at most 0.9 of the accepted" in bundle.members["MODEL_CARD.md"].decode()
    assert "Not measured: the run had no evaluation.json" in bundle.members["MODEL_CARD.md"].decode()
    assert len(bundle.goldens[0]) == 2


def test_without_a_key_nothing_is_done(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("LIBSEDGE_HOME", str(tmp_path_factory.mktemp("empty")))
    with pytest.raises(ConfigError, match="run `libsedge keygen`"):
        export.export_run(trained / "run", tmp_path / "a.sedge")
    result = CliRunner().invoke(main, ["export", str(trained / "run"), "-o", str(tmp_path / "a.sedge")])
    assert result.exit_code == 2
    assert "libsedge keygen" in result.output
    nothing_written(tmp_path)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"name": "No Spaces"}, "--name"),
        ({"version": "1"}, "--version"),
        ({"counter": 0}, "--counter"),
        ({"goldens": 0}, "--goldens"),
        ({"max_error": 1.0}, "--max-error"),
    ],
)
def test_wrong_options_are_refused_first(trained: Path, tmp_path: Path, options: dict, field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        export.export_run(trained / "run", tmp_path / "a.sedge", **options)
    nothing_written(tmp_path)


def test_a_promise_that_the_specimens_cannot_prove_is_refused_early(trained: Path, tmp_path: Path) -> None:
    steps: list[str] = []
    with pytest.raises(DatasetError, match=r"--max-error = 0\.05.*3 validation specimens"):
        export.export_run(
            trained / "run", tmp_path / "a.sedge", max_error=0.05, say=lambda step, text: steps.append(step)
        )
    assert steps == ["run"]
    nothing_written(tmp_path)


def test_a_missing_output_folder_is_refused_first(trained: Path, tmp_path: Path) -> None:
    steps: list[str] = []
    with pytest.raises(ConfigError, match="folder does not exist"):
        export.export_run(
            trained / "run", tmp_path / "none" / "a.sedge", say=lambda step, text: steps.append(step)
        )
    assert steps == []


def test_other_spectra_or_no_run_are_refused(trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.h5"
    lines_set(seed=1).save(other)
    with pytest.raises(RunError, match="other spectra"):
        export.export_run(trained / "run", tmp_path / "a.sedge", data=other)
    with pytest.raises(RunError, match="no training run here"):
        export.export_run(tmp_path, tmp_path / "a.sedge")
    assert not (tmp_path / "a.sedge").exists()


def test_a_kernel_that_differs_is_never_written(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: a compiler that gets one bias wrong."""

    def miscompile(generated: GeneratedModel, name: str) -> bytes:
        assert generated.name == "run"  # the default: the run folder's
        graph = onnx_import.from_onnx(generated.onnx)
        dense = graph.ops[-1]
        assert isinstance(dense, ir.Dense)
        wrong = dense.bias.copy()
        wrong[0] += round(
            3 * dense.quant.scale / (graph.tensors[-2].quant.scale * float(dense.weight_scale[0]))
        )
        ops = (*graph.ops[:-1], replace(dense, bias=wrong))
        return compile_shared(generate(ir.Graph(graph.name, graph.input, ops)), name)

    monkeypatch.setattr(export, "compile_shared", miscompile)
    with pytest.raises(SelfTestError, match="differs from the reference"):
        export.export_run(trained / "run", tmp_path / "a.sedge")
    nothing_written(tmp_path)


@pytest.mark.usefixtures("compiled_before")
def test_an_oracle_that_disagrees_stops_the_export(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = int8_export.run_onnxruntime
    monkeypatch.setattr(
        int8_export,
        "run_onnxruntime",
        lambda graph, x: np.clip(honest(graph, x).astype(int) + 2, -128, 127).astype(np.int8),
    )
    with pytest.raises(ModelError, match="ONNX Runtime disagrees"):
        export.export_run(trained / "run", tmp_path / "a.sedge", name="lines")
    nothing_written(tmp_path)


def test_an_oracle_in_float_stops_the_export(
    trained: Path, tmp_path: Path, exported: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: left to its defaults, ONNX Runtime runs the first convolution in float on x86."""
    bundle = Bundle.open(exported[0])
    graph = onnx_import.from_onnx(bundle.members["model.onnx"])
    honest = verify.ort_session
    monkeypatch.setattr(
        verify, "ort_session", lambda data, **options: honest(data, **(options | {"int8": False}))
    )
    real = bundle.goldens[0].copy()
    with pytest.raises(ModelError, match=r"run in float"):
        int8_export.prove_kernel(graph, bundle.kernel(target()), real, lambda step, text: None)
    assert "Conv" in verify.verify_ort(graph, real).float_ops
