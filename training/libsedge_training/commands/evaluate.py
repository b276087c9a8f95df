"""`libsedge evaluate`: figures of merit of a run, or of the bundle made from it."""

from __future__ import annotations

from pathlib import Path

import click

from libsedge_training import evaluate as ev
from libsedge_training.files import dump_json, write_atomic
from libsedge_training.model import read_run
from libsedge_training.report import evaluation_page


@click.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(exists=True, file_okay=False))
@click.option("--data", metavar="SET.h5", default=None, help="The run's spectra, where they moved.")
@click.option(
    "--split", type=click.Choice(["test", "validation", "train"]), default="test", show_default=True
)
@click.option(
    "--model", metavar="model.sedge", default=None, help="Evaluate this bundle's int8 kernel instead."
)
def evaluate(run_dir: str, data: str | None, split: str, model: str | None) -> None:
    """Write evaluation.json and .html (with --model: evaluation-int8.*) into RUN and print the summary."""
    run = read_run(run_dir)
    spectra = ev.run_data(run_dir, run, data)
    if model is None:
        found = ev.evaluate_run(run_dir, spectra, split)
    else:
        from libsedge.bundle import Bundle

        found = ev.evaluate_bundle(run_dir, spectra, Bundle.open(model), split)
    stem = Path(run_dir) / ("evaluation" if model is None else "evaluation-int8")
    page = evaluation_page(found, run, ev.read_history(run_dir))
    write_atomic(stem.with_suffix(".json"), dump_json(found))
    write_atomic(stem.with_suffix(".html"), page.encode("utf-8"))
    low, high = found["accuracy_interval"]
    click.echo(
        f"{split}: accuracy {found['accuracy']:.1%} (95 % by specimens {low:.1%} to {high:.1%}), "
        f"macro F1 {found['f1']:.3f}, ECE {found['ece']:.3f}, "
        f"{round(found['vote_accuracy'] * found['specimens'])} of {found['specimens']} specimens voted right"
        f"{' (simulated spectra)' if found['simulated'] else ''}"
    )
    if "agreement" in found:
        click.echo(f"int8 names the float net's class for {found['agreement']:.2%} of {found['n']} spectra")
    click.echo(f"wrote {stem.with_suffix('.json')} and {stem.with_suffix('.html')}")
