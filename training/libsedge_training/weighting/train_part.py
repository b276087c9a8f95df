"""What a strategy may look at: the training part, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from libsedge.errors import DatasetError
from libsedge.preprocess import DEFAULT_SEGMENTS, Segment


@dataclass(frozen=True, eq=False)
class TrainPart:
    """What a strategy may look at: preprocessed training spectra and what is known about them.

    values : float32 [n, points], not negative (`Preprocessor.float`: masked, normalised, square root).
    label, specimen : str [n]; distance_m : float32 [n], NaN = unknown.
    segments : the grid of the points; empty = the default grid with as many points.
    """

    values: np.ndarray
    label: np.ndarray
    specimen: np.ndarray
    distance_m: np.ndarray
    segments: tuple[Segment, ...] = ()

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or len(self.values) == 0:
            raise DatasetError("must be [n, points] with n > 0", field="values", value=self.values.shape)
        for name in ("label", "specimen", "distance_m"):
            if getattr(self, name).shape != (len(self.values),):
                raise DatasetError(f"must have shape ({len(self.values)},)", field=name)
        if not (np.isfinite(self.values).all() and self.values.min() >= 0):
            raise DatasetError("preprocessed spectra are finite and not negative", field="values")

    def __len__(self) -> int:
        return len(self.values)

    def select(self, rows: np.ndarray) -> TrainPart:
        """The rows `rows`, in that order."""
        columns = (self.values[rows], self.label[rows], self.specimen[rows], self.distance_m[rows])
        return TrainPart(*columns, self.segments)

    def grid(self) -> tuple[Segment, ...]:
        """The grid's segments; DatasetError where the default grid cannot have as many points."""
        points = self.values.shape[1]
        if self.segments:
            return self.segments
        whole = sum(s.channels for s in DEFAULT_SEGMENTS)
        found = tuple(
            replace(s, channels=s.channels * points // whole)
            for s in DEFAULT_SEGMENTS
            if s.channels * points % whole == 0
        )
        if len(found) < len(DEFAULT_SEGMENTS):
            raise DatasetError("do not make a default grid; name its segments", field="points", value=points)
        return found

    def known_distances(self, why: str) -> np.ndarray:
        """Distances in whole millimetres, int64 [n]; DatasetError where one is unknown or not positive."""
        bad = np.flatnonzero(~(self.distance_m > 0))
        if bad.size:
            raise DatasetError(
                f"{why} needs the distance of every training spectrum; {bad.size} of {len(self)} have none",
                field="distance_m",
                value=float(self.distance_m[bad[0]]),
            )
        return np.rint(self.distance_m.astype(np.float64) * 1000).astype(np.int64)
