"""Synthetic lines (not LTE plasma, not measured spectra), and what the tests of the export share about their run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from libsedge_training.spectra import SpectraSet

CLASSES = ("calcite", "gypsum", "olivine")
DISTANCES = (2.0, 5.0)


def lines_set(seed: int = 0) -> SpectraSet:
    """3 classes x 4 specimens x 2 distances x 4 shots of synthetic lines on a 900-channel axis."""
    rng = np.random.default_rng(seed)
    axis = np.linspace(240.5, 849.5, 900)
    rows: dict[str, list] = {"counts": [], "distance_m": [], "specimen": [], "label": []}
    for number, label in enumerate(CLASSES):
        own = np.random.default_rng(100 + number).choice(900, 25, replace=False)
        for specimen in range(4):
            strength = rng.uniform(0.5, 1.5, 25)
            for distance in DISTANCES:
                for _ in range(4):
                    spectrum = rng.normal(200, 10, 900)
                    spectrum[own] += 40_000 / distance**2 * strength * rng.uniform(0.8, 1.2)
                    rows["counts"].append(np.clip(np.rint(spectrum), 0, 65_535))
                    rows["distance_m"].append(distance)
                    rows["specimen"].append(f"{label}-{specimen}")
                    rows["label"].append(label)
    return SpectraSet(
        counts=np.array(rows["counts"]).astype(np.uint16),
        wavelength=axis,
        distance_m=np.array(rows["distance_m"], np.float32),
        specimen=np.array(rows["specimen"]),
        label=np.array(rows["label"]),
        saturation=65_535.0,
        instrument="line generator",
        source="synthetic lines of tests/training/line_run.py",
        simulated=True,
    )


def nothing_written(folder: Path) -> None:
    assert list(folder.iterdir()) == []
