"""MODEL_CARD.md of a bundle: what the model is for, what it saw, how well it does, where it stops.

Every figure comes from the run, its evaluation or the export; what was not measured is said to be missing.
Sections follow Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2
import numpy as np

from .calibrate import Calibration, Figures
from .quantise import Choice


@dataclass(frozen=True)
class DistanceRow:
    """Figures of one stand-off distance (None = unknown): spectra, top-1 accuracy, share accepted."""

    distance_m: float | None
    spectra: int
    accuracy: float
    accepted: float


def by_distance(distance_m: np.ndarray, right: np.ndarray, accepted: np.ndarray) -> list[DistanceRow]:
    """One row a distance (rounded to 1 mm), increasing, unknown last; bool arrays [n]."""
    metres = np.round(distance_m.astype(np.float64), 3)
    rows = []
    for value in [*np.unique(metres[~np.isnan(metres)]).tolist(), None]:
        here = np.isnan(metres) if value is None else metres == value
        if here.any():
            figures = float(right[here].mean()), float(accepted[here].mean())
            rows.append(DistanceRow(value, int(here.sum()), *figures))
    return rows


def _metres(distance: float | None) -> str:
    return "unknown" if distance is None else f"{distance:g}"


def model_card(
    *,
    name: str,
    version: str,
    run: Mapping[str, Any],
    validation: Sequence[DistanceRow],
    calibration: Calibration,
    figures: Figures,
    choice: Choice | None,
    evaluation: Mapping[str, Any] | None,
) -> str:
    """The card's Markdown. run, evaluation : run.json and evaluation.json (None = not evaluated).
    choice : how it was quantised, None for float32.
    """
    known = [row.distance_m for row in validation if row.distance_m is not None]
    text = (resources.files("libsedge_training") / "templates" / "model_card.md.j2").read_text("utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.filters["metres"] = _metres
    return environment.from_string(text).render(
        name=name,
        version=version,
        run=run,
        kind="simulated" if run["simulated"] else "measured",
        reach=f"{min(known):g} to {max(known):g} m" if known else "distances that are not known",
        validation=validation,
        calibration=calibration,
        figures=figures,
        choice=choice,
        evaluation=evaluation,
    )
