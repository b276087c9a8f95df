"""`libsedge reclassify`: archives of spectra become Parquet, every spectrum once."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from libsedge_training.reclassify.run import BLOCK_ROWS
from libsedge_training.reclassify.run import reclassify as carry_out


@click.command()
@click.argument("archives", metavar="ARCHIVE...", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("--model", metavar="MODEL.sedge", required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("-o", "--out", metavar="DIR", required=True, help="Folder of parts/ and manifest.json.")
@click.option(
    "--scheduler", metavar="ADDRESS", help="Work on this Dask scheduler's workers, such as tcp://HOST:8786."
)
@click.option(
    "--jobs", type=int, help="Worker processes; default: one a CPU; 1 = this process, without Dask."
)
@click.option("--block-rows", type=int, default=BLOCK_ROWS, show_default=True, help="Spectra a Parquet part.")
def reclassify(
    archives: tuple[str, ...], model: str, out: str, scheduler: str | None, jobs: int | None, block_rows: int
) -> None:
    """Classify every spectrum of ARCHIVEs (folders of shards, or files) with a model, into Parquet.

    Call it again after an interruption: finished parts stay. The parts are the same bytes for any number of workers.
    Exit code 0: all shards were whole; 1: done, but a shard is damaged (manifest.json says which); 2: not done.
    """
    console = Console(stderr=True, soft_wrap=True)
    done = carry_out(
        archives, model, out, jobs=jobs, scheduler=scheduler, block_rows=block_rows, console=console
    )
    for shard in done["shards"]:
        if shard["verdict"] != "whole":
            wrong = shard["error"]
            click.echo(f"{shard['name']}: {shard['verdict']}: {wrong['type']}: {wrong['why']}")
    click.echo(
        f"{done['spectra']:,} spectra{' (simulated)' if done['simulated'] else ''} of {len(done['shards'])} shards, "
        f"one row each: {done['accepted']:,} accepted, {done['unreadable']:,} unreadable; "
        f"{done['damaged_shards']} shards damaged; wrote {Path(out) / 'manifest.json'}"
    )
    if done["damaged_shards"]:
        raise SystemExit(1)
