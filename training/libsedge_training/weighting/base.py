"""The contract of a weighting strategy.

A strategy gives every training spectrum a weight w_i, and the training loop minimises `mean(w_i * CE_i)`
over a batch: it divides by the number of spectra, not by the sum of the weights (as Keras' `sample_weight`
does).

A static strategy is fitted once, before the first epoch:

* `fit(train)` sees the training part and nothing else: no validation or test row, no file, no global state.
* It returns float64 [n], one weight a row in the order of the rows; finite, positive, mean 1 (to 1e-9).
* Same rows, same weights; rows in another order, the same weights in that order (to rounding).
* It does not depend on an earlier `fit`: a strategy is an immutable description.
* It raises DatasetError where the part lacks what it needs (a distance, say), naming the field.

A dynamic strategy changes weights while the net learns: its `start` returns a `dynamic.Dynamic`, the state of
one run, which the loop asks before every step, `update(batch with its losses, ...) -> weights`. The loss
stays `mean(w_i * CE_i)`; `dynamic.py` holds the rest of that contract. Its `fit` gives the weights before the
first step, under the rules above.

Its name says everything: `strategy(name)` rebuilds it, `parameters` is JSON-able, and the docstring gives
the formula and its source. One file a strategy, one row in the registry, and `check_strategy` of the tests
applies by itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from libsedge.errors import ConfigError, DatasetError

from .train_part import TrainPart

if TYPE_CHECKING:
    from .dynamic import Dynamic  # which needs torch; a static strategy does not

LOWEST, HIGHEST = 0.1, 10.0


def normalised(raw: np.ndarray) -> np.ndarray:
    """Raw weights (finite, not negative, not all 0) -> mean 1, clipped to [0.1, 10], mean 1 again."""
    raw = np.asarray(raw, dtype=np.float64)
    if not (np.isfinite(raw).all() and raw.min() >= 0 and raw.max() > 0):
        raise DatasetError("the strategy's raw weights are not finite, negative or all zero", field="weights")
    clipped = np.clip(raw / raw.mean(), LOWEST, HIGHEST)
    return clipped / clipped.mean()


def options(
    family: str, parts: Sequence[str], allowed: dict[str, tuple[float, float]], whole: Sequence[str] = ()
) -> dict[str, float]:
    """`["a=8", "b=2"]` -> {"a": 8.0, "b": 2.0}; ConfigError for an unknown key or a value outside [low,
    high], or one of `whole` that is no whole number.
    """
    found: dict[str, float] = {}
    for part in parts:
        key, equals, text = part.partition("=")
        if not equals or key not in allowed or key in found:
            known = ", ".join(f"{k}=" for k in allowed) or "nothing"
            raise ConfigError(f"{family!r} takes {known} (each once)", field="weighting", value=part)
        low, high = allowed[key]
        try:
            found[key] = float(text)
        except ValueError:
            raise ConfigError("is not a number", field=f"weighting {key}", value=text) from None
        if not low <= found[key] <= high:
            raise ConfigError(f"must be {low:g} ... {high:g}", field=f"weighting {key}", value=found[key])
        if key in whole and found[key] % 1:
            raise ConfigError("must be a whole number", field=f"weighting {key}", value=found[key])
    return found


class Strategy(ABC):
    """A weighting strategy, static unless `start` says otherwise; see this module's text for the contract."""

    family: ClassVar[str]  # first part of the name, key in the registry
    summary: ClassVar[str]  # one line for `libsedge weights --list`
    examples: ClassVar[tuple[str, ...]]  # names that are listed and put through the conformance tests
    signed: ClassVar[bool] = False  # dynamic weights may be negative (the docstring says why)
    mixes: ClassVar[bool] = False  # changes the spectra of a batch and leaves all weights at 1

    @classmethod
    @abstractmethod
    def parse(cls, parts: Sequence[str]) -> Strategy:
        """The strategy for a name's parts after the family; ConfigError names a bad part."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The canonical name; `strategy(name)` gives an equal strategy."""

    @property
    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """JSON-able parameters."""

    @abstractmethod
    def fit(self, train: TrainPart) -> np.ndarray:
        """Weights float64 [n], positive, mean 1."""

    def start(self, train: TrainPart, seed: int) -> Dynamic | None:
        """The state of one run of a dynamic strategy; None = static, `fit` has said everything.

        Same part and seed, same weights in every step. DatasetError as for `fit`.
        """
        return None
