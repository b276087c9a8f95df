"""Virtual specimens of minerals, metals and soils: `minerals.csv`, and random realistic compositions drawn from it.

A mineral has its ideal formula, further end members of its solid solution (``series``: formula and largest mass
fraction) and elements that often replace others in it (``traces``: largest mass fraction in %). Formulas become
mass fractions by molmass. A specimen also holds some of another phase (veins, dust), what every hand and mill leaves
on a sample (Na, Ca, K, ...), and water. The ranges of traces and of contamination are our judgement, not
measurements. Quartz counts as a silicate (it is a tectosilicate by structure, an oxide by composition); hydroxides
count as oxides, arsenides and sulfosalts as sulfides, arsenates and vanadates as phosphates, as in the Nickel-Strunz
classes 2, 4 and 8. Technical metals and alloys count as native metals. Soils are mixtures of what weathers (quartz,
feldspar, clay, iron oxides, carbonate, salts) with organic matter and water, from sand to peat; pure clay minerals are
silicates. Organic matter is C25H35N2O15, as humus has on average, and C30H48NO21 where plants are hardly decayed; brick
and ceramic, which have none, are fired soils.
"""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from pathlib import Path

import molmass
import numpy as np
from libsedge.errors import FileFormatError

TABLE = Path(__file__).with_name("minerals.csv")
COLUMNS = ["name", "class", "formula", "series", "traces", "source"]
CLASSES = (
    "carbonate",
    "halide",
    "native metal",
    "oxide",
    "phosphate",
    "silicate",
    "soil",
    "sulfate",
    "sulfide",
)
#: what a model can be trained for: class of the table -> its label there; a class that is not named is left out.
#: The six families are those of `materials.csv`; rocks are invented alone (`invented`), for the set that has soils
CLASS_SETS: dict[str, dict[str, str]] = {
    "chemistry": {name: name for name in CLASSES if name != "soil"},
    "families": {
        **{name: name for name in ("carbonate", "oxide", "silicate", "soil", "sulfate")},
        **{"native metal": "metal", "rock": "silicate"},
    },
}
#: what veins and dust are made of
GANGUE = (
    "quartz",
    "calcite",
    "albite",
    "orthoclase",
    "kaolinite",
    "dolomite",
    "goethite",
    "clinochlore",
    "basalt",
)
#: on every sample: element -> range of the decimal logarithm of its mass fraction
EVERYWHERE = {
    "Na": (-5.0, -2.7),
    "Ca": (-5.0, -2.5),
    "K": (-5.3, -3.0),
    "Mg": (-5.3, -2.8),
    "Al": (-5.0, -2.8),
    "Si": (-4.8, -2.5),
    "Fe": (-5.0, -2.8),
    "Li": (-7.0, -4.5),
    "Sr": (-6.0, -4.0),
    "Ti": (-5.5, -3.5),
    "H": (-4.5, -3.0),
    "C": (-5.0, -2.7),
}


@dataclass(frozen=True)
class Mineral:
    """One row of the table, by mass: ``series`` (formula, largest fraction), ``traces`` (element, largest fraction)."""

    name: str
    label: str
    formula: str
    series: tuple[tuple[str, float], ...]
    traces: tuple[tuple[str, float], ...]
    source: str


@functools.cache
def fractions(formula: str) -> dict[str, float]:
    """Mass fractions of a formula's elements; `molmass.FormulaError` where it is none."""
    return {element: item.fraction for element, item in molmass.Formula(formula).composition().items()}


@functools.cache
def atomic_mass(element: str) -> float:
    """Mean atomic mass, g/mol."""
    return float(molmass.ELEMENTS[element].mass)


def _pairs(text: str, scale: float, row: str, column: str, path: Path) -> tuple[tuple[str, float], ...]:
    pairs = []
    for item in text.split():
        formula, _, number = item.rpartition(":")
        try:
            largest = float(number) * scale
            fractions(formula)
        except (ValueError, molmass.FormulaError) as error:
            raise FileFormatError(
                f"is FORMULA:NUMBER ({error})", file=path, field=f"{row}, {column}", value=item
            ) from None
        if not 0 < largest < 1:
            raise FileFormatError(
                "must be above 0 and below all of it", file=path, field=f"{row}, {column}", value=item
            )
        pairs.append((formula, largest))
    return tuple(pairs)


def load_minerals(path: Path = TABLE) -> tuple[Mineral, ...]:
    """The table's rows in its order; `FileFormatError` names row, column and value of what is wrong."""
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != COLUMNS:
            raise FileFormatError(f"columns are {COLUMNS}", file=path, value=reader.fieldnames)
        rows = list(reader)
    minerals: dict[str, Mineral] = {}
    for row in rows:
        name = row["name"]
        if name in minerals:
            raise FileFormatError("a name occurs once", file=path, field="name", value=name)
        if row["class"] not in CLASSES:
            raise FileFormatError(
                f"must be one of {CLASSES}", file=path, field=f"{name}, class", value=row["class"]
            )
        try:
            fractions(row["formula"])
        except molmass.FormulaError as error:
            raise FileFormatError(
                str(error), file=path, field=f"{name}, formula", value=row["formula"]
            ) from None
        series = _pairs(row["series"], 1.0, name, "series", path)
        traces = _pairs(row["traces"], 0.01, name, "traces", path)
        minerals[name] = Mineral(name, row["class"], row["formula"], series, traces, row["source"])
    return tuple(minerals.values())


def elements_of(mineral: Mineral) -> set[str]:
    """Every element of a row: of its formula, its solid solution and its traces."""
    formulas = (mineral.formula, *(formula for formula, _ in mineral.series + mineral.traces))
    return {element for formula in formulas for element in fractions(formula)}


@functools.cache
def _gangue() -> tuple[Mineral, ...]:
    return tuple(mineral for mineral in load_minerals() if mineral.name in GANGUE)


def _add(parts: dict[str, float], more: dict[str, float], share: float) -> dict[str, float]:
    """``more`` (mass fractions) mixed into ``parts``, of which it then makes up ``share``."""
    mixed = {element: (1 - share) * fraction for element, fraction in parts.items()}
    for element, fraction in more.items():
        mixed[element] = mixed.get(element, 0.0) + share * fraction
    return mixed


def draw_phase(mineral: Mineral, rng: np.random.Generator) -> dict[str, float]:
    """Mass fractions of a mineral with a random place in its solid solution and random traces."""
    parts = fractions(mineral.formula)
    for formula, largest in mineral.series:
        parts = _add(parts, fractions(formula), largest * rng.random())
    for element, largest in mineral.traces:
        if rng.random() < 0.7:
            parts = _add(parts, {element: 1.0}, largest * 10 ** rng.uniform(-2.0, 0.0))
    return parts


def dirty(parts: dict[str, float], label: str, rng: np.random.Generator) -> dict[str, float]:
    """``parts`` of a specimen of the class ``label`` with another phase, and with what hand, mill and air leave on it.

    Some specimens are cleaner than others as a whole. Metals have less of another phase in them, and a skin of oxide.
    """
    metal = label == "native metal"
    if rng.random() < (0.3 if metal else 0.5):
        other = _gangue()[rng.integers(len(GANGUE))]
        share = 10 ** (rng.uniform(-4.0, -1.7) if metal else rng.uniform(-3.0, -0.9))
        if other.label != label:
            parts = _add(parts, draw_phase(other, rng), share)
    if metal and rng.random() < 0.6:
        parts = _add(parts, {"O": 1.0}, 10 ** rng.uniform(-4.0, -1.7))
    clean = rng.uniform(-1.2, 0.2)
    for element, (low, high) in EVERYWHERE.items():
        if rng.random() < 0.85:
            parts = _add(parts, {element: 1.0}, 10 ** (rng.uniform(low, high) + clean))
    return parts


def draw_specimen(mineral: Mineral, rng: np.random.Generator) -> dict[str, float]:
    """Mass fractions of a random virtual specimen; they sum to 1."""
    parts = dirty(draw_phase(mineral, rng), mineral.label, rng)
    total = sum(parts.values())
    return {element: fraction / total for element, fraction in parts.items()}
