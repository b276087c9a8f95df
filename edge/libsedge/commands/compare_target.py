"""`libsedge compare-target`: does this machine compute what the host computed, and if not, where does it begin?"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import click
import numpy as np

from libsedge._core import FloatModel, Model
from libsedge.bundle import Bundle, off, target
from libsedge.errors import ConfigError
from libsedge.layers import read_layers


@dataclass(frozen=True)
class Comparison:
    """`cells` values were compared, `different` of them are `off`; `first` says where the first one is."""

    what: str
    cells: int
    different: int
    first: str | None


def compare(
    what: str, found: np.ndarray, wanted: np.ndarray, axes: tuple[str, ...], kernels: int = 1
) -> Comparison:
    """Count the cells of two arrays of one shape that are `off`; `axes` names the dimensions."""
    if found.shape != wanted.shape:
        return Comparison(what, wanted.size, wanted.size, f"shape {found.shape}, not {wanted.shape}")
    places = np.argwhere(off(found, wanted, kernels))
    first = None
    if len(places):
        at = tuple(int(i) for i in places[0])
        where = ", ".join(f"{name} {i}" for name, i in zip(axes, at, strict=True))
        first = f"{where}: {found[at].item():.9g}, not {wanted[at].item():.9g}"
    return Comparison(what, wanted.size, len(places), first)


def made_up_inputs(goldens: np.ndarray, count: int) -> np.ndarray:
    """Pseudo-random inputs [count, length] like the goldens: all of int8, a quarter of them extremes; of float32 what
    lies between 0 and the goldens' largest value."""
    rng = np.random.default_rng(0)
    if goldens.dtype == np.float32:
        return rng.random((count, goldens.shape[1]), np.float32) * goldens.max()
    made_up = rng.integers(-128, 128, (count, goldens.shape[1]), np.int8)
    made_up[: count // 4] = np.sign(made_up[: count // 4]) * np.int8(127)
    return made_up


def compare_target(bundle: Bundle, layers_file: str | None, inputs: int) -> dict[str, Any]:
    """The document that `libsedge compare-target --json` prints.

    Compared are: the goldens on every runnable instruction set; every other instruction set against the scalar
    kernel on `inputs` pseudo-random inputs; with a file of layers, every layer that the scalar kernel shows.
    """
    scalar = bundle.load("scalar")
    golden_inputs, golden_outputs = (np.array(part) for part in bundle.goldens)
    runnable = [name for name, runs in scalar.isas if runs]
    rows = []
    if layers_file is not None:
        rows += _layers(bundle, scalar, golden_inputs, layers_file)
    for isa in runnable:
        found = bundle.load(isa).run_batch(golden_inputs)
        rows.append(compare(f"goldens, {isa}", found, golden_outputs, ("golden", "class")))
    made_up = made_up_inputs(golden_inputs, inputs)
    wanted = scalar.run_batch(made_up)
    for isa in runnable:
        if isa != "scalar":
            found = bundle.load(isa).run_batch(made_up)
            rows.append(compare(f"{isa} against scalar", found, wanted, ("input", "class"), kernels=2))
    return {
        "target": target(),
        "precision": bundle.precision,
        "model": {
            "name": bundle.manifest["name"],
            "version": bundle.manifest["version"],
            "sha256": bundle.digest,
        },
        "not_runnable": [name for name, runs in scalar.isas if not runs],
        "layers": layers_file is not None,
        "cells": sum(row.cells for row in rows),
        "different": sum(row.different for row in rows),
        "first_difference": next((f"{row.what}: {row.first}" for row in rows if row.different), None),
        "comparisons": [asdict(row) for row in rows],
    }


def _layers(
    bundle: Bundle, scalar: Model | FloatModel, golden_inputs: np.ndarray, file: str
) -> list[Comparison]:
    bundle.must_be_int8("--layers")
    assert isinstance(scalar, Model)
    goldens = read_layers(file)
    onnx = hashlib.sha256(bundle.members["model.onnx"]).hexdigest()
    if goldens.onnx != onnx:
        raise ConfigError(
            f"belongs to another model, not to {onnx}", file=file, field="onnx", value=goldens.onnx
        )
    count = len(next(iter(goldens.layers.values())))
    if count != len(golden_inputs):
        raise ConfigError(f"must have {len(golden_inputs)} goldens", file=file, field="goldens", value=count)
    traces = [dict(scalar.trace(np.ascontiguousarray(row))) for row in golden_inputs]
    shown = list(traces[0])
    if shown != list(goldens.layers):
        raise ConfigError(f"this kernel shows {shown}", file=file, field="layers", value=list(goldens.layers))
    return [
        compare(
            f"layer {name}", np.stack([t[name] for t in traces]), wanted, ("golden", "channel", "position")
        )
        for name, wanted in goldens.layers.items()
    ]


@click.command("compare-target")
@click.argument("bundle", type=click.Path(), metavar="MODEL.sedge")
@click.option(
    "--layers", "layers_file", type=click.Path(), help="What every layer should be: `libsedge layer-goldens`."
)
@click.option(
    "--inputs", type=int, default=64, show_default=True, help="Made-up inputs for kernel against kernel."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(bundle: str, layers_file: str | None, inputs: int, as_json: bool) -> None:
    """Compare this machine with the host, bit for bit (float32: within 1e-5 of the largest logit), and name the first
    difference.

    Layers are compared in the order in which they run, so the first difference is where it begins. Exit code 1
    where anything differs.
    """
    if not 4 <= inputs <= 100_000:
        raise ConfigError("must be 4 to 100,000", field="inputs", value=inputs)
    opened = Bundle.open(bundle)
    document = compare_target(opened, layers_file, inputs)
    if as_json:
        click.echo(json.dumps(document, indent=1))
    else:
        words = "equal" if opened.precision == "int8" else opened.exactness
        for row in document["comparisons"]:
            verdict = words if not row["different"] else f"{row['different']:,} DIFFER"
            click.echo(f"{row['what']:<28}{row['cells']:>12,} cells  {verdict}")
        for name in document["not_runnable"]:
            click.echo(f"{name:<28}not run: this machine lacks it")
        if not document["layers"]:
            click.echo(
                "layers                      not compared: give --layers, from `libsedge layer-goldens`"
            )
        first = document["first_difference"]
        click.echo(f"first difference: {first}" if first else f"{document['cells']:,} cells {words}")
    if document["different"]:
        raise SystemExit(1)
