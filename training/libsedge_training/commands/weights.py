"""`libsedge weights`: the weighting strategies, and what one does to a set."""

from __future__ import annotations

import os
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from libsedge_training import weighting
from libsedge_training.model import net_spec
from libsedge_training.prepare import preprocessed, segments_for, weights_by_distance
from libsedge_training.readers import read
from libsedge_training.report import metre
from libsedge_training.search.best import weighting_name
from libsedge_training.splits import split_by_specimen


@click.command()
@click.argument("spectra", metavar="[SET.h5]", required=False, type=click.Path(exists=True))
@click.option("--list", "show_list", is_flag=True, help="List the strategies and example names.")
@click.option("--strategy", metavar="NAME", default="cc-bcd:w3:r1:a=8:b=8", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the split, as in `libsedge train`.")
@click.option("--test-specimens", type=int, default=9, show_default=True)
@click.option("-o", "--output", metavar="PLOT.png", default=None, help="Also draw weights against distance.")
def weights(
    spectra: str | None, show_list: bool, strategy: str, seed: int, test_specimens: int, output: str | None
) -> None:
    """Weights by distance that a strategy gives to the training part of SET.h5."""
    if show_list:
        for family, cls in weighting.FAMILIES.items():
            click.echo(f"{family}: {cls.summary}")
            for name in cls.examples:
                click.echo(f"  {name}")
        return
    if spectra is None:
        raise click.UsageError("name a SET.h5, or use --list")
    chosen = weighting.strategy(weighting_name(strategy))
    data = read(spectra)
    split = split_by_specimen(data.label.tolist(), data.specimen.tolist(), seed, test_specimens)
    part = data.select(split["train"])
    values, _ = preprocessed(part, segments_for(net_spec("m")))
    train = weighting.TrainPart(values, part.label, part.specimen, part.distance_m)
    found = chosen.fit(train)
    rows = weights_by_distance(found, part.distance_m)
    table = Table(
        title=f"{chosen.name}: {len(part)} training spectra{' (simulated)' if data.simulated else ''}"
    )
    for heading in ("distance", "spectra", "mean", "smallest", "largest"):
        table.add_column(heading, justify="right")
    for r in rows:
        numbers = (f"{r[key]:.3f}" for key in ("mean", "min", "max"))
        table.add_row(metre(r["distance_m"]), str(r["spectra"]), *numbers)
    Console().print(table)
    if chosen.start(train, seed) is not None:
        click.echo("dynamic: these are the weights before the first step; the net's losses change them")
    if output is not None:
        from libsedge_training.plots import weights as draw

        target = Path(output)
        temporary = target.with_name(f".{target.name}.tmp")
        draw(rows).savefig(temporary, format="png", dpi=150, metadata={"Software": None})
        os.replace(temporary, target)
        click.echo(f"wrote {target}")
