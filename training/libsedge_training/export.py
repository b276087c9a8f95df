"""From a finished run to a signed bundle: quantise, generate, compile, prove, calibrate, sign.

Nothing is written unless the compiled kernel is what the reference says: on every cell compared the same (int8,
`int8_export.py`) or within the tolerance (float32, `float_export.py`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from libsedge import __version__, keys
from libsedge.bundle import Bundle, target
from libsedge.errors import ConfigError, ModelError, RunError
from libsedge.manifest import NAME, Precision, parse_version
from libsedge.preprocess import PreprocessConfig, Preprocessor
from libsedge_native import ir
from libsedge_native.bundle_writer import BundleInfo, write_bundle
from libsedge_native.generate import GeneratedModel, generate, read_model
from libsedge_native.lowered import Optimise
from libsedge_native.onnx_export import to_onnx
from libsedge_native.targets import BARE, compiler, isas_of, machine_of, target_of
from libsedge_native.toolchain import compile_object, compile_shared

from . import promise
from .calibrate import MIN_COVERAGE, Calibration, Figures, calibrate
from .evaluate import run_data, split_part
from .float_export import Float32
from .int8_export import Int8, Say
from .model import fold
from .model_card import by_distance, model_card
from .prepare import preprocessed
from .run_folder import load_run
from .spectra import SpectraSet

#: most spectra used to choose ranges and to choose between the rules; the kernel meets all validation spectra
MOST_SPECTRA = 1024
#: white-noise frames that stand in for dark frames when min_contrast is chosen
NOISE_FRAMES = 256


def spread(data: SpectraSet, most: int) -> SpectraSet:
    """At most `most` spectra of a set, evenly spaced over its rows."""
    return data.select(np.linspace(0, len(data) - 1, min(most, len(data))).astype(np.int64))


def describe(graph: ir.Graph) -> tuple[str, ...]:
    """One line a layer: op, shapes, and what it does besides."""
    lines = []
    for op, x, y in zip(graph.ops, graph.tensors, graph.tensors[1:], strict=False):
        text = f"{op.name}: {type(op).__name__} {x.channels}x{x.length} -> {y.channels}x{y.length}"
        if isinstance(op, ir.Conv1d):
            text += f", taps {op.weight.shape[2]}, stride {op.stride}, pads {op.pads[0]}+{op.pads[1]}"
            text += ", ReLU" if op.relu else ""
        if isinstance(op, (ir.Conv1d, ir.Dense)):
            text += f", {op.weight.size} weights"
        lines.append(text)
    return tuple(lines)


def identifier(name: str) -> str:
    """A C identifier for a bundle's name."""
    text = re.sub(r"[^0-9A-Za-z_]", "_", name)
    return text if text[:1].isalpha() else f"m_{text}"


def noise_contrast(preprocessor: Preprocessor) -> np.ndarray:
    """Contrasts of white-noise frames, like dark frames or missed shots less their dark."""
    frames = np.random.default_rng(0).normal(0.0, 10.0, (NOISE_FRAMES, preprocessor.channels))
    reports = preprocessor.report(frames.astype(np.float32))
    assert isinstance(reports, list)
    return np.array([report.contrast for report in reports])


def _check_options(name: str, version: str, counter: int, goldens: int, max_error: float | None) -> None:
    """What the manifest would refuse is refused before any work is done."""
    if NAME.fullmatch(name) is None:
        raise ConfigError("must be 1-64 of a-z 0-9 _ -, first a letter or digit", field="--name", value=name)
    try:
        parse_version(version)
    except ValueError as why:
        raise ConfigError(str(why), field="--version") from why
    for field, value in (("--counter", counter), ("--goldens", goldens)):
        if value < 1:
            raise ConfigError("must be at least 1", field=field, value=value)
    if max_error is not None and not 0 < max_error < 1:
        raise ConfigError("must be between 0 and 1", field="--max-error", value=max_error)


def all_targets(named: Sequence[str]) -> tuple[str, ...]:
    """This machine's target, then the named ones, each once; ToolchainError where one cannot be compiled for."""
    names = tuple(dict.fromkeys((target(), *named)))
    for name in names:
        compiler(machine_of(name))
    return names


def source_folder(
    onnx: bytes, goldens: np.ndarray, name: str, optimise: Optimise, precision: Precision, say: Say
) -> dict[str, str]:
    """The files of `libsedge sources --target NAME`, compiled once; ToolchainError where they do not."""
    generated = generate(onnx, goldens, BARE[name].kernels(precision), optimise, precision)
    compiled = compile_object(generated, BARE[name])
    say(
        "compile",
        f"{name} ({', '.join(generated.isas)}): {len(generated.files)} sources, model.o {len(compiled):,} bytes",
    )
    return dict(generated.files)


def _build(
    graph: ir.Graph, precision: Precision, targets: Sequence[str], optimise: Optimise, say: Say
) -> tuple[GeneratedModel, dict[str, bytes]]:
    onnx = to_onnx(graph)
    if read_model(onnx, precision).graph.digest != graph.digest:
        raise ModelError("reads back as another graph", field="model.onnx")
    generated = generate(onnx, None, isas_of(targets, precision), optimise, precision)
    kernels = {}
    for name in targets:
        kernels[name] = compile_shared(generated, name)
        isas = ", ".join((*target_of(name).kernels(precision), "scalar"))
        say("compile", f"{name} ({isas}); arena {generated.arena_bytes:,} bytes")
    return generated, kernels


def _calibrate(
    held: SpectraSet,
    target_class: np.ndarray,
    logits: np.ndarray,
    config: PreprocessConfig,
    min_coverage: float,
    max_error: float | None,
    say: Say,
) -> tuple[Calibration, Figures]:
    preprocessor = Preprocessor(config, held.wavelength, held.mask)
    reports = preprocessor.report(held.counts, held.saturation, held.dark)
    assert isinstance(reports, list)
    found, figures = calibrate(
        logits,
        target_class,
        np.array([report.contrast for report in reports]),
        np.array([report.saturated for report in reports]) / max(int(held.mask.sum()), 1),
        noise_contrast(preprocessor),
        min_coverage,
        max_error,
        held.specimen,
    )
    say(
        "calibrate",
        f"temperature {found.temperature:g}, min_confidence {found.min_confidence:g}, "
        f"min_contrast {found.min_contrast:g}; validation accuracy {figures.accuracy:.4f}, "
        f"{figures.accepted_accuracy:.4f} of the {figures.coverage:.1%} accepted",
    )
    if max_error is not None:
        say(
            "promise",
            f"at most {max_error:.2%} of the accepted spectra of a new specimen are wrong, with {1 - promise.RISK:.0%} "
            f"probability over the choice of the {len(held.specimens)} validation specimens",
        )
    return found, figures


def _provenance(run: Mapping[str, Any]) -> dict[str, Any]:
    data = run["data"]
    return {
        "simulated": bool(run["simulated"]),
        "data_sha256": data["digest"],
        "data_source": data["source"],
        "spectra": run["spectra"],
        "specimens": {part: len(names) for part, names in run["specimens"].items()},
        "config": run["config"],
        "epochs_run": run["epochs_run"],
        "versions": run["versions"],
        "exported_by": f"libsedge {__version__}",
    }


def _evaluation(run_dir: Path) -> dict[str, Any] | None:
    """RUN/evaluation.json, None where the run was not evaluated; RunError where it is damaged."""
    file = run_dir / "evaluation.json"
    try:
        found = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as why:
        raise RunError(f"cannot be read: {why}", file=file) from why
    if not isinstance(found, dict) or found.get("format") != "libsedge-evaluation":
        raise RunError("is not an evaluation", file=file, field="format")
    return found


def export_run(
    run_dir: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    name: str | None = None,
    version: str = "0.1.0",
    counter: int = 1,
    key: str | os.PathLike[str] | None = None,
    goldens: int = 8,
    targets: Sequence[str] = (),
    optimise: Optimise = "speed",
    precision: Precision = "int8",
    max_error: float | None = None,
    say: Say = lambda step, text: None,
) -> Bundle:
    """Export the run to the bundle `out`; `say(step, figures)` is called as each step ends.

    data : the run's spectra, None = where run.json says. name : None = the run folder's. key : None =
    LIBSEDGE_HOME/signing.key. goldens : training spectra stored with the outputs every board must reproduce.
    targets : machines (`targets.TARGETS`) that the bundle runs on besides this one, and of `targets.BARE`, for which it
    carries a folder of sources. optimise : "speed", or "size"
    for the smallest arena; recorded as training.optimise. precision : "float32" quantises nothing; its layers are
    whole. max_error : an error of the accepted spectra to promise
    (`promise.py`); None = the rule of `calibrate.py`.

    Raises ConfigError (options, keys), RunError or DatasetError (run, data), ToolchainError, ModelError or
    SelfTestError (the kernel is not the network), BundleError. `out` is then as it was before.
    """
    folder = Path(run_dir)
    name = folder.resolve().name.lower() if name is None else name
    _check_options(name, version, counter, goldens, max_error)
    if not Path(out).resolve().parent.is_dir():
        raise ConfigError("its folder does not exist", field="--output", value=os.fspath(out))
    named = all_targets(targets)
    names = tuple(name for name in named if name not in BARE)
    private = keys.load_private(key)
    evaluation = _evaluation(folder)
    net, run = load_run(folder)
    say("run", f"{run['net']['name']}, {len(run['classes'])} classes, {run['epochs_run']} epochs")

    spectra = run_data(folder, run, None if data is None else os.fspath(data))
    config = PreprocessConfig.from_json(run["preprocess"])
    train = spread(split_part(spectra, run, "train"), MOST_SPECTRA)
    held = split_part(spectra, run, "validation")
    if max_error is not None:
        promise.check_number(len(held.specimens), max_error)
    train_x, _ = preprocessed(train, config)
    held_x, _ = preprocessed(held, config)
    kind = "simulated" if run["simulated"] else "measured"
    say("spectra", f"{len(train)} of training, {len(held)} of validation ({kind})")

    made: Int8 | Float32
    if precision == "int8":
        trained = None if net.rounding is None else net.rounding.quants
        made = Int8(fold(net), train_x, held_x, identifier(name), say, trained)
    else:
        made = Float32(fold(net), net.channels, identifier(name))
    graph = made.graph
    generated, kernels = _build(graph, precision, names, optimise, say)
    shared = kernels[target()]
    real = made.inputs(held_x)
    made.prove(shared, real, say)
    for other in names[1:]:
        made.prove_elsewhere(other, kernels[other], real, say)

    logits = made.logits(made.kernel(shared).run_batch(real))
    numbers = {label: number for number, label in enumerate(run["classes"])}
    truth = np.array([numbers[label] for label in held.label.tolist()])
    found, figures = _calibrate(
        held, truth, logits, config, run.get("min_coverage", MIN_COVERAGE), max_error, say
    )
    right, accepted = logits.argmax(axis=1) == truth, _confidence(logits, found) >= found.min_confidence

    full = made.preprocessing(config)
    shown = spread(train, goldens)
    inputs = Preprocessor(full, shown.wavelength, shown.mask).input(shown.counts, shown.dark)
    card = model_card(
        name=name,
        version=version,
        run=run,
        validation=by_distance(held.distance_m, right, accepted),
        calibration=found,
        figures=figures,
        choice=made.choice,
        evaluation=evaluation,
    )
    bundle = write_bundle(
        out,
        info=BundleInfo(
            name=name,
            version=version,
            counter=counter,
            instrument=run["data"]["instrument"],
            arena_bytes=generated.arena_bytes,
            layers=describe(graph),
            training={**_provenance(run), "optimise": optimise},
        ),
        onnx=generated.onnx,
        sources={file: generated.files[file] for file in ("model.cpp", "model.h")},
        kernels=kernels,
        preprocess=full,
        labels=run["classes"],
        calibration=made.calibration(found),
        goldens=(inputs, made.outputs(inputs)),
        model_card=card,
        private=private,
        folders={
            name: source_folder(generated.onnx, inputs, name, optimise, precision, say)
            for name in named
            if name in BARE
        },
    )
    bundle.model()
    say("bundle", f"{out}: {bundle.size:,} bytes, {len(inputs)} goldens hold here, sha256 {bundle.digest}")
    return bundle


def _confidence(logits: np.ndarray, found: Calibration) -> np.ndarray:
    scaled = logits / found.temperature
    return 1.0 / np.exp(scaled - scaled.max(axis=1, keepdims=True)).sum(axis=1)
