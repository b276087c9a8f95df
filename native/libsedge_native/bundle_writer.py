"""Everything a model needs on the board, as one signed `.sedge` file. Same input and key, same bytes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from libsedge import archive, keys
from libsedge.bundle import Bundle, grid_sha256
from libsedge.errors import BundleError, SedgeError
from libsedge.manifest import MANIFEST, SCHEMAS, SIGNATURE
from libsedge.preprocess import PreprocessConfig

#: the oldest libsedge that reads what this writer writes
MINIMUM_RUNTIME = "0.1.0"


@dataclass(frozen=True)
class BundleInfo:
    """The manifest's own fields; `training` is JSON and has at least `simulated: bool`."""

    name: str
    version: str
    counter: int
    instrument: str
    arena_bytes: int
    layers: tuple[str, ...]
    training: Mapping[str, Any]


def json_bytes(value: Any) -> bytes:
    """JSON with sorted keys, UTF-8, a newline at the end; refuses NaN and infinities."""
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def write_bundle(
    out: str | os.PathLike[str],
    *,
    info: BundleInfo,
    onnx: bytes,
    sources: Mapping[str, str],
    kernels: Mapping[str, bytes],
    preprocess: PreprocessConfig,
    labels: Sequence[str],
    calibration: Mapping[str, Any],
    goldens: tuple[np.ndarray, np.ndarray],
    model_card: str,
    private: Ed25519PrivateKey,
    folders: Mapping[str, Mapping[str, str]] | None = None,
) -> Bundle:
    """Write and sign a bundle; returns it as the board opens it.

    sources : {"model.cpp": text, "model.h": text}; kernels : {target: bytes of model.so};
    folders : {target without Linux: its source folder, text by file name};
    goldens : inputs [n, input length] and outputs [n, classes], both int8 or both float32: the network's precision.
    The file is opened with the board's own checks under a temporary name, then renamed: what this writes, the
    board accepts. Raises BundleError, and leaves `out` as it was, where a part is malformed.
    """
    inputs, outputs = (np.asarray(part) for part in goldens)
    precision = inputs.dtype.name
    for name, part in (("goldens/inputs.npy", inputs), ("goldens/outputs.npy", outputs)):
        if part.dtype.name not in SCHEMAS.values() or part.dtype != inputs.dtype or part.ndim != 2:
            why = f"both must be one of {', '.join(SCHEMAS.values())}, [n, columns]"
            raise BundleError(why, field=name, value=(str(part.dtype), part.shape))
    if set(sources) != {"model.cpp", "model.h"}:
        raise BundleError("must be exactly model.cpp and model.h", field="sources", value=sorted(sources))
    members = {
        "model.onnx": onnx,
        **{f"kernel/{name}": text.encode() for name, text in sources.items()},
        **{f"kernel/{target}/model.so": shared for target, shared in kernels.items()},
        **{
            f"kernel/{target}/{name}": text.encode()
            for target, files in (folders or {}).items()
            for name, text in files.items()
        },
        "preprocess.json": json_bytes(preprocess.to_json()),
        "labels.json": json_bytes(list(labels)),
        "calibration.json": json_bytes(dict(calibration)),
        "goldens/inputs.npy": archive.pack_array(inputs),
        "goldens/outputs.npy": archive.pack_array(outputs),
        "MODEL_CARD.md": model_card.encode(),
    }
    manifest = {
        "schema_version": next(schema for schema, kind in SCHEMAS.items() if kind == precision),
        "name": info.name,
        "version": info.version,
        "counter": info.counter,
        "minimum_runtime": MINIMUM_RUNTIME,
        "instrument": info.instrument,
        "wavelength_grid_sha256": grid_sha256(preprocess.grid_nm),
        "input_length": inputs.shape[1],
        "classes": len(labels),
        "arena_bytes": info.arena_bytes,
        "layers": list(info.layers),
        "training": dict(info.training) | ({"precision": precision} if precision != SCHEMAS[1] else {}),
        "members": {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in members.items()
        },
    }
    return write_members(out, {**members, MANIFEST: json_bytes(manifest)}, private)


def write_members(
    out: str | os.PathLike[str], members: Mapping[str, bytes], private: Ed25519PrivateKey
) -> Bundle:
    """Sign `members` (manifest.json among them), pack, check, and rename into place; see `write_bundle`."""
    signed = {**members, SIGNATURE: keys.sign(private, members[MANIFEST])}
    target = Path(out)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as stream:
            stream.write(archive.pack(signed))
            stream.flush()
            os.fsync(stream.fileno())
        Bundle.open(temporary, trusted=[keys.TrustedKey(keys.public_bytes(private), "writer")])
        os.replace(temporary, target)
    except OSError as why:
        raise BundleError(f"cannot be written: {why.strerror}", file=out) from why
    except SedgeError as error:  # names the temporary file
        raise type(error)(error.why, file=out, field=error.field, value=error.value) from error
    finally:
        temporary.unlink(missing_ok=True)
    return Bundle.open(target, trusted=[keys.TrustedKey(keys.public_bytes(private), "writer")])
