"""The minerals' table against published compositions, and what random specimens are made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from libsedge.errors import FileFormatError
from libsedge_training.simulate import invented, materials, minerals

#: element -> published factor from element to oxide by mass
OXIDE = {
    "Si": 2.1392,
    "Al": 1.8895,
    "Ca": 1.3992,
    "Mg": 1.6583,
    "Na": 1.3480,
    "K": 1.2046,
    "Ti": 1.6681,
    "P": 2.2916,
    "C": 3.6641,
    "H": 8.9360,
    "S": 2.4972,
    "Ba": 1.1165,
    "Be": 2.7758,
    "Li": 2.1527,
}
#: mineral -> mass % of oxides (by the element) or, with "=", of the element itself: Handbook of Mineralogy and
#: webmineral.com, not computed here
PUBLISHED = {
    "albite": {"Si": 68.74, "Al": 19.44, "Na": 11.82},
    "orthoclase": {"Si": 64.76, "Al": 18.32, "K": 16.92},
    "forsterite": {"Mg": 57.29, "Si": 42.71},
    "kaolinite": {"Al": 39.50, "Si": 46.55, "H": 13.96},
    "talc": {"Mg": 31.88, "Si": 63.37, "H": 4.75},
    "beryl": {"Be": 13.96, "Al": 18.97, "Si": 67.07},
    "spodumene": {"Li": 8.03, "Al": 27.40, "Si": 64.58},
    "calcite": {"Ca": 56.03, "C": 43.97},
    "dolomite": {"Ca": 30.41, "Mg": 21.86, "C": 47.73},
    "gypsum": {"Ca": 32.57, "S": 46.50, "H": 20.93},
    "barite": {"Ba": 65.70, "S": 34.30},
    "fluorapatite": {"Ca": 55.60, "P": 42.22, "=F": 3.77},
    "pyrite": {"=Fe": 46.55, "=S": 53.45},
    "chalcopyrite": {"=Cu": 34.63, "=Fe": 30.43, "=S": 34.94},
    "galena": {"=Pb": 86.60, "=S": 13.40},
    "magnetite": {"=Fe": 72.36, "=O": 27.64},
    "ilmenite": {"Ti": 52.65, "=Fe": 36.81},
    "cassiterite": {"=Sn": 78.77},
    "fluorite": {"=Ca": 51.33, "=F": 48.67},
    "halite": {"=Na": 39.34, "=Cl": 60.66},
}


def wrong(mineral: minerals.Mineral, published: dict[str, float]) -> list[str]:
    """Where a mineral's ideal formula is more than 0.1 % of its mass away from the published figure."""
    found = minerals.fractions(mineral.formula)
    off = []
    for name, percent in published.items():
        element = name.lstrip("=")
        value = 100 * found.get(element, 0.0) * (1.0 if name[0] == "=" else OXIDE[element])
        if abs(value - percent) > 0.1:
            off.append(f"{mineral.name} {name}: {value:.2f} against {percent}")
    return off


def test_formulas_give_published_compositions() -> None:
    table = {mineral.name: mineral for mineral in minerals.load_minerals()}
    assert [text for name, figures in PUBLISHED.items() for text in wrong(table[name], figures)] == []
    # negative control: another mineral's figures are noticed
    assert wrong(table["orthoclase"], PUBLISHED["albite"])


def test_every_class_has_many_minerals() -> None:
    table = minerals.load_minerals()
    count = {label: sum(mineral.label == label for mineral in table) for label in minerals.CLASSES}
    assert min(count.values()) >= 20, count
    assert 150 <= len(table) <= 400
    labels = {name: set(labels.values()) for name, labels in minerals.CLASS_SETS.items()}
    assert labels["families"] == {material.label for material in materials.load_materials()}
    assert len(labels["chemistry"]) == 8
    assert all(set(labels) <= {*minerals.CLASSES, *invented.RULES} for labels in minerals.CLASS_SETS.values())
    assert all(name in {mineral.name for mineral in table} for name in minerals.GANGUE)


def test_specimens_are_random_stay_what_they_are_and_sum_to_one() -> None:
    table = {mineral.name: mineral for mineral in minerals.load_minerals()}
    rng = np.random.default_rng(1)
    drawn = [minerals.draw_specimen(table["galena"], rng) for _ in range(50)]
    assert all(abs(sum(parts.values()) - 1) < 1e-9 and min(parts.values()) >= 0 for parts in drawn)
    lead = np.array([parts["Pb"] for parts in drawn])
    assert lead.min() > 0.7
    assert lead.std() > 0.003
    assert minerals.draw_specimen(table["galena"], np.random.default_rng(7)) == minerals.draw_specimen(
        table["galena"], np.random.default_rng(7)
    )


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("a,silicate,Xx2O,,,x", "formula"),
        ("a,rock,SiO2,,,x", "class"),
        ("a,silicate,SiO2,Fe2SiO4,,x", "series"),
        ("a,silicate,SiO2,,Fe:200,x", "traces"),
        ("a,silicate,SiO2,,,x\na,silicate,SiO2,,,x", "once"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: str, says: str) -> None:
    path = tmp_path / "minerals.csv"
    path.write_text(",".join(minerals.COLUMNS) + "\n" + row + "\n")
    with pytest.raises(FileFormatError, match=says):
        minerals.load_minerals(path)


#: oxidation numbers in salts and silicates, from any textbook
OXIDATION = {"O": -2, "H": 1, "F": -1, "Cl": -1, "Br": -1, "C": 4, "S": 6, "P": 5, "Si": 4}
METALS = {name: charge for name, (charge, _) in (invented.SALTS | invented.SILICATES).items()}


def charge(label: str, atoms: dict[str, float]) -> float:
    """Sum of the oxidation numbers over that of the positive ones."""
    numbers = METALS | OXIDATION | ({"As": 5, "V": 5} if label == "phosphate" else {})
    parts = [numbers[name] * count for name, count in atoms.items()]
    return sum(parts) / sum(part for part in parts if part > 0)


@pytest.mark.parametrize(
    ("label", "needs"),
    [
        ("carbonate", {"C", "O"}),
        ("sulfate", {"S", "O"}),
        ("phosphate", {"P", "As", "V"}),
        ("halide", {"F", "Cl", "Br"}),
        ("silicate", {"Si", "O"}),
    ],
)
def test_invented_minerals_are_neutral_and_have_their_anion(label: str, needs: set[str]) -> None:
    rng = np.random.default_rng(4)
    drawn = [invented.RULES[label](label, rng) for _ in range(100)]
    assert max(abs(charge(label, atoms)) for atoms in drawn) < 1e-9
    assert all(
        needs & set(atoms) if label in ("phosphate", "halide") else needs <= set(atoms) for atoms in drawn
    )
    assert len({frozenset(atoms) for atoms in drawn}) > 40
    # negative control: one oxygen too many is noticed
    assert abs(charge(label, drawn[0] | {"O": drawn[0].get("O", 0.0) + 1})) > 1e-3


def test_invented_specimens_sum_to_one_and_hold_known_elements() -> None:
    rng = np.random.default_rng(5)
    for kind in invented.kinds():
        for _ in range(20):
            parts = invented.draw_specimen(kind.label, rng)
            assert abs(sum(parts.values()) - 1) < 1e-9
            assert set(parts) <= invented.elements() | set(minerals.EVERYWHERE) | gangue_elements()


def gangue_elements() -> set[str]:
    rows = [mineral for mineral in minerals.load_minerals() if mineral.name in minerals.GANGUE]
    formulas = [f for row in rows for f in (row.formula, *(f for f, _ in row.series + row.traces))]
    return {element for formula in formulas for element in minerals.fractions(formula)}


def test_soils_hold_organic_matter_and_what_rocks_weather_to() -> None:
    rng = np.random.default_rng(6)
    drawn = [invented.draw_specimen("soil", rng) for _ in range(200)]
    carbon, nitrogen, silicon, iron = (
        np.array([parts[e] for parts in drawn]) for e in ("C", "N", "Si", "Fe")
    )
    # Bowen (1966): dry mineral soils have 0.7 to 50 % carbon (median 2 %), C/N of about 10 and 25 to 41 % silicon
    assert 0.01 < np.median(carbon) < 0.05
    assert 5 < np.median(carbon / nitrogen) < 20
    assert 0.2 < np.median(silicon) < 0.33
    assert iron.min() > 1e-4
    assert 0.03 < (carbon > 0.2).mean() < 0.2  # peat, litter, compost
    # negative control: no silicate is one
    rocks = [invented.draw_specimen("silicate", rng) for _ in range(200)]
    assert max(parts.get("N", 0.0) for parts in rocks) < nitrogen.min()


#: rock -> mass % of oxides, water counted, iron as FeO: rounded averages of Le Maitre (1976; granite, andesite, basalt,
#: peridotite, syenite) and of Australian shales (Taylor and McLennan 1985), from memory, not computed here
AVERAGES = {
    "granite, rhyolite, gneiss": {"Si": 71, "Al": 14, "Fe": 2.7, "Mg": 0.7, "Ca": 1.8, "Na": 3.7, "K": 4.1},
    "diorite, andesite, dacite": {"Si": 58, "Al": 17, "Fe": 7, "Mg": 3.3, "Ca": 6.8, "Na": 3.5, "K": 1.6},
    "gabbro, basalt": {"Si": 49, "Al": 16, "Fe": 10.5, "Mg": 6.7, "Ca": 9.5, "Na": 2.9, "K": 1.1},
    "peridotite, serpentinite": {"Si": 42, "Al": 4.2, "Fe": 10, "Mg": 31, "Ca": 5},
    "syenite, phonolite": {"Si": 59, "Al": 17, "Fe": 6, "Mg": 1.9, "Ca": 3.5, "Na": 5.2, "K": 5},
    "mudstone, altered basalt": {"Si": 63, "Al": 19, "Fe": 7, "Mg": 2.2, "Ca": 1.3, "Na": 1.2, "K": 3.7},
}


def outside(drawn: list[dict[str, float]], average: dict[str, float]) -> list[str]:
    """The elements of which a published average is not between the 2nd and the 98th percentile of specimens."""
    found = []
    for element, percent in average.items():
        factor = 1.2865 if element == "Fe" else OXIDE[element]
        low, high = np.percentile([100 * factor * parts.get(element, 0.0) for parts in drawn], (2, 98))
        if not low < percent < high:
            found.append(f"{element}: {percent} is not within {low:.2f} to {high:.2f}")
    return found


def test_rocks_are_what_published_rocks_are_and_hold_nothing_organic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert all(weight > 0 for phases in invented.ROCKS.values() for weight in phases.values())
    named = {*invented.ACCESSORIES, *(name for phases in invented.ROCKS.values() for name in phases)}
    assert named <= {mineral.name for mineral in minerals.load_minerals()}
    every, rocks = [], invented.ROCKS
    for name, phases in rocks.items():
        monkeypatch.setattr(invented, "ROCKS", {name: phases})
        rng = np.random.default_rng(8)
        drawn = [invented.draw_specimen("rock", rng) for _ in range(150)]
        assert outside(drawn, AVERAGES.get(name, {})) == [], name
        # negative control: another rock's average is noticed
        other = "gabbro, basalt" if name.startswith("granite") else "granite, rhyolite, gneiss"
        assert outside(drawn, AVERAGES[other]), name
        every += drawn
    assert set(AVERAGES) <= set(rocks)
    assert all("N" not in parts for parts in every)
    soils = [invented.draw_specimen("soil", rng)["C"] for _ in range(200)]
    assert np.percentile([parts.get("C", 0.0) for parts in every], 90) < np.percentile(soils, 10)
