"""Weighting: the contract for every registered strategy, formulas against hand counts, typed refusals."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from libsedge.errors import ConfigError, DatasetError
from libsedge_training import weighting
from libsedge_training.weighting.base import Strategy, normalised
from libsedge_training.weighting.cc_bcd import CcBcd, similarity
from libsedge_training.weighting.train_part import TrainPart


def random_part(seed: int = 0, n: int = 96, points: int = 40) -> TrainPart:
    """Random non-negative numbers (not spectra) in 3 classes, 8 specimens, 4 distances."""
    rng = np.random.default_rng(seed)
    specimen = rng.integers(0, 8, n)
    distance = rng.choice([1.6, 2.0, 3.5, 5.0], n)
    shape = rng.random((8, points)) ** 4
    values = np.sqrt(shape[specimen] + rng.random((n, points)) * distance[:, None] / 10)
    return TrainPart(
        values.astype(np.float32),
        np.char.add("class-", (specimen % 3).astype(str)),
        np.char.add("specimen-", specimen.astype(str)),
        distance.astype(np.float32),
    )


def check_strategy(strategy: Strategy, part: TrainPart) -> None:
    """The contract of `weighting/base.py`; AssertionError where `strategy` breaks it on `part`."""
    before = part.values.copy()
    weights = strategy.fit(part)
    assert weights.shape == (len(part),)
    assert weights.dtype == np.float64
    assert np.isfinite(weights).all()
    assert weights.min() > 0
    assert abs(weights.mean() - 1) < 1e-9
    assert np.array_equal(part.values, before), "fit changed the spectra"
    half = np.arange(len(part)) % 2 == 0
    strategy.fit(part.select(half))  # an earlier fit must leave no trace
    assert np.array_equal(strategy.fit(part), weights), "not deterministic"
    order = np.random.default_rng(5).permutation(len(part))
    assert np.allclose(strategy.fit(part.select(order)), weights[order], rtol=1e-9), (
        "not permutation-equivariant"
    )
    again = weighting.strategy(strategy.name)
    assert again == strategy
    assert again.name == strategy.name
    assert json.loads(json.dumps(strategy.parameters)) == strategy.parameters


@pytest.mark.parametrize("name", weighting.listed())
def test_every_registered_strategy_keeps_the_contract(name: str) -> None:
    for seed in range(3):
        check_strategy(weighting.strategy(name), random_part(seed))


def test_every_family_is_listed_and_documented() -> None:
    for family, cls in weighting.FAMILIES.items():
        assert cls.examples, family
        assert all(name.split(":")[0] == family for name in cls.examples)
        assert cls.__doc__
        assert cls.summary
    assert "OUR RECONSTRUCTION" in (__import__(CcBcd.__module__, fromlist=["x"]).__doc__ or "")


class Broken(weighting.FAMILIES["equal"]):  # type: ignore[name-defined, misc]
    """A strategy whose weights come from a function: for the negative controls."""

    def __init__(self, weights: Callable[[TrainPart], np.ndarray]) -> None:
        object.__setattr__(self, "_weights", weights)

    def fit(self, train: TrainPart) -> np.ndarray:
        weights: np.ndarray = self._weights(train)
        return weights


@pytest.mark.parametrize(
    "fit",
    [
        lambda t: np.full(len(t), 2.0),  # mean 2
        lambda t: np.ones(len(t) - 1),  # one short
        lambda t: np.arange(len(t)) * 2 / (len(t) - 1),  # one is 0
        lambda t: np.ones(len(t), np.float32),  # wrong type
        lambda t: normalised(np.arange(1.0, len(t) + 1)),  # from the position of the row
        lambda t: normalised(np.random.default_rng().random(len(t)) + 0.5),  # different each time
    ],
)
def test_the_contract_check_sees_a_broken_strategy(fit: Callable[[TrainPart], np.ndarray]) -> None:
    """Negative controls of `check_strategy`."""
    with pytest.raises(AssertionError):
        check_strategy(Broken(fit), random_part())


def test_similarity_equals_numpy_and_scipy() -> None:
    from scipy.spatial.distance import braycurtis

    rng = np.random.default_rng(1)
    x, r = rng.random((300, 50)), rng.random(50)
    cc, bcd = similarity(x, r)
    assert np.allclose(cc, [np.corrcoef(row, r)[0, 1] for row in x], atol=1e-12)
    assert np.allclose(bcd, [braycurtis(row, r) for row in x], atol=1e-12)
    cc, bcd = similarity(np.array([[0.0, 0, 0], [1, 1, 1], [2, 4, 6]]), np.array([1.0, 2, 3]))
    assert np.allclose(cc, [0, 0, 1])
    assert np.allclose(bcd, [1, 3 / 9, 6 / 18])


def hand_part() -> TrainPart:
    """Two classes; class "a" has two specimens, "a1" at two distances."""
    values = np.array([[4, 0, 0], [2, 2, 0], [3, 1, 0], [0, 1, 3], [0, 3, 1]], dtype=np.float32)
    return TrainPart(
        values,
        np.array(["a", "a", "a", "b", "b"]),
        np.array(["a1", "a1", "a2", "b1", "b1"]),
        np.array([2.0, 4.0, 2.0, 2.0, 4.0], dtype=np.float32),
    )


def test_references_are_what_they_say() -> None:
    part = hand_part()
    # BCD = sum |x - r| / sum (x + r); every row and reference sums to 4, so BCD = sum |x - r| / 8
    expected = {
        "r1": [2 / 8, 2 / 8, 0, 2 / 8, 2 / 8],  # a: (3, 1, 0), b: (0, 2, 2)
        "r2": [2 / 8, 2 / 8, 0, 2 / 8, 2 / 8],  # a1: (3, 1, 0), a2: itself, b1: (0, 2, 2)
        "r3": [1 / 8, 0, 1 / 8, 0, 0],  # a at 2 m: (3.5, 0.5, 0), the others are alone
        "r4": [0, 4 / 8, 0, 0, 4 / 8],  # a1: (4, 0, 0), a2: itself, b1: (0, 1, 3)
    }
    for reference, values in expected.items():
        assert np.allclose(CcBcd("w2", reference, d=1.0).measures(part)[1], values), reference
    assert np.allclose(CcBcd("w2", "r4", d=9.0).measures(part)[1], [4 / 8, 0, 0, 4 / 8, 0])


def test_formulas_equal_hand_counts() -> None:
    part = hand_part()
    raw = np.array([0.75, 0.75, 1, 0.75, 0.75]) ** 2
    assert np.allclose(weighting.strategy("cc-bcd:w2:r1:b=2").fit(part), raw / raw.mean())
    cc, bcd = CcBcd("w3", "r1").measures(part)
    raw = np.maximum(cc, 1e-6) * (1 - bcd) ** 3
    clipped = np.clip(raw / raw.mean(), 0.1, 10)
    assert np.allclose(weighting.strategy("cc-bcd:w3:r1:a=1:b=3").fit(part), clipped / clipped.mean())
    raw = np.clip((cc - cc.min()) / (cc.max() - cc.min()) + 1 - bcd / bcd.max(), 0, None) / 2
    clipped = np.clip(raw / raw.mean(), 0.1, 10)
    assert np.allclose(weighting.strategy("cc-bcd:w3m:r1").fit(part), clipped / clipped.mean())
    rescaled_cc, rescaled_bcd = (cc - cc.min()) / (cc.max() - cc.min()), bcd / bcd.max()  # the least BCD is 0
    for name, raw in {
        "w1m:r1:a=2": np.maximum(rescaled_cc, 1e-6) ** 2,
        "w2m:r1:b=2": np.maximum(1 - rescaled_bcd, 1e-6) ** 2,
        "w4m:r1:a=1:b=1": np.maximum(1 - rescaled_cc, 1e-6) * np.maximum(rescaled_bcd, 1e-6),
    }.items():
        clipped = np.clip(raw / raw.mean(), 0.1, 10)
        assert np.allclose(weighting.strategy(f"cc-bcd:{name}").fit(part), clipped / clipped.mean()), name
    raw = np.maximum(1 - cc, 1e-6) * np.maximum(bcd, 1e-6)
    clipped = np.clip(raw / raw.mean(), 0.1, 10)
    assert np.allclose(weighting.strategy("cc-bcd:w4:r1:a=1:b=1").fit(part), clipped / clipped.mean())
    metres = np.array([2.0, 4, 2, 2, 4])
    assert np.allclose(weighting.strategy("distance:p=2").fit(part), metres**2 / (metres**2).mean())
    assert np.allclose(weighting.strategy("distance:p=-1").fit(part), 1 / metres / (1 / metres).mean())
    assert np.array_equal(weighting.strategy("equal").fit(part), np.ones(5))


def test_favoured_spectra_are_the_right_ones() -> None:
    """Similar spectra weigh more with w3 and less with w4; far ones weigh more with p > 0."""
    part = random_part()
    cc, bcd = CcBcd("w3", "r1").measures(part)
    like = weighting.strategy("cc-bcd:w3:r1:a=8:b=8").fit(part)
    hard = weighting.strategy("cc-bcd:w4:r1:a=1:b=1").fit(part)
    near, far = bcd < np.median(bcd), cc < np.median(cc)
    assert like[near].mean() > 1.2 * like[~near].mean()
    assert hard[far].mean() > 1.2 * hard[~far].mean()


def test_clipping_holds_and_extremes_stay_finite() -> None:
    assert np.allclose(normalised(np.array([1.0, 1, 1, 1e-9])), np.array([4 / 3, 4 / 3, 4 / 3, 0.1]) / 1.025)
    identical = TrainPart(
        np.ones((4, 3), np.float32), np.array(["a"] * 4), np.array(["x"] * 4), np.full(4, 2, np.float32)
    )
    for name in (
        "cc-bcd:w3:r1:a=16:b=16",
        "cc-bcd:w4:r1:a=16:b=16",
        "cc-bcd:w3m:r1",
        "cc-bcd:w4m:r1:a=16:b=16",
        "cc-bcd:w3:r1:a=-16:b=-16",
    ):
        assert np.allclose(weighting.strategy(name).fit(identical), 1), name
        weights = weighting.strategy(name).fit(random_part())
        assert np.isfinite(weights).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("similarity", "known: equal, distance, cc-bcd"),
        ("cc-bcd", "one of w1"),
        ("cc-bcd:w9:r1", "one of w1"),
        ("cc-bcd:w3:r9", "one of r1"),
        ("cc-bcd:w1:r1:b=2", "takes a="),
        ("cc-bcd:w3:r1:a=17", "weighting a = 17.0: must be -16 ... 16"),
        ("cc-bcd:w3:r1:a=nan", "must be"),
        ("cc-bcd:w3:r1:a=x", "not a number"),
        ("cc-bcd:w3:r1:a=1:a=2", "each once"),
        ("equal:p=1", "takes nothing"),
        ("distance:q=1", "takes p="),
        ("jtt:t=1.5", "weighting t = 1.5: must be a whole number"),
        ("virtual:n=1.9", "whole number"),
        ("virtual:zones=0.5", "whole number"),
    ],
)
def test_bad_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        weighting.strategy(name)


@pytest.mark.parametrize("name", ["distance:p=1", "cc-bcd:w3:r3:a=8:b=8", "cc-bcd:w3:r4:a=8:b=8:d=2"])
def test_unknown_distances_are_refused_by_strategies_that_need_them(name: str) -> None:
    part = random_part()
    unknown = part.distance_m.copy()
    unknown[3] = np.nan
    without = TrainPart(part.values, part.label, part.specimen, unknown)
    with pytest.raises(DatasetError, match="1 of 96 have none"):
        weighting.strategy(name).fit(without)
    weighting.strategy("cc-bcd:w3:r1:a=8:b=8").fit(without)


def test_negative_or_non_finite_values_are_refused() -> None:
    part = random_part()
    for bad in (-1.0, np.nan):
        values = part.values.copy()
        values[2, 3] = bad
        with pytest.raises(DatasetError, match="not negative"):
            TrainPart(values, part.label, part.specimen, part.distance_m)
