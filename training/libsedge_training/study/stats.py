"""Intervals for differences between methods that were tested on the same specimens.

Shots of one specimen are not independent, so specimens are what is resampled (cluster bootstrap; Davison and
Hinkley, 1997, section 3.8), within their classes, because the number of specimens of a class is part of the
design. Seeds are resampled as well (Owen's pigeonhole bootstrap, Ann. Appl. Stat. 1, 2007): another seed
gives other folds and first weights. Two methods are always compared on the same resampled specimens and
seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

DRAWS = 4000
FIGURES = ("accuracy", "precision", "recall", "f1", "worst_distance")


@dataclass(frozen=True, eq=False)
class Counts:
    """Predictions of one method: float64 [seeds, specimens, distances, classes], how many test spectra of the
    specimen at the distance were called the class; 0 where a run is missing. truth : int [specimens]. within : int
    [specimens], specimens are resampled among those of the same number; None = of the same class.
    """

    predicted: np.ndarray
    truth: np.ndarray
    within: np.ndarray | None = None

    def only(self, cells: np.ndarray) -> Counts:
        """With the (seed, specimen) cells that are False in bool [seeds, specimens] taken out."""
        return replace(self, predicted=self.predicted * cells[:, :, None, None])

    def resamples(self, draws: int) -> tuple[np.ndarray, np.ndarray]:
        """`resamples` of its specimens and seeds."""
        groups = self.truth if self.within is None else self.within
        return resamples(groups, len(self.predicted), draws=draws)

    @property
    def cells(self) -> np.ndarray:
        """bool [seeds, specimens]: the method was tested there."""
        found: np.ndarray = self.predicted.sum(axis=(2, 3)) > 0
        return found


def figures(counts: Counts, specimens: np.ndarray, seeds: np.ndarray) -> dict[str, np.ndarray]:
    """FIGURES, float64 [b] each, with specimens [b, specimens] and seeds [b, seeds] counted so many times.

    Each is computed over all test spectra of a seed (the folds together), then averaged over the seeds.
    precision, recall and f1 are means over the classes, 0 where a class is never predicted.
    """
    classes = counts.predicted.shape[3]
    one_hot = np.eye(classes)[counts.truth]
    by_class = counts.predicted.sum(axis=2)
    confusion = np.einsum("bs,st,rsp->brtp", specimens, one_hot, by_class, optimize=True)
    right = np.einsum("brkk->brk", confusion)
    true, called = confusion.sum(axis=3), confusion.sum(axis=2)
    total = true.sum(axis=2)
    recall, precision = _ratio(right, true), _ratio(right, called)
    hit = np.einsum("rsdk,sk->rsd", counts.predicted, one_hot)
    at = np.einsum("bs,rsd->brd", specimens, hit, optimize=True)
    of = np.einsum("bs,rsd->brd", specimens, counts.predicted.sum(axis=3), optimize=True)
    worst = np.where(of > 0, _ratio(at, of), np.inf).min(axis=2)
    each = {
        "accuracy": _ratio(right.sum(axis=2), total),
        "precision": precision.mean(axis=2),
        "recall": recall.mean(axis=2),
        "f1": _ratio(2 * right, true + called).mean(axis=2),
        "worst_distance": np.where(np.isfinite(worst), worst, 0),
    }
    say = seeds * (total > 0)
    return {name: _ratio((value * say).sum(axis=1), say.sum(axis=1)) for name, value in each.items()}


def spread(counts: Counts, draws: int = DRAWS) -> dict[str, float]:
    """Accuracy at the best distance minus that at the worst: {value, low, high, by_chance, p}.

    low, high : 95 % percentile interval of the difference between these two distances, specimens and seeds resampled;
    the two were picked as the extremes of the same answers, so the interval lies too high. by_chance, p : the same
    difference where distance does not matter, its mean, and how often it is as large: each specimen's distances are
    dealt out anew, `draws` / 4 times (a permutation test).
    """
    one_hot = np.eye(counts.predicted.shape[3])[counts.truth]
    tested = counts.predicted.sum(axis=(0, 1, 3)) > 0
    of = counts.predicted.sum(axis=3)[:, :, tested]
    hit = np.einsum("rsdk,sk->rsd", counts.predicted[:, :, tested], one_hot)

    def at(hits: np.ndarray, totals: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """Accuracy at the distances [b, distances] from sums over the specimens [b, seeds, distances]."""
        say = seeds[:, :, None] * (totals > 0)
        return _ratio((_ratio(hits, totals) * say).sum(axis=1), say.sum(axis=1))

    specimens, seeds = counts.resamples(draws)
    drawn = [np.einsum("bs,rsd->brd", specimens, x, optimize=True) for x in (hit, of)]
    each = at(drawn[0], drawn[1], seeds)
    best, worst = int(each[0].argmax()), int(each[0].argmin())
    delta = each[:, best] - each[:, worst]
    low, high = np.percentile(delta[1:], [2.5, 97.5])
    columns = np.broadcast_to(np.arange(of.shape[2]), (draws // 4, *of.shape[1:]))
    dealt = np.random.default_rng(0).permuted(columns, axis=2)
    sums = [
        np.stack([np.take_along_axis(one[None], dealt, axis=2).sum(axis=1) for one in x], axis=1)
        for x in (hit, of)
    ]
    chance = np.ptp(at(sums[0], sums[1], np.ones((len(dealt), len(hit)))), axis=1)
    p = (1 + int((chance >= delta[0] - 1e-12).sum())) / (1 + len(chance))
    found = (delta[0], low, high, chance.mean(), p)
    return dict(zip(("value", "low", "high", "by_chance", "p"), map(float, found), strict=True))


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.zeros(np.broadcast(a, b).shape), where=b > 0)


def resamples(
    truth: np.ndarray, seeds: int, seed: int = 0, draws: int = DRAWS
) -> tuple[np.ndarray, np.ndarray]:
    """(specimens [draws + 1, n], seeds [draws + 1, seeds]): how often each counts; row 0 is the sample itself."""
    rng = np.random.default_rng(seed)
    specimens = np.ones((draws + 1, len(truth)))
    for k in np.unique(truth):
        rows = np.flatnonzero(truth == k)
        specimens[1:, rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=draws)
    times = np.ones((draws + 1, seeds))
    times[1:] = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws)
    return specimens, times


def difference(
    a: Counts, b: Counts, draws: int = DRAWS, seeds_too: bool = True
) -> dict[str, dict[str, float]]:
    """a - b, paired: FIGURES -> {mean, low, high, p}; where either misses a specimen in a seed, both do.

    seeds_too : seeds are resampled as well as specimens.
    mean : the difference in the sample. low, high : 95 % percentile interval. p : two-sided, twice the share of
    resamples on the other side of 0, at least 1 / (draws + 1).
    """
    both = a.cells & b.cells
    specimens, seeds = a.resamples(draws)
    if not seeds_too:
        seeds[:] = 1
    one, other = (figures(c.only(both), specimens, seeds) for c in (a, b))
    found = {}
    for name in FIGURES:
        delta = one[name] - other[name]
        low, high = np.percentile(delta[1:], [2.5, 97.5])
        beyond = min(int((delta[1:] <= 0).sum()), int((delta[1:] >= 0).sum()))
        p = min(1.0, 2 * (beyond + 1) / len(delta))
        found[name] = {"mean": float(delta[0]), "low": float(low), "high": float(high), "p": p}
    return found


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """p values adjusted for all of them being looked at (Holm, Scand. J. Stat. 6, 1979)."""
    adjusted, running = {}, 0.0
    for rank, name in enumerate(sorted(p, key=lambda n: (p[n], n))):
        running = max(running, min(1.0, (len(p) - rank) * p[name]))
        adjusted[name] = running
    return {name: adjusted[name] for name in p}


def point(counts: Counts) -> dict[str, float]:
    """FIGURES of the sample itself."""
    ones: Callable[[int], np.ndarray] = lambda n: np.ones((1, n))  # noqa: E731
    found = figures(counts, ones(counts.predicted.shape[1]), ones(counts.predicted.shape[0]))
    return {name: float(value[0]) for name, value in found.items()}
