"""What each format's reader takes from a file, and which contradictions it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from libsedge.errors import AxisError, ConfigError, FileFormatError, SpectrumError
from libsedge_training import readers

from .reader_files import avantes, ccs, cl1, mean_csv, ocean, ocean_single, pyhat, two_column

pytestmark = pytest.mark.filterwarnings("ignore::libsedge_training.readers.UnprovenReader")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_ccs(tmp_path, end):
    spectra = readers.read(
        ccs(tmp_path / "any.name", shots=5, end=end, extra="# TEMPERATURE = 3 , ,\n# X = 1")
    )
    assert spectra.counts.shape == (5, 6144)
    assert spectra.shot.tolist() == [1, 2, 3, 4, 5]
    assert spectra.specimens == ["CCAM02013"]
    assert (spectra.quantity, spectra.instrument) == ("radiance", "ChemCam")
    np.testing.assert_allclose(spectra.distance_m, 2.5)
    expected = np.random.default_rng(1).uniform(1e10, 1e12, (6144, 5))
    np.testing.assert_allclose(spectra.counts.T, expected, rtol=1e-6)


def test_ccs_target_line_wins_and_contradictions_are_refused(tmp_path):
    assert readers.read(ccs(tmp_path / "t", TARGET="Coronation")).specimens == ["Coronation"]
    assert np.isnan(readers.read(ccs(tmp_path / "d", DISTT="0")).distance_m).all()
    with pytest.raises(FileFormatError, match="NSHOTS"):
        readers.read(ccs(tmp_path / "n", NSHOTS="9"))
    with pytest.raises(FileFormatError, match="rows = 6143"):
        readers.read(ccs(tmp_path / "r", rows=6143))
    whole = ccs(tmp_path / "cut").read_bytes()
    for size in (len(whole) - 1, len(whole) - 5):  # inside or behind the last number
        (tmp_path / "cut").write_bytes(whole[:size])
        with pytest.raises(FileFormatError, match="complete rows"):
            readers.read(tmp_path / "cut")
    path = ccs(tmp_path / "w")
    path.write_text(path.read_text().replace("e+02, ", "e+02, oops, ", 1))
    with pytest.raises(FileFormatError, match="line 5"):
        readers.read(path)


def test_cl1(tmp_path):
    spectra = readers.read(cl1(tmp_path / "f", clipped=(2, 17)))
    assert spectra.counts.shape == (4, 80)
    assert spectra.counts.dtype.isnative
    assert spectra.specimens == ["Maaz"]
    np.testing.assert_allclose(spectra.distance_m, 3.126)
    assert np.flatnonzero(~spectra.mask).tolist() == [17]
    assert "1 channel(s) clipped" in spectra.source
    np.testing.assert_array_equal(
        spectra.counts, np.random.default_rng(2).uniform(1e10, 1e12, (4, 80)).astype(np.float32)
    )
    assert readers.read(cl1(tmp_path / "n", TARGETNM="")).specimens == ["scam15210"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"drop": "SATURATION"}, "SATURATION"),
        ({"ACTIVES": 7}, "ACTIVES"),
        ({"N_UV": 21}, "N_UV + ... + N_RED"),
    ],
)
def test_cl1_contradictions_are_refused(tmp_path, changes, field):
    with pytest.raises(FileFormatError) as caught:
        readers.read(cl1(tmp_path / "f", **changes))
    assert caught.value.field == field


def test_ocean_siblings_are_joined_from_any_of_them(tmp_path):
    for part, start in (("UV", 224.0), ("VIS", 384.0), ("NIR", 494.0)):
        ocean(tmp_path / f"Rock_{part}_01.txt", start)
        ocean(tmp_path / f"Ore_{part}_01.txt", start, shots=2, t0=1)
    one, other = (readers.read(tmp_path / f"Rock_{part}_01.txt") for part in ("VIS", "NIR"))
    assert one.counts.shape == (3, 192)
    np.testing.assert_array_equal(one.counts, other.counts)
    assert one.specimens == ["Rock_01"]
    assert "Rock_UV_01.txt, Rock_VIS_01.txt, Rock_NIR_01.txt; axis in air" in one.source
    assert "sorted" not in one.source
    assert np.argwhere(np.diff(one.wavelength) > 1).ravel().tolist() == [63, 127]
    listed = readers.read([tmp_path / "Rock_NIR_01.txt", tmp_path / "Rock_UV_01.txt"])
    assert listed.counts.shape == (3, 128)
    folder = readers.read(tmp_path)
    assert len(folder) == 5
    assert folder.specimens == ["Ore_01", "Rock_01"]


def test_ocean_shots_are_never_paired_by_guess(tmp_path):
    ocean(tmp_path / "Rock_UV_01.txt", 224.0)
    ocean(tmp_path / "Rock_VIS_01.txt", 384.0, t0=1447427674644)
    with pytest.raises(FileFormatError, match="shot time"):
        readers.read(tmp_path / "Rock_UV_01.txt")
    ocean(tmp_path / "Rock_VIS_01.txt", 384.0, shots=2)
    with pytest.raises(FileFormatError, match="shot time"):
        readers.read(tmp_path / "Rock_VIS_01.txt")


@pytest.mark.parametrize("comma", [False, True])
@pytest.mark.parametrize("end", [False, True])
def test_ocean_single_scan(tmp_path, comma, end):
    spectra = readers.read(ocean_single(tmp_path / "s.txt", comma=comma, end=end))
    np.testing.assert_allclose(spectra.counts, 1.5 * np.arange(50)[np.newaxis])
    np.testing.assert_allclose(spectra.wavelength, readers.air_to_vacuum(400 + 0.05 * np.arange(50)))


def test_ocean_pixel_count_must_hold(tmp_path):
    with pytest.raises(FileFormatError, match="Number of Pixels"):
        readers.read(ocean(tmp_path / "f.txt", 224.0, pixels=65))


def test_mean_csv(tmp_path):
    spectra = readers.read(mean_csv(tmp_path / "m.csv"))
    assert spectra.specimens == ["CCAM02013", "target x"]
    assert spectra.quantity == "intensity"  # one name is none of the archive's
    np.testing.assert_allclose(spectra.counts[:, 2], [3e10, 5e10])
    (tmp_path / "twice.csv").write_text("wave,a,a\n240,1,2\n241,1,2\n")
    with pytest.raises(FileFormatError, match="no known format"):
        readers.read(tmp_path / "twice.csv")
    (tmp_path / "empty.csv").write_text("wave,a,b\n")
    with pytest.raises(FileFormatError, match="no rows"):
        readers.read(tmp_path / "empty.csv")


def test_avantes(tmp_path):
    path = avantes(tmp_path / "a.ttt")
    spectra = readers.read(path)
    assert spectra.dark is not None
    np.testing.assert_allclose(spectra.counts[0, :2], [900, 910])
    np.testing.assert_allclose(spectra.dark[:4], [700, 701, 702, 700])
    assert spectra.wavelength[0] == pytest.approx(240.0 + 0.0735, abs=1e-3)  # air to vacuum
    assert spectra.instrument == "Avantes 0512042U1"
    assert "proven on no real file" in spectra.source
    assert "average of 2 scans" in spectra.source
    plain = path.read_text().replace(";Dark", "").replace("[counts] ;", "").replace(",", ".")
    rows = [line.split(";") for line in plain.splitlines()]
    rows = [";".join([r[0], r[2]]) if len(r) == 3 else ";".join(r) for r in rows]
    path.write_text("\n".join(rows))
    assert readers.read(path).dark is None
    np.testing.assert_array_equal(readers.read(path).counts, spectra.counts)
    path.write_text("\n".join(rows).replace("240.10;", "240,10;"))
    with pytest.raises(FileFormatError, match="mixes"):
        readers.read(path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"intensity": np.ones((3, 9))}, "channels"),
        ({"intensity": np.ones(10)}, "channels"),
        ({"intensity": np.ones((3, 10), complex)}, "real numbers"),
        ({"intensity": np.full((3, 10), object())}, "not a whole"),
        ({"label": np.array(["a"])}, "one value a spectrum"),
        ({"intensity": np.full((3, 10), np.inf)}, "finite"),
    ],
)
def test_npz_refusals(tmp_path, changes, says):
    arrays = {"wavelength": np.linspace(240, 250, 10), "intensity": np.ones((3, 10)), **changes}
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises((FileFormatError, SpectrumError), match=says) as caught:
        readers.read(tmp_path / "s.npz")
    assert caught.value.file is not None


def test_npz_takes_ids_labels_and_distances_and_leaves_other_archives_alone(tmp_path):
    np.savez(
        tmp_path / "s.npz",
        wavelength=np.linspace(240, 250, 10)[::-1],
        counts=np.arange(20).reshape(2, 10),
        id=np.array(["a", "b"]),
        label=np.array(["x", ""]),
        distance_m=np.array([2.0, np.nan]),
    )
    spectra = readers.read(tmp_path / "s.npz")
    assert (spectra.specimens, spectra.classes, spectra.quantity) == (["a", "b"], ["x"], "counts")
    assert spectra.counts[0].tolist() == list(range(10))[::-1]
    np.savez(tmp_path / "other.npz", weights=np.ones(3))
    with pytest.raises(FileFormatError, match="no known format"):
        readers.read(tmp_path / "other.npz")


def test_sciaps_shots_of_one_test_are_one_specimen(tmp_path):
    """SciAps Z-9xx CSV has the content of any two columns (layout known from code only): only its name says that the
    shots are of one test. Other names say nothing."""
    for shot in (1, 2):
        two_column(tmp_path / f"steel_2024_05_03_101112_{shot}.csv")
        two_column(tmp_path / f"rock_{shot}.csv")
    spectra = readers.read(tmp_path)
    assert spectra.specimen.tolist() == ["rock_1", "rock_2", "steel", "steel"]
    assert spectra.shot.tolist() == [0, 0, 1, 2]
    assert readers.read(tmp_path, specimen="any").specimens == ["any"]


def test_pyhat_specimens_and_medium(tmp_path):
    path = pyhat(tmp_path / "f.csv")
    spectra = readers.read(path)
    assert spectra.specimen.tolist() == ["CP-5, Basalt", "LIB1", "LIB2"]
    np.testing.assert_allclose(spectra.counts[2], 2 + 0.25 * np.arange(40))
    np.testing.assert_allclose(spectra.wavelength, readers.air_to_vacuum(300 + 0.5 * np.arange(40)))
    vacuum = readers.read(path, medium="vacuum")
    np.testing.assert_array_equal(vacuum.wavelength, 300 + 0.5 * np.arange(40))
    assert "axis in air (by format), converted to vacuum" in spectra.source
    assert "axis in vacuum (given)" in vacuum.source
    with pytest.raises(ConfigError, match="medium"):
        readers.read(path, medium="water")


def test_a_backward_axis_is_sorted_and_a_double_one_refused(tmp_path):
    path = tmp_path / "seam.csv"
    path.write_text("400,1\n401,2\n402,3\n401.5,4\n403,5\n")
    spectra = readers.read(path)
    assert spectra.wavelength.tolist() == [400, 401, 401.5, 402, 403]
    assert spectra.counts.tolist() == [[1, 2, 4, 3, 5]]
    assert "axis sorted, 1 step(s) went back" in spectra.source
    path.write_text("403,5\n402,3\n401,2\n")
    assert readers.read(path).counts.tolist() == [[2, 3, 5]]
    path.write_text("400,1\n401,2\n401,3\n")
    with pytest.raises(AxisError, match=r"seam\.csv: wavelength\[2\] = 401"):
        readers.read(path)


LONG = '"' + 200_000 * "9" + '"'
AXIS = ",".join(str(240 + i) for i in range(16))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"{AXIS}\n{','.join(16 * ['1'])}\n{','.join([LONG, *(15 * ['1'])])}\n", 3),  # row-csv
        (f"{AXIS},{60 * ',x'}{LONG}\n{','.join(77 * ['1'])}\n", 1),  # its header
        (f"meta,wvl,wvl\nSample,300,301\nx,1,{LONG}\n", 3),  # pyhat-csv
        (f"wave,a,{200_000 * 'b'}\n300,1,2\n301,1,2\n", 1),  # mean-csv
    ],
)
def test_a_cell_longer_than_the_csv_module_takes_is_refused(tmp_path, text, line):
    path = tmp_path / "long.csv"
    path.write_text(text)
    with pytest.raises(FileFormatError) as caught:
        readers.read(path)
    assert caught.value.field == f"line {line}"
