"""Minerals that need not exist: random cations under the anions of a class, in proportions that balance the charge.

A classifier that knows only listed minerals learns which metals occur with which anion by habit (strontium alone: a
sulfate). Here every class draws from nearly the same metals, so that what is left to tell by is what the anions
themselves show. Metals weigh about as often as minerals hold them; weights and shares are our judgement. A specimen is
a mineral of its own; `minerals.dirty` adds dust and traces as to any other. Soils and rocks are mixtures of listed
minerals.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping

import numpy as np

from libsedge_training.simulate.minerals import (
    CLASSES,
    Mineral,
    atomic_mass,
    dirty,
    draw_phase,
    elements_of,
    load_minerals,
)

#: what the names of such specimens begin with
NAME = "invented"
#: metal -> (charge, weight) under the anions of a salt
SALTS: dict[str, tuple[int, float]] = {
    **{"Ca": (2, 10.0), "Mg": (2, 8.0), "Fe": (2, 8.0), "Na": (1, 7.0), "K": (1, 5.0), "Al": (3, 6.0)},
    **{"Mn": (2, 4.0), "Cu": (2, 5.0), "Zn": (2, 4.0), "Pb": (2, 4.0), "Ba": (2, 2.5), "Sr": (2, 2.5)},
    **{"Ni": (2, 2.0), "Co": (2, 2.0), "Li": (1, 1.5), "Ag": (1, 0.7), "Ce": (3, 1.0), "Y": (3, 0.5)},
    **{"Bi": (3, 0.5), "Ti": (4, 0.5), "Cr": (3, 0.5), "Cd": (2, 0.4), "Be": (2, 0.3), "B": (3, 0.3)},
    **{"Cs": (1, 0.2), "Hg": (1, 0.4), "La": (3, 0.5)},
}
#: the same of oxides, and of silicates beside silicon
OXIDES: dict[str, tuple[int, float]] = {
    **{"Fe": (3, 10.0), "Ti": (4, 6.0), "Al": (3, 7.0), "Mn": (3, 6.0), "Mg": (2, 6.0), "Cr": (3, 4.0)},
    **{"Zn": (2, 3.0), "Cu": (2, 3.0), "Sn": (4, 2.5), "Ca": (2, 3.0), "Ni": (2, 2.0), "Nb": (5, 1.0)},
    **{"Ta": (5, 1.0), "W": (6, 1.5), "V": (5, 1.5), "Pb": (2, 2.0), "Ba": (2, 1.0), "Zr": (4, 1.0)},
    **{"Sb": (3, 1.0), "Co": (2, 1.0), "K": (1, 0.7), "Na": (1, 1.0), "Li": (1, 0.5), "Mo": (6, 0.5)},
    **{"U": (4, 0.5), "Ce": (4, 0.5), "Be": (2, 0.5), "Bi": (3, 0.5), "As": (3, 0.5), "B": (3, 0.7)},
}
SILICATES: dict[str, tuple[int, float]] = {
    **{"Al": (3, 14.0), "Mg": (2, 9.0), "Fe": (2, 9.0), "Ca": (2, 9.0), "Na": (1, 8.0), "K": (1, 7.0)},
    **{"Mn": (2, 2.0), "Ti": (4, 1.5), "Li": (1, 1.5), "Be": (2, 1.0), "B": (3, 1.5), "Zn": (2, 1.0)},
    **{"Cu": (2, 0.7), "Ba": (2, 0.7), "Zr": (4, 0.7), "Cr": (3, 0.6), "Cs": (1, 0.3), "Ce": (3, 0.4)},
    **{"Sr": (2, 0.3), "Ni": (2, 0.6), "Pb": (2, 0.3), "V": (3, 0.3), "Y": (3, 0.2)},
}
#: metal or semimetal -> weight: of sulfides (beside sulfur), and of metals and alloys
SULFIDES = {
    **{"Fe": 10.0, "Cu": 8.0, "Zn": 5.0, "Pb": 6.0, "As": 4.0, "Sb": 4.0, "Ni": 3.0, "Co": 2.0, "Ag": 3.0},
    **{"Bi": 2.0, "Sn": 1.5, "Mo": 1.0, "Hg": 1.0, "Cd": 0.7, "Mn": 1.0, "Ge": 0.2, "In": 0.2, "Tl": 0.3},
}
METALS = {
    **{"Fe": 8.0, "Cu": 7.0, "Al": 6.0, "Ni": 5.0, "Zn": 4.0, "Sn": 3.0, "Pb": 3.0, "Ti": 3.0, "Mg": 3.0},
    **{"Cr": 3.0, "Co": 2.0, "Mn": 2.0, "Ag": 3.0, "Au": 3.0, "Pt": 1.5, "Pd": 1.0, "Bi": 1.5, "Sb": 1.5},
    **{"As": 1.0, "W": 1.0, "Mo": 1.5, "V": 1.0, "Cd": 0.7, "In": 0.5, "Hg": 0.5, "Si": 1.0, "Ta": 0.4},
}
#: class -> its anions: (atoms, charge, weight)
ANIONS: dict[str, tuple[tuple[dict[str, int], int, float], ...]] = {
    "carbonate": (({"C": 1, "O": 3}, 2, 1.0),),
    "sulfate": (({"S": 1, "O": 4}, 2, 1.0),),
    "phosphate": (({"P": 1, "O": 4}, 3, 7.0), ({"As": 1, "O": 4}, 3, 2.0), ({"V": 1, "O": 4}, 3, 1.0)),
    "halide": (({"F": 1}, 1, 4.0), ({"Cl": 1}, 1, 5.0), ({"Br": 1}, 1, 1.0)),
    "oxide": (({"O": 1}, 2, 1.0),),
}
#: phase of a soil -> weight of its share
SOIL_PHASES = {
    **{"quartz": 3.0, "orthoclase": 0.8, "albite": 0.8, "kaolinite": 0.9, "montmorillonite": 0.8},
    **{"illite": 0.9, "clinochlore": 0.2, "hornblende": 0.2, "goethite": 0.3, "hematite": 0.1},
    **{"gibbsite": 0.15, "calcite": 0.4, "dolomite": 0.15, "gypsum": 0.1, "halite": 0.03},
    **{"hydroxylapatite": 0.04, "pyrolusite": 0.03},
}
#: organic matter of soils, water: atoms. What plants and dung bring: element -> range of the decimal logarithm of its
#: mass over that of the organic matter
HUMUS, WATER = {"C": 25.0, "H": 35.0, "N": 2.0, "O": 15.0}, {"H": 2.0, "O": 1.0}
NUTRIENTS = {
    **{"K": (-3.0, -1.3), "Ca": (-2.5, -1.2), "Mg": (-3.0, -1.9), "P": (-3.0, -2.0), "S": (-3.0, -2.0)},
    **{"N": (-2.5, -1.6), "Cl": (-4.0, -2.0), "Mn": (-5.0, -3.0), "Fe": (-4.0, -2.5), "Na": (-4.0, -2.3)},
}
#: rock -> phase -> weight of its share. The phases are those of the textbooks' modes, the weights our judgement: oxides
#: come out as in published rocks (a test compares them). A glass has the composition of what would crystallise from it
ROCKS: dict[str, dict[str, float]] = {
    "granite, rhyolite, gneiss": {
        **{"quartz": 2.0, "orthoclase": 1.0, "microcline": 0.7, "oligoclase": 1.6, "albite": 0.7},
        **{"biotite": 0.4, "muscovite": 0.3, "hornblende": 0.15},
    },
    "diorite, andesite, dacite": {
        **{"andesine": 3.0, "quartz": 0.6, "orthoclase": 0.5, "hornblende": 0.8, "augite": 0.6},
        **{"hypersthene": 0.4, "biotite": 0.3},
    },
    "gabbro, basalt": {
        **{"labradorite": 2.5, "bytownite": 0.5, "augite": 2.0, "hypersthene": 0.6, "olivine": 0.7},
        **{"hornblende": 0.2, "orthoclase": 0.15},
    },
    "peridotite, serpentinite": {
        **{"olivine": 2.0, "enstatite": 1.0, "diopside": 0.6, "antigorite": 0.7, "talc": 0.1},
        **{"clinochlore": 0.15, "pyrope": 0.1, "bytownite": 0.1},
    },
    "syenite, phonolite": {
        **{"orthoclase": 1.5, "sanidine": 0.7, "albite": 1.5, "nepheline": 0.8, "aegirine": 0.4},
        **{"augite": 0.3, "biotite": 0.2, "arfvedsonite": 0.15},
    },
    "schist, amphibolite, eclogite": {
        **{"hornblende": 1.0, "andesine": 1.0, "quartz": 0.8, "almandine": 0.5, "epidote": 0.4},
        **{"clinochlore": 0.4, "biotite": 0.5, "muscovite": 0.5, "kyanite": 0.15, "diopside": 0.3},
    },
    "mudstone, altered basalt": {
        **{"illite": 1.0, "montmorillonite": 0.5, "nontronite": 0.3, "saponite": 0.3, "kaolinite": 0.3},
        **{"clinochlore": 0.5, "quartz": 1.0, "albite": 0.6, "labradorite": 0.4, "augite": 0.3},
    },
}
#: phase of every rock, and water -> range of the decimal logarithm of its mass over that of the others
ACCESSORIES = {
    **{"magnetite": (-3.0, -1.2), "ilmenite": (-3.0, -1.2), "fluorapatite": (-3.7, -1.9)},
    **{"calcite": (-4.5, -2.3), "pyrite": (-4.0, -2.3)},
}
MOISTURE = (-3.5, -1.7)
Atoms = dict[str, float]


def _add(atoms: Atoms, more: Mapping[str, float], times: float) -> None:
    for element, count in more.items():
        atoms[element] = atoms.get(element, 0.0) + times * count


def _pick(weights: Mapping[str, float], most: int, rng: np.random.Generator) -> Atoms:
    """One to ``most`` elements, rarely many, with random proportions that sum to 1."""
    count = min(int(rng.geometric(0.5)), most)
    names, share = list(weights), np.array(list(weights.values()))
    chosen = rng.choice(len(names), count, replace=False, p=share / share.sum())
    return dict(zip((names[n] for n in chosen), rng.dirichlet(np.ones(count)).tolist(), strict=True))


def _metals(
    table: Mapping[str, tuple[int, float]], most: int, rng: np.random.Generator
) -> tuple[Atoms, float]:
    """(metals of a salt, sum 1; their charge)."""
    metals = _pick({name: weight for name, (_, weight) in table.items()}, most, rng)
    return metals, sum(table[name][0] * count for name, count in metals.items())


def _salt(label: str, rng: np.random.Generator) -> Atoms:
    atoms, charge = _metals(OXIDES if label == "oxide" else SALTS, 4, rng)
    hydroxide = rng.uniform(0.0, 0.6) if rng.random() < 0.35 else 0.0
    foreign = rng.uniform(0.0, 0.2) if label != "halide" and rng.random() < 0.1 else 0.0
    _add(atoms, {"O": 1, "H": 1}, hydroxide * charge)
    _add(atoms, {("F", "Cl")[rng.integers(2)]: 1}, foreign * charge)
    kinds = ANIONS[label]
    weights = np.array([weight for _, _, weight in kinds])
    anion, valence, _ = kinds[rng.choice(len(kinds), p=weights / weights.sum())]
    _add(atoms, anion, (1 - hydroxide - foreign) * charge / valence)
    if rng.random() < (0.15 if label == "oxide" else 0.4):
        _add(atoms, {"H": 2, "O": 1}, rng.uniform(0.0, 1.5) * charge)
    return atoms


def _silicate(label: str, rng: np.random.Generator) -> Atoms:
    """Silicon makes a fifth to nine tenths of the atoms other than O, H and halogens, as in olivine and in opal."""
    metals, charge = _metals(SILICATES, 6, rng)
    silicon = rng.uniform(0.2, 0.9)
    atoms: Atoms = {"Si": silicon}
    _add(atoms, metals, 1 - silicon)
    _add(atoms, {"O": 1}, (4 * silicon + charge * (1 - silicon)) / 2)
    if rng.random() < 0.5:
        _add(atoms, {"H": 2, "O": 1}, rng.uniform(0.0, 0.8))
    if rng.random() < 0.15:  # in place of oxygen
        _add(atoms, {("F", "Cl")[rng.integers(2)]: 1.0, "O": -0.5}, rng.uniform(0.0, 0.3))
    return atoms


def _sulfide(label: str, rng: np.random.Generator) -> Atoms:
    atoms = _pick(SULFIDES, 4, rng)
    _add(atoms, {"S": 1}, 2 ** rng.uniform(-1.0, 1.0))
    return atoms


def _alloy(label: str, rng: np.random.Generator) -> Atoms:
    """A base metal with up to half of others."""
    names, share = list(METALS), np.array(list(METALS.values()))
    atoms: Atoms = {names[rng.choice(len(names), p=share / share.sum())]: 1.0}
    if rng.random() < 0.7:
        _add(atoms, _pick(METALS, 5, rng), 10 ** rng.uniform(-2.5, 0.0))
    return atoms


@functools.cache
def _listed() -> tuple[Mineral, ...]:
    return load_minerals()


def _shares(weights: Mapping[str, float], rng: np.random.Generator) -> dict[str, float]:
    """Random shares that sum to 1, on average as the weights."""
    return dict(zip(weights, rng.dirichlet(list(weights.values())).tolist(), strict=True))


def _mixture(shares: Mapping[str, float], rng: np.random.Generator) -> Atoms:
    """Atoms of phases by mass; what is below a thousandth is left out."""
    atoms: Atoms = {}
    for phase in _listed():
        share = shares.get(phase.name, 0.0)
        if share > 1e-3:
            for element, fraction in draw_phase(phase, rng).items():
                _add(atoms, {element: 1.0}, share * fraction / atomic_mass(element))
    return atoms


def _add_mass(atoms: Atoms, molecule: Mapping[str, float], mass: float) -> None:
    _add(atoms, molecule, mass / sum(count * atomic_mass(e) for e, count in molecule.items()))


def _soil(label: str, rng: np.random.Generator) -> Atoms:
    """A mixture of `SOIL_PHASES` with organic matter and water: 0.5 to 20 % organic by mass, one in six 20 to 95 %
    (peat, litter, compost).
    """
    shares = _shares(SOIL_PHASES, rng)
    organic = rng.uniform(0.2, 0.95) if rng.random() < 1 / 6 else 10 ** rng.uniform(-2.3, -0.7)
    water = 10 ** rng.uniform(-2.0, -0.7)
    atoms = _mixture({name: share * (1 - organic) for name, share in shares.items()}, rng)
    titanium = 10 ** rng.uniform(-2.9, -2.1)  # of the mineral part; never missing
    _add_mass(atoms, {"Ti": 1.0}, (1 - organic) * titanium)
    _add_mass(atoms, HUMUS, organic)
    _add_mass(atoms, WATER, water)
    for element, (low, high) in NUTRIENTS.items():
        _add_mass(atoms, {element: 1.0}, organic * 10 ** rng.uniform(low, high))
    return atoms


def _rock(label: str, rng: np.random.Generator) -> Atoms:
    """A mixture of the phases of one of `ROCKS` with `ACCESSORIES` and a little water; nothing organic."""
    shares = _shares(tuple(ROCKS.values())[rng.integers(len(ROCKS))], rng)
    for name, (low, high) in ACCESSORIES.items():
        shares[name] = shares.get(name, 0.0) + 10 ** rng.uniform(low, high)
    atoms = _mixture(shares, rng)
    _add_mass(atoms, WATER, 10 ** rng.uniform(*MOISTURE))
    return atoms


RULES: dict[str, Callable[[str, np.random.Generator], Atoms]] = {
    **dict.fromkeys(CLASSES, _salt),
    **{"silicate": _silicate, "sulfide": _sulfide, "native metal": _alloy, "soil": _soil, "rock": _rock},
}


def elements() -> set[str]:
    """Every element that a rule can give."""
    found = {"Si", "S", "O", "H", "F", "Cl", *HUMUS, *NUTRIENTS}
    found |= {*SALTS, *OXIDES, *SILICATES, *SULFIDES, *METALS}
    phases = {*SOIL_PHASES, *ACCESSORIES, *itertools.chain(*ROCKS.values())}
    for mineral in _listed():
        if mineral.name in phases:
            found |= elements_of(mineral)
    for kinds in ANIONS.values():
        for anion, _, _ in kinds:
            found |= set(anion)
    return found


def kinds() -> tuple[Mineral, ...]:
    """One row a rule, without a formula: every specimen of it is a mineral of its own."""
    return tuple(Mineral(f"{NAME} {label}", label, "", (), (), "a rule") for label in RULES)


def draw_specimen(label: str, rng: np.random.Generator) -> dict[str, float]:
    """Mass fractions of a random specimen of a random mineral of the class ``label``; they sum to 1."""
    masses = {
        name: count * atomic_mass(name) for name, count in RULES[label](label, rng).items() if count > 0
    }
    total = sum(masses.values())
    parts = dirty({name: mass / total for name, mass in masses.items()}, label, rng)
    total = sum(parts.values())
    return {name: fraction / total for name, fraction in parts.items()}
