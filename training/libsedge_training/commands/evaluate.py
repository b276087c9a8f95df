"""`libsedge evaluate`: figures of merit of a run, or of the bundle made from it."""

from __future__ import annotations

from pathlib import Path

import click

from libsedge_training import evaluate as ev
from libsedge_training.files import dump_json, write_atomic
from libsedge_training.report import evaluation_page, spread
from libsedge_training.run_folder import read_run


@click.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(exists=True, file_okay=False))
@click.option(
    "--data",
    metavar="SET.h5",
    default=None,
    help="The run's spectra, where they moved; with --split all: any labelled spectra (`libsedge import`).",
)
@click.option(
    "--split",
    type=click.Choice(["test", "validation", "train", "all"]),
    default="test",
    show_default=True,
    help="A part of the run's spectra; all = every spectrum of --data.",
)
@click.option("--model", metavar="model.sedge", default=None, help="Evaluate this bundle's kernel instead.")
def evaluate(run_dir: str, data: str | None, split: str, model: str | None) -> None:
    """Write evaluation.json and .html into RUN and print the summary.

    With --model they are evaluation-int8.* or evaluation-float32.*, with --split all evaluation-all.*.
    """
    run = read_run(run_dir)
    spectra = ev.other_data(run, data) if split == "all" and data else ev.run_data(run_dir, run, data)
    if model is None:
        found = ev.evaluate_run(run_dir, spectra, split)
    else:
        from libsedge.bundle import Bundle

        found = ev.evaluate_bundle(run_dir, spectra, Bundle.open(model), split)
    name = "evaluation" + ("" if model is None else f"-{found['model']}") + ("-all" if split == "all" else "")
    stem = Path(run_dir) / name
    page = evaluation_page(found, run, ev.read_history(run_dir))
    write_atomic(stem.with_suffix(".json"), dump_json(found))
    write_atomic(stem.with_suffix(".html"), page.encode("utf-8"))
    low, high = found["accuracy_interval"]
    recalls = [row["recall"] for row in found["per_class"] if row["n"]]
    click.echo(
        f"{split}: accuracy {found['accuracy']:.1%} (95 % by specimens {low:.1%} to {high:.1%}), "
        f"balanced {sum(recalls) / len(recalls):.1%}, macro F1 {found['f1']:.3f}, ECE {found['ece']:.3f}, "
        f"{round(found['vote_accuracy'] * found['specimens'])} of {found['specimens']} specimens voted right"
        f"{' (simulated spectra)' if found['simulated'] else ''}"
    )
    chosen, kept = found["confidence"], found["confidence"]["selective"]
    after = f"{spread(chosen['ece_after'])} at temperature {chosen['temperature'] or 1:.3g}"
    click.echo(f"ECE of equal bins of mass {spread(chosen['ece_before'])} before, {after}")
    click.echo(
        f"error {spread(kept['error'])}, of the most confident {kept['coverage']:.0%} "
        f"{spread(kept['error_at_coverage'])}; AURC {spread(kept['aurc'])}"
    )
    if "agreement" in found:
        click.echo(
            f"{found['model']} names the float net's class for {found['agreement']:.2%} of {found['n']} spectra"
        )
    click.echo(f"wrote {stem.with_suffix('.json')} and {stem.with_suffix('.html')}")
