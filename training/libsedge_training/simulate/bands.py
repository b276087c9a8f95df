"""Molecular bands of cooling plasmas, as shapes: NIST ASD has atoms only.

A band is a sawtooth with its edge at the head, falling off exponentially to one side, or a Gaussian where it has
no head. Heads and shading are those of R. W. B. Pearse and A. G. Gaydon, The Identification of Molecular Spectra
(air nm, from memory, to about 0.2 nm); relative strengths within a molecule are rough, strengths against atomic lines
unknown and drawn at random. So bands are weak evidence, and what is learned from them must not be trusted further.
"""

from __future__ import annotations

import functools

import numpy as np
from libsedge.air import air_to_vacuum

#: molecule -> (its elements, bands: head in air nm, length of the tail in nm (negative: to the violet), strength)
MOLECULES: dict[str, tuple[tuple[str, ...], tuple[tuple[float, float, float], ...]]] = {
    "CN": (
        ("C", "N"),
        (
            (388.34, -1.0, 1.0),
            (387.14, -0.8, 0.7),
            (386.19, -0.7, 0.4),
            (421.60, -1.0, 0.25),
            (419.72, -0.9, 0.2),
            (418.10, -0.8, 0.1),
            (359.04, -0.7, 0.25),
            (358.59, -0.6, 0.2),
        ),
    ),
    "C2": (("C",), ((516.52, -2.0, 1.0), (512.93, -1.5, 0.4), (473.71, -1.5, 0.5), (563.55, -2.0, 0.4))),
    "AlO": (
        ("Al", "O"),
        ((484.22, 1.6, 1.0), (486.64, 1.4, 0.6), (488.84, 1.3, 0.3), (464.82, 1.5, 0.5), (507.93, 1.6, 0.6)),
    ),
    "MgO": (("Mg", "O"), ((500.73, -0.8, 1.0), (499.67, -0.8, 0.6), (498.59, -0.8, 0.4))),
    "TiO": (("Ti", "O"), ((516.68, 2.0, 0.7), (544.83, 2.0, 0.6), (615.91, 3.0, 0.5), (705.42, 3.0, 1.0))),
    "CaF": (
        ("Ca", "F"),
        (
            (529.1, 1.5, 0.6),
            (530.9, 1.5, 0.4),
            (602.86, 0.9, 0.7),
            (603.7, 0.9, 1.0),
            (605.08, 0.9, 0.8),
            (606.45, 0.9, 0.6),
        ),
    ),
    "CaCl": (("Ca", "Cl"), ((621.15, -1.0, 1.0), (618.49, -1.0, 0.9), (593.4, 0.8, 0.6))),
}
#: the same without a head: centre in air nm, standard deviation, strength
HUMPS: dict[str, tuple[tuple[str, ...], tuple[tuple[float, float, float], ...]]] = {
    "CaO": (
        ("Ca", "O"),
        ((547.5, 2.5, 0.3), (554.5, 2.5, 0.8), (601.0, 3.0, 0.5), (614.5, 4.0, 1.0), (625.0, 4.0, 0.9)),
    ),
    "FeO": (("Fe", "O"), ((562.0, 7.0, 0.5), (588.0, 9.0, 1.0), (614.0, 8.0, 0.6))),
    "SrO": (("Sr", "O"), ((595.0, 4.0, 0.5), (605.0, 4.0, 1.0), (646.0, 6.0, 0.4))),
    "BaO": (("Ba", "O"), ((535.0, 5.0, 1.0), (549.0, 5.0, 0.9), (570.0, 6.0, 0.6))),
}


@functools.cache
def shapes(start: float, step: float, points: int) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """molecule -> (its elements, intensity float32 [points] with its mean 1) on an equidistant axis, vacuum nm."""
    nm = start + step * np.arange(points)
    made = {}
    for name, (elements, bands) in {**MOLECULES, **HUMPS}.items():
        total = np.zeros(points)
        for head, width, strength in bands:
            away = nm - float(air_to_vacuum(head))
            if name in HUMPS:
                total += strength * np.exp(-0.5 * (away / width) ** 2)
            else:
                total += strength * np.where(away / width >= 0, np.exp(-np.abs(away / width)), 0.0)
        made[name] = (elements, (total / total.mean()).astype(np.float32))
    return made
