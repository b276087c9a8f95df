"""Virtual specimens: spectra that a training specimen would give if its composition were another one of its class.

A class of six specimens shows a net six compositions, and it learns to tell the six apart. What makes the class,
and what merely came with its specimens, is told from the compositions of the training specimens alone:

* *core*: the elements that every training specimen of a class has (`CORE` or more);
* *foreign core*: core elements of other classes that are main elements (`MAIN` or more) in no class that they are
  not the core of (carbon of carbonates, sulfur of sulfates). A class is never given one.

A virtual composition is a specimen's, mixed with one of its class or not; its elements outside the core are
partly replaced by those of any other training specimen, foreign cores left out; then every element is multiplied
by a log-normal factor, small in the core. The plasma model (`virtual_light.py`) gives the
ratio of the virtual to the real spectrum, the *gain field*, and a measured spectrum of the specimen, multiplied by
it, keeps its noise, drift and distance.

Compositions of certified reference materials are known, which is what the method needs. It sees those of training
specimens only, and no measured spectrum.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from libsedge.errors import DatasetError
from libsedge.preprocess import Segment

from .simulate import materials
from .study.development import development_materials
from .study.universes import all_universes
from .virtual_light import Composition, radiance, zone_light

CORE, MAIN = 0.01, 0.05
#: 7,000 to 14,200 K and 1.3e22 to 2.7e23 m^-3 around the reference state
LN_T, LN_N = 0.35, 1.5
OWN_TABLE = "LIBSEDGE_MATERIALS"
#: least share of a specimen that is replaced where it has (almost) nothing outside its core
_LEAST_REST = 0.1


@dataclass(frozen=True)
class Variation:
    """How far virtual compositions go: standard deviations of ln of an element's share outside and inside the core;
    probability of foreign elements, and of a mixture with another specimen of the class.

    `states` times `LN_T` and `LN_N`: half widths in which ln temperature and ln electron density are drawn for every
    virtual composition, because nobody knows the plasma of an instrument; 0: the reference state. `zones`: the plasma
    is that of `simulate/zones.py` at its reference irradiance, not one column.
    """

    sigma: float = 1.0
    core_sigma: float = 0.3
    foreign: float = 0.8
    mixed: float = 0.5
    states: float = 0.0
    zones: bool = False


@dataclass(frozen=True)
class ClassRules:
    """What training specimens say about their classes; `core` and `barred` by class."""

    compositions: Mapping[str, Composition]
    label: Mapping[str, str]
    core: Mapping[str, frozenset[str]]
    barred: Mapping[str, frozenset[str]]


def class_rules(compositions: Mapping[str, Composition], label: Mapping[str, str]) -> ClassRules:
    """Core and barred elements of every class, from specimens' compositions and labels."""
    classes = sorted(set(label.values()))
    of = {k: [c for name, c in compositions.items() if label[name] == k] for k in classes}
    core = {
        k: frozenset.intersection(*(frozenset(e for e, f in c.items() if f >= CORE) for c in of[k]))
        for k in classes
    }
    main = {k: {e for c in of[k] for e, f in c.items() if f >= MAIN} for k in classes}
    own = {e for e in frozenset().union(*core.values()) if all(e in core[k] for k in classes if e in main[k])}
    return ClassRules(compositions, label, core, {k: frozenset(own - core[k]) for k in classes})


def draw(name: str, known: ClassRules, how: Variation, rng: np.random.Generator) -> dict[str, float]:
    """One virtual composition for the specimen `name`, mass fractions that sum to 1."""
    label, core = known.label[name], known.core[known.label[name]]
    names = sorted(known.compositions)
    mates = [other for other in names if known.label[other] == label and other != name]
    parts = dict(known.compositions[name])
    if mates and rng.random() < how.mixed:
        mate, share = known.compositions[mates[rng.integers(len(mates))]], rng.random()
        parts = {
            e: share * parts.get(e, 0.0) + (1 - share) * mate.get(e, 0.0) for e in sorted({*parts, *mate})
        }
    rest = {e: f for e, f in parts.items() if e not in core}
    if rng.random() < how.foreign:
        other = known.compositions[names[rng.integers(len(names))]]
        brought = {e: f for e, f in other.items() if e not in core and e not in known.barred[label]}
        total, share = sum(brought.values()), rng.random()
        if total > 0.003:
            size = max(sum(rest.values()), _LEAST_REST)
            rest = {
                e: (1 - share) * rest.get(e, 0.0) + share * size * brought.get(e, 0.0) / total
                for e in sorted({*rest, *brought})
            }
    found = {
        e: f * float(np.exp(sigma * rng.standard_normal()))
        for group, sigma in (({e: parts[e] for e in parts if e in core}, how.core_sigma), (rest, how.sigma))
        for e, f in sorted(group.items())
        if f > 0
    }
    whole = sum(found.values())
    return {e: f / whole for e, f in found.items()}


def known_compositions(specimens: Sequence[str]) -> dict[str, Composition]:
    """Compositions of specimens by name: of the three tables of materials, and of a table of the same form that the
    environment variable `LIBSEDGE_MATERIALS` names; DatasetError names the first specimen that no table has.
    """
    everything = (*materials.load_materials(), *development_materials(), *all_universes())
    if own := os.environ.get(OWN_TABLE):
        everything += materials.load_materials(Path(own))
    table = {m.name: dict(m.composition) for m in everything}
    for name in specimens:
        if name not in table:
            raise DatasetError(
                "virtual specimens need the composition of every training specimen; "
                f"no table has this one (your own: {OWN_TABLE}=table.csv, columns as in {materials.TABLE.name})",
                field="specimen",
                value=name,
            )
    return {name: table[name] for name in specimens}


@lru_cache(maxsize=4)
def gain_fields(
    specimens: tuple[tuple[str, str], ...], segments: tuple[Segment, ...], count: int, how: Variation
) -> np.ndarray:
    """ln of virtual over real radiance, float32 [specimens, count, grid points], for (name, class) pairs.

    A specimen's draws depend on its name and on the compositions of all `specimens`, not on their order.
    """
    names = [name for name, _ in specimens]
    known = class_rules(known_compositions(names), dict(specimens))
    found = np.empty((len(names), count, sum(s.channels for s in segments)), np.float32)
    for at, name in enumerate(names):
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        drawn, real = [draw(name, known, how, rng) for _ in range(count)], known.compositions[name]
        if how.zones and not how.states:
            light = zone_light(segments)([real, *drawn])
            found[at] = np.log(light[1:] / light[0])
            continue
        half = how.states * np.array([LN_T, LN_N])
        for i, state in enumerate(rng.uniform(-half, half, (count, 2)).tolist()):
            if i == 0 or how.states:
                usual = radiance(real, segments, *state, in_zones=how.zones)
            found[at, i] = np.log(radiance(drawn[i], segments, *state, in_zones=how.zones) / usual)
    return found
