"""The reject threshold for a promised error: learn then test (Angelopoulos et al., arXiv:2110.01052).

The promise is about a new specimen that has an accepted spectrum: the expected share of wrong answers among its
accepted spectra is at most E. A specimen is one trial with a loss in [0, 1], because its shots are not independent.
LEVELS thresholds, which accept 5 %, 10 %, ... 100 % of the validation spectra, are each tested against "the expected
loss is above E" with a Hoeffding-Bentkus p value at RISK / LEVELS (Bonferroni); the loosest that passes is taken. Then
the promise holds with probability 1 - RISK over the choice of the validation specimens, however few they are, if new
specimens are drawn like them. Which spectra are accepted at a level depends on their confidences alone, not on what
is wrong.

With no wrong answer at all, `specimens_needed(E)` accepted specimens are the fewest that can prove it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from libsedge.errors import DatasetError
from scipy.stats import binom  # type: ignore[import-untyped]

RISK = 0.05
LEVELS = 20


def p_value(mean: float, trials: int, most: float) -> float:
    """Of "the expected loss is above `most`", for independent losses in [0, 1] of this mean (Hoeffding-Bentkus)."""
    if trials == 0 or mean >= most:
        return 1.0
    rest = (1 - mean) * np.log((1 - mean) / (1 - most))
    divergence = rest + (mean * np.log(mean / most) if mean > 0 else 0.0)
    bentkus = np.e * binom.cdf(np.ceil(trials * mean - 1e-9), trials, most)
    return float(min(1.0, np.exp(-trials * divergence), bentkus))


def specimens_needed(most: float) -> int:
    """The fewest accepted specimens with which an error of at most `most` can be promised."""
    return int(np.ceil(np.log(RISK / LEVELS) / np.log(1 - most)))


def choose(
    confidence: np.ndarray, right: np.ndarray, specimen: Sequence[str] | np.ndarray, most: float
) -> float:
    """The smallest threshold on the confidence that keeps the promise, rounded down to 6 digits.

    confidence float [n], right bool [n], specimen text [n] of the validation spectra; most : the promised error, in
    (0, 1). DatasetError where no threshold keeps it.
    """
    names, number = np.unique(np.asarray(specimen, np.str_), return_inverse=True)
    ranked = np.sort(confidence)[::-1]
    best = None
    for level in range(1, LEVELS + 1):
        threshold = float(np.floor(ranked[-(-level * len(ranked) // LEVELS) - 1] * 1e6) / 1e6)
        accepted = confidence >= threshold
        count = np.bincount(number[accepted], minlength=len(names))
        wrong = np.bincount(number[accepted & ~right], minlength=len(names))
        loss = wrong[count > 0] / count[count > 0]
        if p_value(float(loss.mean()), len(loss), most) <= RISK / LEVELS:
            best = threshold
    if best is None:
        raise _refused(len(names), most)
    return best


def check_number(specimens: int, most: float) -> None:
    """DatasetError where so few validation specimens can promise no such error, whatever the answers are."""
    if specimens < specimens_needed(most):
        raise _refused(specimens, most)


def _refused(specimens: int, most: float) -> DatasetError:
    return DatasetError(
        f"no threshold keeps it with {1 - RISK:.0%} probability: there are {specimens} validation specimens, and "
        f"{specimens_needed(most)} accepted ones without a wrong answer are the fewest that prove it",
        field="--max-error",
        value=most,
    )
