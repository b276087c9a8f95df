"""Static weights on a logistic regression: the same solution as on all points, and weights that count."""

from __future__ import annotations

import numpy as np
import pytest
from libsedge.errors import ConfigError
from libsedge_training.study import linear
from libsedge_training.study.data import prepare
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from .test_study import peaks


def test_it_is_the_baseline_on_all_points() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(30) % 3
    x = rng.normal(size=(30, 80)) + 2 * (np.arange(80)[None] % 3 == y[:, None])
    test, weights = rng.normal(size=(20, 80)), rng.uniform(0.1, 3, 30)
    scale = StandardScaler().fit(x)
    direct = LogisticRegression(C=0.01, max_iter=1000, tol=1e-8).fit(
        scale.transform(x), y, sample_weight=weights
    )
    wanted = direct.decision_function(scale.transform(test))
    few, few_test = linear.coordinates(x, test)
    assert few.shape == (30, 29)
    assert np.allclose(linear.weighted(few, y, weights, few_test), wanted, atol=2e-3)
    # negative control: the weights count
    assert not np.allclose(linear.weighted(few, y, np.ones(30), few_test), wanted, atol=2e-3)


def test_strategies_are_compared_on_a_split() -> None:
    found = linear.compare(prepare(peaks()), "leave-distances-out", ("cc-bcd:w3:r1", "distance:p=1"), folds=2)
    assert list(found) == ["equal", "cc-bcd:w3:r1:a=8:b=8", "distance:p=1"]
    assert found["distance:p=1"]["minus_equal"]["mean"] == 0  # one distance to learn from: all weights are 1
    for row in found.values():
        assert 0 <= row["accuracy"] <= 1
    for name in ("focal", "virtual", "group-dro:distance"):
        with pytest.raises(ConfigError, match="follow a net"):
            linear.static(name)
