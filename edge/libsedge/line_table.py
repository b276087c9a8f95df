"""The strongest emission lines of each element, `lines.json`, which `libsedge_training.simulate.line_table` makes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("lines.json")


@dataclass(frozen=True)
class Line:
    """wavelength_nm : in vacuum; stage : I, II, ...; strength : over the element's strongest line."""

    element: str
    wavelength_nm: float
    stage: str
    strength: float


def read_table(path: Path = TABLE) -> list[Line]:
    """Every line of lines.json."""
    document = json.loads(path.read_text(encoding="utf-8"))
    return [
        Line(element, wavelength, stage, strength)
        for element, rows in document["elements"].items()
        for wavelength, stage, strength in rows
    ]
