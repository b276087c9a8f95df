"""`libsedge float-onnx`: a run's folded net as plain float32 ONNX."""

from __future__ import annotations

from pathlib import Path

import click
from libsedge_native.onnx_export import to_onnx

from libsedge_training.export import identifier
from libsedge_training.files import write_atomic
from libsedge_training.float_export import float_graph
from libsedge_training.model import fold
from libsedge_training.run_folder import load_run


@click.command("float-onnx")
@click.argument("run_dir", metavar="RUN", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path))
def float_onnx(run_dir: Path, output: Path) -> None:
    """Write a run's net as float32 ONNX: preprocessed spectra in, logits out, batch normalisation folded.

    `libsedge sources FILE --precision float32` makes C++ of it; other runtimes read it too.
    """
    net, run = load_run(run_dir)
    graph = float_graph(fold(net), net.channels, identifier(run_dir.resolve().name))
    write_atomic(output, to_onnx(graph))
    click.echo(f"{output}: {graph.macs:,} multiply-accumulates, classes {', '.join(run['classes'])}")
