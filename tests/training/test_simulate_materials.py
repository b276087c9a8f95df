"""The table of simulated materials: compositions, classes, documentation, refusals."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from libsedge.errors import ConfigError, FileFormatError
from libsedge_training.simulate import materials as table

ROOT = Path(__file__).parents[2]
HEADER = ",".join(table.COLUMNS) + "\n"


def test_counts_and_classes() -> None:
    materials = table.load_materials()
    classes = Counter(material.label for material in materials)
    assert len(materials) == 37
    assert len(classes) == 6
    assert min(classes.values()) >= 4
    assert {material.kind for material in materials} == {"certified", "mineral", "typical"}
    assert all(material.source for material in materials)


@pytest.mark.parametrize("material", table.load_materials(), ids=lambda material: material.name)
def test_composition_sums_to_one(material: table.Material) -> None:
    fractions = [fraction for _, fraction in material.composition]
    assert sum(fractions) == pytest.approx(1.0, abs=1e-12)
    assert fractions == sorted(fractions, reverse=True)
    assert not {"Zr", "Nb", "U", "He"} & {element for element, _ in material.composition}


@pytest.mark.parametrize(
    ("name", "element", "percent"),
    # textbook compositions of the minerals, and certificate figures
    [
        ("calcite", "Ca", 40.04),
        ("gypsum", "S", 18.62),
        ("gypsum", "H", 2.34),
        ("goethite", "Fe", 62.85),
        ("hematite", "Fe", 69.94),
        ("NIST 2711", "Ca", 2.88),
        ("NIST 1155", "Cr", 18.37),
        ("BHVO-2G", "Fe", 8.784),
    ],
)
def test_known_mass_fractions(name: str, element: str, percent: float) -> None:
    (material,) = table.choose([name], table.load_materials())
    assert 100 * dict(material.composition)[element] == pytest.approx(percent, rel=3e-3)


def alone(materials: tuple[table.Material, ...]) -> list[str]:
    """Materials whose main element, oxygen aside, is below 5 % in every other member of their class."""
    main = {m.name: next(element for element, _ in m.composition if element != "O") for m in materials}
    return [
        m.name
        for m in materials
        if not any(
            dict(other.composition).get(main[m.name], 0) >= 0.05
            for other in materials
            if other.label == m.label and other.name != m.name
        )
    ]


def test_no_material_is_alone_in_its_class() -> None:
    materials = table.load_materials()
    assert alone(materials) == []
    # negative control: without ilmenite and ulvospinel nothing else in the class holds titanium
    assert alone(tuple(m for m in materials if m.name not in {"ilmenite", "ulvospinel"})) == ["rutile"]


def test_documentation_is_the_table() -> None:
    text = (ROOT / "docs" / "materials.md").read_text(encoding="utf-8")
    materials = table.load_materials()
    assert text == table.markdown(materials)
    assert text != table.markdown(materials[1:])  # a material less is seen


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("x,soil,certified,s,,O=0.5 Si=0.3\n", "sum to 1"),
        ("x,soil,certified,s,,O=0.5 Si=half\n", "number"),
        ("x,soil,certified,s,,O=0.5 O=0.5\n", "once"),
        ("x,soil,certified,s,,O=1.5 Si=-0.5\n", "once"),
        ("x,soil,guessed,s,,O=1.0\n", "one of"),
        ("x,soil,mineral,s,,O=1.0\n", "formula"),
        ("x,soil,mineral,s,Xx2O3,\n", "x"),
        ("x,soil,mineral\n", "fields"),
        ("x,soil,mineral,s,CaCO3,\nx,soil,mineral,s,CaCO3,\n", "occurs once"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, row: str, says: str) -> None:
    path = tmp_path / "materials.csv"
    path.write_text(HEADER + row)
    with pytest.raises(FileFormatError, match=says) as caught:
        table.load_materials(path)
    assert caught.value.file == str(path)


def test_a_good_table_of_the_same_shape_is_read(tmp_path: Path) -> None:
    path = tmp_path / "materials.csv"
    path.write_text(HEADER + "x,soil,certified,s,,O=0.52 Si=0.48\n")
    assert table.load_materials(path)[0].composition == (("O", 0.52), ("Si", 0.48))
    path.write_text("name,class\n")
    with pytest.raises(FileFormatError, match="columns"):
        table.load_materials(path)


def test_choice_of_materials() -> None:
    materials = table.load_materials()
    assert [m.name for m in table.choose(["hematite", "calcite"], materials)] == ["calcite", "hematite"]
    assert len(table.first_of_each_class(materials, 3)) == 18
    for names in (["unobtainium"], ["calcite", "calcite"], []):
        with pytest.raises(ConfigError):
            table.choose(names, materials)
