"""Splits by specimen, never by shot.

Shots of one specimen share its composition and surface: a split by shot puts near-copies of the test spectra
into the training part and its accuracy says nothing about a new rock. Every split here keeps specimens whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from libsedge.errors import DatasetError

Split = dict[str, np.ndarray]  # part name -> row numbers int64, increasing


def specimens_by_class(labels: Sequence[str], specimens: Sequence[str]) -> dict[str, list[str]]:
    """class -> its specimens, both sorted.

    DatasetError where there are no rows, a row has no label or no specimen, or a specimen has two labels.
    """
    if len(labels) != len(specimens):
        raise DatasetError(f"{len(labels)} labels for {len(specimens)} specimens", field="label")
    if len(labels) == 0:
        raise DatasetError("the set is empty", field="label")
    for field, column in (("label", labels), ("specimen", specimens)):
        missing = [row for row, text in enumerate(column) if not str(text)]
        if missing:
            raise DatasetError(
                f"{len(missing)} of {len(column)} rows have no {field} (first: row {missing[0]}); "
                "select the rows that have one",
                field=field,
            )
    classes: dict[str, set[str]] = {}
    owner: dict[str, str] = {}
    for label, specimen in zip(map(str, labels), map(str, specimens), strict=True):
        if owner.setdefault(specimen, label) != label:
            raise DatasetError(
                f"has two labels, {owner[specimen]!r} and {label!r}", field="specimen", value=specimen
            )
        classes.setdefault(label, set()).add(specimen)
    return {label: sorted(classes[label]) for label in sorted(classes)}


def _need(classes: Mapping[str, Sequence[str]], count: int, why: str) -> None:
    if len(classes) < 2:
        raise DatasetError("a classifier needs at least 2 classes", field="label", value=next(iter(classes)))
    for label, names in classes.items():
        if len(names) < count:
            raise DatasetError(
                f"has {len(names)} specimen(s) ({', '.join(names)}); {why} needs at least {count} a class",
                field="label",
                value=label,
            )


def _shares(sizes: Mapping[str, int], total: int, what: str) -> dict[str, int]:
    """`total` specimens over the classes: one each, then one by one where the largest fraction is left."""
    if total < len(sizes):
        raise DatasetError(
            f"with {len(sizes)} classes at least {len(sizes)} specimens are needed, one of each",
            field=what,
            value=total,
        )
    shares = dict.fromkeys(sizes, 1)
    for _ in range(total - len(sizes)):
        free = {label: (sizes[label] - shares[label]) / sizes[label] for label in sizes}
        open_ = [label for label in sizes if sizes[label] - shares[label] > 1]
        if not open_:
            most = sum(size - 1 for size in sizes.values())
            raise DatasetError(f"at most {most} specimens can be taken here", field=what, value=total)
        shares[max(open_, key=lambda label: free[label])] += 1  # ties: the first by name
    return shares


def _rows(specimens: Sequence[str], names: Sequence[str]) -> np.ndarray:
    return np.flatnonzero(np.isin(np.asarray(specimens, dtype=np.str_), list(names)))


def split_by_specimen(
    labels: Sequence[str],
    specimens: Sequence[str],
    seed: int,
    test: int = 9,
    validation: int | None = None,
) -> Split:
    """Rows of the parts "train", "validation" and "test"; whole specimens, every class in every part.

    Parameters
    ----------
    labels, specimens : n strings each.
    seed : same seed and same specimens give the same split, whatever the order of the rows.
    test, validation : number of SPECIMENS; validation None = 15 % of all, at least one a class.

    Raises DatasetError naming the class (fewer than 3 specimens) or the part (too few or too many asked).
    """
    classes = specimens_by_class(labels, specimens)
    _need(classes, 3, "a split into train, validation and test")
    total = sum(map(len, classes.values()))
    if validation is None:
        validation = max(len(classes), round(0.15 * total))
    rng = np.random.default_rng(seed)
    order = {label: [names[i] for i in rng.permutation(len(names))] for label, names in classes.items()}
    left = {label: len(names) - 1 for label, names in classes.items()}  # one is kept for training
    taken = _shares(left, test, "test")
    held = _shares({label: left[label] - taken[label] + 1 for label in left}, validation, "validation")
    parts: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for label, names in order.items():
        parts["test"] += names[: taken[label]]
        parts["validation"] += names[taken[label] : taken[label] + held[label]]
        parts["train"] += names[taken[label] + held[label] :]
    split = {part: _rows(specimens, names) for part, names in parts.items()}
    check_no_leak(split, specimens)
    return split


def group_folds(labels: Sequence[str], specimens: Sequence[str], k: int, seed: int) -> list[Split]:
    """k folds of "train" and "validation"; each specimen is in one validation part, each class in all.

    Specimens of a class are dealt out in turn, each class starting where the last one stopped, so that folds
    differ by at most one specimen. scikit-learn's StratifiedGroupKFold promises no class to every fold.
    DatasetError names a class with fewer than k specimens.
    """
    if k < 2:
        raise DatasetError("at least 2 folds are needed", field="k", value=k)
    classes = specimens_by_class(labels, specimens)
    _need(classes, k, f"{k}-fold cross-validation")
    rng = np.random.default_rng(seed)
    folds: list[list[str]] = [[] for _ in range(k)]
    turn = 0
    for names in classes.values():
        for i in rng.permutation(len(names)):
            folds[turn % k].append(names[i])
            turn += 1
    every = np.arange(len(labels))
    splits = []
    for fold in folds:
        held = _rows(specimens, fold)
        split = {"train": np.setdiff1d(every, held), "validation": held}
        check_no_leak(split, specimens)
        splits.append(split)
    return splits


def check_no_leak(split: Mapping[str, np.ndarray], specimens: Sequence[str]) -> None:
    """DatasetError naming the first specimen (or row) that is in two parts of `split`."""
    names = np.asarray(specimens, dtype=np.str_)
    home: dict[str, str] = {}
    for part, rows in split.items():
        if len(np.unique(rows)) != len(rows):
            raise DatasetError("holds a row twice", field=part)
        for name in np.unique(names[rows]):
            if home.setdefault(str(name), part) != part:
                raise DatasetError(
                    f"is in {home[str(name)]!r} and in {part!r}: the parts leak",
                    field="specimen",
                    value=str(name),
                )
