"""Specimens for the replicated study: independent sets of the study's shape, none of whose specimens was used before.

A *universe* is 37 specimens of the six classes, as many of each kind as `simulate/materials.csv` has: 5 rocks and 2
minerals (silicate), 5 soils and 1 clay (soil), 6 carbonates, 6 sulfates, 6 oxides, 2 copper, 2 iron and 2 aluminium
alloys (metal). `python -m libsedge_training.study.universes > simulate/universes.csv` draws them by this rule:

* Pools: carbonates, sulfates, oxides, silicates and clays of `simulate/minerals.csv` by name; rocks and alloys of
  `simulate/universe_pool.csv`; soils are mixtures (`SOIL`). Left out by name: what `materials.csv` (the study) and
  `development.csv` (strategy, epochs and net were chosen on it) have, and minerals with an element that the plasma
  model has no lines for.
* A universe takes a kind's specimens from its pool without replacement, all equally likely. A mineral has a random
  place in its solid solution and random traces (`minerals.draw_phase`), no vein and no dust; every element of a rock
  or an alloy but the first is multiplied by a log-normal factor (`GRADE`).
* Drawn again until no specimen is alone in its class (its main element, oxygen aside, is 5 % or more of another
  member: the rule of `materials.csv`), and none has less than `APART` of its mass in other elements than a specimen of
  `materials.csv`, of `development.csv` or of the same class of its universe (lepidocrocite is goethite by composition).

Species return in other universes, with another composition and name: the pools are finite. Ranges are our judgement;
those of soils lie within what Bowen (Trace Elements in Biochemistry, 1966) lists for dry soils, a third wider each way.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np

from libsedge_training.simulate import materials as table
from libsedge_training.simulate import minerals
from libsedge_training.simulate.materials import Material

from .development import development_materials

TABLE = table.TABLE.with_name("universes.csv")
POOL = table.TABLE.with_name("universe_pool.csv")
UNIVERSES = 8
SEED = 20261123
#: standard deviation of ln of an element's share of a rock or an alloy
GRADE = 0.12
#: least share of the mass by which two specimens must differ
APART = 0.03
#: a main element is this share of another member of the class at least
MAIN = 0.05
#: shares below are left out, as in `materials.csv`
LEAST = 1e-4
#: libskit's bundle has no usable lines of these
DARK = frozenset({"Zr", "Nb", "U", "Nd", "Ta", "Th", "Hf", "Pr", "Sm"})
CLAYS = (
    "illite",
    "halloysite",
    "nontronite",
    "saponite",
    "vermiculite",
    "palygorskite",
    "sepiolite",
    "glauconite",
    "pyrophyllite",
)
#: no specimens of a mineral: rocks, and what is a soil's
NOT_SILICATES = (
    "obsidian",
    "basalt",
    "andesite",
    "granite",
    "peridotite",
    "kaolinite",
    "montmorillonite",
    *CLAYS,
)
#: phase of a soil -> range of its share before all are scaled to 1, uniform; one that begins at 0 is missing in half of
#: the soils
SOIL = {
    "quartz": (0.15, 0.70),
    "albite": (0.02, 0.15),
    "orthoclase": (0.02, 0.15),
    "clay": (0.05, 0.45),
    "calcite": (0.0, 0.20),
    "dolomite": (0.0, 0.04),
    "goethite": (0.01, 0.10),
    "rutile": (0.002, 0.012),
    "fluorapatite": (0.001, 0.005),
    "pyrolusite": (0.0003, 0.003),
    "gypsum": (0.0, 0.003),
    "halite": (0.0, 0.003),
    "humus": (0.005, 0.08),
    "water": (0.005, 0.05),
}
_HUMUS, _WATER = "C100H140O60N7", "H2O"
#: mass fractions of dry soils, Bowen 1966
BOWEN = {
    "Si": (0.25, 0.35),
    "Al": (0.01, 0.30),
    "Fe": (0.007, 0.55),
    "K": (0.0004, 0.03),
    "Na": (0.00075, 0.0075),
    "Ti": (0.001, 0.01),
    "Mn": (0.0001, 0.004),
    "N": (0.0002, 0.0025),
}
WIDER = 1 / 3

Parts = dict[str, float]
#: a specimen's species and how its composition is drawn
Species = tuple[str, Callable[[np.random.Generator], Parts]]


def cleaned(parts: Mapping[str, float]) -> Parts:
    """Mass fractions without dark elements and what is below `LEAST`, scaled to 1, four digits."""
    kept = {e: f for e, f in parts.items() if e not in DARK and f >= LEAST}
    total = sum(kept.values())
    return {
        e: float(f"{f / total:.4g}") for e, f in sorted(kept.items(), key=lambda item: (-item[1], item[0]))
    }


def apart(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    """Share of the mass that is in other elements: half the sum of |a - b|."""
    return sum(abs(a.get(e, 0.0) - b.get(e, 0.0)) for e in {*a, *b}) / 2


def alone(parts: Sequence[Mapping[str, float]]) -> bool:
    """Whether the main element, oxygen aside, of one of a class's specimens is below `MAIN` in all others."""
    main = [max((e for e in p if e != "O"), key=lambda e, p=p: p[e]) for p in parts]  # type: ignore[misc]
    return any(
        all(other.get(main[i], 0.0) < MAIN for k, other in enumerate(parts) if k != i)
        for i in range(len(parts))
    )


def soil(rng: np.random.Generator) -> Parts:
    """A mixture by `SOIL`, drawn again until it lies within `BOWEN`, `WIDER`."""
    known = {m.name: m for m in minerals.load_minerals()}
    while True:
        clay = ("kaolinite", "montmorillonite", "illite", "vermiculite", "nontronite")[rng.integers(5)]
        found: Parts = {}
        for phase, (low, high) in SOIL.items():
            share = rng.uniform(low, high) * (low > 0 or rng.random() < 0.5)
            if phase in ("humus", "water"):
                parts = minerals.fractions(_HUMUS if phase == "humus" else _WATER)
            else:
                parts = minerals.draw_phase(known[clay if phase == "clay" else phase], rng)
            for element, f in parts.items():
                found[element] = found.get(element, 0.0) + share * f
        found = cleaned({e: f / sum(found.values()) for e, f in found.items()})
        if all(
            low * (1 - WIDER) <= found.get(e, 0.0) <= high * (1 + WIDER) for e, (low, high) in BOWEN.items()
        ):
            return found


def _graded(parts: Mapping[str, float]) -> Callable[[np.random.Generator], Parts]:
    def drawn(rng: np.random.Generator) -> Parts:
        main, *others = parts
        return cleaned(
            {main: parts[main]} | {e: parts[e] * float(np.exp(GRADE * rng.standard_normal())) for e in others}
        )

    return drawn


@lru_cache(maxsize=1)
def pools() -> dict[str, tuple[tuple[int, tuple[Species, ...]], ...]]:
    """By class: (how many a universe takes, the species)."""
    used = {m.name for m in (*table.load_materials(), *development_materials())}

    def of(label: str, names: Sequence[str] = (), but: Sequence[str] = ()) -> tuple[Species, ...]:
        found = []
        for m in minerals.load_minerals():
            elements = set(minerals.fractions(m.formula)).union(*(minerals.fractions(f) for f, _ in m.series))
            wanted = m.name in names if names else m.name not in but
            if m.label == label and wanted and m.name not in used and not elements & DARK:
                found.append((m.name, lambda rng, m=m: cleaned(minerals.draw_phase(m, rng))))
        return tuple(found)

    def of_table(kind: str) -> tuple[Species, ...]:
        rows = (m for m in table.load_materials(POOL) if m.label == kind and m.name not in used)
        return tuple((m.name, _graded(dict(m.composition))) for m in rows)

    mixtures = tuple((f"soil {i + 1}", soil) for i in range(5))
    return {
        "silicate": ((5, of_table("rock")), (2, of("silicate", but=NOT_SILICATES))),
        "soil": ((5, mixtures), (1, of("silicate", CLAYS))),
        "carbonate": ((6, of("carbonate")),),
        "sulfate": ((6, of("sulfate")),),
        "oxide": ((6, of("oxide")),),
        "metal": tuple((2, of_table(f"{base} alloy")) for base in ("copper", "iron", "aluminium")),
    }


def draw_universe(number: int) -> list[tuple[str, str, Parts]]:
    """(class, species, mass fractions) of the specimens of universe `number`."""
    used = [dict(m.composition) for m in (*table.load_materials(), *development_materials())]
    found = []
    for at, (label, kinds) in enumerate(pools().items()):
        rng = np.random.default_rng([SEED, number, at])
        while True:
            some = [pool[i] for n, pool in kinds for i in sorted(rng.permutation(len(pool))[:n].tolist())]
            parts = [draw(rng) for _, draw in some]
            near = any(apart(p, other) < APART for i, p in enumerate(parts) for other in (*used, *parts[:i]))
            if not near and not alone(parts):
                break
        found += [(label, species, p) for (species, _), p in zip(some, parts, strict=True)]
    return found


def universe_name(number: int) -> str:
    """What the names of a universe's specimens begin with."""
    return f"u{number}"


def universe(number: int) -> tuple[Material, ...]:
    """The specimens of universe `number` (1 ... `UNIVERSES`), of the table."""
    return tuple(m for m in all_universes() if m.name.split(" ", 1)[0] == universe_name(number))


@lru_cache(maxsize=1)
def all_universes() -> tuple[Material, ...]:
    """Every specimen of `universes.csv`."""
    return table.load_materials(TABLE)


def main() -> None:
    """Print the table."""
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(table.COLUMNS)
    for number in range(1, UNIVERSES + 1):
        for label, species, parts in draw_universe(number):
            text = " ".join(f"{e}={f:g}" for e, f in parts.items())
            out.writerow(
                [
                    f"{universe_name(number)} {species}",
                    label,
                    "typical",
                    "drawn by study/universes.py",
                    "",
                    text,
                ]
            )


if __name__ == "__main__":
    main()
