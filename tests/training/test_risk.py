"""Calibration error, risk-coverage and AUROC against plain counting; a promise of an error that is kept."""

from __future__ import annotations

import numpy as np
import pytest
from libsedge.errors import DatasetError
from libsedge_training import promise, risk
from libsedge_training.risk import Ranked, Resampled
from scipy.special import softmax
from sklearn.metrics import roc_auc_score


def drawn(n: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and true classes drawn from softmax(logits / temperature)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (n, 5))
    p = softmax(logits / temperature, axis=1)
    return logits, (p.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)


def made_up(n: int, seed: int = 0, digits: int = 9) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    confidence = np.round(rng.uniform(0.2, 1, n), digits)
    return confidence, rng.random(n) < confidence


def test_ece_is_the_sum_over_the_bins() -> None:
    confidence, right = made_up(15 * 40)
    parts = np.array_split(np.argsort(confidence), 15)
    want = sum(len(p) * abs(right[p].mean() - confidence[p].mean()) for p in parts) / len(right)
    assert Ranked.of(confidence, right).ece() == pytest.approx(want)


def test_wrong_temperature_raises_ece() -> None:
    logits, truth = drawn(20_000, 2.0)
    right = logits.argmax(axis=1) == truth

    def ece(temperature: float) -> float:
        return Ranked.of(softmax(logits / temperature, axis=1).max(axis=1), right).ece()

    assert ece(2.0) < 0.02
    assert min(ece(0.7), ece(6.0)) > 0.1


@pytest.mark.parametrize("digits", [9, 1])
def test_curve_and_its_figures_are_plain_counts_in_any_order(digits: int) -> None:
    confidence, right = made_up(200, 1, digits)
    ranked = Ranked.of(confidence, right)
    kept = [confidence >= c for c in confidence]
    assert ranked.aurc() == pytest.approx(np.mean([1 - right[k].mean() for k in kept]))
    enough = [k for k in kept if k.mean() >= 0.85]
    assert ranked.error_at(0.85) == pytest.approx(1 - right[min(enough, key=np.sum)].mean())
    for most in (0.0, 0.05, 0.2, 1.0):
        good = [k.mean() for k in kept if 1 - right[k].mean() <= most]
        assert ranked.coverage_at(most) == pytest.approx(max(good, default=0.0))
    order = np.random.default_rng(2).permutation(200)
    again = Ranked.of(confidence[order], right[order])
    assert (again.aurc(), again.ece()) == pytest.approx((ranked.aurc(), ranked.ece()))


def test_a_confidence_that_knows_nothing_has_the_aurc_of_the_error() -> None:
    """Negative control: the curve is not low by itself."""
    confidence, right = made_up(20_000)
    error = 1 - right.mean()
    assert Ranked.of(np.full(20_000, 0.7), right).aurc() == pytest.approx(error)
    shuffled = np.random.default_rng(1).permutation(confidence)
    assert Ranked.of(shuffled, right).aurc() == pytest.approx(error, abs=0.02)
    assert Ranked.of(confidence, right).aurc() < 0.75 * error


def test_intervals_are_of_specimens_and_not_of_shots() -> None:
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(20) < 0.7, 30)  # a specimen is right or wrong as a whole
    confidence = rng.uniform(0.5, 1, 600)
    by_specimen = np.repeat(np.arange(20), 30).astype(str)
    widths = [
        row["high"] - row["low"]
        for specimen in (by_specimen, np.arange(600).astype(str))
        for row in [Resampled(confidence, right, specimen, draws=200).selective()["error"]]
    ]
    assert widths[0] > 3 * widths[1]


def test_the_temperature_of_the_other_specimens_never_sees_its_own() -> None:
    logits, truth = drawn(600, 1.0)
    specimen = np.repeat(np.arange(6), 100)
    before = risk.temperatures_of_others(logits, truth, specimen)
    spoilt = np.where(specimen == 3, (truth + 1) % 5, truth)
    after = risk.temperatures_of_others(logits, spoilt, specimen)
    assert before is not None
    assert after is not None
    assert (before[specimen == 3] == after[specimen == 3]).all()
    assert (before != after).any()
    assert risk.temperatures_of_others(logits, truth, ["one"] * 600) is None


def test_assess_measures_before_and_after() -> None:
    logits, truth = drawn(1000, 3.0)
    specimen = [f"{t}-{i % 40}" for i, t in enumerate(truth)]
    found = risk.assess(logits, truth, specimen, 3.0, "here")
    assert found["ece_after"]["value"] < found["ece_before"]["value"] / 2
    assert found["ece_other_specimens"]["value"] < found["ece_before"]["value"] / 2
    kept = found["selective"]
    assert (
        kept["curve"][-1]["value"]
        == kept["error"]["value"]
        == pytest.approx(float((logits.argmax(axis=1) != truth).mean()))
    )
    assert all(row["low"] <= row["value"] <= row["high"] for row in kept["curve"])
    assert risk.assess(logits, truth, specimen, None, "nowhere")["ece_after"] is None


def test_auroc_is_scikit_learns_and_a_half_for_shuffled_labels() -> None:
    rng = np.random.default_rng(0)
    score, inside = np.round(rng.normal(0, 1, 4000), 1), rng.random(4000) < 0.4
    score[inside] += 1
    found = risk.auroc(score[inside], score[~inside])
    assert found == pytest.approx(roc_auc_score(inside, score))
    shuffled = rng.permutation(inside)
    assert risk.auroc(score[shuffled], score[~shuffled]) == pytest.approx(0.5, abs=0.03)
    assert found > 0.7


def test_promise_without_errors_needs_the_number_of_specimens_it_names() -> None:
    need = promise.specimens_needed(0.05)
    for specimens in (need - 1, need):
        data = np.full(2 * specimens, 0.9), np.ones(2 * specimens, bool), np.arange(2 * specimens) // 2
        if specimens < need:
            with pytest.raises(DatasetError, match=f"{need} accepted ones"):
                promise.choose(*data, 0.05)
        else:
            assert promise.choose(*data, 0.05) == 0.9


def test_the_promise_is_kept_and_the_best_looking_threshold_does_not_keep_it() -> None:
    """300 calibrations on 400 specimens; a specimen's shots stand or fall together. Negative control: the loosest
    threshold whose error on the calibration specimens is at most E breaks it about every second time."""
    most, broken, greedy, accepted = 0.25, 0, 0, 0
    grid = np.linspace(0, 1, 4001)
    true_error = np.array([np.mean((1 - np.linspace(t, 1, 50)) * 0.8) for t in grid])  # of the rule below

    def error_of(threshold: float) -> float:
        return float(np.interp(threshold, grid, true_error))

    for seed in range(300):
        rng = np.random.default_rng(seed)
        confidence = rng.random(400)
        right = rng.random(400) >= 0.8 * (1 - confidence)
        shots = np.repeat(confidence, 3), np.repeat(right, 3), np.repeat(np.arange(400), 3)
        try:
            broken += error_of(promise.choose(*shots, most)) > most
            accepted += 1
        except DatasetError:
            pass
        order = np.argsort(-confidence)
        share = np.cumsum(~right[order]) / np.arange(1, 401)
        greedy += error_of(float(confidence[order][np.flatnonzero(share <= most)[-1]])) > most
    assert accepted > 250
    assert broken / 300 <= promise.RISK
    assert greedy / 300 > 0.3
