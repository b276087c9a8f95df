"""What the probabilities of a study's methods are worth, before and after temperature scaling.

A fold's net may not be calibrated on what it learnt from, and a finalist has learnt from every specimen that is not
tested. So its temperature is the one that fits the *test* answers of the other folds of its seed (other hold-outs,
without the specimens that it tests). No test answer has a part in its own temperature. The other folds' nets have
learnt from this fold's test specimens, though, so the one number is not quite independent of them.

What an ECE can resolve: answers of one specimen are right or wrong together, and 15 bins of 37 specimens hold two or
three each. `floor` is the ECE of a classifier with the same confidences that is calibrated perfectly: a spectrum
is right where its confidence is above a uniform number, which is either one for a specimen (all its spectra hang
together) or one for each spectrum (independent). The truth lies between.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax  # type: ignore[import-untyped]

from libsedge_training.calibrate import fit_temperature
from libsedge_training.risk import Ranked, Resampled

DRAWS = 400


@dataclass(frozen=True, eq=False)
class Answers:
    """Of one run on its test part: logits float32 [n, classes], class number [n], specimen [n]."""

    logits: np.ndarray
    truth: np.ndarray
    specimen: np.ndarray

    def dump(self) -> bytes:
        """As a compressed .npz."""
        file = io.BytesIO()
        np.savez_compressed(file, logits=self.logits, truth=self.truth, specimen=self.specimen)
        return file.getvalue()

    @classmethod
    def load(cls, data: bytes) -> Answers:
        """Inverse of `dump`; ValueError, OSError or KeyError where it is none."""
        with np.load(io.BytesIO(data)) as file:
            return cls(file["logits"], file["truth"], file["specimen"])

    def without(self, specimens: np.ndarray) -> Answers:
        """Those of other specimens."""
        kept = ~np.isin(self.specimen, specimens)
        return Answers(self.logits[kept], self.truth[kept], self.specimen[kept])

    @classmethod
    def joined(cls, parts: Sequence[Answers]) -> Answers:
        """All of them."""
        return cls(*(np.concatenate([getattr(p, n) for p in parts]) for n in ("logits", "truth", "specimen")))


Row = Mapping[str, Any]
#: the answers of a row, None where its method gives no probabilities
Source = Callable[[Row], Answers | None]


def temperatures(parts: Sequence[Answers]) -> list[float] | None:
    """One for each fold of a seed, by the rule above; None where a fold has no others to be calibrated by."""
    found = []
    for i, mine in enumerate(parts):
        others = [p.without(mine.specimen) for k, p in enumerate(parts) if k != i]
        if not sum(len(p.truth) for p in others):
            return None
        rest = Answers.joined(others)
        found.append(fit_temperature(rest.logits.astype(np.float64), rest.truth))
    return found


@dataclass(frozen=True, eq=False)
class Judged:
    """All answers of a method: right bool [n], specimen [n], confidence before and (None where a fold has no others to
    be calibrated by) after temperature scaling [n], and the temperatures.
    """

    right: np.ndarray
    specimen: np.ndarray
    before: np.ndarray
    after: np.ndarray | None
    temperatures: list[float]


def judged(rows: Sequence[Row], source: Source) -> Judged | None:
    """The answers of a method's rows, all seeds' together; None where it gives no probabilities."""
    seeds: dict[int, list[Answers]] = {}
    for row in rows:
        answers = source(row)
        if answers is None:
            return None
        seeds.setdefault(row["seed"], []).append(answers)
    if not seeds:
        return None
    whole = Answers.joined([p for parts in seeds.values() for p in parts])
    right = whole.logits.argmax(axis=1) == whole.truth
    before = softmax(whole.logits.astype(np.float64), axis=1).max(axis=1)
    fitted = [temperatures(parts) for parts in seeds.values()]
    if None in fitted:
        return Judged(right, whole.specimen, before, None, [])
    used = [t for some in fitted for t in some or ()]
    each = np.repeat(used, [len(p.truth) for parts in seeds.values() for p in parts])
    after = softmax(whole.logits / each[:, None], axis=1).max(axis=1)
    return Judged(right, whole.specimen, before, after, used)


def assessed(rows: Sequence[Row], source: Source) -> dict[str, Any]:
    """`ece` (after calibration), `ece_before`, `ece_after` with intervals over specimens, `ece_floor`, `temperature`
    of a method's rows; only `ece`, None, where it gives no probabilities. All seeds' answers are judged together.
    """
    mine = judged(rows, source)
    if mine is None:
        return {"ece": None}
    found: dict[str, Any] = {
        "ece": None,
        "ece_before": Resampled(mine.before, mine.right, mine.specimen, DRAWS).ece(),
    }
    if mine.after is None:
        return found
    ece, used = Resampled(mine.after, mine.right, mine.specimen, DRAWS).ece(), mine.temperatures
    return found | {
        "ece": ece["value"],
        "ece_after": ece,
        "ece_floor": floor(mine.after, mine.specimen, ece["value"]),
        "temperature": {"low": min(used), "median": float(np.median(used)), "high": max(used)},
    }


def floor(confidence: np.ndarray, specimen: np.ndarray, ece: float, draws: int = DRAWS) -> dict[str, Any]:
    """ECE of a perfectly calibrated classifier with these confidences, {specimens, spectra}: `mean` and `high` (95th
    percentile) over `draws`, and `p`, the share of draws that reach `ece`.
    """
    _, number = np.unique(specimen, return_inverse=True)
    rng = np.random.default_rng(0)
    found = {}
    for what, cluster in (("specimens", number), ("spectra", np.arange(len(confidence)))):
        size = int(cluster.max()) + 1
        drawn = np.array(
            [Ranked.of(confidence, rng.random(size)[cluster] < confidence).ece() for _ in range(draws)]
        )
        found[what] = {
            "mean": float(drawn.mean()),
            "high": float(np.percentile(drawn, 95)),
            "p": float((1 + (drawn >= ece).sum()) / (1 + draws)),
        }
    return found
