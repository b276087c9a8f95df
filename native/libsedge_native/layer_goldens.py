"""`libsedge layer-goldens`: what every layer should put out, for `libsedge compare-target` on another machine."""

from __future__ import annotations

import hashlib

import click
import numpy as np
from libsedge._core import Model
from libsedge.bundle import Bundle, target
from libsedge.layers import LayerGoldens, write_layers

from libsedge_native import reference
from libsedge_native.onnx_import import from_onnx


def layer_goldens(bundle: Bundle) -> LayerGoldens:
    """The reference's output of every layer that the compiled scalar kernel shows, for the bundle's goldens.

    Which layers those are (the last of each fused group) is asked of the kernel; their values are computed by
    `reference.layers` from model.onnx and by nothing else.
    """
    bundle.must_be_int8("layer-goldens")
    onnx = bundle.members["model.onnx"]
    graph = from_onnx(onnx)
    inputs = np.array(bundle.goldens[0])
    shown = [name for name, _ in Model(bundle.kernel(target()), "scalar").trace(inputs[0])]
    rows = [reference.layers(graph, row) for row in inputs]
    layers = {name: np.stack([row[name] for row in rows]) for name in shown}
    return LayerGoldens(hashlib.sha256(onnx).hexdigest(), layers)


@click.command("layer-goldens")
@click.argument("bundle", type=click.Path(), metavar="MODEL.sedge")
@click.option("-o", "--out", required=True, type=click.Path(), help="The file, such as model.layers.")
def command(bundle: str, out: str) -> None:
    """Write what every layer of a bundle's net should put out for its goldens, computed by the reference."""
    goldens = layer_goldens(Bundle.open(bundle))
    write_layers(goldens, out)
    for name, array in goldens.layers.items():
        click.echo(f"{name:<20} int8 {list(array.shape)}")
