"""What all readers share: the contract, the registry, joining, what the user says, damage, import."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from libsedge.errors import AxisError, ConfigError, FileFormatError, SedgeError, SpectrumError
from libsedge_training import readers
from libsedge_training.readers import READERS, base, checks, importing, labels_table
from libsedge_training.spectra import SpectraSet

from .reader_files import MAKERS, ccs, store, two_column

BY_NAME = {reader.name: reader for reader in READERS}
pytestmark = pytest.mark.filterwarnings("ignore::libsedge_training.readers.UnprovenReader")


@pytest.mark.parametrize("name", [reader.name for reader in READERS])
def test_every_reader_holds_the_contract(tmp_path, name):
    maker, cuts = MAKERS[name]
    (tmp_path / "sound").mkdir()
    (tmp_path / "scratch").mkdir()
    if name == "chemcam-edr":  # so that a damaged copy is refused for its damage
        ccs(tmp_path / "scratch" / "axis.csv", shots=1)
    noise_from = (0, 250) if name == "chemcam-edr" else None  # in the label: raw pixels have no checksum
    path = maker(tmp_path / "sound" / "file")
    checks.check_reader(BY_NAME[name], path, tmp_path / "scratch", cuts=cuts, noise_from=noise_from)


@pytest.mark.parametrize("name", [reader.name for reader in READERS])
def test_flipped_bytes_never_escape_the_typed_errors(tmp_path, name):
    data = MAKERS[name][0](tmp_path / "sound").read_bytes()
    rng = np.random.default_rng(5)
    if name == "chemcam-edr":
        ccs(tmp_path / "axis.csv", shots=1)
    refused = 0
    for _ in range(15 if name.startswith("chemcam") else 100):
        damaged = bytearray(data)
        for at in rng.integers(0, min(len(data), 4000), rng.integers(1, 5)):
            damaged[at] = rng.integers(0, 256)
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            readers.read(tmp_path / "damaged")
        except SedgeError:
            refused += 1
    assert refused > 0


def test_the_conformance_check_can_fail(tmp_path):
    class Gullible(type(BY_NAME["column-text"])):
        def read(self, path, *, medium=None, members=()):
            return SpectraSet(np.ones((1, 3)), [1.0, 3.0, 2.0], specimen=["x"], source=path.name)

    path = two_column(tmp_path / "file")
    with pytest.raises(AssertionError):  # the instance is not the registered one
        checks.check_reader(Gullible(), path, tmp_path)
    (tmp_path / "fine").write_text("1,2\n2,3\n3,4\n")
    with pytest.raises(AssertionError, match="read without an error"):
        checks.check_refused(tmp_path / "fine", "a sound file")


def test_formats_lists_every_reader_once():
    names = [name for name, title in readers.formats() if title]
    assert names == [reader.name for reader in READERS]
    assert len(set(names)) == len(names) == len(MAKERS)


def test_what_the_user_says_wins(tmp_path):
    path = two_column(tmp_path / "x.csv")
    spectra = readers.read(path, distance_m=4.25, specimen="BHVO-2", label="basalt")
    np.testing.assert_allclose(spectra.distance_m, 4.25)
    assert spectra.specimens == ["BHVO-2"]
    assert spectra.classes == ["basalt"]
    assert "distance 4.25 m (given)" in spectra.source
    assert np.isnan(readers.read(path).distance_m).all()
    with pytest.raises(ConfigError, match="distance_m"):
        readers.read(path, distance_m=-1.0)


@pytest.mark.parametrize(
    ("name", "distance"),
    [
        ("supercam_1545mm_loc1.csv", 1.545),
        ("a-1545mm.csv", 1.545),
        ("b 4.25m.csv", 4.25),
        ("3m", 3.0),
        ("3mg", np.nan),
        ("loc3_m2.csv", np.nan),
        ("0m.csv", np.nan),
    ],
)
def test_distance_from_name(name, distance):
    assert base.distance_from_name(name) == pytest.approx(distance, nan_ok=True)


def test_two_distances_in_a_name_are_refused():
    with pytest.raises(ConfigError, match="more than one"):
        base.distance_from_name("a_2m_and_3m.csv")


def test_unknown_missing_and_unlike_files(tmp_path):
    (tmp_path / "notes.csv").write_text("material,element\nbasalt,Si\n")
    with pytest.raises(FileFormatError, match="no known format"):
        readers.read(tmp_path / "notes.csv")
    with pytest.raises(FileFormatError, match=r"absent\.csv"):
        readers.read(tmp_path / "absent.csv")
    with pytest.raises(FileFormatError, match="holds no file"):
        readers.read(tmp_path)
    with pytest.raises(FileFormatError, match="no file was given"):
        readers.read([])
    two_column(tmp_path / "a.csv")
    assert "left out: notes.csv" in readers.read(tmp_path).source
    (tmp_path / "b.csv").write_text("1,2\n2,3\n")
    with pytest.raises(AxisError, match=r"b\.csv"):
        readers.read(tmp_path)


def test_several_files_on_one_axis_become_one_set_and_unlike_ones_do_not(tmp_path):
    paths = [two_column(tmp_path / name) for name in ("a.csv", "b.csv")]
    assert readers.read(paths).specimens == ["a", "b"]
    SpectraSet(np.ones((1, 2)), [1.0, 2.0], specimen=["s"], quantity="radiance").save(tmp_path / "c.h5")
    (tmp_path / "d.csv").write_text("1,2\n2,3\n")
    with pytest.raises(SpectrumError, match=r"d\.csv: concat\[1\]\.quantity"):
        readers.read([tmp_path / "c.h5", tmp_path / "d.csv"])


def test_a_store_is_always_in_vacuum(tmp_path):
    with pytest.raises(ConfigError, match="medium"):
        readers.read(store(tmp_path / "s.h5"), medium="air")


@pytest.mark.parametrize("name", [reader.name for reader in READERS])
def test_every_format_can_be_imported(tmp_path, name):
    (tmp_path / "files").mkdir()
    path = MAKERS[name][0](tmp_path / "files" / "spectra.dat")
    (tmp_path / "labels.csv").write_text("file,label,specimen,distance_m\nspectra.dat,salt,halite,2.5\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", labels_table.ImportNote)
        spectra, left = importing.import_folder(tmp_path / "files", tmp_path / "labels.csv")
    np.testing.assert_array_equal(spectra.counts, readers.read(path).counts)
    assert (spectra.classes, spectra.specimens) == (["salt"], ["halite"])
    assert (spectra.distance_m == 2.5).all()
    assert left == (["axis_ccam02013.csv"] if name == "chemcam-edr" else [])


def test_the_page_lists_every_format_and_what_is_unproven():
    page = (Path(__file__).parents[2] / "docs" / "readers.md").read_text()
    rows = {line.split("|")[1].strip(" `"): line for line in page.splitlines() if line.startswith("| `")}
    assert sorted(rows) == sorted(BY_NAME)
    for name, reader in BY_NAME.items():
        assert ("**no real file**" in rows[name]) == bool(reader.unproven), name
