"""What static weights do to a logistic regression: a second opinion on a split, in seconds.

`python -m libsedge_training.study.linear SET.h5 --split unbalanced --strategy distance:p=1` fits the baseline
`sk:logistic` with the weights of each strategy on the same parts of one seed and prints accuracies and differences from
equal weights with their intervals. A net may fit every training spectrum whatever its weight; this loss is convex and
regularised, so that weights always change the answer. Strategies that follow a net or mix spectra have no place here.
"""

from __future__ import annotations

import os
from typing import Any

import click
import numpy as np
from libsedge.errors import ConfigError

from libsedge_training import weighting
from libsedge_training.prepare import data_digest
from libsedge_training.readers import read
from libsedge_training.weighting import TrainPart

from .data import Data, load
from .plan import EQUAL, SCREEN
from .stats import difference, point
from .summary import Row, counts
from .work import judged


def static(name: str) -> str:
    """The strategy's canonical name; ConfigError where its weights are not known before the training."""
    strategy = weighting.strategy(name)
    texts = np.array(["a", "b"])
    nothing = TrainPart(np.ones((2, SCREEN.points), np.float32), texts, texts, np.array([2.0, 3.0]))
    if strategy.mixes or strategy.start(nothing, 0) is not None:
        raise ConfigError("its weights follow a net; name a static one", field="strategy", value=name)
    return strategy.name


def coordinates(x: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standardised points of training and test spectra in the space that the training spectra span, float64.

    With an L2 penalty a linear model has the same solution there as on all points, with fewer coefficients.
    """
    from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

    scale = StandardScaler().fit(x)
    x, test = scale.transform(x).astype(np.float64), scale.transform(test).astype(np.float64)
    _, size, axes = np.linalg.svd(x, full_matrices=False)
    axes = axes[size > 1e-6 * size[0]]
    return x @ axes.T, test @ axes.T


def weighted(x: np.ndarray, y: np.ndarray, weights: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Decision values float64 [n, classes] of a logistic regression, C as that of the baseline."""
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    model = LogisticRegression(C=0.01, max_iter=1000).fit(x, y, sample_weight=weights)
    found: np.ndarray = model.decision_function(test)
    return found if found.ndim == 2 else np.stack([-found, found], axis=1)


def compare(data: Data, split: str, names: tuple[str, ...], folds: int = 4, seed: int = 0) -> dict[str, Any]:
    """strategy -> {accuracy, minus_equal}, tested on the parts of one seed."""
    rows: dict[str, list[Row]] = {name: [] for name in dict.fromkeys((EQUAL, *map(static, names)))}
    for fold in range(folds):
        parts = data.divided(split, folds, seed, fold).rows
        learn = np.concatenate([parts["train"], parts["validation"]])
        part = data.parts({**parts, "train": learn}).train
        x, test = coordinates(data.values[learn], data.values[parts["test"]])
        for name, mine in rows.items():
            weights = weighting.strategy(name).fit(part)
            logits = weighted(x, data.target[learn], weights, test)
            mine.append({**judged(logits, data, parts["test"], sure=False), "seed": 0})
    specimens = sorted(set(data.specimen.tolist()))
    mm = sorted(set(np.rint(data.distance_m.astype(np.float64) * 1000).astype(int).tolist()))
    found = {name: counts(mine, 1, specimens, mm, len(data.classes)) for name, mine in rows.items()}
    return {
        name: {
            "accuracy": point(mine)["accuracy"],
            "minus_equal": difference(mine, found[EQUAL])["accuracy"],
        }
        for name, mine in found.items()
    }


@click.command()
@click.argument("spectra", metavar="SET.h5", type=click.Path(exists=True))
@click.option("--split", default="folds", show_default=True, help="As for `libsedge study`.")
@click.option(
    "--strategy", multiple=True, default=("distance:p=1", "distance:p=2", "cc-bcd:w3m:r1"), show_default=True
)
@click.option("--folds", default=4, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(spectra: str, split: str, strategy: tuple[str, ...], folds: int, seed: int) -> None:
    """Logistic regression with static weights on one split of SET.h5."""
    path = os.path.abspath(spectra)
    data = load(path, data_digest(read(path)), SCREEN.name)
    for name, row in compare(data, split, strategy, folds, seed).items():
        delta = row["minus_equal"]
        low, high, mean = (100 * delta[k] for k in ("low", "high", "mean"))
        click.echo(f"{name:28} {100 * row['accuracy']:5.1f} %  {mean:+5.1f} [{low:+5.1f}, {high:+5.1f}]")


if __name__ == "__main__":
    main()
