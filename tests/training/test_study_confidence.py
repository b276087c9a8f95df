"""What probabilities are worth in a study: temperatures without leaks, the floor of the ECE, spread by distance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from libsedge_training.risk import Ranked
from libsedge_training.study.confidence import Answers, assessed, floor, temperatures
from libsedge_training.study.stats import Counts, spread
from scipy.special import softmax

CLASSES = 4


def honest(fold: int, specimens: int = 60, shots: int = 10, loud: float = 1.0, seed: int = 0) -> Answers:
    """Answers whose softmax is right in as many cases as it says, then multiplied by `loud`."""
    rng = np.random.default_rng([seed, fold])
    logits = 2 * rng.normal(size=(specimens * shots, CLASSES))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.array([rng.choice(CLASSES, p=row) for row in p])
    names = np.repeat([f"{fold}-{i}" for i in range(specimens)], shots)
    return Answers((loud * logits).astype(np.float32), truth, names)


def test_a_loud_classifier_is_brought_back() -> None:
    parts = {f: honest(f, loud=5.0) for f in range(4)}
    found = assessed([{"seed": 0, "fold": f} for f in parts], lambda r: parts[r["fold"]])
    assert found["temperature"]["median"] == pytest.approx(5, rel=0.15)
    assert found["ece_before"]["value"] > 0.2 > 0.05 > found["ece_after"]["value"] == found["ece"]
    assert found["ece_floor"]["spectra"]["p"] > 0.01
    assert found["ece_after"]["low"] <= found["ece"] <= found["ece_after"]["high"]
    # negative control: as it was, it is not what a calibrated classifier gives by chance
    whole = Answers.joined(list(parts.values()))
    loud = softmax(whole.logits.astype(float), axis=1).max(axis=1)
    assert floor(loud, whole.specimen, found["ece_before"]["value"], draws=100)["specimens"]["p"] < 0.02


def test_no_answer_has_a_part_in_its_own_temperature() -> None:
    parts = [honest(f, specimens=20, loud=1.0 + f) for f in range(3)]
    before = temperatures(parts)
    wrong = replace(parts[1], truth=(parts[1].truth + 1) % CLASSES)
    after = temperatures([parts[0], wrong, parts[2]])
    assert before is not None
    assert after is not None
    assert after[1] == before[1]
    assert after[0] > 1.2 * before[0]  # negative control: the others' do depend on it
    # hold-outs that share specimens: those of the tested ones are left out
    both = Answers.joined([parts[0], parts[1]])
    shared = temperatures([parts[0], both, parts[2]])
    assert shared is not None
    assert shared[0] == before[0]
    assert temperatures(parts[:1]) is None
    assert assessed([{"seed": 0}], lambda r: parts[0])["ece"] is None
    assert assessed([{"seed": 0}], lambda r: None) == {"ece": None}


def test_the_floor_is_what_a_calibrated_classifier_shows_and_no_more() -> None:
    rng = np.random.default_rng(1)
    confidence = np.repeat(rng.uniform(0.4, 0.95, 37), 48) + rng.uniform(0, 0.05, 37 * 48)
    names = np.repeat([f"s{i}" for i in range(37)], 48)
    right = rng.random(len(confidence)) < confidence
    ece = Ranked.of(confidence, right).ece()
    found = floor(confidence, names, ece, draws=200)
    assert found["spectra"]["p"] > 0.02
    assert found["spectra"]["mean"] < 0.04 < 0.08 < found["specimens"]["mean"]  # a few specimens a bin
    # negative control: one that is right less often than it says, by 0.3
    lies = Ranked.of(confidence, rng.random(len(confidence)) < confidence - 0.3).ece()
    assert floor(confidence, names, lies, draws=200)["specimens"]["p"] < 0.05
    many = floor(confidence, np.arange(len(confidence)).astype(str), ece, draws=50)
    assert many["specimens"]["mean"] == pytest.approx(many["spectra"]["mean"], rel=0.1)


def test_answers_survive_the_file() -> None:
    one = honest(0, specimens=3)
    again = Answers.load(one.dump())
    for name in ("logits", "truth", "specimen"):
        assert np.array_equal(getattr(one, name), getattr(again, name))
    with pytest.raises((ValueError, OSError, KeyError)):
        Answers.load(b"no file")


def counted(rng: np.random.Generator, effect: float, specimens: int = 36, seeds: int = 2) -> Counts:
    """Predictions at 8 distances; the accuracy falls by `effect` from the first to the last."""
    truth = np.arange(specimens) % 3
    own = rng.uniform(0.6, 0.9, specimens)
    share = np.clip(own[:, None] - effect * np.linspace(0, 1, 8), 0, 1)
    predicted = np.zeros((seeds, specimens, 8, 3))
    for s in range(seeds):
        hits = rng.binomial(6, share)
        for i, k in enumerate(truth.tolist()):
            predicted[s, i, :, k] = hits[i]
            predicted[s, i, :, (k + 1) % 3] = 6 - hits[i]
    return Counts(predicted, truth)


def test_a_spread_over_the_distances_is_told_from_chance() -> None:
    rng = np.random.default_rng(3)
    far: Any = spread(counted(rng, 0.3), draws=800)
    assert far["p"] < 0.01
    assert 0.15 < far["low"] < 0.3 < far["high"] + 0.1
    assert far["low"] <= far["value"] <= far["high"]
    flat: Any = spread(counted(rng, 0.0), draws=800)
    assert flat["p"] > 0.05
    assert 0 < flat["value"] < 2.5 * flat["by_chance"]
    # of distances that were not tested nothing is said
    some = counted(rng, 0.3)
    left = Counts(some.predicted * (np.arange(8) >= 6)[None, None, :, None], some.truth)
    assert spread(left, draws=200)["value"] < 0.2
