"""Confidence and reject thresholds, from the validation spectra and dark frames; never from test spectra.

* temperature: least negative log-likelihood of softmax(logits / T) on the exported net's logits (int8: dequantised)
  (Guo et al., ICML 2017, arXiv:1706.04599), searched in [0.05, 20].
* min_confidence: the smallest confidence at which the accepted validation spectra are right in
  TARGET_ACCURACY of the cases while at least MIN_COVERAGE (or the share that the run asks for) of them stay
  accepted; where no threshold reaches that, the one of best accuracy among those that keep the coverage. Where an
  error is promised (`max_error`), the threshold is that of `promise.py` in place of all this.
* min_contrast: halfway (geometric mean) between the 99.9th percentile of the dark frames' contrast and the
  0.1th percentile of the validation spectra's; where the two overlap or there are no dark frames, half the
  validation percentile, and `separable` is false.
* max_saturated_fraction: the largest share of saturated channels among correctly classified validation
  spectra, and at least SATURATED_FLOOR.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from libsedge.errors import DatasetError
from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]
from scipy.special import log_softmax  # type: ignore[import-untyped]

from . import promise

TARGET_ACCURACY = 0.95
MIN_COVERAGE = 0.8
SATURATED_FLOOR = 0.01
_TEMPERATURES = (0.05, 20.0)


@dataclass(frozen=True)
class Calibration:
    """The values of calibration.json, besides how int8 logits are quantised. max_error : promised, or None."""

    temperature: float
    min_confidence: float
    min_contrast: float
    max_saturated_fraction: float
    max_error: float | None = None

    def to_json(self) -> dict[str, float]:
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Figures:
    """What the calibration achieves on the validation spectra it was chosen on (so: optimistic)."""

    accuracy: float
    accepted_accuracy: float
    coverage: float
    nll_before: float
    nll_after: float
    separable: bool  # dark frames and validation spectra have disjoint contrasts


def nll(logits: np.ndarray, target: np.ndarray, temperature: float) -> float:
    """Mean negative log-likelihood of class numbers `target` [n] under softmax(logits [n, classes] / T)."""
    return float(-log_softmax(logits / temperature, axis=1)[np.arange(len(target)), target].mean())


def fit_temperature(logits: np.ndarray, target: np.ndarray) -> float:
    """The temperature of least `nll`, in [0.05, 20], rounded to 6 digits."""
    low, high = np.log(_TEMPERATURES)
    found = minimize_scalar(
        lambda log_t: nll(logits, target, float(np.exp(log_t))),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(f"{np.exp(found.x):.6g}")


def choose_min_confidence(
    confidence: np.ndarray, right: np.ndarray, min_coverage: float = MIN_COVERAGE
) -> float:
    """The smallest threshold that meets the rule above; confidence float [n], right bool [n]."""
    order = np.argsort(-confidence, kind="stable")
    ranked, hits = confidence[order], np.cumsum(right[order])
    count = np.arange(1, len(ranked) + 1)
    # A threshold accepts all spectra of equal confidence, so only the last of each group is a candidate.
    last = np.append(ranked[1:] != ranked[:-1], True)
    keep = last & (count >= min_coverage * len(ranked))
    accuracy = np.where(keep, hits / count, -1.0)
    reached = np.flatnonzero(accuracy >= TARGET_ACCURACY)
    best = reached[-1] if len(reached) else np.flatnonzero(accuracy == accuracy.max())[-1]
    # Rounded down, so that the spectrum that sets the threshold is accepted.
    return float(np.floor(ranked[best] * 1e6) / 1e6)


def choose_min_contrast(contrast: np.ndarray, dark: np.ndarray | None) -> tuple[float, bool]:
    """(threshold, separable) from the validation spectra's contrasts [n] and the dark frames' [m] or None."""
    signal = max(float(np.quantile(contrast, 0.001)), 0.0)
    noise = None if dark is None or len(dark) == 0 else max(float(np.quantile(dark, 0.999)), 0.0)
    if noise is None or noise >= signal:
        return float(f"{signal / 2:.6g}"), False
    # Contrasts below 1e-3 of the signal's are as good as none; the floor keeps the geometric mean off zero.
    return float(f"{np.sqrt(max(noise, 1e-3 * signal) * signal):.6g}"), True


def calibrate(
    logits: np.ndarray,
    target: np.ndarray,
    contrast: np.ndarray,
    saturated: np.ndarray,
    dark_contrast: np.ndarray | None = None,
    min_coverage: float = MIN_COVERAGE,
    max_error: float | None = None,
    specimen: Sequence[str] | np.ndarray = (),
) -> tuple[Calibration, Figures]:
    """Temperature and thresholds by the rules of this module.

    logits : float64 [n, classes] of the validation spectra; target : class numbers
    [n]; contrast, saturated : the preprocessing report's contrast and share of saturated channels [n];
    dark_contrast : contrasts of dark frames [m], or None; min_coverage : see above; max_error : an error to
    promise, which needs the spectra's specimens [n]. Raises DatasetError for no spectra, values that are not finite, or
    a promise that no threshold keeps.
    """
    if len(logits) == 0 or len({len(logits), len(target), len(contrast), len(saturated)}) != 1:
        raise DatasetError("calibration needs validation spectra", field="validation", value=len(logits))
    for name, values in (("logits", logits), ("contrast", contrast), ("saturated", saturated)):
        if not np.isfinite(values).all():
            raise DatasetError("must be finite", field=f"validation {name}")
    temperature = fit_temperature(logits, target)
    confidence = np.exp(log_softmax(logits / temperature, axis=1).max(axis=1))
    right = logits.argmax(axis=1) == target
    if max_error is None:
        min_confidence = choose_min_confidence(confidence, right, min_coverage)
    else:
        min_confidence = promise.choose(confidence, right, specimen, max_error)
    min_contrast, separable = choose_min_contrast(contrast, dark_contrast)
    most = float(saturated[right].max()) if right.any() else 0.0
    ceiling = float(np.ceil(min(max(most, SATURATED_FLOOR), 1.0) * 1e6) / 1e6)
    accepted = confidence >= min_confidence
    return Calibration(temperature, min_confidence, min_contrast, ceiling, max_error), Figures(
        accuracy=float(right.mean()),
        accepted_accuracy=float(right[accepted].mean()),
        coverage=float(accepted.mean()),
        nll_before=nll(logits, target, 1.0),
        nll_after=nll(logits, target, temperature),
        separable=separable,
    )
