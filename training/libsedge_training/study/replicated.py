"""The replicated study: the small preset's finals on independent sets of specimens.

`python -m libsedge_training.study.replicated -o DIR` (make study-replicated) simulates the universes of `universes.py`
one after the other and trains `METHODS` on each, as `libsedge study --preset small` trains its finalists: epochs, folds
and the parameters of the strategies are the preset's, chosen on development specimens. The net is that on bins of 3
with which they were chosen, `--net medium` is the preset's own. Nothing is screened and nothing chosen here; what is
compared was written down before the first run (docs/replicated_study.md).

DIR holds uN.h5 and a study's folder uN-NET for every universe. Call it again after any interruption; several calls may
work at the same time on different universes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
from rich.console import Console

from libsedge_training import weighting
from libsedge_training.model import NETS
from libsedge_training.pool import Pool, open_pool
from libsedge_training.prepare import data_digest
from libsedge_training.readers import read
from libsedge_training.simulate import generate

from .data import prepare
from .plan import EQUAL, PRESETS, SCREEN, VIRTUAL, Plan
from .run import Folder, check, finished
from .universes import UNIVERSES, universe, universe_name

CC_BCD = weighting.strategy("cc-bcd:w3:r2:a=8:b=8").name
OURS = weighting.strategy(VIRTUAL).name
METHODS = (EQUAL, OURS, CC_BCD)
#: a control without a part in the comparisons: every specimen varied in the ways of another class
CONTROL = weighting.strategy(f"{VIRTUAL}:wrong=1").name
#: (method, minus which): the first is the primary comparison; Holm's correction is over all
COMPARISONS = ((OURS, EQUAL), (CC_BCD, EQUAL), (OURS, CC_BCD))
#: seed of the simulator for universe 0; the development set has 101
SEED = 200


def simulation(number: int) -> generate.Plan:
    """What the spectra of universe `number` are made by: the small preset's plan with its specimens."""
    return replace(generate.make_plan("small", SEED + number), materials=universe(number))


def replicated_plan(net: str = SCREEN.name, seeds: int = 1) -> Plan:
    """The finals of `--preset small` for `METHODS` and `CONTROL`, nothing else."""
    small = PRESETS["small"]
    final = replace(small.final, net=net, seeds=seeds)
    return replace(small, strategies=(*METHODS, CONTROL), baselines=(), final=final, stages=("final",))


@dataclass(frozen=True, eq=False)
class Universe:
    """One universe: its spectra, and the folder of its runs."""

    number: int
    path: Path
    digest: str
    classes: tuple[str, ...]
    folder: Folder


def open_universe(number: int, out: Path, plan: Plan, jobs: int | None, progress: bool) -> Universe:
    """Simulate it where it is not there yet, and open its folder."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{universe_name(number)}.h5"
    if not path.exists():
        generate.run(simulation(number), path, jobs=jobs, progress=progress)
    data = read(path)
    prepared = prepare(data)
    check(plan, prepared)
    folder = Folder(out / f"{universe_name(number)}-{plan.final.net}")
    folder.open(plan, data_digest(data))
    return Universe(number, path.resolve(), data_digest(data), prepared.classes, folder)


def carry_out(
    numbers: Sequence[int], out: Path, plan: Plan, methods: Sequence[str], pool: Pool, console: Console | None
) -> None:
    """Simulate and run universes in their order; runs of one fold follow each other."""
    for number in numbers:
        one = open_universe(number, out, plan, pool.workers, console is not None)
        tasks = plan.finals(methods)
        begin, name = time.perf_counter(), universe_name(number)
        finished(tasks, name, one.folder, pool, (plan, str(one.path), one.digest), console)
        if console is not None:
            minutes = (time.perf_counter() - begin) / 60
            console.print(f"{name}: {len(tasks)} runs, {minutes:.1f} minutes", highlight=False)


@click.command()
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
@click.option(
    "-u", "--universe", "chosen", multiple=True, type=click.IntRange(1, UNIVERSES), help="Default: all."
)
@click.option("--net", default=SCREEN.name, show_default=True, type=click.Choice((SCREEN.name, *NETS)))
@click.option(
    "--seeds", default=1, show_default=True, type=click.IntRange(1, 100), help="Divisions into folds."
)
@click.option("--jobs", type=click.IntRange(1), help="Worker processes; default: one a CPU.")
@click.option("--control", is_flag=True, help=f"Then {CONTROL}, too.")
def main(
    output: Path, chosen: tuple[int, ...], net: str, seeds: int, jobs: int | None, control: bool
) -> None:
    """Run the replicated study, or go on with it."""
    numbers, plan, console = chosen or tuple(range(1, UNIVERSES + 1)), replicated_plan(net, seeds), Console()
    with open_pool(jobs, None) as pool:
        carry_out(numbers, output, plan, METHODS, pool, console)
        if control:
            carry_out(numbers, output, plan, (CONTROL,), pool, console)


if __name__ == "__main__":
    main()
