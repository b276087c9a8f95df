"""One real bundle for the edge's tests: a tiny net with random weights, generated, compiled and signed once."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from libsedge import archive, bundle, keys
from libsedge.preprocess import PreprocessConfig, Segment, Smooth

sys.path.insert(0, str(Path(__file__).parent))  # for mean_classifier.py, also in child processes

POINTS, LABELS = 400, ["andesite", "basalt", "gypsum", "olivine"]
CALIBRATION = {
    "temperature": 1.7,
    "min_confidence": 0.3,
    "min_contrast": 8.0,
    "max_saturated_fraction": 0.01,
    "logit_scale": 0.09,
    "logit_zero_point": 5,
}


@dataclass(frozen=True)
class TinyModel:
    """The bundle's file, the home folder whose keys it is signed with, and the graph it was generated from."""

    path: Path
    home: Path
    trusted: tuple[keys.TrustedKey, ...]
    graph: Any

    def open(self) -> bundle.Bundle:
        return bundle.Bundle.open(self.path, self.trusted)


def _graph() -> Any:
    from libsedge_native import ir

    rng = np.random.default_rng(11)

    def weights(*shape: int) -> np.ndarray:
        return rng.integers(-127, 128, shape).astype(np.int8)

    def small(count: int) -> np.ndarray:
        return rng.uniform(0.002, 0.004, count).astype(np.float32)

    bias = np.zeros(6, np.int32)
    return ir.Graph(
        "tiny",
        ir.Tensor(1, POINTS, ir.Quant(0.03, -128)),
        (
            ir.Conv1d("conv1", weights(6, 1, 7), bias, small(6), ir.Quant(0.03, -128), stride=4, relu=True),
            ir.MaxPool1d("pool1", 4, 4),
            ir.Flatten("flatten"),
            ir.Dense(
                "dense",
                weights(len(LABELS), 6 * 24),
                np.zeros(len(LABELS), np.int32),
                small(len(LABELS)),
                ir.Quant(0.09, 5),
            ),
        ),
    )


@pytest.fixture(scope="session")
def runner_program(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`libsedge-run` of the tiny model on the axis of runner_tools; compiled once."""
    from libsedge_native.runner import build
    from runner_tools import AXIS

    out = tmp_path_factory.mktemp("runner") / "libsedge-run"
    text = build(tiny_model.open(), out, axis=AXIS)
    assert f"sha256   {tiny_model.open().digest}" in text
    assert "goldens, weights and canary hold" in text
    return out


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    pytest.importorskip("libsedge_native.generate", reason="the generator is not installed")
    return build_tiny_model(tmp_path_factory.mktemp("bundle"))


def build_tiny_model(folder: Path) -> TinyModel:
    """Generate, compile and sign the model in `folder`, with the home folder that trusts it."""
    from libsedge_native import generate, reference, toolchain
    from libsedge_native.bundle_writer import BundleInfo, write_bundle

    graph = _graph()
    generated = generate.generate(graph)
    inputs = generate.default_goldens(graph)
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    trusted = (keys.TrustedKey(keys.public_bytes(private), "signing"),)
    (folder / "trusted.keys").write_text("".join(key.line() for key in trusted))
    target = bundle.target()
    assert target == toolchain.HOST_TARGET
    write_bundle(
        folder / "tiny.sedge",
        info=BundleInfo("tiny", "1.0.0", 1, "none", generated.arena_bytes, (), {"simulated": True}),
        onnx=generated.onnx,
        sources={name: generated.files[name] for name in ("model.cpp", "model.h")},
        kernels={target: toolchain.compile_shared(generated)},
        # with the optional steps, so that everything behind it meets them, the Python-free runner too
        preprocess=PreprocessConfig(
            (Segment(240.0, 850.0, POINTS),),
            scale=0.03,
            zero_point=-128,
            smooth=Smooth(5, 2),
        ),
        labels=LABELS,
        calibration=CALIBRATION,
        goldens=(inputs, np.stack([reference.run(graph, row) for row in inputs])),
        model_card="# tiny\n\nRandom weights; for tests.\n",
        private=private,
    )
    return TinyModel(folder / "tiny.sedge", folder, trusted, graph)


@pytest.fixture
def system(tmp_path: Path) -> Iterator[Any]:
    """systemd's notification socket, with a watchdog of 0.4 s: a `watched.System`."""
    from watched import System

    fake = System(str(tmp_path / "notify"), 0.4)
    yield fake
    fake.sock.close()


@pytest.fixture
def tiny_home(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """LIBSEDGE_HOME is the one that trusts the tiny model."""
    monkeypatch.setenv("LIBSEDGE_HOME", str(tiny_model.home))


@pytest.fixture
def release(tiny_model: TinyModel, tmp_path: Path) -> Callable[..., Path]:
    """A signed bundle of the tiny model with another version and counter; `broken`: its goldens cannot hold."""

    from small_bundle import KEY, forge, relist

    def make(version: str, counter: int, *, broken: bool = False, **changes: object) -> Path:
        file = tmp_path / f"{version}-{counter}-{broken}-{len(changes)}.sedge"
        shutil.copy(tiny_model.path, file)

        def change(members: dict, manifest: dict) -> None:
            manifest.update(version=version, counter=counter, **changes)
            if broken:
                outputs = np.zeros((4, 4), np.int8)
                members["goldens/outputs.npy"] = archive.pack_array(outputs)
            relist(members, manifest)

        forge(file, KEY, change)
        return file

    return make


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty folder for model stores."""
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture
def trusting_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A LIBSEDGE_HOME that trusts the keys of small_bundle."""
    from small_bundle import TRUSTED

    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("LIBSEDGE_HOME", str(folder))
    (folder / "trusted.keys").write_text("".join(key.line() for key in TRUSTED))
    return folder


@pytest.fixture
def good(tmp_path: Path, trusting_home: Path) -> Path:
    """The bundle of small_bundle, as it was signed."""
    from small_bundle import make

    make(tmp_path / "good.sedge")
    return tmp_path / "good.sedge"
