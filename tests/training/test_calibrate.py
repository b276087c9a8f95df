"""Temperature and reject thresholds follow their written rules."""

from __future__ import annotations

import numpy as np
import pytest
from libsedge.errors import DatasetError
from libsedge.manifest import check_calibration
from libsedge_training import calibrate as c


def drawn(n: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and true classes drawn from softmax(logits / temperature): that temperature is right."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (n, 5))
    p = np.exp(logits / temperature)
    p /= p.sum(axis=1, keepdims=True)
    target = (p.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return logits, target


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_is_recovered(temperature: float) -> None:
    logits, target = drawn(20_000, temperature)
    assert c.fit_temperature(logits, target) == pytest.approx(temperature, rel=0.05)


def test_temperature_is_the_minimum_of_a_dense_search() -> None:
    logits, target = drawn(500, 2.0, seed=1)
    best = min(c.nll(logits, target, t) for t in np.geomspace(0.05, 20, 2000))
    assert c.nll(logits, target, c.fit_temperature(logits, target)) <= best + 1e-6


def test_temperature_of_a_perfect_split_stays_in_range() -> None:
    logits = np.eye(3)[np.array([0, 1, 2, 0])] * 10
    assert 0.05 <= c.fit_temperature(logits, np.array([0, 1, 2, 0])) <= 20


def brute_force(confidence: np.ndarray, right: np.ndarray) -> float:
    candidates = []
    for threshold in np.unique(confidence):
        kept = confidence >= threshold
        if kept.mean() >= c.MIN_COVERAGE:
            candidates.append((right[kept].mean(), threshold))
    good = [threshold for accuracy, threshold in candidates if accuracy >= c.TARGET_ACCURACY]
    if good:
        return min(good)
    top = max(accuracy for accuracy, _ in candidates)
    return min(threshold for accuracy, threshold in candidates if accuracy == top)


@pytest.mark.parametrize("seed", range(30))
def test_min_confidence_is_the_rule(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 80))
    confidence = np.round(rng.uniform(0.2, 1.0, n), int(rng.integers(1, 4)))
    right = rng.random(n) < confidence ** rng.uniform(0.05, 1.0)
    chosen = c.choose_min_confidence(confidence, right)
    assert chosen == pytest.approx(brute_force(confidence, right), abs=1e-6)
    assert chosen <= brute_force(confidence, right)


def test_min_contrast_lies_between_dark_frames_and_spectra() -> None:
    rng = np.random.default_rng(0)
    signal, dark = rng.uniform(5, 50, 1000), rng.uniform(0.5, 1.0, 1000)
    threshold, separable = c.choose_min_contrast(signal, dark)
    assert separable
    assert dark.max() < threshold < signal.min()


def test_min_contrast_says_when_it_cannot_separate() -> None:
    signal = np.linspace(1, 2, 100)
    assert c.choose_min_contrast(signal, np.linspace(1, 3, 100)) == (pytest.approx(0.5005, abs=1e-4), False)
    assert c.choose_min_contrast(signal, None) == (pytest.approx(0.5005, abs=1e-4), False)


def test_calibrate_makes_a_valid_member() -> None:
    logits, target = drawn(400, 2.0)
    rng = np.random.default_rng(0)
    contrast, saturated = rng.uniform(5, 9, 400), rng.uniform(0, 0.1, 400)
    found, figures = c.calibrate(logits, target, contrast, saturated, rng.uniform(0, 1, 50))
    assert check_calibration(found.to_json(), "float32") == found.to_json()
    assert figures.nll_after < figures.nll_before
    assert figures.coverage >= c.MIN_COVERAGE
    assert figures.accepted_accuracy >= figures.accuracy
    right = logits.argmax(axis=1) == target
    assert found.max_saturated_fraction == pytest.approx(saturated[right].max(), abs=1e-6)


def test_nothing_saturated_still_allows_the_floor() -> None:
    logits, target = drawn(50, 1.0)
    found, _ = c.calibrate(logits, target, np.ones(50), np.zeros(50))
    assert found.max_saturated_fraction == c.SATURATED_FLOOR


def test_a_promise_takes_the_place_of_the_rule_and_is_recorded() -> None:
    logits, target = drawn(900, 0.5)
    specimen, more = np.arange(900) // 3, (np.ones(900), np.zeros(900), None, c.MIN_COVERAGE)
    strict, loose = (c.calibrate(logits, target, *more, e, specimen)[0] for e in (0.1, 0.3))
    assert strict.to_json()["max_error"] == 0.1
    assert check_calibration(strict.to_json(), "float32")["max_error"] == 0.1
    assert strict.min_confidence > loose.min_confidence
    without, _ = c.calibrate(logits, target, *more)
    assert "max_error" not in without.to_json()
    with pytest.raises(DatasetError, match="300 validation specimens"):
        c.calibrate(logits, target, *more, 0.001, specimen)


def test_empty_or_non_finite_is_refused() -> None:
    logits, target = drawn(5, 1.0)
    with pytest.raises(DatasetError, match="needs validation spectra"):
        c.calibrate(logits[:0], target[:0], np.ones(0), np.ones(0))
    with pytest.raises(DatasetError, match="validation contrast"):
        c.calibrate(logits, target, np.full(5, np.nan), np.ones(5))
