"""What the board gets in these tests: the product's network as a signed bundle, its trusted key, and spectra for it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from libsedge import keys
from libsedge.frame import Frame, encode
from libsedge.preprocess import PreprocessConfig, Segment
from libsedge_native import generate, reference, toolchain
from libsedge_native.bundle_writer import BundleInfo, write_bundle
from libsedge_native.ir import Graph
from libsedge_native.targets import isas_of

LABELS = [f"rock-{index}" for index in range(12)]
SEGMENTS = (Segment(240.0, 340.0, 1800), Segment(340.0, 540.0, 1800), Segment(540.0, 850.0, 1800))
CONFIG = PreprocessConfig(SEGMENTS, scale=0.02, zero_point=-128)
CALIBRATION = {
    "temperature": 1.5,
    "min_confidence": 0.1,
    "min_contrast": 4.0,
    "max_saturated_fraction": 0.01,
    "logit_scale": 0.5,
    "logit_zero_point": 3,
}


def compile_net(graph: Graph, targets: Sequence[str]) -> tuple[generate.GeneratedModel, dict[str, bytes]]:
    """The generated sources and a compiled model for each target."""
    generated = generate.generate(graph, isas=isas_of(targets))
    return generated, {name: toolchain.compile_shared(generated, name) for name in targets}


def write_model(
    out: Path,
    graph: Graph,
    compiled: tuple[generate.GeneratedModel, dict[str, bytes]],
    version: str = "1.0.0",
    golden_error: int = 0,
) -> Path:
    """A signed bundle; `trusted.keys` beside it is the key. golden_error : added to one logit of the goldens."""
    generated, kernels = compiled
    inputs = generate.default_goldens(graph)
    outputs = np.stack([reference.run(graph, row) for row in inputs])
    outputs[-1, 0] += golden_error
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    key = keys.TrustedKey(keys.public_bytes(private), "signing")
    (out.parent / "trusted.keys").write_text(key.line())
    write_bundle(
        out,
        info=BundleInfo(
            "board", version, int(version[0]), "none", generated.arena_bytes, (), {"simulated": True}
        ),
        onnx=generated.onnx,
        sources={name: generated.files[name] for name in ("model.cpp", "model.h")},
        kernels=kernels,
        preprocess=CONFIG,
        labels=LABELS,
        calibration=CALIBRATION,
        goldens=(inputs, outputs),
        model_card="# board\n\nThe product's network with random weights; for tests.\n",
        private=private,
    )
    return out


def write_spectra(file: Path, count: int = 8, seed: int = 0) -> Path:
    """Made-up spectra on the model's grid: lines on a noisy background, uint16."""
    rng = np.random.default_rng(seed)
    axis = CONFIG.grid_nm
    counts = rng.normal(500.0, 10.0, (count, len(axis)))
    for row in counts:
        for centre, height in zip(rng.uniform(245, 845, 40), rng.uniform(500, 20000, 40), strict=True):
            row += height * np.exp(-(((axis - centre) / 0.3) ** 2))
    text = h5py.string_dtype()
    with h5py.File(file, "w") as store:
        store.attrs.update(
            {"format": "libsedge-spectra", "version": 1, "quantity": "counts", "saturation": 60000.0}
            | {"medium": "vacuum", "instrument": "none", "source": "made up", "simulated": True}
        )
        store["counts"] = counts.clip(0, 65535).astype(np.uint16)
        store["wavelength_nm"] = axis
        store["mask"] = np.ones(len(axis), np.uint8)
        store["distance_m"] = np.full(count, 2.0, np.float32)
        store["specimen"] = np.array(["made-up"] * count, dtype=text)
        store["label"] = np.array([""] * count, dtype=text)
        store["shot"] = np.arange(count, dtype=np.int32)
    return file


def frames_of(file: Path, first: int = 0) -> bytes:
    """The spectra of a file as frames of one stream, the first of which has that number."""
    with h5py.File(file) as store:
        counts = np.asarray(store["counts"])
    return b"".join(
        encode(Frame(7, 1, i, 10**18 + i, 100, 2000, 0, row)) for i, row in enumerate(counts, first)
    )


def main(folder: Path, targets: Sequence[str]) -> None:
    """`python tests/arm/board/board_model.py FOLDER TARGET...`: two versions and spectra, for a shell script."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from conftest import m_net

    folder.mkdir(parents=True, exist_ok=True)
    graph = m_net()
    compiled = compile_net(graph, targets)
    for version in ("1.0.0", "2.0.0"):
        write_model(folder / f"model-{version}.sedge", graph, compiled, version)
    write_spectra(folder / "spectra.h5")
    (folder / "frames.bin").write_bytes(frames_of(folder / "spectra.h5"))
    (folder / "frames-2.bin").write_bytes(frames_of(folder / "spectra.h5", 8))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
