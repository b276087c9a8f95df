"""Metrics of a classifier per class, distance and specimen; evaluation of a run and of its int8 bundle."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from libsedge.errors import DatasetError, RunError
from libsedge.preprocess import PreprocessConfig
from scipy.special import softmax  # type: ignore[import-untyped]

from . import risk
from .calibrate import fit_temperature
from .spectra import SpectraSet

if TYPE_CHECKING:
    from libsedge.bundle import Bundle

FORMAT, VERSION = "libsedge-evaluation", 1
ECE_BINS = 15
_Z95 = 1.959963984540054  # two-sided 95 % point of the normal distribution


def wilson(share: float, trials: float) -> tuple[float, float]:
    """95 % score interval of a share of `trials` independent trials (Wilson, JASA 22, 1927)."""
    z2 = _Z95**2 / trials
    centre = (share + z2 / 2) / (1 + z2)
    half = _Z95 / (1 + z2) * float(np.sqrt(share * (1 - share) / trials + z2 / (4 * trials)))
    return max(0.0, centre - half), min(1.0, centre + half)


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = ECE_BINS) -> list[dict[str, Any]]:
    """Rows {low, high, n, confidence, accuracy} of the equal bins (low, high] that hold a spectrum."""
    edges = np.linspace(0, 1, bins + 1)
    number = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    rows = []
    for b in range(bins):
        here = number == b
        if here.any():
            rows.append(
                {
                    "low": float(edges[b]),
                    "high": float(edges[b + 1]),
                    "n": int(here.sum()),
                    "confidence": float(confidence[here].mean()),
                    "accuracy": float(correct[here].mean()),
                }
            )
    return rows


def metrics(
    y_true: np.ndarray,
    probabilities: np.ndarray,
    distance_m: np.ndarray,
    specimen: Sequence[str] | np.ndarray,
    classes: Sequence[str],
    simulated: bool,
) -> dict[str, Any]:
    """Figures of merit as a JSON-able dict.

    Parameters
    ----------
    y_true : int [n], index into `classes`. probabilities : float [n, classes], rows sum to 1.
    distance_m : float [n], NaN = unknown. specimen : str [n]. simulated : the spectra are.

    Keys
    ----
    accuracy, precision, recall, f1 : of spectra; the last three are means over the classes (macro; 0 where
    a class is
        never predicted). n, specimens : how many. accuracy_interval : see below.
    per_class : rows {class, n, specimens, precision, recall, f1}. confusion : int [true][predicted].
    per_distance : rows {distance_m (None = unknown), n, specimens, accuracy, low, high}.
    per_specimen : rows {specimen, class, n, accuracy, vote, vote_correct}; vote = class with the largest mean
        probability. vote_accuracy : share of the specimens whose vote is right.
    ece : sum_b n_b / n |accuracy_b - confidence_b| over 15 equal bins of the top probability (Guo et al.,
    ICML 2017);
        reliability : its bins. brier : mean over spectra of sum_k (p_k - [y = k])^2, 0 ... 2 (Brier 1950).

    Intervals are 95 % Wilson intervals with the number of SPECIMENS as the number of trials: shots of one
    specimen are not independent, and counting them as such would claim too much. Raises DatasetError where
    nothing is evaluated.
    """
    from sklearn import metrics as sk  # type: ignore[import-untyped]

    n, numbers = len(y_true), list(range(len(classes)))
    if n == 0:
        raise DatasetError("no spectra to evaluate", field="spectra", value=0)
    if probabilities.shape != (n, len(classes)):
        raise ValueError(f"expected probabilities [{n}, {len(classes)}], got {list(probabilities.shape)}")
    specimens = np.asarray(specimen, dtype=np.str_)
    predicted = probabilities.argmax(axis=1)
    correct = predicted == y_true
    each = sk.precision_recall_fscore_support(y_true, predicted, labels=numbers, zero_division=0)
    truth = np.eye(len(classes))[y_true]
    bins = reliability(probabilities.max(axis=1), correct)
    by_specimen = []
    for name in np.unique(specimens).tolist():
        rows = specimens == name
        vote = int(probabilities[rows].mean(axis=0).argmax())
        by_specimen.append(
            {
                "specimen": name,
                "class": classes[int(y_true[rows][0])],
                "n": int(rows.sum()),
                "accuracy": float(correct[rows].mean()),
                "vote": classes[vote],
                "vote_correct": vote == int(y_true[rows][0]),
            }
        )
    accuracy = float(sk.accuracy_score(y_true, predicted))
    return {
        "accuracy": accuracy,
        "accuracy_interval": list(wilson(accuracy, len(by_specimen))),
        "precision": float(np.mean(each[0])),
        "recall": float(np.mean(each[1])),
        "f1": float(np.mean(each[2])),
        "per_class": [
            {
                "class": name,
                "n": int(each[3][k]),
                "specimens": len(np.unique(specimens[y_true == k])),
                "precision": float(each[0][k]),
                "recall": float(each[1][k]),
                "f1": float(each[2][k]),
            }
            for k, name in enumerate(classes)
        ],
        "per_distance": _by_distance(correct, distance_m, specimens),
        "per_specimen": by_specimen,
        "vote_accuracy": float(np.mean([row["vote_correct"] for row in by_specimen])),
        "confusion": sk.confusion_matrix(y_true, predicted, labels=numbers).tolist(),
        "ece": float(sum(b["n"] * abs(b["accuracy"] - b["confidence"]) for b in bins) / n),
        "reliability": bins,
        "brier": float(((probabilities - truth) ** 2).sum(axis=1).mean()),
        "n": n,
        "specimens": len(by_specimen),
        "simulated": bool(simulated),
    }


def _by_distance(correct: np.ndarray, distance_m: np.ndarray, specimens: np.ndarray) -> list[dict[str, Any]]:
    metres = np.round(np.asarray(distance_m, dtype=np.float64), 3)
    rows = []
    for value in [*np.unique(metres[~np.isnan(metres)]).tolist(), None]:
        here = np.isnan(metres) if value is None else metres == value
        if here.any():
            accuracy, count = float(correct[here].mean()), len(np.unique(specimens[here]))
            low, high = wilson(accuracy, count)
            rows.append(
                {
                    "distance_m": value,
                    "n": int(here.sum()),
                    "specimens": count,
                    "accuracy": accuracy,
                    "low": low,
                    "high": high,
                }
            )
    return rows


def other_data(run: dict[str, Any], path: str | PathLike[str]) -> SpectraSet:
    """Labelled spectra that the run never saw, from a file or folder, for the split "all".

    A label may differ from the run's class in case, blanks, hyphens, underscores, a plural s and sulph for sulf.
    DatasetError where a label is missing or none of the run's classes, or nothing is there.
    """
    from .readers import read

    data = read(path)
    if not len(data):
        raise DatasetError("holds no spectrum", file=path, field="counts")
    classes = {_spelling(name): name for name in run["classes"]}
    labels = []
    for row, label in enumerate(data.label.tolist()):
        name = label if label in run["classes"] else classes.get(_spelling(label))
        if name is None:
            raise DatasetError(
                f"must be one of the run's classes, {', '.join(run['classes'])}",
                file=path,
                field=f"label[row {row}]",
                value=label,
            )
        labels.append(name)
    return replace(data, label=np.array(labels))


def _spelling(label: str) -> str:
    return re.sub(r"[\s_-]+", " ", label.casefold()).strip().removesuffix("s").replace("sulph", "sulf")


def run_data(run_dir: str | PathLike[str], run: dict[str, Any], path: str | None = None) -> SpectraSet:
    """The spectra that the run was trained on: from `path`, or from where the run says they are.

    RunError where they cannot be found or are other spectra than the run's (by digest).
    """
    from .prepare import data_digest
    from .readers import read

    named = path if path is not None else run["data"]["file"]
    if named is None:
        raise RunError("the run does not say where its spectra are; name them with --data", file=run_dir)
    found = Path(named) if path is not None else Path(run_dir) / named
    if not found.exists():
        raise RunError("the run's spectra are not here any more; name them with --data", file=found)
    data = read(found)
    if data_digest(data) != run["data"]["digest"]:
        raise RunError("holds other spectra than the run was trained on", file=found, field="data.digest")
    return data


def split_part(data: SpectraSet, run: dict[str, Any], split: str) -> SpectraSet:
    """The rows of `data` that belong to the run's part "train", "validation" or "test"; "all": every row."""
    if split == "all":
        return data
    part = data.select(np.flatnonzero(np.isin(data.specimen, run["specimens"][split])))
    if not len(part):
        raise DatasetError("has no specimen in this set", field="split", value=split)
    return part


def logits_of(run_dir: str | PathLike[str], part: SpectraSet) -> np.ndarray:
    """Logits of the run's float net, float64 [n, classes]."""
    import torch

    from .fit import predict
    from .prepare import preprocessed
    from .run_folder import load_run

    net, run = load_run(run_dir)
    values, _ = preprocessed(part, PreprocessConfig.from_json(run["preprocess"]))
    return predict(net, torch.from_numpy(values)).double().numpy()


def probabilities_of(run_dir: str | PathLike[str], part: SpectraSet) -> np.ndarray:
    """Softmax of the run's float net, float64 [n, classes]."""
    return np.asarray(softmax(logits_of(run_dir, part), axis=1))


def validation_temperature(
    run_dir: str | PathLike[str], run: dict[str, Any], data: SpectraSet | None
) -> float | None:
    """The temperature that fits the run's validation spectra, taken from `data` or, with None, from where the run
    says; None where they are not there."""
    try:
        held = split_part(run_data(run_dir, run) if data is None else data, run, "validation")
    except (RunError, DatasetError):
        return None
    return fit_temperature(logits_of(run_dir, held), _truth(held, run))


def _head(run: dict[str, Any], split: str, model: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": model,
        "split": split,
        "net": run["net"]["name"],
        "weighting": run["config"]["weighting"],
        "seed": run["config"]["seed"],
        "classes": run["classes"],
    }


def _truth(part: SpectraSet, run: dict[str, Any]) -> np.ndarray:
    number = {name: k for k, name in enumerate(run["classes"])}
    return np.array([number[label] for label in part.label.tolist()], dtype=np.int64)


def evaluate_run(run_dir: str | PathLike[str], data: SpectraSet, split: str = "test") -> dict[str, Any]:
    """`metrics` of the run's float net on one part of its set, and what was evaluated; `confidence` is
    `risk.assess` at the temperature that fits the run's validation spectra.
    """
    from .run_folder import read_run

    run = read_run(run_dir)
    part = split_part(data, run, split)
    truth, logits = _truth(part, run), logits_of(run_dir, part)
    probabilities = np.asarray(softmax(logits, axis=1))
    found = metrics(truth, probabilities, part.distance_m, part.specimen, run["classes"], part.simulated)
    temperature = validation_temperature(run_dir, run, None if split == "all" else data)
    source = "validation specimens of the run" if temperature is not None else "nowhere: they are not here"
    confidence = risk.assess(logits, truth, part.specimen, temperature, source)
    return {**_head(run, split, "float32"), **found, "confidence": confidence}


def evaluate_bundle(
    run_dir: str | PathLike[str], data: SpectraSet, bundle: Bundle, split: str = "test"
) -> dict[str, Any]:
    """`metrics` of a bundle's kernel on one part of the run's set, run on this machine; `confidence` is
    `risk.assess` at the bundle's temperature.

    Every spectrum is classified, also those that the bundle's own checks would refuse; what they refuse and
    how good the rest is stands under `acceptance`. `agreement` is the share of the spectra where the float
    net names the same class. RunError where the bundle's classes are not the run's.
    """
    from libsedge.classifier import Classifier
    from libsedge.preprocess import Preprocessor

    from .run_folder import read_run

    run = read_run(run_dir)
    if bundle.labels != run["classes"]:
        raise RunError(
            f"the bundle's classes are not the run's {run['classes']}", file=run_dir, value=bundle.labels
        )
    part = split_part(data, run, split)
    truth = _truth(part, run)
    classifier = Classifier(bundle).bind(part.wavelength, part.mask)
    inputs = Preprocessor(bundle.preprocess, part.wavelength, part.mask).input(part.counts, part.dark)
    outputs = classifier.model.run_batch(np.ascontiguousarray(inputs))
    probabilities = classifier.probabilities(outputs)
    logits, temperature = classifier.logits(outputs), float(bundle.calibration["temperature"])
    decisions = classifier.classify_many(
        part.counts, dark=part.dark, saturation=part.saturation, distance_m=part.distance_m
    )
    right = [d.index == t for d, t in zip(decisions, truth.tolist(), strict=True) if d.accepted]
    reasons = [d.reason for d in decisions if d.reason is not None]
    same = probabilities.argmax(axis=1) == probabilities_of(run_dir, part).argmax(axis=1)
    return {
        **_head(run, split, bundle.precision),
        "bundle": bundle.digest,
        **metrics(truth, probabilities, part.distance_m, part.specimen, run["classes"], part.simulated),
        "confidence": risk.assess(logits, truth, part.specimen, temperature, "the bundle"),
        "agreement": float(same.mean()),
        "acceptance": {
            "accepted": len(right),
            "refused": {reason: reasons.count(reason) for reason in sorted(set(reasons))},
            "accuracy_of_accepted": float(np.mean(right)) if right else None,
        },
    }


def read_history(run_dir: str | PathLike[str]) -> list[dict[str, Any]]:
    """The records of RUN/history.jsonl; RunError where it is missing or damaged."""
    path = Path(run_dir) / "history.jsonl"
    try:
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    except (OSError, ValueError) as wrong:
        raise RunError(f"cannot be read: {wrong}", file=path) from wrong
