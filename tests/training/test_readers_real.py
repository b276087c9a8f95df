"""Readers on real instrument files, against values found by hand in the files (not by the readers)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from libsedge.errors import FileFormatError
from libsedge_training import readers
from libsedge_training.readers import checks
from libsedge_training.readers.base import distance_from_name

REPO = Path(__file__).parents[2]
DATA = Path(os.environ.get("LIBSEDGE_REAL_DATA", REPO.parent / "shared" / "data"))
CCS = "chemcam/CL5_398645626CCS_F0030004CCAM02013P3.csv"
CL1 = "supercam/scam_0012_0668002890_477_cl1_scam15210_maaz_________________01p01.fits"
BHVO2 = [
    *[f"chemcam_bhvo2_loc{i}_spectrum.csv" for i in (1, 2, 3, 4)],
    *[f"supercam_{d}mm_loc{i}_spectrum.csv" for d in (1545, 4250) for i in (1, 2, 3)],
]
CA_II_K_VACUUM = 393.477  # nm, NIST; 393.366 in air


def real(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"real file absent: {name} (set LIBSEDGE_REAL_DATA to the folder of real data)")
    return path


def peak(spectra, near: float = CA_II_K_VACUUM, width: float = 0.6) -> float:
    """Wavelength (nm) of the highest channel of the mean spectrum within ``width`` of ``near``."""
    window = np.flatnonzero(np.abs(spectra.wavelength - near) < width)
    mean = spectra.counts.astype(np.float64).mean(axis=0)
    return float(spectra.wavelength[window[np.argmax(mean[window])]])


def jumps(spectra) -> list[int]:
    """Where the axis jumps by more than 2 nm: the nm below each gap, rounded down."""
    return [int(spectra.wavelength[i]) for i in np.flatnonzero(np.diff(spectra.wavelength) > 2)]


def test_chemcam_ccs():
    spectra = readers.read(real(CCS))
    assert spectra.counts.shape == (30, 6144)
    assert (spectra.wavelength[0], spectra.wavelength[-1]) == pytest.approx((240.811, 905.57349), abs=1e-6)
    np.testing.assert_allclose(spectra.distance_m, 2.673)
    assert spectra.specimens == ["CCAM02013"]
    assert spectra.shot.tolist() == list(range(1, 31))
    assert spectra.quantity == "radiance"
    assert jumps(spectra) == [340, 469]
    np.testing.assert_allclose(spectra.counts[:3, 0], [6.6444795e11, 9.5112229e11, 9.4387690e11], rtol=1e-6)
    assert spectra.counts[:, -1].max() == 0.0  # mean and median of the last row are 0 as well
    assert peak(spectra) == pytest.approx(CA_II_K_VACUUM, abs=0.05)


def test_supercam_cl1():
    spectra = readers.read(real(CL1))
    assert spectra.counts.shape == (30, 7933)
    assert (spectra.wavelength[0], spectra.wavelength[-1]) == pytest.approx((243.789, 852.772), abs=1e-3)
    np.testing.assert_allclose(spectra.distance_m, 3.126)
    assert spectra.specimens == ["Maaz"]
    assert spectra.mask.all()
    assert spectra.quantity == "radiance"
    assert jumps(spectra) == [341, 464]
    assert peak(spectra) == pytest.approx(CA_II_K_VACUUM, abs=0.05)


def test_supercam_shots_average_to_the_published_mean():
    """The archive's own mean spectrum (a separate file, without the first 5 shots) is the mean of ours."""
    spectra = readers.read(real(CL1))
    published = np.loadtxt(real("supercam/LIBS_RDR_mean_spectra.csv"), delimiter=",", skiprows=1)
    at = np.searchsorted(spectra.wavelength, published[:, 0])
    np.testing.assert_allclose(spectra.wavelength[at], published[:, 0], atol=1e-4)
    ours = spectra.counts.astype(np.float64).mean(axis=0)[at]
    assert np.corrcoef(ours, published[:, 1])[0, 1] > 0.99


@pytest.mark.parametrize("name", [CCS, CL1])
def test_an_air_axis_would_fail_the_line_check(name):
    """Negative control: the same file taken as air lands 0.11 nm away from Ca II K."""
    spectra = readers.read(real(name), medium="air")
    assert abs(peak(spectra) - CA_II_K_VACUUM) > 0.05


@pytest.mark.parametrize("name", BHVO2)
def test_bhvo2_at_three_distances(name):
    path = real(f"bhvo2/{name}")
    spectra = readers.read(path)
    assert spectra.counts.shape == (1, 6144 if name.startswith("chemcam") else 7933)
    assert peak(spectra) == pytest.approx(CA_II_K_VACUUM, abs=0.05)
    assert np.isnan(spectra.distance_m).all()
    expected = {"c": np.nan, "s": 1.545 if "1545" in name else 4.25}[name[0]]
    assert distance_from_name(path) == pytest.approx(expected, nan_ok=True)


def test_the_laboratory_bhvo2_is_in_air():
    path = real("bhvo2/csa_bhvo2_200pulse_spectrum.csv")
    air = readers.read(path, medium="air")
    assert air.counts.shape == (1, 13490)
    assert peak(air) == pytest.approx(CA_II_K_VACUUM, abs=0.05)
    assert abs(peak(readers.read(path)) - CA_II_K_VACUUM) > 0.05  # negative control: taken as vacuum


@pytest.mark.parametrize(("name", "shots"), [("Basalt", 10), ("SS", 30)])
def test_ocean_optics_three_spectrometers(name, shots):
    paths = [real(f"oceanoptics/Test{name}_{part}_01.txt") for part in ("UV", "VIS", "NIR")]
    sets = [readers.read(path) for path in paths]
    for spectra in sets:
        assert spectra.counts.shape == (shots, 3 * 2048)
        np.testing.assert_array_equal(spectra.counts, sets[0].counts)
    first = sets[0]
    assert first.specimens == [f"Test{name}_01"]
    assert first.wavelength[0] == pytest.approx(224.336 + 0.0697, abs=1e-3)  # air, +0.070 nm in vacuum
    assert jumps(first) == [327, 472]
    assert first.quantity == "counts"
    np.testing.assert_array_equal(readers.read(paths[::-1]).counts, first.counts)


def test_ocean_optics_basalt_values():
    spectra = readers.read(real("oceanoptics/TestBasalt_VIS_01.txt"))
    np.testing.assert_allclose(spectra.counts[0, :6], [4.06, 4.06, 4.06, 13.06, 12.06, -12.94], rtol=1e-5)
    np.testing.assert_allclose(spectra.counts[1, 2048:2052], [-6.89, -6.89, -6.89, 10.11], rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "shape", "last", "specimens"),
    [
        ("example_data.csv", (3, 6133), 930.737, ["JSC1416", "JSC1437", "JSC1465"]),
        ("dataset.csv", (10, 6144), 932.89, ["LIB00001", "LIB00002"]),
    ],
)
def test_pyhat(name, shape, last, specimens):
    spectra = readers.read(real(f"pyhat_jsc/{name}"))
    assert spectra.counts.shape == shape
    assert spectra.wavelength[-1] == pytest.approx(last + 0.2555, abs=2e-3)
    assert spectra.specimens == specimens
    if name == "dataset.csv":
        np.testing.assert_allclose(spectra.counts[0, :5], [18.11, 18.11, 18.11, 12.11, -21.89], rtol=1e-5)


def test_chemcam_mean_spectra():
    spectra = readers.read(real("chemcam/LIBS_CCS_mean_spectra.csv"))
    assert spectra.counts.shape == (2, 6144)
    assert spectra.specimens == ["CCAM02013", "CCAM03013"]
    assert (spectra.quantity, spectra.instrument) == ("radiance", "ChemCam")
    np.testing.assert_allclose(spectra.counts[:, 0], [826e9, 366e9])
    assert peak(spectra) == pytest.approx(CA_II_K_VACUUM, abs=0.05)
    shots = readers.read(real(CCS))
    np.testing.assert_allclose(spectra.wavelength, shots.wavelength, atol=2e-3)
    mean = shots.counts.astype(np.float64)[5:].mean(axis=0)  # the archive leaves the first 5 shots out
    assert np.corrcoef(mean, spectra.counts[0])[0, 1] > 0.999


@pytest.mark.parametrize(
    ("name", "shape", "first"), [("soil171", (171, 6669), 240.1625), ("cranberry439", (439, 7152), 199.3772)]
)
def test_soils_and_plants(name, shape, first):
    path = real(f"soil_plant/{name}_raw.npz")
    spectra = readers.read(path, medium="air")
    assert spectra.counts.shape == shape
    assert spectra.wavelength[0] == pytest.approx(first, abs=0.08)
    assert "axis sorted, 1 step(s) went back" in spectra.source  # the spectrometers overlap at 766 nm
    assert len(spectra.specimens) == shape[0]
    assert -0.12 < peak(spectra) - CA_II_K_VACUUM < -0.02  # lines lie 0.03 to 0.09 nm below
    assert peak(readers.read(path)) < CA_II_K_VACUUM - 0.12  # negative control: taken as vacuum


def test_a_folder_of_real_files():
    real(CCS)
    spectra = readers.read(DATA / "oceanoptics")
    assert len(spectra) == 40
    assert "left out: README.md" in spectra.source


@pytest.mark.parametrize(
    "name",
    [
        "chemcam/moc_composite.csv",
        "certified/certified.csv",
        "supercam/supercam_libs_moc_210423.csv",
        "README.md",
    ],
)
def test_other_real_files_are_not_taken_for_spectra(name):
    with pytest.raises(FileFormatError, match="no known format"):
        readers.read(real(name))


@pytest.mark.parametrize(
    ("name", "cuts"),
    [
        (CCS, (0, 500, 1_000_000, 3_003_291)),
        (CL1, (0, 2880, 1_000_000, 3_000_000)),
        ("oceanoptics/TestBasalt_UV_01.txt", (0, 700, 80_000, 145_080)),
        ("pyhat_jsc/example_data.csv", (0, 40_000, 150_000, 196_600)),
        ("bhvo2/supercam_1545mm_loc1_spectrum.csv", (0, 21 + 9, 21 + 10)),
    ],
)
def test_real_files_hold_the_contract(tmp_path, name, cuts):
    path = real(name)
    alone = tmp_path / path.name  # away from its siblings
    alone.write_bytes(path.read_bytes())
    (tmp_path / "scratch").mkdir()
    reader = readers.find(alone)
    assert reader is not None
    checks.check_reader(reader, alone, tmp_path / "scratch", cuts=cuts)
