"""Two columns in every locale: any dialect is read back; the ambiguous and the broken is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from libsedge.errors import AxisError, FileFormatError
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
        ("240.5,1.5,3.5\n241.5,1.5,3.5\n", "no known format"),
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
