"""PDS4 by its label: products written here to the PDS4 standard (no real one with an axis could be had)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from libsedge.errors import FileFormatError
from libsedge_training import readers
from libsedge_training.readers import checks
from libsedge_training.readers.pds4 import Pds4

pytest.importorskip("pds4_tools")
pytestmark = pytest.mark.filterwarnings("ignore::libsedge_training.readers.UnprovenReader")

AXIS = 240 + 0.25 * np.arange(60)
SHOTS = np.random.default_rng(3).uniform(0, 1e6, (3, 60)).round(3)
REAL = "<data_type>ASCII_Real</data_type>"


def label(path: Path, areas: str, *, target: str = "Rock 7") -> Path:
    path.write_text(
        f"""<?xml version="1.0" encoding="UTF-8"?>
<Product_Observational xmlns="http://pds.nasa.gov/pds4/pds/v1">
 <Identification_Area><logical_identifier>urn:nasa:pds:test:data:x</logical_identifier>
  <version_id>1.0</version_id><title>t</title><information_model_version>1.11.0.0</information_model_version>
  <product_class>Product_Observational</product_class></Identification_Area>
 <Observation_Area>
  <Observing_System><Observing_System_Component><name>MarSCoDe</name><type>Instrument</type>
  </Observing_System_Component></Observing_System>
  <Target_Identification><name>{target}</name><type>Calibration</type></Target_Identification>
 </Observation_Area>
 {areas}
</Product_Observational>
""",
        newline="\n",
    )
    return path


def area(name: str, text: str, fields: str, rows: int, *, groups: int = 0, count: int = 0) -> str:
    return f"""<File_Area_Observational><File><file_name>{name}</file_name></File>
 <Table_Delimited><offset unit="byte">0</offset><object_length unit="byte">{len(text.encode())}</object_length>
  <parsing_standard_id>PDS DSV 1</parsing_standard_id><records>{rows}</records>
  <record_delimiter>Carriage-Return Line-Feed</record_delimiter><field_delimiter>Comma</field_delimiter>
  <Record_Delimited><fields>{count}</fields><groups>{groups}</groups>{fields}</Record_Delimited>
 </Table_Delimited></File_Area_Observational>"""


def field(name: str, number: int, unit: str = "") -> str:
    said = f"<unit>{unit}</unit>" if unit else ""
    return f"<Field_Delimited><name>{name}</name><field_number>{number}</field_number>{REAL}{said}</Field_Delimited>"


def columns(
    folder: Path, *, unit: str = "nm", scale: float = 1.0, axis: str = "Wavelength", end: str = "L"
) -> Path:
    """One row a channel: the axis and three spectra."""
    rows = [",".join(f"{v:.6f}" for v in (nm * scale, *SHOTS[:, i])) for i, nm in enumerate(AXIS)]
    text = "\r\n".join([*rows, ""])
    (folder / "product.2B").write_bytes(text.encode())
    fields = field(axis, 1, unit) + "".join(field(f"Shot {i}", i + 2) for i in range(3))
    return label(folder / f"product.2B{end}", area("product.2B", text, fields, len(rows), count=4))


def records(folder: Path, *, with_axis: bool = True) -> Path:
    """One row a spectrum in a group field, as Chandrayaan-3 has it; the axis in a file of its own."""
    text = "\r\n".join([*(f"{i}," + ",".join(f"{v:.3f}" for v in row) for i, row in enumerate(SHOTS)), ""])
    (folder / "spectra.csv").write_bytes(text.encode())
    inner = field("Counts", 1)
    group = (
        f"<Group_Field_Delimited><group_number>1</group_number><repetitions>60</repetitions><fields>1</fields>"
        f"<groups>0</groups>{inner}</Group_Field_Delimited>"
    )
    areas = area("spectra.csv", text, field("Frame", 1) + group, 3, groups=1, count=1)
    if with_axis:
        axis = "\r\n".join([*(f"{nm:.4f}" for nm in AXIS), ""])
        (folder / "axis.csv").write_bytes(axis.encode())
        areas += area("axis.csv", axis, field("WAVELENGTH", 1, "nm"), 60, count=1)
    return label(folder / "product.xml", areas)


@pytest.mark.parametrize("make", [columns, records])
def test_both_shapes_of_a_product(tmp_path: Path, make) -> None:
    spectra = readers.read(make(tmp_path))
    np.testing.assert_allclose(spectra.wavelength, AXIS)
    np.testing.assert_allclose(spectra.counts, SHOTS, rtol=1e-6)
    assert spectra.specimens == ["Rock 7"]
    assert spectra.instrument == "MarSCoDe"
    assert "proven on no real file" in spectra.source
    assert str(tmp_path) not in spectra.source


def test_units_of_the_axis(tmp_path: Path) -> None:
    np.testing.assert_allclose(readers.read(columns(tmp_path, unit="Angstrom", scale=10)).wavelength, AXIS)
    np.testing.assert_allclose(
        readers.read(columns(tmp_path, unit="micrometer", scale=1e-3)).wavelength, AXIS, atol=1e-3
    )
    with pytest.raises(FileFormatError, match="unit"):
        readers.read(columns(tmp_path, unit="furlong"))


def test_a_product_without_an_axis_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="no axis"):
        readers.read(records(tmp_path, with_axis=False))
    with pytest.raises(FileFormatError, match="no axis"):
        readers.read(columns(tmp_path, axis="Channel"))


def test_the_label_decides_the_layout(tmp_path: Path) -> None:
    """Negative control: the same bytes under a label that swaps the first two fields give another axis."""
    path = columns(tmp_path)
    text = path.read_text()
    swapped = text.replace("<name>Wavelength</name>", "<name>Shot 9</name>").replace(
        "<name>Shot 0</name>", "<name>Wavelength</name>"
    )
    path.write_text(swapped)
    spectra = readers.read(path)
    assert spectra.wavelength[0] == pytest.approx(SHOTS[0].min())


@pytest.mark.parametrize("damage", ["data gone", "data cut", "line ends", "label cut", "path", "entity"])
def test_damage_is_a_typed_error(tmp_path: Path, damage: str) -> None:
    path = columns(tmp_path)
    data = tmp_path / "product.2B"
    if damage == "data gone":
        data.unlink()
    elif damage == "data cut":
        data.write_bytes(data.read_bytes()[:-300])
    elif damage == "line ends":  # what a version control system did to Chandrayaan-3's tables
        data.write_bytes(data.read_bytes().replace(b"\r\n", b"\n"))
    elif damage == "label cut":
        path.write_text(path.read_text()[:-40])
    elif damage == "path":
        path.write_text(path.read_text().replace("product.2B<", "../product.2B<"))
    else:
        path.write_text(
            path.read_text().replace("<Product_Obs", '<!DOCTYPE x [<!ENTITY a "b">]><Product_Obs', 1)
        )
    with pytest.raises(FileFormatError) as caught:
        readers.read(path)
    assert caught.value.file == str(path)


def test_the_reader_is_found_by_content_alone(tmp_path: Path) -> None:
    path = columns(tmp_path)
    assert isinstance(readers.find(path), Pds4)
    (tmp_path / "other.xml").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    assert readers.find(tmp_path / "other.xml") is None
    (tmp_path / "damaged").mkdir()
    checks.check_refused(tmp_path / "other.xml", "an image")


CH3 = ("Force Reset Status", "Laser Fire Status")


def chandrayaan(folder: Path, *, fired: tuple[int, ...] = (0, 1, 1), axis: bool = True) -> Path:
    """ISRO's calibrated product as programs read it: the header line holds the wavelengths between names of columns."""
    status = [(1 - f, f) for f in fired]
    names = [
        *CH3,
        *([f"{nm:.2f}" for nm in AXIS] if axis else [f"Pixel_{i}" for i in range(60)]),
        "Delay Time",
    ]
    head = ",".join(names) + "\r\n"
    rows = [
        ",".join([str(reset), str(f), *(f"{v:.3f}" for v in row), "1.5"])
        for (reset, f), row in zip(status, SHOTS, strict=True)
    ]
    text = "\r\n".join([*rows, ""])
    (folder / "ch3_lib_002_20230825T104221_00_l1.csv").write_bytes((head + text).encode())
    group = (
        f"<Group_Field_Delimited><group_number>1</group_number><repetitions>60</repetitions><fields>1</fields>"
        f"<groups>0</groups>{field('Intensity', 1)}</Group_Field_Delimited>"
    )
    fields = field(CH3[0], 1) + field(CH3[1], 2) + group + field("Delay Time", 3)
    made = area("ch3_lib_002_20230825T104221_00_l1.csv", text, fields, 3, groups=1, count=3)
    header = (
        f'<Header><offset unit="byte">0</offset><object_length unit="byte">{len(head)}</object_length>'
        "<parsing_standard_id>7-Bit ASCII Text</parsing_standard_id></Header>"
    )
    made = made.replace("</File>", "</File>" + header)
    made = made.replace(
        '<Table_Delimited><offset unit="byte">0', f'<Table_Delimited><offset unit="byte">{len(head)}'
    )
    return label(folder / "ch3_lib_002_20230825T104221_00_l1.xml", made, target="Moon")


def test_chandrayaan_takes_its_axis_from_the_header_line(tmp_path: Path) -> None:
    spectra = readers.read(chandrayaan(tmp_path))
    np.testing.assert_allclose(spectra.wavelength, AXIS)
    np.testing.assert_allclose(spectra.counts, SHOTS[1:], rtol=1e-6)
    np.testing.assert_allclose(
        spectra.dark, SHOTS[0], rtol=1e-6
    )  # the shot in the dark, still to be subtracted
    assert "1 row(s) without plasma left out" in spectra.source
    with pytest.raises(FileFormatError, match="no axis"):
        readers.read(chandrayaan(tmp_path, axis=False))  # level 0
    with pytest.raises(FileFormatError, match="never fired"):
        readers.read(chandrayaan(tmp_path, fired=(0, 0, 0)))


@pytest.mark.parametrize("make", [columns, records, chandrayaan])
def test_a_folder_reads_a_product_once(tmp_path: Path, make) -> None:
    """The data file alone would pass for a table of columns or rows: the label's product must come once."""
    alone = readers.read(make(tmp_path))
    folder = readers.read(tmp_path)
    np.testing.assert_array_equal(folder.counts, alone.counts)


def test_cnsa_names(tmp_path: Path) -> None:
    """MarSCoDe's name as its rover's other instruments form it (its layout is not public), and the warning."""
    path = columns(tmp_path)
    name = "HX1-Ro_GRAS_MarSCoDe_SCI_N_20210601000000_20210601000100_00001_A.2B"
    (tmp_path / "product.2B").rename(tmp_path / name)
    path = path.rename(tmp_path / f"{name}L")
    path.write_text(path.read_text().replace("product.2B", name))
    with pytest.warns(readers.UnprovenReader, match="pds4 is proven on no real file"):
        spectra = readers.read(path)
    np.testing.assert_allclose(spectra.wavelength, AXIS)
