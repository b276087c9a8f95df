"""What a confidence is worth: its calibration error, and the error of the answers that it keeps.

* ECE: sum_b w_b |accuracy_b - confidence_b| over 15 bins of equal mass (Nguyen and O'Connor, EMNLP 2015; Nixon et
  al., CVPR workshops 2019), so that no bin holds a handful of spectra. Spectra of one confidence share their
  accuracy, and one that lies on a bin's edge is divided: the order of the rows does not matter.
* Risk-coverage curve: error among the most confident share of the spectra, for every share; AURC is its mean
  (Geifman and El-Yaniv, NeurIPS 2017). Without knowledge in the confidence, AURC is the error of all.
* Intervals: specimens resampled (`study/stats.py`), because shots of one are not independent; not within their classes
  as in a study, because a test part often has one specimen of a class, which would then never vary.

A threshold with a promise is chosen in `promise.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]
from scipy.special import softmax  # type: ignore[import-untyped]

from .calibrate import fit_temperature
from .study.stats import resamples

BINS = 15
DRAWS = 1000
COVERAGE = 0.85
#: errors for which the coverage is reported
PROMISES = (0.01, 0.02, 0.05, 0.1, 0.2)
#: coverages of the curve that is written down
CURVE = tuple(np.round(np.linspace(0.05, 1.0, 20), 2).tolist())
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Ranked:
    """Spectra by falling confidence, those of one confidence together; arrays [groups].

    weight : how much of the spectra has this confidence; right : how much of that is classified rightly.
    """

    confidence: np.ndarray
    weight: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, confidence: np.ndarray, right: np.ndarray) -> Ranked:
        """confidence float [n], right bool [n]."""
        values, group = np.unique(-np.asarray(confidence, np.float64), return_inverse=True)
        hits = np.bincount(group, np.asarray(right, np.float64), len(values))
        return cls(-values, np.bincount(group, minlength=len(values)).astype(np.float64), hits)

    def ece(self, bins: int = BINS) -> float:
        """Calibration error over `bins` bins of equal mass."""
        gap = np.append(0.0, np.cumsum(self.right - self.weight * self.confidence))
        mass = np.append(0.0, np.cumsum(self.weight))
        edges = np.interp(np.linspace(0, mass[-1], bins + 1), mass, gap)
        return float(np.abs(np.diff(edges)).sum() / mass[-1])

    @functools.cached_property
    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """(coverage, error) of every threshold that accepts something, coverage increasing to 1."""
        mass = np.cumsum(self.weight)
        return mass / mass[-1], 1 - np.cumsum(self.right) / mass

    def aurc(self) -> float:
        """Mean over the spectra of the error among those at least as confident."""
        _, error = self.curve
        return float((error * self.weight).sum() / self.weight.sum())

    def error_at(self, coverage: float) -> float:
        """Error of the strictest threshold that accepts at least this share."""
        share, error = self.curve
        return float(error[min(int(np.searchsorted(share, coverage - 1e-12)), len(share) - 1)])

    def coverage_at(self, most: float) -> float:
        """Largest share whose error is at most `most`; 0 where there is none."""
        share, error = self.curve
        return float(np.max(share, where=error <= most + 1e-12, initial=0.0))


class Resampled:
    """One classifier's answers on the specimens as they are, and with the specimens resampled `draws` times.

    confidence float [n], right bool [n], specimen text [n]. Figures come with 95 % percentile intervals.
    """

    def __init__(
        self,
        confidence: np.ndarray,
        right: np.ndarray,
        specimen: Sequence[str] | np.ndarray,
        draws: int = DRAWS,
    ) -> None:
        self.ranked = Ranked.of(confidence, right)
        names, number = np.unique(np.asarray(specimen, np.str_), return_inverse=True)
        times, _ = resamples(np.zeros(len(names), np.int64), 1, draws=draws)
        _, group = np.unique(-np.asarray(confidence, np.float64), return_inverse=True)
        shape = (len(self.ranked.confidence), len(names))
        both = (np.ones(len(group)), np.asarray(right, np.float64))
        self._cells = [csr_matrix((values, (group, number)), shape) for values in both]
        self._times = times[1:]

    def draws(self) -> list[Ranked]:
        """Every resampled classifier."""
        found = []
        for one in self._times:
            weight, right = (part @ one for part in self._cells)
            here = weight > 0
            found.append(Ranked(self.ranked.confidence[here], weight[here], right[here]))
        return found

    def selective(self) -> Row:
        """Error, AURC, error at COVERAGE and its share of the error, coverage at PROMISES, and the curve."""
        figures = [_selective(one) for one in (self.ranked, *self.draws())]
        values = np.array(figures)
        rows = [interval(column) for column in values.T]
        named = dict(zip(("error", "aurc", "error_at_coverage", "error_ratio"), rows[:4], strict=True))
        promises = [{"error": e, **row} for e, row in zip(PROMISES, rows[4 : 4 + len(PROMISES)], strict=True)]
        curve = [{"coverage": c, **row} for c, row in zip(CURVE, rows[4 + len(PROMISES) :], strict=True)]
        return {"coverage": COVERAGE, **named, "coverage_at_error": promises, "curve": curve}

    def ece(self) -> Row:
        """Calibration error with its interval."""
        return interval(np.array([one.ece() for one in (self.ranked, *self.draws())]))


def _selective(ranked: Ranked) -> list[float]:
    error, at = ranked.error_at(1.0), ranked.error_at(COVERAGE)
    ratio = at / error if error > 0 else 0.0
    coverages = [ranked.coverage_at(most) for most in PROMISES]
    return [error, ranked.aurc(), at, ratio, *coverages, *(ranked.error_at(c) for c in CURVE)]


def assess(
    logits: np.ndarray,
    truth: np.ndarray,
    specimen: Sequence[str] | np.ndarray,
    temperature: float | None,
    source: str,
) -> Row:
    """What evaluation.json says under `confidence`.

    logits [n, classes], truth class number [n], specimen text [n]; temperature : chosen elsewhere, None = none was,
    then it counts as 1; source : where it was chosen.

    bins; temperature; temperature_from; ece_before, ece_after : at temperature 1 and at this one;
    ece_other_specimens : every specimen at the temperature that fits the other specimens of this part (five groups of
    specimens), None with a single specimen; selective : `Resampled.selective` at this temperature.
    """
    right = logits.argmax(axis=1) == truth

    def at(temperatures: Any) -> Resampled:
        confidence = softmax(logits / np.reshape(temperatures, (-1, 1)), axis=1).max(axis=1)
        return Resampled(confidence, right, specimen)

    here = at(temperature or 1.0)
    others = temperatures_of_others(logits, truth, specimen)
    return {
        "bins": BINS,
        "temperature": temperature,
        "temperature_from": source,
        "ece_before": at(1.0).ece(),
        "ece_after": None if temperature is None else here.ece(),
        "ece_other_specimens": None if others is None else at(others).ece(),
        "selective": here.selective(),
    }


def temperatures_of_others(
    logits: np.ndarray, truth: np.ndarray, specimen: Sequence[str] | np.ndarray, groups: int = 5
) -> np.ndarray | None:
    """A temperature a spectrum [n], fitted on the spectra of other groups of specimens; None with one specimen."""
    _, number = np.unique(np.asarray(specimen, np.str_), return_inverse=True)
    order = np.random.default_rng(0).permutation(int(number.max()) + 1)
    if len(order) < 2:
        return None
    group = order[number] % min(groups, len(order))
    found = np.ones(len(truth))
    for one in np.unique(group).tolist():
        found[group == one] = fit_temperature(logits[group != one], truth[group != one])
    return found


def interval(values: np.ndarray) -> Row:
    """{value, low, high}: the first is of the sample, the others are the resamples'."""
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return {"value": float(values[0]), "low": float(low), "high": float(high)}


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Probability that a positive's score is above a negative's, equal ones counted half (Mann and Whitney, 1947)."""
    both = np.concatenate([positive, negative])
    values, group = np.unique(both, return_inverse=True)
    up = np.bincount(group[: len(positive)], minlength=len(values))
    down = np.bincount(group[len(positive) :], minlength=len(values))
    below = np.cumsum(down) - down
    return float((up * (below + down / 2)).sum() / (len(positive) * len(negative)))
