"""A file of what every layer of a net should put out for the bundle's goldens: written on the host by
`libsedge layer-goldens`, read on the board by `libsedge compare-target`.

The container is the bundle's canonical zip (`archive.py`): `layers.json` and one int8 array a layer, [goldens,
channels * length]. It is not signed: it decides nothing, it helps to look.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from libsedge import archive
from libsedge.bundle import read_once
from libsedge.errors import BundleError, FileFormatError
from libsedge.manifest import parse_json

FORMAT, VERSION = "libsedge-layers", 1
INDEX = "layers.json"


@dataclass(frozen=True)
class LayerGoldens:
    """`onnx` : sha256 of the model.onnx, hex. `layers` : name -> int8 [goldens, channels, length], in order."""

    onnx: str
    layers: dict[str, np.ndarray]


def write_layers(goldens: LayerGoldens, out: str | os.PathLike[str]) -> None:
    """Write the file under a temporary name and rename it."""
    index = {
        "format": FORMAT,
        "version": VERSION,
        "onnx": goldens.onnx,
        "layers": [[name, *array.shape[1:]] for name, array in goldens.layers.items()],
    }
    members = {INDEX: (json.dumps(index, indent=1) + "\n").encode()}
    for number, array in enumerate(goldens.layers.values()):
        members[f"{number:03}.npy"] = archive.pack_array(array.reshape(len(array), -1))
    final = Path(out)
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(archive.pack(members))
        os.replace(temporary, final)
    except OSError as why:
        raise FileFormatError(f"cannot be written: {why.strerror}", file=out) from why
    finally:
        temporary.unlink(missing_ok=True)


def read_layers(path: str | os.PathLike[str]) -> LayerGoldens:
    """Read what `write_layers` wrote; FileFormatError for anything else."""
    try:
        members = archive.unpack(read_once(path))
        return _parse(members)
    except (BundleError, KeyError, TypeError, ValueError) as why:
        raise FileFormatError(f"is not a file of layers: {why}", file=path) from why


def _parse(members: Mapping[str, bytes]) -> LayerGoldens:
    index: Any = parse_json(members[INDEX], INDEX)
    if index["format"] != FORMAT or index["version"] != VERSION or not isinstance(index["onnx"], str):
        raise ValueError(f"{INDEX} does not say {FORMAT} {VERSION}")
    layers: dict[str, np.ndarray] = {}
    for number, (name, channels, length) in enumerate(index["layers"]):
        if not isinstance(name, str) or type(channels) is not int or type(length) is not int:
            raise ValueError("a layer is [name, channels, length]")
        member = f"{number:03}.npy"
        flat = archive.unpack_array(members[member], member, max(1, channels * length))
        layers[name] = flat.reshape(len(flat), channels, length)
    if not layers or len({len(array) for array in layers.values()}) != 1 or len(layers) + 1 != len(members):
        raise ValueError("every layer has an array, all of as many goldens, and nothing else is in it")
    return LayerGoldens(index["onnx"], layers)
