"""The host's commands, joined to the `libsedge` command line through the entry point `libsedge.commands`."""

from __future__ import annotations

_HERE = "libsedge_training.commands"

#: command name -> ("module:attribute" of a click command, one line of help); see `libsedge.cli`
commands: dict[str, tuple[str, str]] = {
    "simulate": (
        f"{_HERE}.simulate:simulate",
        "Simulate LIBS spectra of reference materials at several distances.",
    ),
    "import": (f"{_HERE}.import_:import_", "Bring files and a table of labels into one set of spectra."),
    "train": (f"{_HERE}.train:train", "Train a 1-D CNN with a weight for every training spectrum."),
    "weights": (f"{_HERE}.weights:weights", "List weighting strategies, or show the weights that one gives."),
    "evaluate": (f"{_HERE}.evaluate:evaluate", "Measure a trained network, or the int8 bundle made from it."),
    "study": (
        f"{_HERE}.study:study",
        "Compare weighting strategies: seeds, folds by specimen, controls, intervals.",
    ),
    "search": (f"{_HERE}.search:search", "Tune a weighting strategy on the validation specimens."),
    "reclassify": (
        f"{_HERE}.reclassify:reclassify",
        "Classify whole archives of spectra into Parquet, on one machine or many.",
    ),
    "export": (f"{_HERE}.export:export", "Quantise, generate C++, verify and sign: a run becomes a bundle."),
    "float-onnx": (f"{_HERE}.float_onnx:float_onnx", "Write a run's net as float32 ONNX, not quantised."),
    "layer-goldens": (
        "libsedge_native.layer_goldens:command",
        "Write what every layer should put out, for compare-target.",
    ),
    "build-runner": (
        "libsedge_native.runner:build_runner",
        "Compile a bundle into one program that needs no Python.",
    ),
    "sources": (
        "libsedge_native.commands.sources:sources",
        "Write a model's C++ as one folder, for any compiler.",
    ),
    "selftest": (
        "libsedge_native.commands.selftest:selftest",
        "Run a bundle's goldens on another machine, emulated.",
    ),
    "demo": (f"{_HERE}.demo:demo", "The whole path on a small simulated set, with a report at the end."),
}
