"""`libsedge search`: a weighting strategy's parameters, tuned on the validation specimens."""

from __future__ import annotations

import os
from pathlib import Path

import click
from rich.console import Console

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as in `libsedge train`

from libsedge_training.search.run import search as carry_out
from libsedge_training.search.work import Recipe
from libsedge_training.study.plan import SCREEN


@click.command()
@click.argument("spectra", metavar="SET.h5", type=click.Path(exists=True))
@click.option(
    "--strategy",
    metavar="NAME",
    required=True,
    help="Such as focal, cc-bcd or virtual:n=16; what NAME gives stays as it is, the rest is tuned.",
)
@click.option(
    "-o", "--output", metavar="DIR", required=True, help="Folder of the search; best.json comes there."
)
@click.option("--trials", type=int, default=40, show_default=True, help="Parameters tried.")
@click.option("--seeds", type=int, default=2, show_default=True, help="Nets a trial; their mean counts.")
@click.option("--epochs", type=int, default=20, show_default=True)
@click.option(
    "--net", metavar="NAME", default=SCREEN.name, show_default=True, help="As for `libsedge study`."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of split, nets and trials.")
@click.option("--test-specimens", type=int, default=9, show_default=True, help="Never loaded.")
@click.option("--validation-specimens", type=int, help="Default: 15 %, at least one a class.")
@click.option(
    "--jobs", type=int, help="Worker processes; default: one a CPU; 1 = this process, without Dask."
)
@click.option("--scheduler", metavar="ADDRESS", help="Work on this Dask scheduler's workers instead.")
def search(
    spectra: str,
    strategy: str,
    output: str,
    trials: int,
    seeds: int,
    epochs: int,
    net: str,
    seed: int,
    test_specimens: int,
    validation_specimens: int | None,
    jobs: int | None,
    scheduler: str | None,
) -> None:
    """Tune a weighting strategy with Optuna on the validation specimens of SET.h5 (a spectra store).

    The split is that of `libsedge train` with the same seed; spectra of test specimens are never loaded. Call it again
    after an interruption, or with more trials. `libsedge train --weighting DIR/best.json` and
    `libsedge study --strategy DIR/best.json` take what was found.
    """
    recipe = Recipe(net, epochs, seed, test_specimens, validation_specimens)
    best = carry_out(
        spectra,
        strategy,
        output,
        recipe,
        trials=trials,
        seeds=seeds,
        jobs=jobs,
        scheduler=scheduler,
        console=Console(stderr=True, soft_wrap=True),
    )
    equal = best["equal_validation_accuracy"]
    click.echo(
        f"best of {trials}: {best['weighting']}: balanced accuracy {best['validation_accuracy']:.1%} "
        f"(equal weights: {'diverged' if equal is None else f'{equal:.1%}'}) on "
        f"{len(best['specimens']['validation'])} validation specimens"
        f"{' (simulated spectra)' if best['simulated'] else ''}"
    )
    click.echo(
        f"wrote {Path(output) / 'best.json'}; the best of many is biased upwards: test it on other specimens"
    )
