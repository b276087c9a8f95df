"""The simulated reference materials: `materials.csv`, checked and turned into mass fractions.

A material is `certified` (figures of a certificate or of GeoReM preferred values, elements from 100 ppm on,
without those libskit has no lines for), a `mineral` (its ideal formula) or `typical` (typical of its class,
not certified). Compositions are scaled to sum to 1. `python -m libsedge_training.simulate.materials >
docs/materials.md` writes the documentation's table.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import molmass
from libsedge.errors import ConfigError, FileFormatError

TABLE = Path(__file__).with_name("materials.csv")
COLUMNS = ["name", "class", "kind", "source", "formula", "composition"]
KINDS = {
    "certified": "certified",
    "mineral": "mineral formula",
    "typical": "typical of its class, not certified",
}
#: how far a certified or typical composition may be from a total of 1 before it is scaled to 1
MAX_MISSING = 0.01


@dataclass(frozen=True)
class Material:
    """One reference material; ``composition`` holds (element, mass fraction) by falling fraction, summing to
    1.
    """

    name: str
    label: str
    kind: str
    source: str
    formula: str
    composition: tuple[tuple[str, float], ...]


def _composition(row: dict[str, str], path: Path) -> tuple[tuple[str, float], ...]:
    if row["kind"] == "mineral":
        if not row["formula"] or row["composition"]:
            raise FileFormatError("a mineral has a formula and no composition", file=path, field=row["name"])
        try:
            parts = {e: item.fraction for e, item in molmass.Formula(row["formula"]).composition().items()}
        except molmass.FormulaError as error:
            raise FileFormatError(str(error), file=path, field=row["name"], value=row["formula"]) from error
    else:
        parts = {}
        for item in row["composition"].split():
            element, _, text = item.partition("=")
            try:
                fraction = float(text)
            except ValueError as error:
                raise FileFormatError(
                    "a mass fraction is a number", file=path, field=row["name"], value=item
                ) from error
            if element in parts or not 0 < fraction <= 1:
                raise FileFormatError(
                    "each element once, 0 < mass fraction <= 1", file=path, field=row["name"], value=item
                )
            parts[element] = fraction
    total = sum(parts.values())
    if abs(total - 1) > MAX_MISSING:
        raise FileFormatError(
            f"mass fractions sum to 1 within {MAX_MISSING}", file=path, field=row["name"], value=total
        )
    return tuple((e, f / total) for e, f in sorted(parts.items(), key=lambda item: (-item[1], item[0])))


def load_materials(path: Path = TABLE) -> tuple[Material, ...]:
    """All materials in the table's order. `FileFormatError` names the row and the value that is wrong."""
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != COLUMNS:
            raise FileFormatError(f"columns are {COLUMNS}", file=path, value=reader.fieldnames)
        rows = list(reader)
    materials: list[Material] = []
    for row in rows:
        if None in row or None in row.values():
            raise FileFormatError(f"a row has {len(COLUMNS)} fields", file=path, value=row["name"])
        if row["kind"] not in KINDS:
            raise FileFormatError(
                f"must be one of {sorted(KINDS)}", file=path, field="kind", value=row["kind"]
            )
        if any(row["name"] == other.name for other in materials):
            raise FileFormatError("a name occurs once", file=path, field="name", value=row["name"])
        materials.append(
            Material(
                row["name"],
                row["class"],
                row["kind"],
                row["source"],
                row["formula"],
                _composition(row, path),
            )
        )
    return tuple(materials)


def choose(names: Sequence[str] | None, materials: Sequence[Material]) -> tuple[Material, ...]:
    """The named materials in the table's order; None = all. An unknown or repeated name: `ConfigError`."""
    if names is None:
        return tuple(materials)
    known = {material.name for material in materials}
    for name in names:
        if name not in known:
            raise ConfigError(
                "not in the table; see `libsedge simulate --list-materials`", field="materials", value=name
            )
    if len(set(names)) != len(names) or not names:
        raise ConfigError("names each material once, at least one", field="materials", value=list(names))
    return tuple(material for material in materials if material.name in names)


def first_of_each_class(materials: Iterable[Material], count: int) -> tuple[Material, ...]:
    """The first ``count`` materials of every class, in the table's order."""
    seen: dict[str, int] = {}
    chosen = []
    for material in materials:
        seen[material.label] = seen.get(material.label, 0) + 1
        if seen[material.label] <= count:
            chosen.append(material)
    return tuple(chosen)


def describe(material: Material, elements: int = 5) -> str:
    """``formula`` of a mineral, otherwise the first ``elements`` elements with their mass fractions in %."""
    if material.formula:
        return material.formula
    return ", ".join(f"{e} {100 * f:.3g}" for e, f in material.composition[:elements])


_INTRO = """\
# The simulated reference materials

Written by `python -m libsedge_training.simulate.materials > docs/materials.md`; a test compares the two. Do
not edit.

{count} materials in {classes} classes. Mass fractions in % of the five most abundant elements, or the
formula; the whole composition is in `training/libsedge_training/simulate/materials.csv`. *certified* =
figures of the certificate or of GeoReM (elements from 100 ppm on; certificates often give oxygen by
difference, and some figures are information values); *mineral formula* = the ideal formula, no trace
elements; *typical of its class, not certified* = mid-range of a designation.

No material is alone in its class: the main element of each, oxygen aside, is a main element (5 % or more) of another
member. A specimen that is held out then asks for its neighbours in a solid solution or an alloy series, not for an
element that was never seen.

Left out: elements without usable lines in NIST ASD as libskit bundles it (Zr, Nb, U and others; their
fractions are spread over the rest); KL2-G and ML3B-G (no oxygen listed, 55 % in total); NIST 2709a and NIST
2711a (the list at hand contradicts itself: Na and Mg, respectively Si, are far too low); Nickelsilver (82 %,
not certified).

| class | material | kind | composition | source |
|---|---|---|---|---|
"""


def markdown(materials: Sequence[Material]) -> str:
    """The whole text of ``docs/materials.md``."""
    classes = {material.label for material in materials}
    rows = [f"| {m.label} | {m.name} | {KINDS[m.kind]} | {describe(m)} | {m.source} |\n" for m in materials]
    return _INTRO.format(count=len(materials), classes=len(classes)) + "".join(rows)


if __name__ == "__main__":
    print(markdown(load_materials()), end="")
