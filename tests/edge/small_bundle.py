"""A small signed bundle for tests about trust: its "compiled model" is text and is never loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from libsedge import archive, bundle, keys
from libsedge.bundle import Bundle
from libsedge.errors import BundleError, SedgeError
from libsedge.manifest import MANIFEST, SIGNATURE
from libsedge.preprocess import PreprocessConfig, Segment
from libsedge_native.bundle_writer import BundleInfo, json_bytes, write_bundle

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
COLD = Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64)))
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(range(64, 96)))
POINTS, CLASSES = 12, 3
CALIBRATION = {
    "temperature": 1.5,
    "min_confidence": 0.6,
    "min_contrast": 4.0,
    "max_saturated_fraction": 0.01,
    "logit_scale": 0.07,
    "logit_zero_point": 3,
}


def pin(private: Ed25519PrivateKey, name: str) -> keys.TrustedKey:
    return keys.TrustedKey(keys.public_bytes(private), name)


TRUSTED = (pin(KEY, "signing"), pin(COLD, "cold"))


def make(out: Path, private: Ed25519PrivateKey = KEY, **changes: object) -> Bundle:
    rng = np.random.default_rng(0)
    info = {
        "name": "rocks",
        "version": "1.2.3",
        "counter": 7,
        "instrument": "bench",
        "arena_bytes": 64,
        "layers": ("dense: 12 -> 3",),
        "training": {"simulated": True, "seed": 1},
    }
    info.update({key: changes.pop(key) for key in list(changes) if key in info})  # type: ignore[dict-item]
    parts: dict = {
        "onnx": b"onnx bytes",
        "sources": {"model.cpp": "// model\n", "model.h": "// header\n"},
        "kernels": {bundle.target(): b"shared object"},
        "preprocess": PreprocessConfig((Segment(300.0, 306.0, POINTS),), scale=0.05, zero_point=-128),
        "labels": ["basalt", "gypsum", "olivine"],
        "calibration": CALIBRATION,
        "goldens": (
            rng.integers(-128, 128, (2, POINTS)).astype(np.int8),
            rng.integers(-128, 128, (2, CLASSES)).astype(np.int8),
        ),
        "model_card": "# rocks\n",
    }
    return write_bundle(out, info=BundleInfo(**info), private=private, **(parts | changes))  # type: ignore[arg-type]


def forge(file: Path, private: Ed25519PrivateKey, change: Callable[[dict, dict], None]) -> None:
    """Change and sign a bundle again, without the writer's checks."""
    members = archive.unpack(file.read_bytes())
    manifest = json.loads(members[MANIFEST])
    change(members, manifest)
    members[MANIFEST] = json_bytes(manifest)
    members[SIGNATURE] = keys.sign(private, members[MANIFEST])
    file.write_bytes(archive.pack(members))


def relist(members: dict, manifest: dict) -> None:
    """Digests as they are now."""
    manifest["members"] = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in members.items()
        if name not in (MANIFEST, SIGNATURE)
    }


def refused(file: Path, error: type[SedgeError] = BundleError, match: str = "") -> None:
    with pytest.raises(error, match=match) as caught:
        Bundle.open(file)
    assert caught.value.file == str(file)
