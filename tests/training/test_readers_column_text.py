"""Columns of text in every locale: any dialect is read back; the ambiguous and the broken is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from libsedge.errors import AxisError, FileFormatError, SedgeError
from libsedge_training import readers

ROWS = [(240.5, 1.5), (241.25, -3.0), (242.0, 7e5)]


def reading(tmp_path, text, **options):
    path = tmp_path / "f.dat"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return readers.read(path, **options)


def check(spectra):
    np.testing.assert_array_equal(spectra.wavelength, [nm for nm, _ in ROWS])
    np.testing.assert_array_equal(spectra.counts, [[value for _, value in ROWS]])


@pytest.mark.parametrize(
    "text",
    [
        "240.5,1.5\n241.25,-3\n242,7e5\n",
        "wavelength,intensity\n240.5,1.5\n241.25,-3\n242,7e5",
        "# made by hand\n# air? no\nwavelength,intensity\n\n240.5,1.5\n# in between\n241.25,-3\n242,7e5\n\n",
        "240.5,1.5,\r\n241.25,-3,,\r\n242,7e5,\r\n",
        "240.5\t1.5\n241.25\t-3\n242\t7e5\n",
        "240,5\t1,5\n241,25\t-3\n242\t7e5\n",
        "Wavelength ;Sample\n[nm] ;[counts]\n240,5;1,5\n241,25;-3,0\n242,0;700000,0\n",
        "240.5;1.5;\n241.25;-3;\n242;7E5;\n",
        "  240.5   1.5\n  241.25  -3\n  242     7e5\n",
        "240,5  1,5\n241,25 -3\n242 7e5\n",
        "242;700000\n240,5;1,5\n241,25;-3\n",
        "240.5 1.5D0\r241.25 -3\r242 7d5\r",
        "\ufeffwavelength,intensity\n240.5,1.5\n241.25,-3\n242,7e5\n",
        "Wellenlänge,Intensität\n240.5,1.5\n241.25,-3\n242,7e5\n".encode("latin-1"),
        "Wellenlänge\tIntensität\r\n240,5\t1,5\r\n241,25\t-3\r\n242\t7e5\r\n".encode("utf-16"),
    ],
)
def test_dialects(tmp_path, text):
    check(reading(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("240.5,1.5\n241.25,\n", "line 2"),
        ("240.5,1.5\n241.25\n", "line 2"),
        ("240.5,1.5\n241.25,1,5\n", "line 2"),
        ("240.5,1.5\n241.25,nan\n", "line 2, column 2"),
        ("240.5,1.5\n241.25,1e999\n", "line 2, column 2"),
        ("# c\n240.5,1.5\n241.25,x\n", "line 3, column 2"),
        ("240,5;1.5\n241,25;2.5\n", "line 1: mixes"),
        ("240,5;1,5\n241.25;2\n", "line 2"),
        ("240;1\n241;2.5\n242;2,5\n", "line 2"),
        ("240,5,1,5\n241,5,2,5\n", "no known format"),
        ("a\nb\nc\n240.5,1.5\n", "no known format"),
        ("240,1,3\n241,1,3\n", "no known format"),  # 240.1 and 3, or 240 and two shots?
        ("240.5,1.5,3.5\n241.5,1.5\n", "line 2: has 2 values where 3 belong"),
        ("", "no known format"),
    ],
)
def test_refused_with_the_place(tmp_path, text, where):
    with pytest.raises(FileFormatError, match=where):
        reading(tmp_path, text)


@pytest.mark.parametrize("text", ["-240,1\n241,2\n", "0,1\n241,2\n", "240,1\n240,2\n"])
def test_an_axis_that_is_none_is_refused(tmp_path, text):
    with pytest.raises(AxisError, match=r"f\.dat"):
        reading(tmp_path, text)


def test_air_is_converted_only_when_said(tmp_path):
    text = "393.366,1\n393.466,2\n"
    assert reading(tmp_path, text).wavelength[0] == 393.366
    assert reading(tmp_path, text, medium="air").wavelength[0] == pytest.approx(393.4775, abs=3e-4)


SOLIS = (
    "".join(f"{200 + i / 4:.2f}\t{i}\n" for i in range(9))
    + "\n\nDate and Time:\tMon 1 Jan 2024\nGain:\t3.5\n"
)
LONG = "".join(f"Setting {i}: {i}\n" for i in range(20)) + "Wavelength (nm)\tShot 1\tShot 2\n"


@pytest.mark.parametrize(
    ("text", "axis", "counts"),
    [
        ("Wavelength [nm];shot1;shot2\n240,5;1,5;2\n241,5;-3;4\n", [240.5, 241.5], [[1.5, -3], [2, 4]]),
        (LONG + "240.5\t1\t2\n241.5\t3\t4\n242\t5\t6\n", [240.5, 241.5, 242], [[1, 3, 5], [2, 4, 6]]),
        (",wavelength,intensity\n0,240.5,1\n1,241.5,2\n", [240.5, 241.5], [[1, 2]]),  # as pandas writes
        ("0\t240.5\t1\n1\t241.5\t2\n2\t242\t3\n", [240.5, 241.5, 242], [[1, 2, 3]]),
        ("Intensity,Wavelength\n1.5,240.5\n2,241.5\n", [240.5, 241.5], [[1.5, 2]]),
        ("wl nm,shot 1,shot 2,mean\n240.5,1,3,2\n241.5,2,4,3\n", [240.5, 241.5], [[1, 2], [3, 4]]),
        ('"wavelength","intensity"\n"240.5","1"\n"241.5","2"\n', [240.5, 241.5], [[1, 2]]),
        ("Wavelength (Angstrom),I\n2405.0,1\n2415.0,2\n", [240.5, 241.5], [[1, 2]]),
        (SOLIS, [200 + i / 4 for i in range(9)], [list(range(9))]),
    ],
)
def test_layouts_of_laboratories(tmp_path, text, axis, counts):
    spectra = reading(tmp_path, text)
    np.testing.assert_allclose(spectra.wavelength, axis)
    np.testing.assert_array_equal(spectra.counts, counts)


def test_dark_names_and_medium_of_the_columns(tmp_path):
    text = "Wavelength in air (nm);Dark;Quartz;Calcite\n393,366;10;1;2\n393,466;11;3;4\n"
    spectra = reading(tmp_path, text)
    assert spectra.wavelength[0] == pytest.approx(393.4775, abs=3e-4)
    assert spectra.specimen.tolist() == ["Quartz", "Calcite"]
    assert spectra.dark.tolist() == [10, 11]
    backwards = reading(tmp_path, "wavelength;dark;shot\n402;12;3\n401;11;2\n400;10;1\n")
    assert (backwards.dark.tolist(), backwards.counts.tolist()) == ([10, 11, 12], [[1, 2, 3]])
    assert reading(tmp_path, text, medium="vacuum").wavelength[0] == 393.366  # what the user says wins
    assert reading(tmp_path, "wavelength,a,a\n240.5,1,2\n241.5,3,4\n").specimens == ["f"]  # not told apart
    with pytest.raises(FileFormatError, match="no column of intensities"):
        reading(tmp_path, "wavelength,dark\n240.5,1\n241.5,2\n")


def test_echelle_orders_are_sorted_and_what_overlaps_exactly_is_refused(tmp_path):
    """Decimal commas, semicolons, and an order that begins below the end of the one before."""
    rows = [(199.5, 1), (200.5, 2), (200.25, 3), (201.25, 4)]
    text = "# Mechelle\n" + "".join(f"{nm:.3f};{v:.1f}\n".replace(".", ",") for nm, v in rows)
    spectra = reading(tmp_path, text)
    assert spectra.wavelength.tolist() == [199.5, 200.25, 200.5, 201.25]
    assert spectra.counts.tolist() == [[1, 3, 2, 4]]
    assert "axis sorted, 1 step(s) went back" in spectra.source
    with pytest.raises(AxisError, match=r"f\.dat: wavelength\[2\] = 200.5"):
        reading(tmp_path, text.replace("200,250", "200,500"))


DIALECTS = [(",", "."), (";", "."), (";", ","), ("\t", "."), ("\t", ","), ("  ", "."), ("  ", ",")]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.integers(1, 5000), min_size=2, max_size=30),
    values=st.data(),
    dialect=st.sampled_from(DIALECTS),
    header=st.sampled_from(["", "wavelength{}intensity", "# comment", "Wave{}I\n[nm]{}[a.u.]"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    trailing=st.booleans(),
)
def test_round_trip_in_any_locale(tmp_path, steps, values, dialect, header, end, trailing):
    separator, point = dialect
    axis = (200_000 + np.cumsum(steps)) / 1000
    number = st.floats(-(2.0**40), 2.0**40, width=32)
    counts = np.array(values.draw(st.lists(number, min_size=len(axis), max_size=len(axis))), np.float32)
    tail = separator if trailing and separator.strip() else ""
    rows = [
        f"{nm:.3f}{separator}{float(v)!r}{tail}".replace(".", point)
        for nm, v in zip(axis, counts, strict=True)
    ]
    lines = [*header.replace("{}", separator).splitlines(), *rows]
    spectra = reading(tmp_path, end.join([*lines, ""]))
    np.testing.assert_array_equal(spectra.wavelength, axis)
    np.testing.assert_array_equal(spectra.counts[0], counts)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.sampled_from('0123456789.,;\t -eE\n#"aXnm'), max_size=120))
def test_any_text_is_read_or_refused_by_type(tmp_path, text):
    path = tmp_path / "f.dat"
    path.write_text(text)
    if readers.find(path) is None:
        return
    try:
        spectra = readers.read(path)
    except SedgeError as error:
        named = error.file
    else:
        named = str(path)
        assert (np.diff(spectra.wavelength) > 0).all()
        assert np.isfinite(spectra.counts).all()
    assert named == str(path)
