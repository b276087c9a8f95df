"""`libsedge import`: files and a table become one set; every wrong row is refused with its line."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from libsedge.errors import AxisError, ConfigError, FileFormatError
from libsedge_training.commands.import_ import import_
from libsedge_training.readers import importing
from libsedge_training.readers.importing import covered, import_folder
from libsedge_training.readers.labels_table import ImportNote, read_table
from libsedge_training.spectra import SpectraSet

pytestmark = pytest.mark.filterwarnings("ignore::libsedge_training.readers.labels_table.ImportNote")
DATA = Path(os.environ.get("LIBSEDGE_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))


def spectrum(path: Path, axis: np.ndarray, values: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{nm:.4f},{v:.6g}\n" for nm, v in zip(axis, values, strict=True)))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files on one axis, one of them in a folder of its own, and one that no table names."""
    files = tmp_path / "files"
    axis = 300 + 0.1 * np.arange(200)
    for i, name in enumerate(("a.csv", "b.csv", "c.csv", "extra.csv")):
        spectrum(files / name, axis, 10.0 * i + np.sin(axis))
    (files / "sub").mkdir()
    (files / "c.csv").rename(files / "sub" / "c.csv")
    return files


def table(folder: Path, text: str) -> Path:
    path = folder.parent / "labels.csv"
    path.write_text(text)
    return path


GOOD = "file,label,specimen,distance_m\na.csv,basalt,B1,2.5\nb.csv,,B2,\nsub/c.csv,steel,,4\n"


def test_files_and_table_become_one_set(folder: Path) -> None:
    spectra, left = import_folder(folder, table(folder, GOOD))
    assert spectra.label.tolist() == ["basalt", "", "steel"]
    assert spectra.specimen.tolist() == ["B1", "B2", "c"]
    np.testing.assert_allclose(spectra.distance_m, [2.5, np.nan, 4.0])
    np.testing.assert_allclose(spectra.counts[:, 0], [np.sin(300) + 10 * i for i in range(3)], rtol=1e-5)
    assert spectra.mask.all()
    assert left == ["extra.csv"]
    assert "imported by labels.csv, 3 rows" in spectra.source


@pytest.mark.parametrize(
    "text", [GOOD.replace(",", ";").replace("2.5", "2,5"), "\ufeff" + GOOD, GOOD + "\n,,,\n"]
)
def test_dialects_of_the_table(folder: Path, text: str) -> None:
    spectra, _ = import_folder(folder, table(folder, text))
    np.testing.assert_allclose(spectra.distance_m, [2.5, np.nan, 4.0])


@pytest.mark.parametrize(
    ("row", "column", "says"),
    [
        ("nowhere.csv,x,,", "file", "does not exist"),
        ("../labels.csv,x,,", "file", "below"),
        (",x,,", "file", "below"),
        ("b.csv,x,,-3", "distance_m", "positive"),
        ("b.csv,x,,two", "distance_m", "positive"),
        ("b.csv,x,,inf", "distance_m", "positive"),
        ("b.csv,x", "cells", "2 cells"),
        ("a.csv,x,,", "file", "already in the row in line 2"),
        ("b.csv,steel,B1,", "label", "one label"),
    ],
)
def test_a_wrong_row_is_named(folder: Path, row: str, column: str, says: str) -> None:
    path = table(folder, f"file,label,specimen,distance_m\na.csv,basalt,B1,2.5\n{row}\n")
    with pytest.raises(FileFormatError, match=says) as caught:
        import_folder(folder, path)
    assert caught.value.field == f"row in line 3, {column}"
    assert caught.value.file == str(path)


def test_an_unreadable_file_is_named_with_its_row(folder: Path) -> None:
    (folder / "b.csv").write_text("300,1\n301,x\n302,2\n")
    with pytest.raises(FileFormatError, match=r"line 3.*b\.csv"):
        import_folder(folder, table(folder, GOOD))
    (folder / "b.csv").write_text("a poem\n")
    with pytest.raises(FileFormatError, match=r"line 3.*no known format"):
        import_folder(folder, table(folder, GOOD))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "file\na.csv\n",
        "file,colour\na.csv,red\n",
        "file,label,distance,distance mm\na.csv,x,2,2000\n",
        "file,label,label\na.csv,x,x\n",
        "file,label\n",
    ],
)
def test_a_table_that_is_none(folder: Path, text: str) -> None:
    with pytest.raises(FileFormatError, match="labels"):
        read_table(table(folder, text), folder)


def test_a_cell_beyond_all_measure_is_named_with_its_line(folder: Path) -> None:
    text = "file,label\na.csv,x\nb.csv," + 200_000 * "y" + "\n"
    with pytest.raises(FileFormatError, match=r"labels.csv: line 3: is no CSV"):
        read_table(table(folder, text), folder)


@pytest.mark.parametrize(
    "text",
    [
        "Filename\tClass\tSample\tDistance (m)\na.csv\tbasalt\tB1\t2,5\nb\t\tB2\tNaN\nc.csv\tsteel\t\t4 m\n",
        "sample_id;Distance [mm];mineral class;file name\n"
        "B1;2500;basalt;files/a.csv\nB2;;;B.CSV\n;4000;steel;sub\\c.csv\n",
    ],
)
def test_spellings_of_the_table(folder: Path, text: str) -> None:
    """Other names of the columns, tabs, millimetres, missing extensions and subfolders, the folder's own name."""
    spectra, left = import_folder(folder, table(folder, text))
    expected, _ = import_folder(folder, table(folder, GOOD))
    assert spectra.label.tolist() == expected.label.tolist()
    assert spectra.specimen.tolist() == expected.specimen.tolist()
    np.testing.assert_allclose(spectra.distance_m, expected.distance_m)
    np.testing.assert_array_equal(spectra.counts, expected.counts)
    assert left == ["extra.csv"]


def test_what_is_not_used_or_not_unique_is_said(folder: Path) -> None:
    text = "file,label,class,colour\na.csv,basalt,igneous,red\n"  # two columns for the label: the first name counts
    with pytest.warns(ImportNote, match=r"labels\.csv: columns not used: class, colour"):
        spectra, _ = import_folder(folder, table(folder, text))
    assert spectra.classes == ["basalt"]
    spectrum(folder / "other" / "c.csv", np.arange(300.0, 310.0), np.ones(10))
    with pytest.raises(FileFormatError, match=r"is 2 files below files: say which, such as other/c\.csv"):
        import_folder(folder, table(folder, "file,label\nc.csv,steel\n"))
    with pytest.raises(FileFormatError, match="distance_mm"):
        import_folder(folder, table(folder, "file,label,distance\na.csv,steel,1545\n"))


def test_labels_that_a_file_holds_are_kept(folder: Path) -> None:
    axis = np.arange(300.0, 340.0)
    SpectraSet(np.ones((3, 40)), axis, specimen=["p", "q", "q"], label=["salt", "ore", "ore"]).save(
        folder / "own.h5"
    )
    spectra, _ = import_folder(folder, table(folder, "file,label\nown.h5,\n"))
    assert spectra.label.tolist() == ["salt", "ore", "ore"]
    spectra, _ = import_folder(folder, table(folder, "file,label\nown.h5,steel\n"))
    assert spectra.classes == ["steel"]


def test_a_file_that_costs_most_of_the_axis_is_named(folder: Path) -> None:
    spectrum(folder / "b.csv", 300 + 0.1 * np.arange(30), np.ones(30))
    with pytest.warns(ImportNote, match=r"every file covers 30; line 3 \(b\.csv\) alone 30"):
        import_folder(folder, table(folder, GOOD))


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a folder"):
        import_folder(tmp_path / "none", tmp_path / "labels.csv")


def test_spectra_of_one_file_in_several_rows(folder: Path) -> None:
    axis = np.linspace(300, 320, 50)
    SpectraSet(np.arange(6 * 50).reshape(6, 50), axis, specimen=["?"] * 6).save(folder / "many.h5")
    head = "file,label,specimen,distance_m,spectra,medium\n"
    rows = "many.h5,steel,S,2,0-1 4,\nmany.h5,aluminium,A,3,2,vacuum\n"
    spectra, _ = import_folder(folder, table(folder, head + rows))
    assert spectra.label.tolist() == ["steel"] * 3 + ["aluminium"]
    assert spectra.counts[:, 0].tolist() == [0, 50, 200, 100]
    for wrong, says in (
        ("many.h5,x,A,3,1,", "already"),
        ("many.h5,x,A,3,6,", "6 spectra"),
        ("many.h5,x,A,3,3-2,", "ranges"),
        ("many.h5,x,A,3,2 2,", "twice"),
        ("many.h5,x,A,3,2,water", "medium"),
    ):
        path = table(folder, f"{head}many.h5,steel,S,2,0-1 4,\n{wrong}\n")
        with pytest.raises(FileFormatError, match=says) as caught:
            import_folder(folder, path)
        assert (caught.value.field or "").startswith("row in line 3")


def test_axes_that_differ_are_resampled_and_gaps_are_never_filled(folder: Path) -> None:
    fine = np.concatenate(
        [302 + 0.05 * np.arange(120), 312 + 0.05 * np.arange(200)]
    )  # a gap from 307.95 to 312
    spectrum(folder / "b.csv", fine, 2 * fine)
    spectra, _ = import_folder(folder, table(folder, GOOD))
    assert spectra.channels == 200
    inside = ((spectra.wavelength >= 302) & (spectra.wavelength <= 307.95)) | (
        (spectra.wavelength >= 312) & (spectra.wavelength <= 321.95)
    )
    np.testing.assert_array_equal(spectra.mask, inside)
    np.testing.assert_allclose(spectra.counts[1, inside], 2 * spectra.wavelength[inside], rtol=1e-6)
    assert (spectra.counts[:, ~inside] == 0).all()
    assert f"{inside.sum()} of 200 channels covered" in spectra.source
    spectrum(folder / "sub" / "c.csv", 500 + 0.1 * np.arange(30), np.ones(30))
    with pytest.raises(AxisError, match=r"line 4.*c\.csv"):
        import_folder(folder, table(folder, GOOD))


def test_masked_channels_cover_nothing() -> None:
    axis = np.arange(300.0, 310.0)
    mask = np.ones(10, bool)
    mask[4] = False
    spectra = SpectraSet(np.ones((1, 10)), axis, mask=mask)
    points = np.array([299.9, 300.0, 303.0, 303.5, 304.0, 304.5, 305.5, 309.0, 309.1])
    assert covered(spectra, axis).tolist() == mask.tolist()  # its own axis: exactly its own mask
    expected = [False, True, True, False, False, False, True, True, False]
    assert covered(spectra, points).tolist() == expected


def test_local_spacing_against_a_loop() -> None:
    for size in (1, 3, 9, 20, 60):
        steps = np.random.default_rng(size).uniform(0.01, 2.0, size)
        expected = [sorted(steps[max(0, i - 8) : i + 9]) for i in range(size)]
        middles = [(row[(len(row) - 1) // 2] + row[len(row) // 2]) / 2 for row in expected]
        np.testing.assert_allclose(importing._local(steps), middles)


def test_darks_are_subtracted_before_resampling(folder: Path) -> None:
    axis = np.linspace(299, 321, 300)
    SpectraSet(np.full((1, 300), 50), axis, quantity="intensity", dark=np.full(300, 20.0)).save(
        folder / "b.h5"
    )
    spectra, _ = import_folder(folder, table(folder, GOOD.replace("b.csv", "b.h5")))
    assert spectra.dark is None
    np.testing.assert_allclose(spectra.counts[1, spectra.mask], 30.0)
    SpectraSet(np.full((1, 300), 50), axis, quantity="counts").save(folder / "b2.h5")
    with pytest.raises(FileFormatError, match=r"line 3.*counts"):
        import_folder(folder, table(folder, GOOD.replace("b.csv", "b2.h5")))


def test_command(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "set.h5"
    arguments = [str(folder), "--labels", str(table(folder, GOOD)), "-o", str(out)]
    result = CliRunner().invoke(import_, arguments)
    assert result.exit_code == 0, result.output
    assert "3 spectra of 3 specimens in 2 classes, 200 of 200 channels valid, 1 unlabelled" in result.output
    assert "not in the table: extra.csv" in result.output
    assert "warning: labels.csv: the axis of 3 row(s) is taken as vacuum (a.csv, ...)" in result.output
    assert SpectraSet.load(out).specimens == ["B1", "B2", "c"]
    assert isinstance(CliRunner().invoke(import_, arguments).exception, ConfigError)  # never over an old set


def test_real_files_of_four_instruments(tmp_path: Path) -> None:
    if not (DATA / "oceanoptics").is_dir():
        pytest.skip("real files absent (set LIBSEDGE_REAL_DATA to the folder of real data)")
    path = tmp_path / "labels.csv"
    path.write_text(
        "file,label,specimen,distance_m,spectra\n"
        "oceanoptics/TestSS_UV_01.txt,metal,steel,,0-9 20-29\n"
        "oceanoptics/TestSS_NIR_01.txt,metal,aluminium alloy,,10-19\n"
        "oceanoptics/TestBasalt_VIS_01.txt,silicate,basalt,,\n"
    )
    spectra, _ = import_folder(DATA, path)
    assert len(spectra) == 40
    assert spectra.counts.shape[1] == 3 * 2048
    assert [int((spectra.specimen == s).sum()) for s in spectra.specimens] == [10, 10, 20]
    path.write_text(
        "file,label,specimen,distance_m\n"
        "bhvo2/supercam_1545mm_loc1_spectrum.csv,silicate,BHVO-2,1.545\n"
        "bhvo2/chemcam_bhvo2_loc1_spectrum.csv,silicate,BHVO-2,3\n"
    )
    spectra, _ = import_folder(DATA, path)
    np.testing.assert_allclose(spectra.distance_m, [1.545, 3.0])
    gap = (spectra.wavelength > 340.9) & (spectra.wavelength < 382)
    assert gap.any()
    assert not spectra.mask[gap].any()  # ChemCam's gap is wider than SuperCam's
    assert spectra.mask.mean() > 0.9


def test_a_guessed_medium_is_said_and_a_given_one_is_not(folder: Path, recwarn) -> None:
    import_folder(folder, table(folder, "file,label,medium\na.csv,x,air\nb.csv,x,vacuum\n"))
    (folder / "b.csv").write_text("wavelength air (nm),I\n" + (folder / "b.csv").read_text())
    import_folder(folder, table(folder, "file,label,medium\na.csv,x,air\nb.csv,x,\n"))
    assert not list(recwarn)
    with pytest.warns(ImportNote, match=r"axis of 1 row\(s\) is taken as vacuum \(a\.csv\)"):
        import_folder(folder, table(folder, "file,label\na.csv,x\n"))
