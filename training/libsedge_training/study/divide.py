"""The ways in which a study divides a set into what is learnt from and what is tested; specimens always stay whole.

| name | what is learnt from | what is tested |
|---|---|---|
| `folds` | all distances | all distances; each specimen in one of k folds |
| `hold-out:N` (9) | all distances | all distances of N random specimens, others in every fold |
| `leave-distances-out` | the nearer half of the distances | the farther half |
| `leave-distances-out:4.5:5` | the other distances | those named, in metres |
| `few-distances:N` (2) | N distances, evenly spread from the first to the last | the others |
| `unbalanced:R` (10) | R times as many spectra at the nearest as at the farthest distance | all distances |

All but `hold-out` take the specimens of the k grouped folds, so that each is tested once a seed. Validation spectra
are cut and thinned as training spectra are: what is chosen by them knows no more than the training does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from libsedge.errors import ConfigError, DatasetError

from libsedge_training import splits

FOLDS, HOLD_OUT, LEFT_OUT, FEW, UNBALANCED = (
    "folds",
    "hold-out",
    "leave-distances-out",
    "few-distances",
    "unbalanced",
)
#: family -> (its parameter where none is given, lowest, highest)
_PARAMETER = {
    FOLDS: None,
    HOLD_OUT: (9.0, 2.0, 1000.0),
    LEFT_OUT: None,
    FEW: (2.0, 1.0, 100.0),
    UNBALANCED: (10.0, 1.0, 1000.0),
}
#: one of each, as `--preset full` takes them
NAMES = (FOLDS, f"{HOLD_OUT}:9", LEFT_OUT, f"{FEW}:2", f"{UNBALANCED}:10")


@dataclass(frozen=True)
class Division:
    """A way to divide a set, by its name; `Division.parse` makes one."""

    family: str
    values: tuple[float, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Division:
        """ConfigError names an unknown family or a parameter that is no number or out of range."""
        family, *parts = text.split(":")
        if family not in _PARAMETER:
            raise ConfigError(f"no such split; known: {', '.join(_PARAMETER)}", field="split", value=text)
        try:
            values = tuple(float(part) for part in parts)
        except ValueError:
            raise ConfigError("expected numbers after the name", field="split", value=text) from None
        known = _PARAMETER[family]
        if known is not None:
            (value,) = values if len(values) == 1 else (known[0],)
            if len(values) > 1 or not known[1] <= value <= known[2] or (family != UNBALANCED and value % 1):
                raise ConfigError(
                    f"takes one number, {known[1]:g} ... {known[2]:g}", field="split", value=text
                )
            return cls(family, (value,))
        if (family == FOLDS and values) or not all(0 < v < math.inf for v in values):
            raise ConfigError("does not take this", field="split", value=text)
        return cls(family, tuple(sorted(set(values))))

    @property
    def name(self) -> str:
        """The canonical name; `parse(name)` gives an equal division."""
        return ":".join([self.family, *(f"{v:g}" for v in self.values)])

    def distances(self, mm: Sequence[int]) -> tuple[list[int], list[int]]:
        """(learnt, tested) distances out of those of the set, whole millimetres; DatasetError where there is none."""
        known = sorted(set(mm))
        learnt = tested = known
        if self.family == LEFT_OUT:
            tested = [round(1000 * v) for v in self.values] or known[(len(known) + 1) // 2 :]
            missing = [d for d in tested if d not in known]
            if missing:
                raise DatasetError("the set has no such distance", field=self.name, value=missing[0] / 1000)
            learnt = [d for d in known if d not in tested]
        elif self.family == FEW:
            at = np.rint(np.linspace(0, len(known) - 1, int(self.values[0]))).astype(int)
            learnt = [known[i] for i in sorted(set(at.tolist()))]
            tested = [d for d in known if d not in learnt]
        if not learnt or not tested:
            raise DatasetError(
                f"of {len(known)} distances leaves none to {'test' if learnt else 'learn from'}",
                field="split",
                value=self.name,
            )
        return learnt, tested

    def shares(self, learnt: Sequence[int]) -> dict[int, float]:
        """Share of the spectra at each learnt distance that is learnt from; falls geometrically where unbalanced."""
        if self.family != UNBALANCED:
            return dict.fromkeys(learnt, 1.0)
        steps = max(1, len(learnt) - 1)
        return {d: self.values[0] ** (-i / steps) for i, d in enumerate(sorted(learnt))}


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of "train", "validation", "test"; share : of its specimens' spectra that the training part keeps."""

    rows: splits.Split
    share: float


def divide(
    division: Division,
    labels: Sequence[str],
    specimens: Sequence[str],
    distance_m: np.ndarray,
    k: int,
    seed: int,
    fold: int,
) -> Part:
    """One of the k parts of a seed. DatasetError where a class is missing from a part, or as `folds`."""
    if division.family == HOLD_OUT:
        # one number a hold-out, as the nets' seeds are numbered
        whole = splits.split_by_specimen(labels, specimens, 1000 * seed + fold, int(division.values[0]))
    else:
        whole = folds(labels, specimens, k, seed)[fold]
    mm = np.rint(np.asarray(distance_m, np.float64) * 1000).astype(int)
    learnt, tested = division.distances(mm.tolist())
    shares = division.shares(learnt)
    rng = np.random.default_rng([seed, fold, 1])
    names = np.asarray(labels, np.str_)
    rows = {
        "train": _thinned(whole["train"], names, mm, shares, rng),
        "validation": _thinned(whole["validation"], names, mm, shares, rng),
        "test": whole["test"][np.isin(mm[whole["test"]], tested)],
    }
    for part, kept in rows.items():
        for label in sorted(set(names.tolist())):
            if not (names[kept] == label).any():
                raise DatasetError(
                    f"leaves no spectrum of this class in the {part} part", field=division.name, value=label
                )
    return Part(rows, len(rows["train"]) / len(whole["train"]))


def _thinned(
    rows: np.ndarray, labels: np.ndarray, mm: np.ndarray, shares: dict[int, float], rng: np.random.Generator
) -> np.ndarray:
    """The rows at the distances of `shares`, of each class and distance the share (at least one), drawn at random."""
    kept = []
    for label in np.unique(labels[rows]).tolist():
        for distance, share in shares.items():
            here = rows[(labels[rows] == label) & (mm[rows] == distance)]
            if len(here):
                kept.append(rng.permutation(here)[: max(1, round(share * len(here)))])
    return np.sort(np.concatenate(kept)) if kept else rows[:0]


def folds(labels: Sequence[str], specimens: Sequence[str], k: int, seed: int) -> list[splits.Split]:
    """k splits into "train", "validation", "test": every specimen is in one test part, every class in all parts.

    Of the specimens that are not tested, one in five of each class, at least one, is for validation.
    DatasetError names a class with fewer than k or fewer than 3 specimens.
    """
    for label, names in splits.specimens_by_class(labels, specimens).items():
        if len(names) < 3:
            raise DatasetError(
                f"has {len(names)} specimen(s) ({', '.join(names)}); training, validation and test need one each",
                field="label",
                value=label,
            )
    found = []
    for fold, outer in enumerate(splits.group_folds(labels, specimens, k, seed)):
        rest = [(labels[i], specimens[i]) for i in outer["train"]]
        rng = np.random.default_rng([seed, fold])
        held: list[str] = []
        for label, names in splits.specimens_by_class(*(list(c) for c in zip(*rest, strict=True))).items():
            if len(names) < 2:
                raise DatasetError(
                    f"leaves one specimen beside the test part of {k} folds; take more folds",
                    field="label",
                    value=label,
                )
            picked = rng.permutation(len(names))[: max(1, round(0.2 * len(names)))]
            held += [names[i] for i in picked]
        inside = np.isin(np.asarray(specimens), held)
        split = {
            "train": outer["train"][~inside[outer["train"]]],
            "validation": np.flatnonzero(inside),
            "test": outer["validation"],
        }
        splits.check_no_leak(split, specimens)
        found.append(split)
    return found
