"""One net of a search: trained on the training specimens, judged on the validation specimens. Of the test specimens,
only names and labels are ever read: their spectra stay in the file.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from libsedge.errors import RunError
from libsedge.store import StoreReader

from .. import fit, splits
from ..prepare import data_digest
from ..spectra import SpectraSet
from ..study.data import Data, prepare
from ..study.plan import Plan, spec_of


@dataclass(frozen=True)
class Recipe:
    """Everything besides strategy and data that decides a trial's figure."""

    net: str
    epochs: int
    seed: int
    test_specimens: int
    validation_specimens: int | None
    batch: int = Plan.batch
    lr: float = Plan.lr
    weight_decay: float = Plan.weight_decay


@dataclass(frozen=True)
class Net:
    """One training: trial number (-1 = equal weights), strategy, and the seed of net and batches."""

    trial: int
    weighting: str
    seed: int

    @property
    def key(self) -> str:
        return f"{'equal' if self.trial < 0 else f'trial-{self.trial:04d}'}-seed{self.seed}"


def without_test(path: str, recipe: Recipe) -> tuple[SpectraSet, splits.Split, list[str]]:
    """(spectra of training and validation specimens, their rows in it, names of the test specimens).

    The split is that of `libsedge train` with the same seed and numbers of specimens.
    """
    with StoreReader(path) as store:
        split = splits.split_by_specimen(
            store.label.tolist(),
            store.specimen.tolist(),
            recipe.seed,
            recipe.test_specimens,
            recipe.validation_specimens,
        )
        rows = np.sort(np.concatenate([split["train"], split["validation"]]))
        runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
        data = SpectraSet(
            np.concatenate([store.rows(slice(int(run[0]), int(run[-1]) + 1)) for run in runs]),
            store.wavelength,
            distance_m=store.distance_m[rows],
            specimen=store.specimen[rows],
            label=store.label[rows],
            shot=store.shot[rows],
            mask=store.mask,
            quantity=store.quantity,
            saturation=store.saturation,
            dark=store.dark,
            instrument=store.instrument,
            source=store.source,
            simulated=store.simulated,
        ).validate()
        tested = sorted(set(store.specimen[split["test"]].tolist()))
    inside = {part: np.searchsorted(rows, split[part]) for part in ("train", "validation")}
    return data, inside, tested


@lru_cache(maxsize=1)
def _load(path: str, recipe: Recipe, digest: str) -> tuple[Data, splits.Split]:
    data, split, _ = without_test(path, recipe)
    if data_digest(data) != digest:
        raise RunError("holds other spectra than the search was started with", file=path, field="data.digest")
    return prepare(data, recipe.net), split


def perform(net: Net, recipe: Recipe, path: str, digest: str) -> dict[str, Any]:
    """The row of a net: its balanced accuracy on the validation specimens after the last epoch; None = diverged."""
    data, split = _load(path, recipe, digest)
    config = fit.TrainConfig(
        weighting=net.weighting,
        epochs=recipe.epochs,
        patience=recipe.epochs,
        batch=recipe.batch,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        augmentation=Plan.augmentation,
        seed=net.seed,
    )
    row = {"key": net.key, "trial": net.trial, "weighting": net.weighting, "seed": net.seed}
    try:
        with fit.torch_settings(net.seed, 1):
            trainer = fit.Trainer(config, spec_of(recipe.net), data.parts(split))
            for _ in range(recipe.epochs):
                trainer.epoch()
    except RunError as wrong:
        if wrong.field != "loss":
            raise
        return row | {"validation_accuracy": None, "why": str(wrong)}
    return row | {"validation_accuracy": trainer.history[-1]["validation_accuracy"]}


def score(rows: list[dict[str, Any]]) -> float | None:
    """Mean of a trial's nets; None where one diverged."""
    found = [row["validation_accuracy"] for row in rows]
    return None if None in found else statistics.fmean(found)
