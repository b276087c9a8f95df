"""ChemCam EDR, EMSLIBS HDF5 and tables with a spectrum a row, on files written here to the layouts that programs read
(no real one could be had)."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from libsedge.errors import AxisError, FileFormatError, SedgeError
from libsedge_training import readers

from .reader_files import ccs, edr, emslibs, row_csv

pytestmark = pytest.mark.filterwarnings("ignore::libsedge_training.readers.UnprovenReader")


def test_edr_pixels_axis_and_label(tmp_path):
    spectra = readers.read(edr(tmp_path / "CL5.DAT"))
    assert spectra.counts.shape == (3, 6144)
    assert spectra.counts.dtype == np.uint16
    # by hand: UV is the third block of 2,148, VNIR the first; 50 dark pixels come before each detector's
    assert spectra.counts[0, [0, 2047, 2048, 4096, 6143]].tolist() == [4346, 6393, 2198, 50, 2097]
    assert spectra.counts[2, 0] == 44346
    assert spectra.wavelength[[0, -1]].tolist() == [240.0, 905.0]
    np.testing.assert_allclose(spectra.distance_m, 2.673)
    assert spectra.specimens == ["CCAM02013"]
    assert spectra.shot.tolist() == [1, 2, 3]
    assert "axis of axis_ccam02013.csv" in spectra.source
    assert "laser off" not in spectra.source
    assert "laser off" in readers.read(edr(tmp_path / "CL0.DAT", **{"MSL:LASER_MODE": '"NO"'})).source


def test_edr_warns_that_it_is_unproven(tmp_path):
    with pytest.warns(readers.UnprovenReader, match="chemcam-edr is proven on no real file"):
        readers.read(edr(tmp_path / "f"))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"RECORD_BYTES": "x"}, "RECORD_BYTES"),
        ({"LABEL_RECORDS": "0"}, "LABEL_RECORDS"),
        ({"LABEL_RECORDS": "900"}, "bytes"),
        ({"shots": 0}, "REPETITIONS"),
    ],
)
def test_edr_contradictions(tmp_path, changes, field):
    with pytest.raises(FileFormatError) as caught:
        readers.read(edr(tmp_path / "f", **changes))
    assert caught.value.field == field


def test_edr_without_an_axis_is_refused(tmp_path):
    path = edr(tmp_path / "f")
    (tmp_path / "axis_ccam02013.csv").unlink()
    with pytest.raises(AxisError, match="CCS file"):
        readers.read(path)
    ccs(tmp_path / "of_another_sequence.csv", shots=1)
    assert "axis of of_another_sequence.csv" in readers.read(path).source


@pytest.mark.parametrize("transpose", [False, True])
def test_emslibs_training_file(tmp_path, transpose):
    spectra = readers.read(emslibs(tmp_path / "contest_TRAIN.h5", transpose=transpose))
    expected = np.random.default_rng(6).uniform(0, 1e4, (50, 4)).astype(np.float32).T
    np.testing.assert_array_equal(spectra.counts[:4], expected)
    assert spectra.specimen.tolist() == ["001"] * 4 + ["002"] * 4 + ["003"] * 4
    assert spectra.label.tolist() == ["1"] * 4 + ["2"] * 4 + ["3"] * 4
    np.testing.assert_allclose(spectra.wavelength, readers.air_to_vacuum(np.linspace(200, 1000, 50)))


def test_emslibs_test_file_and_refusals(tmp_path):
    path = tmp_path / "contest_TEST.h5"
    with h5py.File(path, "w") as file:
        file["Wavelengths/1"] = np.linspace(200, 1000, 50)
        for block in (1, 2, 10):
            file[f"UNKNOWN/{block}"] = np.full((50, 2), block)
    spectra = readers.read(path)
    assert spectra.counts[:, 0].tolist() == [1, 1, 2, 2, 10, 10]  # by number, not by name
    assert spectra.specimens == ["contest_TEST"]
    assert (spectra.label == "").all()
    for name, values, says in (
        ("Class/1", np.ones(11), "/Class/1 = 11"),
        ("Spectra/002", np.ones((49, 4)), r"/Spectra/002 = \(49, 4\)"),
        ("Spectra/002", np.full((50, 4), b"x"), "real numbers"),
        ("Wavelengths/1", np.full(50, 300.0), r"wavelength\[1\]"),
    ):
        with h5py.File(emslibs(tmp_path / "bad.h5"), "a") as file:
            del file[name]
            file[name] = values
        with pytest.raises((FileFormatError, AxisError), match=says) as caught:
            readers.read(tmp_path / "bad.h5")
        assert caught.value.file == str(tmp_path / "bad.h5")


def test_row_csv(tmp_path):
    spectra = readers.read(row_csv(tmp_path / "t.csv"))
    assert spectra.specimens == ["mineral 0", "mineral 1", "mineral 2"]
    np.testing.assert_allclose(spectra.wavelength, 300 + 0.5 * np.arange(40))
    np.testing.assert_allclose(spectra.counts[2], 2 + 0.25 * np.arange(40))
    assert "columns left out: formula" in spectra.source
    lines = ["id;class;distance_m;" + ";".join(f"X{300 + i}.5" for i in range(20))]
    lines += [f"{i};salt;{2 + i}.5;" + ";".join(f"{j},25" for j in range(20)) for i in range(2)]
    (tmp_path / "r.csv").write_text("\n".join(lines) + "\n")
    spectra = readers.read(tmp_path / "r.csv")
    assert (spectra.specimens, spectra.classes) == (["0", "1"], ["salt"])
    assert spectra.distance_m.tolist() == [2.5, 3.5]
    assert spectra.counts[0, 3] == 3.25
    (tmp_path / "r.csv").write_text("\n".join(lines)[:-9])
    with pytest.raises(FileFormatError, match="line 3"):
        readers.read(tmp_path / "r.csv")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    damage=st.lists(st.tuples(st.integers(0, 2100), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 45_000),
)
def test_any_damage_to_a_label_or_its_pixels_is_read_or_refused_by_type(tmp_path, damage, cut):
    path = tmp_path / "f.DAT"
    if not path.exists():
        edr(path)
        (tmp_path / "sound").write_bytes(path.read_bytes())
        # a short axis is refused after the pixels, so that no example spends time on reading one
        (tmp_path / "axis_ccam02013.csv").write_text("# wave , shot1 , median, mean\n")
    data = bytearray((tmp_path / "sound").read_bytes()[: max(cut, 2200)])
    for at, value in damage:
        data[at] = value
    path.write_bytes(data)
    with pytest.raises(SedgeError) as caught:
        readers.read(path)
    assert caught.value.file is not None
