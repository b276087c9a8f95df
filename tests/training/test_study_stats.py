"""Figures, intervals and corrections of the study against scikit-learn, hand counts and simulated truth."""

from __future__ import annotations

import numpy as np
import pytest
from libsedge_training.study.stats import Counts, difference, figures, holm, point, resamples

CLASSES = 3


def random_counts(
    seed: int, seeds: int = 2, specimens: int = 12, distances: int = 3, shots: int = 5
) -> Counts:
    rng = np.random.default_rng(seed)
    truth = np.arange(specimens) % CLASSES
    p = np.full((specimens, CLASSES), 0.2)
    p[np.arange(specimens), truth] = 0.6
    predicted = np.stack(
        [
            [[rng.multinomial(shots, p[s]) for _ in range(distances)] for s in range(specimens)]
            for _ in range(seeds)
        ]
    )
    return Counts(predicted.astype(float), truth)


def test_figures_equal_scikit_learn() -> None:
    from sklearn import metrics as sk

    counts = random_counts(0, seeds=1)
    y_true, y_pred, where = [], [], []
    for s, d, k in np.ndindex(12, 3, CLASSES):
        n = int(counts.predicted[0, s, d, k])
        y_true += [int(counts.truth[s])] * n
        y_pred += [k] * n
        where += [d] * n
    found = point(counts)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(y_true, y_pred))
    for name, function in (
        ("precision", sk.precision_score),
        ("recall", sk.recall_score),
        ("f1", sk.f1_score),
    ):
        assert found[name] == pytest.approx(function(y_true, y_pred, average="macro"))
    right = np.array(y_true) == np.array(y_pred)
    assert found["worst_distance"] == pytest.approx(min(right[np.array(where) == d].mean() for d in range(3)))
    # a resample that counts specimens 0 twice and 3 never is the set with those rows
    weights = np.ones((1, 12))
    weights[0, 0], weights[0, 3] = 2, 0
    twice = Counts(counts.predicted[:, [0, *range(12)]], counts.truth[[0, *range(12)]])
    cells = np.ones((1, 13), bool)
    cells[0, 4] = False
    want = point(twice.only(cells))
    got = figures(counts, weights, np.ones((1, 1)))
    assert {k: float(v[0]) for k, v in got.items()} == pytest.approx(want)


def test_the_same_method_differs_by_exactly_nothing_and_missing_cells_are_left_out() -> None:
    a = random_counts(1)
    for delta in difference(a, a, draws=200).values():
        assert (delta["mean"], delta["low"], delta["high"], delta["p"]) == (0, 0, 0, 1)
    worse = a.predicted.copy()
    worse[0, :, :, :] = 0  # the runs of seed 0 are missing; seed 1 is the same
    assert difference(Counts(worse, a.truth), a, draws=50)["accuracy"]["mean"] == 0


def test_resamples_keep_the_classes_and_row_0_is_the_sample() -> None:
    truth = np.array([0, 0, 0, 1, 1, 2])
    specimens, seeds = resamples(truth, 3, draws=100)
    assert (specimens[0] == 1).all()
    assert (seeds[0] == 1).all()
    for k, n in ((0, 3), (1, 2), (2, 1)):
        assert (specimens[:, truth == k].sum(axis=1) == n).all()
    assert (seeds.sum(axis=1) == 3).all()
    assert len(np.unique(specimens, axis=0)) > 10


def test_intervals_cover_where_intervals_by_shot_would_not() -> None:
    """Two methods of equal worth whose hits vary by specimen: the truth is 0. Counting every shot as an
    independent trial (the negative control) claims a difference most of the time."""
    covered = naive = 0
    shots, specimens, repeats = 40, 36, 60
    for repeat in range(repeats):
        rng = np.random.default_rng(repeat)
        truth = np.arange(specimens) % CLASSES
        pair = []
        for _ in range(2):
            share = rng.beta(0.5, 0.5, specimens)  # a specimen is mostly right or mostly wrong
            hit = rng.binomial(shots, share)
            predicted = np.zeros((1, specimens, 1, CLASSES))
            predicted[0, np.arange(specimens), 0, truth] = hit
            predicted[0, np.arange(specimens), 0, (truth + 1) % CLASSES] = shots - hit
            pair.append(Counts(predicted, truth))
        delta = difference(*pair, draws=400)["accuracy"]
        covered += delta["low"] <= 0 <= delta["high"]
        p = [point(c)["accuracy"] for c in pair]
        half = 1.96 * np.sqrt(sum(x * (1 - x) / (shots * specimens) for x in p))
        naive += abs(delta["mean"]) <= half
    assert covered >= 0.85 * repeats
    assert naive <= 0.6 * repeats


def test_a_real_difference_is_found() -> None:
    a, b = random_counts(2, specimens=36), random_counts(3, specimens=36)
    b.predicted[:] = 0
    b.predicted[:, np.arange(36), :, (b.truth + 1) % CLASSES] = 5
    delta = difference(a, b, draws=300)["accuracy"]
    assert delta["low"] > 0.4
    assert delta["p"] < 0.01


def test_holm_equals_its_definition() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"a": 0.9, "b": 0.6}) == {"a": 1.0, "b": 1.0}
