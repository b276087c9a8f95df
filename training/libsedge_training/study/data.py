"""The study's data in the memory of a worker."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from libsedge.errors import DatasetError, RunError
from libsedge.preprocess import DEFAULT_SEGMENTS, PreprocessConfig

from libsedge_training import splits
from libsedge_training.fit import Parts
from libsedge_training.prepare import data_digest, preprocessed, segments_for
from libsedge_training.readers import read
from libsedge_training.spectra import SpectraSet
from libsedge_training.weighting import TrainPart

from .divide import Division, Part, divide
from .plan import SCREEN, spec_of


@dataclass(frozen=True, eq=False)
class Data:
    """A whole set, preprocessed on the grid of a net: values float32 [n, points], target int64 [n]."""

    values: np.ndarray
    grid_mask: np.ndarray
    steps: PreprocessConfig
    classes: tuple[str, ...]
    target: np.ndarray
    label: np.ndarray
    specimen: np.ndarray
    distance_m: np.ndarray

    def divided(self, split: str, k: int, seed: int, fold: int) -> Part:
        """One part of a division (`divide.py`), by its name."""
        labels, specimens = self.label.tolist(), self.specimen.tolist()
        return divide(Division.parse(split), labels, specimens, self.distance_m, k, seed, fold)

    def parts(self, split: splits.Split) -> Parts:
        """Training and validation part of a split."""
        train, held = split["train"], split["validation"]
        columns = (self.values[train], self.label[train], self.specimen[train], self.distance_m[train])
        part = TrainPart(*columns, self.steps.segments)
        return Parts(
            part,
            self.target[train],
            self.values[held],
            self.target[held],
            self.steps,
            self.grid_mask,
            len(self.classes),
        )


def binned(values: np.ndarray, mask: np.ndarray, by: int) -> tuple[np.ndarray, np.ndarray]:
    """Preprocessed spectra [n, points] and mask in bins of `by` points: root of the mean signal (value
    squared) over the valid points of a bin; a bin is valid where one of its points is.
    """
    if by == 1:
        return values, mask
    counts = mask.reshape(-1, by).sum(axis=1)
    power = np.square(values * mask).reshape(len(values), -1, by).sum(axis=2)
    return np.sqrt(power / np.maximum(counts, 1)).astype(np.float32), counts > 0


def prepare(data: SpectraSet, net: str = SCREEN.name) -> Data:
    """The set on the grid of `net`: preprocessed on the full grid, then binned.

    DatasetError where a row has no label, specimen or distance, a specimen has two labels, or the set has one
    distance only or no signal at all: there is nothing to study then.
    """
    by_class = splits.specimens_by_class(data.label.tolist(), data.specimen.tolist())
    unknown = np.flatnonzero(~(data.distance_m > 0))
    if unknown.size:
        raise DatasetError(
            f"a study needs the distance of every spectrum; {unknown.size} of {len(data)} have none "
            f"(first: row {int(unknown[0])})",
            field="distance_m",
        )
    if len(np.unique(np.rint(data.distance_m * 1000))) < 2:
        raise DatasetError(
            "a study of distances needs at least two", field="distance_m", value=float(data.distance_m[0])
        )
    points = spec_of(net).points
    full = PreprocessConfig(DEFAULT_SEGMENTS)
    values, mask = preprocessed(data, full)
    if not values.any():
        raise DatasetError("no spectrum has a positive signal on the net's grid", field="counts")
    values, mask = binned(values, mask, full.points // points)
    number = {name: k for k, name in enumerate(by_class)}
    target = np.array([number[name] for name in data.label.tolist()], dtype=np.int64)
    return Data(
        values,
        mask,
        segments_for(spec_of(net)),
        tuple(by_class),
        target,
        data.label,
        data.specimen,
        data.distance_m,
    )


@lru_cache(maxsize=2)
def load(path: str, digest: str, net: str) -> Data:
    """`prepare` of the file, once a process; RunError where the file holds other spectra than `digest`."""
    data = read(path)
    if data_digest(data) != digest:
        raise RunError("holds other spectra than the study was started with", file=path, field="data.digest")
    return prepare(data, net)
