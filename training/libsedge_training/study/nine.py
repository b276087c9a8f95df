"""What a single hold-out of nine specimens can say about a difference of 8.45 points.

`python -m libsedge_training.study.nine SET.h5 -o nine.svg` tests two baselines on many random hold-outs of nine
specimens (whole specimens, every class in every part) and prints how their accuracies and their difference
scatter from split to split. The difference of two methods that are equally good on average shows what chance
gives: `--methods` names them. Their fits are deterministic, so all scatter is the specimens'.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np

from libsedge_training import plots
from libsedge_training.readers import read
from libsedge_training.splits import split_by_specimen

from .baselines import BASELINES, probabilities
from .data import Data, binned, prepare

GAIN = 8.45  # points: the paper's best weighting over equal weights
HELD = 9


def accuracies(data: Data, methods: tuple[str, str], splits: int) -> np.ndarray:
    """Test accuracy in points, float64 [splits, 2], of both methods on the same random hold-outs."""
    values, _ = binned(data.values, data.grid_mask, 3)
    found = np.empty((splits, 2))
    for seed in range(splits):
        split = split_by_specimen(data.label.tolist(), data.specimen.tolist(), seed, HELD)
        learn, test = np.concatenate([split["train"], split["validation"]]), split["test"]
        for i, name in enumerate(methods):
            p, _ = probabilities(
                name, values[learn], data.target[learn], values[test], len(data.classes), seed
            )
            found[seed, i] = 100 * (p.argmax(axis=1) == data.target[test]).mean()
    return found


def told(found: np.ndarray) -> dict[str, float]:
    """What the splits say: means, 5th and 95th percentiles, how often one split shows `GAIN` either way."""
    delta = found[:, 0] - found[:, 1]
    rows = {"first": found[:, 0], "second": found[:, 1], "difference": delta}
    out: dict[str, float] = {"splits": float(len(found))}
    for name, values in rows.items():
        low, high = np.percentile(values, [5, 95])
        out |= {f"{name} mean": float(values.mean()), f"{name} 5 %": float(low), f"{name} 95 %": float(high)}
    return out | {f"share of splits with {GAIN} points or more": float((np.abs(delta) >= GAIN).mean())}


def draw(found: np.ndarray, methods: tuple[str, str], path: Path) -> None:
    """Histogram of the difference over the splits."""
    figure, ax = plots.axes()
    ax.hist(found[:, 0] - found[:, 1], bins=np.arange(-50, 52.5, 2.5).tolist(), color=plots.BLUE)
    for x in (-GAIN, GAIN):
        ax.axvline(x, color="0.3", linestyle=":")
    ax.set_xlabel(f"accuracy of {methods[0]} minus {methods[1]}, {HELD} held-out specimens (points)")
    ax.set_ylabel("splits")
    figure.savefig(path)


@click.command()
@click.argument("spectra", type=click.Path(exists=True))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Picture of the difference (SVG, PNG).")
@click.option("--splits", default=100, show_default=True)
@click.option(
    "--methods", nargs=2, type=click.Choice(list(BASELINES)), default=("svm", "lda"), show_default=True
)
def main(spectra: str, output: Path | None, splits: int, methods: tuple[str, str]) -> None:
    """How far two methods differ on single hold-outs of nine specimens of SET.h5."""
    found = accuracies(prepare(read(spectra)), methods, splits)
    click.echo(json.dumps({"methods": list(methods), **told(found)}, indent=1))
    if output is not None:
        draw(found, methods, output)


if __name__ == "__main__":
    main()
