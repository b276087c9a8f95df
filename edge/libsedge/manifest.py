"""The text members of a bundle, checked: manifest.json, labels.json, calibration.json.

Every object has exactly the keys listed here; an unknown, missing or duplicate key, a number that is not
finite or a value out of its range is a BundleError that names the member and the field.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Literal

from libsedge.errors import BundleError

#: what a network computes in, takes and gives
Precision = Literal["int8", "float32"]
#: schema versions and the precision of the network that each describes. They have the same keys, so that a runtime
#: which reads only schema 1 refuses a float32 bundle for its version and says so.
SCHEMAS: dict[int, Precision] = {1: "int8", 2: "float32"}
MANIFEST, SIGNATURE = "manifest.json", "SIGNATURE"
SHARED_OBJECT = re.compile(r"kernel/([a-z0-9_]+(?:-[a-z0-9_]+)+)/model\.so")
#: of the source folder for a machine without Linux, as `libsedge sources --target` writes it
SOURCE = re.compile(r"kernel/([a-z0-9_]+(?:-[a-z0-9_]+)+)/[a-z0-9_]+\.(?:cpp|h|inc)")
REQUIRED = frozenset(
    {
        MANIFEST,
        SIGNATURE,
        "model.onnx",
        "kernel/model.cpp",
        "kernel/model.h",
        "preprocess.json",
        "labels.json",
        "calibration.json",
        "goldens/inputs.npy",
        "goldens/outputs.npy",
        "MODEL_CARD.md",
    }
)

_SEMVER = re.compile(r"(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})(-[0-9A-Za-z.-]{1,64})?")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MANIFEST_KEYS = (
    "arena_bytes",
    "classes",
    "counter",
    "input_length",
    "instrument",
    "layers",
    "members",
    "minimum_runtime",
    "name",
    "schema_version",
    "training",
    "version",
    "wavelength_grid_sha256",
)
_CALIBRATION_KEYS = (
    "max_saturated_fraction",
    "min_confidence",
    "min_contrast",
    "temperature",
)
#: how the logits of an int8 network are quantised
_LOGIT_KEYS = ("logit_scale", "logit_zero_point")


def parse_json(data: bytes, member: str) -> Any:
    """JSON in UTF-8 with unique keys and finite numbers only."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            raise ValueError("an object repeats a key")
        return table

    def finite(text: str) -> float:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(f"{text} is not a finite number")
        return number

    try:
        return json.loads(
            data.decode("utf-8"), object_pairs_hook=unique, parse_float=finite, parse_constant=finite
        )
    except (ValueError, RecursionError) as why:
        raise BundleError(f"is not valid JSON: {why}", field=member) from why


def _require(holds: bool, member: str, field: str, value: object, why: str) -> None:
    if not holds:
        raise BundleError(why, field=f"{member}: {field}", value=value)


def _keys(table: Any, keys: tuple[str, ...], member: str, field: str = "keys") -> None:
    found = sorted(table) if isinstance(table, dict) else table
    _require(
        found == list(keys), member, field, found, f"must be an object with exactly the keys {list(keys)}"
    )


def _integer(table: dict[str, Any], key: str, low: int, high: int, member: str) -> None:
    value = table[key]
    _require(
        type(value) is int and low <= value <= high, member, key, value, f"must be an integer {low} to {high}"
    )


def _number(table: dict[str, Any], key: str, low: float, high: float, member: str) -> None:
    value = table[key]
    good = type(value) in (int, float) and low <= value <= high
    _require(good, member, key, value, f"must be a number {low:g} to {high:g}")


def _text(table: dict[str, Any], key: str, pattern: re.Pattern[str], member: str, why: str) -> None:
    value = table[key]
    _require(isinstance(value, str) and pattern.fullmatch(value) is not None, member, key, value, why)


def parse_version(text: str) -> tuple[int, int, int]:
    """The numbers of a semantic version; raises ValueError for anything else."""
    match = _SEMVER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a semantic version")
    return int(match[1]), int(match[2]), int(match[3])


def check_manifest(manifest: Any) -> dict[str, Any]:
    """The manifest, if it has the schema above; raises BundleError."""
    _keys(manifest, _MANIFEST_KEYS, MANIFEST)
    value = manifest["schema_version"]
    readable = " and ".join(map(str, SCHEMAS))
    known = type(value) is int and value in SCHEMAS
    _require(known, MANIFEST, "schema_version", value, f"this runtime reads {readable}")
    _text(manifest, "name", NAME, MANIFEST, "must be 1-64 of a-z 0-9 _ -")
    for key in ("version", "minimum_runtime"):
        _text(manifest, key, _SEMVER, MANIFEST, "must be a semantic version such as 1.0.0")
    _integer(manifest, "counter", 1, 2**53 - 1, MANIFEST)
    _integer(manifest, "arena_bytes", 1, 2**31, MANIFEST)
    _integer(manifest, "input_length", 1, 65_536, MANIFEST)
    _integer(manifest, "classes", 2, 4_096, MANIFEST)
    _text(manifest, "wavelength_grid_sha256", _DIGEST, MANIFEST, "must be a SHA-256 in lower-case hex")
    _require(
        isinstance(manifest["instrument"], str),
        MANIFEST,
        "instrument",
        manifest["instrument"],
        "must be text",
    )
    layers = manifest["layers"]
    described = isinstance(layers, list) and all(isinstance(layer, str) for layer in layers)
    _require(described, MANIFEST, "layers", layers, "must be a list of texts")
    training = manifest["training"]
    _require(isinstance(training, dict), MANIFEST, "training", training, "must be an object")
    simulated = training.get("simulated")
    _require(type(simulated) is bool, MANIFEST, "training.simulated", simulated, "must be true or false")
    precision = training.get("precision", SCHEMAS[1])
    why = f"is {SCHEMAS[value]} in schema_version {value}"
    _require(precision == SCHEMAS[value], MANIFEST, "training.precision", precision, why)
    members = manifest["members"]
    _require(isinstance(members, dict), MANIFEST, "members", members, "must be an object")
    for name, entry in members.items():
        _keys(entry, ("bytes", "sha256"), MANIFEST, f"members[{name!r}]")
        _integer(entry, "bytes", 0, 2**31, f"{MANIFEST}: members[{name!r}]")
        _text(
            entry, "sha256", _DIGEST, f"{MANIFEST}: members[{name!r}]", "must be a SHA-256 in lower-case hex"
        )
    return dict(manifest)


def check_labels(labels: Any, classes: int) -> list[str]:
    """labels.json: a list of unique, non-empty class names, in the order of the logits."""
    good = isinstance(labels, list) and all(isinstance(label, str) and label for label in labels)
    _require(
        good and len(set(labels)) == len(labels), "labels.json", "labels", labels, "must be unique texts"
    )
    _require(
        len(labels) == classes, "labels.json", "length", len(labels), f"the manifest says {classes} classes"
    )
    return list(labels)


def check_calibration(calibration: Any, precision: Precision = "int8") -> dict[str, Any]:
    """calibration.json: temperature (> 0) and three thresholds; the quantisation of the logits of an int8 network;
    `max_error`, where an error of the accepted spectra is promised."""
    member = "calibration.json"
    keys = _CALIBRATION_KEYS + (_LOGIT_KEYS if precision == "int8" else ())
    if isinstance(calibration, dict) and "max_error" in calibration:
        _number(calibration, "max_error", 0.0, 1.0, member)
        keys += ("max_error",)
    _keys(calibration, tuple(sorted(keys)), member)
    _number(calibration, "temperature", 1e-6, 1e6, member)
    _number(calibration, "min_confidence", 0.0, 1.0, member)
    _number(calibration, "min_contrast", 0.0, 1e30, member)
    _number(calibration, "max_saturated_fraction", 0.0, 1.0, member)
    if precision == "int8":
        _number(calibration, "logit_scale", 1e-30, 1e30, member)
        _integer(calibration, "logit_zero_point", -128, 127, member)
    return dict(calibration)
