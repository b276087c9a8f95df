"""Similarity weights: correlation coefficient (CC) and Bray-Curtis distance (BCD) to a reference spectrum.

This is OUR RECONSTRUCTION of the "spectral sample weighting" of Zhang et al., Sci. Rep. 2025,
doi 10.1038/s41598-025-24644-x, not the paper's formula: the paper's formula, reference spectrum and
parameters are not known to us. Known is that every training spectrum gets a weight of its own before
training, and, second hand, that the best variant is called "CC-BCD". We therefore offer the family of
formulas that fits these facts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from libsedge.errors import ConfigError

from .base import Strategy, normalised, options
from .train_part import TrainPart

FORMULAS = {
    "w1": "CC^a",
    "w2": "(1 - BCD)^b",
    "w3": "CC^a (1 - BCD)^b",
    "w4": "(1 - CC)^a BCD^b (inverse: hard spectra weigh more)",
    "w1m": "CC~^a, ~ = rescaled to [0, 1] over the training part",
    "w2m": "(1 - BCD~)^b",
    "w3m": "(CC~ + 1 - BCD~) / 2",
    "w4m": "(1 - CC~)^a BCD~^b",
}
#: the exponents that a formula has
EXPONENTS = {"w1": ("a",), "w1m": ("a",), "w2": ("b",), "w2m": ("b",), "w3m": ()}
REFERENCES = {
    "r1": "mean of the class",
    "r2": "mean of the specimen",
    "r3": "mean of the class at that distance",
    "r4": "mean of the specimen at its distance nearest to d",
}
_FLOOR = 1e-6  # of CC, 1 - CC, BCD and 1 - BCD, so that exponents of both signs are finite
_BLOCK = 256


def similarity(x: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(CC, BCD), float64 [n] each, of rows x [n, points] >= 0 to one reference [points] >= 0.

    CC is Pearson's correlation, 0 where a spectrum is constant; BCD = sum |x - r| / sum (x + r) (Bray and
    Curtis, Ecol. Monogr. 27, 1957), 0 where both are all zero.
    """
    r = np.asarray(reference, dtype=np.float64)
    centred = r - r.mean()
    cc, bcd = np.empty(len(x)), np.empty(len(x))
    for start in range(0, len(x), _BLOCK):
        rows = x[start : start + _BLOCK].astype(np.float64)
        here = slice(start, start + len(rows))
        total = (rows + r).sum(axis=1)
        bcd[here] = np.divide(np.abs(rows - r).sum(axis=1), total, out=np.zeros(len(rows)), where=total > 0)
        rows -= rows.mean(axis=1, keepdims=True)
        norm = np.sqrt((rows**2).sum(axis=1) * (centred**2).sum())
        cc[here] = np.divide(rows @ centred, norm, out=np.zeros(len(rows)), where=norm > 0)
    return np.clip(cc, -1, 1), bcd


@dataclass(frozen=True)
class CcBcd(Strategy):
    """One formula of FORMULAS on one reference of REFERENCES: `cc-bcd:w3:r1:a=8:b=8`.

    a, b : exponents, -16 ... 16. The two similarities differ by less than 20 % between near and far spectra
    of one specimen, so that small exponents weigh almost equally, unless they are rescaled before.
    d : reference distance of r4 in metres. CC below 0 counts as 0; weights are set to mean 1, clipped to
    [0.1, 10] and set to mean 1 again.
    """

    formula: str = "w3"
    reference: str = "r1"
    a: float = 8.0
    b: float = 8.0
    d: float = 2.0

    family: ClassVar[str] = "cc-bcd"
    summary: ClassVar[str] = (
        "similarity to a reference spectrum; our reconstruction of Zhang et al. 2025, not the paper's formula"
    )
    examples: ClassVar[tuple[str, ...]] = (
        "cc-bcd:w1:r1:a=8",
        "cc-bcd:w2:r1:b=8",
        "cc-bcd:w3:r1:a=8:b=8",
        "cc-bcd:w3:r2:a=8:b=8",
        "cc-bcd:w3:r3:a=8:b=8",
        "cc-bcd:w3:r4:a=8:b=8:d=2",
        "cc-bcd:w3m:r1",
        "cc-bcd:w4:r1:a=1:b=1",
        "cc-bcd:w1m:r1:a=1",
        "cc-bcd:w2m:r1:b=1",
        "cc-bcd:w4m:r1:a=1:b=1",
    )

    @property
    def _used(self) -> tuple[str, ...]:
        """The parameters that this formula and this reference depend on."""
        exponents = EXPONENTS.get(self.formula, ("a", "b"))
        return (*exponents, "d") if self.reference == "r4" else exponents

    @classmethod
    def parse(cls, parts: Sequence[str]) -> CcBcd:
        formula, reference, *rest = [*parts, "", ""][: max(2, len(parts))]
        for part, known in ((formula, FORMULAS), (reference, REFERENCES)):
            if part not in known:
                raise ConfigError(
                    f"expected one of {', '.join(known)}, as in 'cc-bcd:w3:r1:a=8:b=8'",
                    field="weighting",
                    value=part,
                )
        ranges = {"a": (-16.0, 16.0), "b": (-16.0, 16.0), "d": (0.1, 100.0)}
        used = cls(formula, reference)._used
        found = options(f"cc-bcd:{formula}:{reference}", rest, {key: ranges[key] for key in used})
        return cls(formula, reference, **found)

    @property
    def name(self) -> str:
        return ":".join(
            [self.family, self.formula, self.reference, *(f"{k}={getattr(self, k):g}" for k in self._used)]
        )

    @property
    def parameters(self) -> dict[str, Any]:
        return {
            "formula": self.formula,
            "reference": self.reference,
            **{k: getattr(self, k) for k in self._used},
        }

    def _groups(self, train: TrainPart) -> tuple[np.ndarray, np.ndarray]:
        """(group number [n], bool [n]: the row is part of its group's reference)."""
        everyone = np.ones(len(train), dtype=bool)
        if self.reference == "r1":
            return np.unique(train.label, return_inverse=True)[1], everyone
        if self.reference == "r2":
            return np.unique(train.specimen, return_inverse=True)[1], everyone
        distance = train.known_distances(self.name)
        if self.reference == "r3":
            label = np.unique(train.label, return_inverse=True)[1]
            metres = np.unique(distance, return_inverse=True)[1]
            return label * (metres.max() + 1) + metres, everyone
        group = np.unique(train.specimen, return_inverse=True)[1]
        away = np.abs(distance - round(self.d * 1000))
        nearest = np.full(group.max() + 1, np.iinfo(np.int64).max)
        np.minimum.at(nearest, group, away)
        return group, away == nearest[group]

    def measures(self, train: TrainPart) -> tuple[np.ndarray, np.ndarray]:
        """(CC, BCD), float64 [n] each, of every training spectrum to its own reference."""
        group, counts_in = self._groups(train)
        cc, bcd = np.empty(len(train)), np.empty(len(train))
        for number in np.unique(group):
            rows = np.flatnonzero(group == number)
            reference = train.values[rows[counts_in[rows]]].mean(axis=0, dtype=np.float64)
            cc[rows], bcd[rows] = similarity(train.values[rows], reference)
        return cc, bcd

    def fit(self, train: TrainPart) -> np.ndarray:
        cc, bcd = self.measures(train)
        if self.formula.endswith("m"):
            cc, bcd = _rescaled(cc), _rescaled(bcd)
        if self.formula == "w3m":
            return normalised((cc + 1 - bcd) / 2)
        inverse = self.formula.startswith("w4")
        like = np.maximum(1 - cc if inverse else cc, _FLOOR)
        near = np.maximum(bcd if inverse else 1 - bcd, _FLOOR)
        log_w = np.zeros(len(train))
        if "a" in self._used:
            log_w += self.a * np.log(like)
        if "b" in self._used:
            log_w += self.b * np.log(near)
        return normalised(np.exp(log_w - log_w.max()))


def _rescaled(values: np.ndarray) -> np.ndarray:
    """Linearly onto [0, 1]; all 1/2 where all are equal."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.full_like(values, 0.5)
