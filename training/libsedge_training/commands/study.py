"""`libsedge study`: weighting strategies against each other, with controls, baselines and intervals."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as in `libsedge train`

from libsedge_training.search.best import best_of, weighting_name
from libsedge_training.study.baselines import KNOWN
from libsedge_training.study.divide import NAMES
from libsedge_training.study.page import ranked
from libsedge_training.study.plan import PRESETS, Plan
from libsedge_training.study.run import outline
from libsedge_training.study.run import study as carry_out


def _plan(preset: str, chosen: dict[str, Any]) -> Plan:
    """The preset with the options that were given."""
    plan = PRESETS[preset]
    for stage in ("screen", "final"):
        given: dict[str, Any] = {
            k: chosen[f"{stage}_{k}"]
            for k in ("net", "epochs", "seeds")
            if chosen[f"{stage}_{k}"] is not None
        }
        if given:
            changed: Any = {stage: replace(getattr(plan, stage), **given)}
            plan = replace(plan, **changed)
    for name in ("folds", "finalists"):
        if chosen[name] is not None:
            plan = replace(plan, **{name: chosen[name]})
    if chosen["strategy"]:
        plan = replace(plan, strategies=tuple(weighting_name(name) for name in chosen["strategy"]))
    if chosen["baseline"]:
        plan = replace(plan, baselines=chosen["baseline"])
    if chosen["split"]:
        plan = replace(plan, splits=chosen["split"])
    return replace(plan, stages=tuple(stage for stage in plan.stages if stage not in chosen["skip"]))


def _print_entries(title: str, entries: dict[str, Any]) -> None:
    click.echo(f"{title}:")
    for name, e in ranked(entries):
        delta = e.get("minus_equal")
        by = (
            f"  {100 * delta['mean']:+5.1f} [{100 * delta['low']:+5.1f}, {100 * delta['high']:+5.1f}]"
            if delta
            else ""
        )
        click.echo(f"  {name:36} {100 * e['accuracy']:5.1f} %{by}")


def _print_plan(guess: dict[str, Any]) -> None:
    click.echo(f"{'stage':10} {'split':22} {'methods':>7} {'runs':>6} {'hours':>8}")
    for row in guess["stages"]:
        click.echo(
            f"{row['stage']:10} {row['split']:22} {row['methods']:7} {row['runs']:6} {row['seconds'] / 3600:8.2f}"
        )
    click.echo(
        f"{guess['runs']} runs on {guess['workers']} workers: about {guess['seconds'] / 3600:.2f} hours"
    )


@click.command()
@click.argument("spectra", metavar="SET.h5", type=click.Path(exists=True))
@click.option(
    "-o", "--output", metavar="DIR", required=True, help="Folder of the study; goes on where it was."
)
@click.option("--preset", type=click.Choice(list(PRESETS)), default="small", show_default=True)
@click.option(
    "--strategy",
    metavar="NAME",
    multiple=True,
    help="Instead of the preset's; can be repeated. @DIR/best.json = what `libsedge search` found.",
)
@click.option(
    "--baseline", metavar="NAME", multiple=True, help=f"Instead of the preset's: {', '.join(KNOWN)}."
)
@click.option(
    "--split",
    metavar="NAME",
    multiple=True,
    help=f"Instead of the preset's: {', '.join(NAMES)}. The first is that of all stages.",
)
@click.option("--folds", type=int, help="Parts a seed; in grouped folds each specimen is tested in one.")
@click.option("--screen-epochs", type=int)
@click.option("--screen-seeds", type=int)
@click.option("--screen-net", metavar="NAME", help="The net of the screening; binned to its grid.")
@click.option("--final-epochs", type=int)
@click.option("--final-seeds", type=int)
@click.option("--final-net", metavar="NAME", help="The net of the finalists.")
@click.option("--finalists", type=int, help="How many go on, besides equal and the best CC-BCD.")
@click.option(
    "--skip",
    type=click.Choice(["controls", "final", "timing"]),
    multiple=True,
    help="Leave a stage out; can be repeated.",
)
@click.option(
    "--jobs", type=int, help="Worker processes; default: one a CPU; 1 = this process, without Dask."
)
@click.option("--scheduler", metavar="ADDRESS", help="Work on this Dask scheduler's workers instead.")
@click.option(
    "--plan", "only_plan", is_flag=True, help="Only print what would be run, and how long it takes."
)
def study(
    spectra: str,
    output: str,
    preset: str,
    jobs: int | None,
    scheduler: str | None,
    only_plan: bool,
    **chosen: Any,
) -> None:
    """Compare weighting strategies on SET.h5: strategies x seeds x folds by specimen.

    Screens every strategy on binned spectra with a small net, chooses by validation specimens, takes the best,
    equal weights and the best CC-BCD to full size, puts the best under its controls, repeats the screening in
    the other splits, and writes study.json and report.html. Says how long it will take before it starts; call it again
    after an interruption.
    """
    plan = _plan(preset, chosen)
    if only_plan:
        _print_plan(outline(spectra, plan, jobs))
        return
    found = carry_out(
        spectra, output, plan, jobs=jobs, scheduler=scheduler, console=Console(stderr=True, soft_wrap=True)
    )
    best = found["best"]
    for stage, entries in found["stages"].items():
        _print_entries(stage, entries)
    for name, other in found["splits"].items():
        _print_entries(f"screen, {name}", other["summary"])
    for name in chosen["strategy"]:
        if name.endswith(".json") and best_of(name).get("data") == found["data"]["digest"]:
            click.echo(f"{name}: tuned on specimens of this very set; its figures here are biased upwards")
    click.echo(
        f"best weighting by validation: {best['strategy']}"
        f"{' (simulated spectra)' if found['simulated'] else ''}"
    )
    click.echo(f"wrote {Path(output) / 'study.json'} and {Path(output) / 'report.html'}")
