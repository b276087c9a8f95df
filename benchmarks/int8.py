"""What rounding to int8 does to nets trained as in the study's final stage, quantised after training or trained so.

For every net and fold: accuracy on specimens that were not trained on, in float and in int8, the test spectra whose
class int8 changes, and the root mean square error of the margin between the two classes that the float net likes best,
beside that margin's scatter from shot to shot. Pooled: 95 % intervals, specimens resampled. With --qat the int8 net is
one whose last epochs had the rounding, compared with the float net without. docs/quantisation.md has figures.

    python -m libsedge_training.study.development -o development.h5      # choose on these, never on the study's own
    python benchmarks/int8.py development.h5 [--net small]... [--fold 0]... [--qat 4]
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click
import numpy as np
import torch
from libsedge_training import fit, quantise
from libsedge_training.int8_export import run_onnxruntime
from libsedge_training.model import NETS, fold, net_spec
from libsedge_training.readers import read
from libsedge_training.study import work
from libsedge_training.study.data import Data, prepare
from libsedge_training.study.divide import folds
from libsedge_training.study.plan import PRESETS, Task

WEIGHTING = "virtual:n=16:p=0.8:foreign=0.8:sigma=1"
DRAWS = 4000


def trained(config: fit.TrainConfig, net: str, data: Data, part: dict[str, np.ndarray]) -> fit.Trainer:
    """The net after its last epoch."""
    with fit.torch_settings(config.seed, 1):
        trainer = fit.Trainer(config, net_spec(net), data.parts(part))
        for _ in range(config.epochs):
            trainer.epoch()
    return trainer


def int8_logits(trainer: fit.Trainer, x: np.ndarray) -> np.ndarray:
    """Of the exported net, quantised on the training spectra alone."""
    own, rounding = trainer.part.values, trainer.net.rounding
    given = None if rounding is None else rounding.quants
    choice = quantise.choose(fold(trainer.net.eval()), own[::4], own[1::16], run_onnxruntime, "net", given)
    return quantise.dequantise_logits(
        choice.graph, run_onnxruntime(choice.graph, quantise.quantise_input(choice.graph, x))
    )


def margin(logits: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Difference of the two classes that are best in `of`."""
    best = np.argsort(-of, axis=1)[:, :2]
    pair = np.take_along_axis(logits, best, axis=1)
    return np.asarray(pair[:, 0] - pair[:, 1])


def shot_scatter(plain: np.ndarray, places: np.ndarray) -> float:
    """Root mean square scatter of the margin among the shots of a place, that is, a specimen at a distance."""
    variances = []
    for place in np.unique(places):
        rows = plain[places == place]
        variances.append(margin(rows, np.repeat(rows[:1], len(rows), axis=0)).var(ddof=1))
    return float(np.sqrt(np.mean(variances)))


def interval(values: np.ndarray, specimens: np.ndarray) -> str:
    """Mean in % and its 95 % interval, specimens resampled."""
    names, at = np.unique(specimens, return_inverse=True)
    sums, counts = np.bincount(at, weights=values), np.bincount(at)
    drawn = np.random.default_rng(0).integers(len(names), size=(DRAWS, len(names)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [0.025, 0.975])
    return f"{100 * values.mean():+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"


@click.command()
@click.argument("spectra", metavar="SET.h5", type=click.Path(exists=True))
@click.option("--net", "nets", type=click.Choice(list(NETS)), multiple=True, default=["medium"])
@click.option("--fold", "chosen", type=click.IntRange(0, 3), multiple=True, default=range(4))
@click.option("--epochs", default=20, show_default=True)
@click.option("--qat", default=0, show_default=True, help="The last epochs, so many, with rounding.")
def main(spectra: str, nets: tuple[str, ...], chosen: tuple[int, ...], epochs: int, qat: int) -> None:
    """Train, quantise, count."""
    plan = PRESETS["small"]
    for net in nets:
        data = prepare(read(spectra), net)
        rows: list[dict[str, Any]] = []
        for k in chosen:
            split = folds(data.label.tolist(), data.specimen.tolist(), 4, 0)[k]
            learn, test = np.concatenate([split["train"], split["validation"]]), split["test"]
            config = work.config(Task("final", WEIGHTING, net, epochs, seed=0, fold=k), plan)
            parts = {**split, "train": learn}
            plain = trained(config, net, data, parts)
            rounded = plain if qat == 0 else trained(replace(config, qat=qat), net, data, parts)
            x, truth = data.values[test], data.target[test]
            real, found = fit.predict(plain.net, torch.from_numpy(x)).numpy(), int8_logits(rounded, x)
            error = margin(found, real) - margin(real, real)
            places = np.array(
                [f"{s} {d}" for s, d in zip(data.specimen[test], data.distance_m[test], strict=True)]
            )
            right = [(logits.argmax(axis=1) == truth).astype(float) for logits in (real, found)]
            changed = (real.argmax(axis=1) != found.argmax(axis=1)).astype(float)
            rows.append({"specimen": data.specimen[test], "changed": changed, "gain": right[1] - right[0]})
            click.echo(
                f"{net}, fold {k}: float {right[0].mean():.2%}, int8 {right[1].mean():.2%}, {changed.sum():.0f} of "
                f"{len(test)} changed, margin off by {np.sqrt((error**2).mean()):.3f}, "
                f"shot scatter {shot_scatter(real, places):.3f}"
            )
        pooled = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
        for name, text in (("changed", "changed"), ("gain", "int8 - float")):
            click.echo(f"{net}: {text} {interval(pooled[name], pooled['specimen'])} %")


if __name__ == "__main__":
    main()
