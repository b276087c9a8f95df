"""Martian dust on the target: the first shots of an analysis point burn through it (`libsedge simulate --dust SHARE`).

Off by default. The plasma of shot k of a point (from 0) is that of a sample that holds the mass fraction
``share * exp(-k / decay_shots)`` of dust and the target beside it, every element at the temperature and density of the
rest. `fit_dust` fits the decay to the single shots of two rocks on Mars, never to a classifier.

`dust.csv` is the dust in mass % of oxides, scaled to 1: the average soil of Taylor and McLennan, Planetary Crusts
(2009); SO3, Cl and the iron of the airfall dust of Berger et al. 2016 (doi:10.1002/2015GL066675, whose abstract has
SO3 8.3, Cl 1.1 and "~25 %" more iron than soils); the water of the soil at Rocknest. The soil's figures are
from memory of the literature, without the book at hand; Mars Pathfinder's soil A-5 (APXS, preliminary) is within
0.8 mass % of them in every element but oxygen.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import molmass
import numpy as np
from libsedge.errors import ConfigError

from libsedge_training.simulate.plasma import States
from libsedge_training.simulate.scene import Shots

TABLE = Path(__file__).with_name("dust.csv")
#: of Coronation, the rock whose dust ChemCam's team reported; Maaz on SuperCam has 6.3 (`fit_dust`)
DECAY_SHOTS = 1.1
#: a shot with less dust has none
SMALLEST_SHARE = 0.001


@functools.cache
def composition() -> tuple[tuple[str, float], ...]:
    """(element, mass fraction) of the dust, in alphabetical order, summing to 1."""
    parts: dict[str, float] = {}
    with open(TABLE, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for element, item in molmass.Formula(row["oxide"]).composition().items():
                parts[element] = parts.get(element, 0.0) + item.fraction * float(row["percent"])
    total = sum(parts.values())
    return tuple((element, parts[element] / total) for element in sorted(parts))


@dataclass(frozen=True)
class Dust:
    """``share``: mass fraction of dust in the first shot of a point, above 0 and up to 1; ``decay_shots``: shots in
    which it falls by e."""

    share: float
    decay_shots: float = DECAY_SHOTS
    composition: tuple[tuple[str, float], ...] = ()

    def shares(self, shots: int) -> list[float]:
        """Of each of the first ``shots`` shots of a point, as far as there is any."""
        found = self.share * np.exp(-np.arange(shots) / self.decay_shots)
        return [float(share) for share in found if share >= SMALLEST_SHARE]

    def over(self, target: Mapping[str, float], share: float) -> dict[str, float]:
        """Mass fractions of a plasma that holds ``share`` of dust; the target's elements come first, in its order."""
        mixed = {element: (1 - share) * fraction for element, fraction in target.items()}
        for element, fraction in self.composition:
            mixed[element] = mixed.get(element, 0.0) + share * fraction
        return mixed


def make(share: float, decay_shots: float = DECAY_SHOTS) -> Dust | None:
    """The dust of a plan; None for a share of 0. `ConfigError` outside 0 to 1, or a decay outside 0.1 to 100 shots."""
    if not 0 <= share <= 1:
        raise ConfigError("a share is 0 to 1", field="dust", value=share)
    if not 0.1 <= decay_shots <= 100:
        raise ConfigError("must be 0.1 to 100 shots", field="dust_decay", value=decay_shots)
    return Dust(share, decay_shots, composition()) if share > 0 else None


@dataclass(frozen=True)
class DustyTable:
    """A material's tables: of a point's first shot, of its second, …, and the last of every later one."""

    tables: tuple[States, ...]

    def shots(self, drawn: Shots, rows: slice | np.ndarray) -> np.ndarray:
        """Radiance [rows, points] of drawn shots, without their gain."""
        index = np.arange(drawn.number.size)[rows]
        table = np.minimum(drawn.number[index], len(self.tables) - 1)
        used = np.unique(table)
        parts = [self.tables[k].shots(drawn, index[table == k]) for k in used]
        out = np.empty((index.size, parts[0].shape[1]))
        for k, part in zip(used, parts, strict=True):
            out[table == k] = part
        return out
