"""What an axis' name says, and an axis put into order; air and vacuum are `libsedge.air`'s."""

from __future__ import annotations

import re

import numpy as np

MEDIA = ("vacuum", "air")


def named_axis(name: str) -> tuple[float, str | None]:
    """What an axis' name says: the factor that makes nm of its unit (1 where it names none), and its medium, if any."""
    unit = 1.0
    if re.search(r"angstr|Å|[\[(]\s*A\s*[\])]", name) or re.search(r"angstr", name, re.IGNORECASE):
        unit = 0.1
    elif re.search(r"[µμu]m\b|micromet|micron", name):
        unit = 1000.0
    found = re.search(r"\b(air|vac(?:uum)?)\b", re.sub(r"[_\W]+", " ", name), re.IGNORECASE)
    return unit, None if found is None else ("air" if found[1].lower() == "air" else "vacuum")


def in_order(wavelength: np.ndarray) -> tuple[np.ndarray | None, int]:
    """The stable order that makes ``wavelength`` [channels] increase, and the number of steps that went back.

    (None, 0) where the axis increases already. Equal wavelengths stay equal: the caller's check refuses them.
    """
    back = int(np.count_nonzero(np.diff(wavelength) < 0))
    return (np.argsort(wavelength, kind="stable"), back) if back else (None, 0)
