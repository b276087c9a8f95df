"""The exported kernel beside ONNX Runtime on the same model: the same answers, and the times of both."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from libsedge.bundle import Bundle
from libsedge.preprocess import Preprocessor
from libsedge_native import onnx_import, reference, verify
from libsedge_native.onnx_export import to_onnx
from libsedge_native.timing import interleaved

from ..spectra import SpectraSet


def compare(
    bundle_file: Path, trusted: Path, spectra: SpectraSet, reference_rows: int = 40
) -> dict[str, Any]:
    """Run the bundle's kernel, the NumPy reference and ONNX Runtime on `spectra` and count differing logits.

    The kernel meets ONNX Runtime on every spectrum, and the (slow) reference on `reference_rows` of them, spread
    evenly. Times are medians of interleaved single calls through Python, one thread each. ONNX Runtime gets the
    model with uint8 activations, the form that it runs fastest and entirely on integers.
    """
    bundle = Bundle.open(bundle_file, trusted=trusted)
    model = bundle.model()
    inputs = Preprocessor(bundle.preprocess, spectra.wavelength, spectra.mask).int8(
        spectra.counts, dark=spectra.dark
    )
    graph = onnx_import.from_onnx(bundle.members["model.onnx"])
    session = verify.ort_session(to_onnx(graph, unsigned=True))

    ours = model.run_batch(inputs)
    theirs = verify.ort_run(session, graph, inputs, unsigned=True).reshape(ours.shape)
    rows = np.linspace(0, len(inputs) - 1, min(reference_rows, len(inputs))).astype(int)
    oracle = np.asarray(reference.run(graph, inputs[rows])).reshape(len(rows), -1)

    feed = session.get_inputs()[0].name
    as_bytes = (inputs.astype(np.int16) + 128).astype(np.uint8).reshape(len(inputs), 1, 1, -1)
    times = interleaved(
        {
            "kernel": _each(list(inputs), model.run),
            "onnxruntime": _each(list(as_bytes), lambda x: session.run(None, {feed: x})),
        }
    )
    different = int((ours[rows] != oracle).sum())
    return {
        "kernel": {
            "exact": different == 0 and oracle.size > 0,
            "isa": model.isa,
            "us": times["kernel"].median_us,
            "min_us": times["kernel"].min_us,
            "cells": int(oracle.size),
            "different": different,
        },
        "onnxruntime": {
            "version": version("onnxruntime"),
            "us": times["onnxruntime"].median_us,
            "min_us": times["onnxruntime"].min_us,
            "cells": int(theirs.size),
            "different": int((ours != theirs).sum()),
        },
        "arena": {"bytes": model.arena_bytes},
        "bundle": {"bytes": bundle_file.stat().st_size},
    }


def _each(inputs: list[Any], run: Callable[[Any], object]) -> Callable[[], object]:
    """A call that runs the next input, over and over."""
    at = 0

    def call() -> object:
        nonlocal at
        at = (at + 1) % len(inputs)
        return run(inputs[at])

    return call
