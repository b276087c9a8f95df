"""What a single hold-out of nine specimens can say about a difference of 8.45 points.

`python -m libsedge_training.study.nine SET.h5 -o nine.svg` tests two methods, strategies or baselines (`sk:lda`,
`cnn:a`), on many random hold-outs of nine specimens (whole specimens, every class in every part) and prints how their
accuracies and their difference scatter from split to split. The difference of two methods that are equally good on
average shows what chance gives: `--methods` names them. All learn from the specimens that are not held out, on bins
of 3 points.

`libsedge study SET.h5 -o DIR --split hold-out:9 --folds 25` makes a whole study of such hold-outs, resumable and on all
CPUs; `python -m libsedge_training.study.nine DIR/study.json --methods equal focal:gamma=2` reads them out of it
(out of its screening, whose strategies do not learn from the validation specimens).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from libsedge.errors import ConfigError

from libsedge_training import plots
from libsedge_training.prepare import data_digest
from libsedge_training.readers import read

from .divide import HOLD_OUT
from .plan import PRESETS, SCREEN, Stage
from .work import perform

GAIN = 8.45  # points: the paper's best weighting over equal weights
HELD = 9
Methods = tuple[str, str]


def accuracies(path: str, methods: Methods, splits: int, epochs: int = 20) -> np.ndarray:
    """Test accuracy in points, float64 [splits, 2], of both methods on the same random hold-outs of the set `path`."""
    division = (f"{HOLD_OUT}:{HELD}",)
    plan = replace(
        PRESETS["small"], splits=division, folds=max(2, splits), final=Stage(SCREEN.name, epochs, 1)
    )
    digest = data_digest(read(path))
    tasks = [t for t in plan.finals(methods) if t.fold < splits]
    return of_rows((perform(t, plan, path, digest) for t in tasks), methods)


def of_rows(rows: Iterable[Mapping[str, Any]], methods: Methods) -> np.ndarray:
    """The same from rows of a study; hold-outs that one of the methods misses are left out."""
    found: dict[tuple[int, int], dict[str, float]] = {}
    for row in rows:
        if row["method"] in methods and row["status"] == "complete":
            found.setdefault((row["seed"], row["fold"]), {})[row["method"]] = 100 * row["accuracy"]
    both = [
        [one[name] for name in methods] for _, one in sorted(found.items()) if len(one) == len(set(methods))
    ]
    if not both:
        raise ConfigError("no hold-out has been tested with both methods", field="methods", value=methods)
    return np.array(both)


def told(found: np.ndarray) -> dict[str, float]:
    """What the splits say: means, 5th and 95th percentiles, how often one split shows `GAIN` either way."""
    delta = found[:, 0] - found[:, 1]
    rows = {"first": found[:, 0], "second": found[:, 1], "difference": delta}
    out: dict[str, float] = {"splits": float(len(found))}
    for name, values in rows.items():
        low, high = np.percentile(values, [5, 95])
        out |= {f"{name} mean": float(values.mean()), f"{name} 5 %": float(low), f"{name} 95 %": float(high)}
    return out | {f"share of splits with {GAIN} points or more": float((np.abs(delta) >= GAIN).mean())}


def draw(found: np.ndarray, methods: Methods, path: Path) -> None:
    """Histogram of the difference over the splits."""
    figure, ax = plots.axes()
    ax.hist(found[:, 0] - found[:, 1], bins=np.arange(-50, 52.5, 2.5).tolist(), color=plots.BLUE)
    for x in (-GAIN, GAIN):
        ax.axvline(x, color="0.3", linestyle=":")
    ax.set_xlabel(f"accuracy of {methods[0]} minus {methods[1]}, {HELD} held-out specimens (points)")
    ax.set_ylabel("splits")
    figure.savefig(path)


@click.command()
@click.argument("spectra", metavar="SET.h5|study.json", type=click.Path(exists=True))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Picture of the difference (SVG, PNG).")
@click.option("--splits", type=click.IntRange(1, 100), default=100, show_default=True)
@click.option("--epochs", default=20, show_default=True, help="Of a strategy's net.")
@click.option("--methods", nargs=2, default=("sk:svm", "sk:lda"), show_default=True)
def main(spectra: str, output: Path | None, splits: int, epochs: int, methods: Methods) -> None:
    """How far two methods differ on single hold-outs of nine specimens of SET.h5, or of those of a study."""
    if spectra.endswith(".json"):
        study = json.loads(Path(spectra).read_text("utf-8"))
        division = f"{HOLD_OUT}:{HELD}"
        rows = [r for r in study["runs"] if (r["split"], r["stage"]) == (division, "screen")]
        found = of_rows(rows, methods)
    else:
        found = accuracies(spectra, methods, splits, epochs)
    click.echo(json.dumps({"methods": list(methods), **told(found)}, indent=1))
    if output is not None:
        draw(found, methods, output)


if __name__ == "__main__":
    main()
