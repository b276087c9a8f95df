"""The HDF5 layout: what is written is read back exactly, same set same bytes, damage is refused."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from libsedge import store as store_module
from libsedge.errors import AxisError, ConfigError, FileFormatError, SedgeError, SpectrumError
from libsedge.store import StoreReader, StoreWriter, write_store

AXIS = np.linspace(240.0, 850.0, 50)


def example(n: int = 5, dtype: type = np.uint16) -> dict:
    rng = np.random.default_rng(7)
    return {
        "counts": rng.integers(0, 65536, (n, AXIS.size)).astype(dtype),
        "wavelength": AXIS,
        "specimen": [f"Máaz-{i}" for i in range(n)],
        "label": ["basalt", ""] * (n // 2) + ["basalt"] * (n % 2),
        "distance_m": np.linspace(1.5, 6.0, n, dtype=np.float32),
        "shot": np.arange(n)[::-1],
        "mask": np.arange(AXIS.size) % 7 != 0,
        "dark": np.full(AXIS.size, 3.5, np.float32),
        "quantity": "counts",
        "saturation": 65535.0,
        "instrument": "test",
        "source": "test_store",
        "simulated": True,
    }


def written(folder: Path, name: str = "a.h5", **changes) -> Path:
    path = folder / name
    write_store(path, **{**example(), **changes})
    return path


def test_everything_comes_back(tmp_path):
    expected = example()
    with StoreReader(written(tmp_path)) as store:
        assert len(store) == 5
        assert store.channels == 50
        assert store.dtype == np.uint16
        np.testing.assert_array_equal(store.rows(slice(None)), expected["counts"])
        np.testing.assert_array_equal(store.rows(slice(1, 5, 2)), expected["counts"][1:5:2])
        np.testing.assert_array_equal(store.row(-1), expected["counts"][-1])
        np.testing.assert_array_equal(store.wavelength, AXIS)
        np.testing.assert_array_equal(store.mask, expected["mask"])
        np.testing.assert_array_equal(store.dark, expected["dark"])
        np.testing.assert_array_equal(store.distance_m, expected["distance_m"])
        assert store.specimen.tolist() == expected["specimen"]
        assert store.label.tolist() == expected["label"]
        assert store.shot.tolist() == [4, 3, 2, 1, 0]
        assert (store.quantity, store.saturation) == ("counts", 65535.0)
        assert (store.instrument, store.source, store.simulated) == ("test", "test_store", True)
        rows = list(store)
        assert [row.specimen for row in rows] == expected["specimen"]
        np.testing.assert_array_equal(np.stack([row.counts for row in rows]), expected["counts"])
        with pytest.raises(IndexError):
            store.row(5)


def test_defaults_mean_unknown(tmp_path):
    path = tmp_path / "d.h5"
    write_store(path, counts=np.ones((3, 50)), wavelength=AXIS, specimen=["s"] * 3)
    with StoreReader(path) as store:
        assert store.dtype == np.float32
        assert store.dark is None
        assert store.mask.all()
        assert np.isnan(store.distance_m).all()
        assert np.isnan(store.saturation)
        assert store.label.tolist() == ["", "", ""]
        assert store.shot.tolist() == [0, 1, 2]
        assert store.simulated is False


def test_same_set_same_bytes_and_a_changed_value_other_bytes(tmp_path):
    digests = [hashlib.sha256(written(tmp_path, f"{i}.h5").read_bytes()).hexdigest() for i in range(3)]
    assert len(set(digests)) == 1
    other = written(tmp_path, "other.h5", instrument="tesT")
    assert hashlib.sha256(other.read_bytes()).hexdigest() != digests[0]


def test_streamed_equals_whole(tmp_path):
    data = example(9, np.float32)
    path = tmp_path / "s.h5"
    fixed = {k: data[k] for k in ("wavelength", "mask", "dark", "quantity", "saturation")}
    with StoreWriter(path, dtype=np.float32, simulated=True, **fixed) as writer:
        for start in (0, 4, 8):
            part = slice(start, start + 4)
            writer.append(
                data["counts"][part],
                specimen=data["specimen"][part],
                label=data["label"][part],
                distance_m=data["distance_m"][part],
                shot=data["shot"][part],
            )
            assert not path.exists()
        assert len(writer) == 9
    with StoreReader(path) as store:
        np.testing.assert_array_equal(store.rows(slice(None)), data["counts"])
        assert store.specimen.tolist() == data["specimen"]
        assert store.shot.tolist() == data["shot"].tolist()


def test_an_empty_store_is_a_store(tmp_path):
    with StoreWriter(tmp_path / "e.h5", wavelength=AXIS):
        pass
    with StoreReader(tmp_path / "e.h5") as store:
        assert len(store) == 0
        assert list(store) == []
        assert store.rows(slice(None)).shape == (0, 50)


def test_nothing_stays_behind_when_writing_fails(tmp_path):
    path = written(tmp_path)
    before = path.read_bytes()

    class Interrupted(Exception):
        pass

    with pytest.raises(Interrupted), StoreWriter(path, wavelength=AXIS) as writer:  # noqa: PT012
        writer.append(example()["counts"], specimen=["x"] * 5)
        raise Interrupted
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


@pytest.mark.parametrize(
    ("change", "error", "field"),
    [
        ({"counts": np.zeros((5, 49), np.uint16)}, SpectrumError, "counts"),
        ({"counts": np.full((5, 50), np.nan)}, SpectrumError, "counts[0, 0]"),
        ({"specimen": ["a"]}, SpectrumError, "specimen"),
        ({"label": ["a"] * 6}, SpectrumError, "label"),
        ({"shot": [1]}, SpectrumError, "shot"),
        ({"distance_m": [1, 2, -3, 4, 5]}, SpectrumError, "distance_m[2]"),
        ({"mask": np.zeros(50, bool)}, SpectrumError, "mask"),
        ({"mask": np.ones(49, bool)}, SpectrumError, "mask"),
        ({"dark": np.full(50, np.inf)}, SpectrumError, "dark"),
        ({"wavelength": AXIS[::-1]}, AxisError, "wavelength[1]"),
        ({"wavelength": np.r_[AXIS[:-1], np.nan]}, AxisError, "wavelength[49]"),
        ({"quantity": "volts"}, ConfigError, "quantity"),
        ({"compression": 10}, ConfigError, "compression"),
    ],
)
def test_bad_values_are_refused_by_name(tmp_path, change, error, field):
    with pytest.raises(error) as caught:
        written(tmp_path, **change)
    assert caught.value.field == field
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [-1.0, 65536.0, 0.5, np.nan])
def test_uint16_takes_only_what_fits(tmp_path, value):
    counts = np.zeros((2, 50))
    counts[1, 3] = value
    with (
        pytest.raises(SpectrumError, match=r"counts\[1, 3\]"),
        StoreWriter(tmp_path / "u.h5", wavelength=AXIS, dtype=np.uint16) as writer,
    ):
        writer.append(counts, specimen=["a", "b"])


def edited(folder: Path, edit) -> Path:
    path = written(folder)
    with h5py.File(path, "r+") as file:
        edit(file)
    return path


def _replace(name, data, **kwargs):
    def edit(file):
        del file[name]
        file.create_dataset(name, data=data, **kwargs)

    return edit


def _drop(name):
    def edit(file):
        del file[name]

    return edit


def _attribute(name, value):
    def edit(file):
        if value is None:
            del file.attrs[name]
        else:
            file.attrs[name] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "error", "field"),
    [
        (_attribute("format", "other"), FileFormatError, "format"),
        (_attribute("version", 2), FileFormatError, "version"),
        (_attribute("saturation", None), FileFormatError, "saturation"),
        (_attribute("quantity", "volts"), FileFormatError, "quantity"),
        (_attribute("medium", "air"), AxisError, "medium"),
        (_drop("mask"), FileFormatError, "mask"),
        (_drop("counts"), FileFormatError, "counts"),
        (_replace("counts", np.zeros(50, np.uint16)), FileFormatError, "counts"),
        (_replace("counts", np.zeros((5, 50), np.int64)), FileFormatError, "counts"),
        (_replace("wavelength_nm", AXIS[:-1]), FileFormatError, "wavelength_nm"),
        (_replace("wavelength_nm", np.r_[AXIS[1], AXIS[1:]]), AxisError, "wavelength[1]"),
        (_replace("mask", np.zeros(50, np.uint8)), FileFormatError, "mask"),
        (_replace("mask", np.full(50, 2, np.uint8)), FileFormatError, "mask"),
        (_replace("label", np.zeros(5)), FileFormatError, "label"),
        (_replace("shot", np.zeros(6, np.int32)), FileFormatError, "shot"),
        (_replace("dark", np.full(50, np.nan, np.float32)), FileFormatError, "dark"),
    ],
)
def test_a_wrong_layout_is_refused_by_name(tmp_path, edit, error, field):
    with pytest.raises(error) as caught:
        StoreReader(edited(tmp_path, edit))
    assert caught.value.field == field
    assert str(tmp_path / "a.h5") in str(caught.value)


def test_links_out_of_the_file_are_refused(tmp_path):
    other = written(tmp_path, "other.h5")

    def link(file):
        del file["counts"]
        file["counts"] = h5py.ExternalLink(str(other), "counts")

    with pytest.raises(FileFormatError, match="inside this file"):
        StoreReader(edited(tmp_path, link))


def test_truncated_garbage_and_missing_files_are_refused(tmp_path):
    whole = written(tmp_path).read_bytes()
    for size in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.h5").write_bytes(whole[:size])
        with pytest.raises(FileFormatError, match=r"cut\.h5"):
            StoreReader(tmp_path / "cut.h5")
    (tmp_path / "garbage.h5").write_bytes(np.random.default_rng(0).bytes(4096))
    with pytest.raises(FileFormatError):
        StoreReader(tmp_path / "garbage.h5")
    with pytest.raises(FileFormatError, match="no such file"):
        StoreReader(tmp_path / "absent.h5")


def test_one_flipped_bit_in_the_counts_is_noticed(tmp_path):
    path = written(tmp_path)
    data = bytearray(path.read_bytes())
    at = bytes(data).index(example()["counts"][3].tobytes())
    data[at + 20] ^= 0x10
    path.write_bytes(data)
    with StoreReader(path) as store:
        store.row(2)
        with pytest.raises(FileFormatError, match="damaged"):
            store.row(3)


def test_without_h5py_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = written(tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ConfigError, match=r"libsedge\[edge\]"):
        StoreReader(path)
    with pytest.raises(ConfigError, match=r"libsedge\[edge\]"):
        written(tmp_path, "b.h5")


def test_importing_the_store_does_not_import_h5py():
    code = "import sys, libsedge.store; sys.exit('h5py' in sys.modules)"
    folder = str(Path(store_module.__file__).parents[1])
    assert (
        subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": folder}, check=False).returncode == 0
    )


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=8)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), n=st.integers(0, 6), channels=st.integers(1, 12))
def test_round_trip_property(tmp_path, data, n, channels):
    dtype = data.draw(st.sampled_from([np.uint16, np.float32]))
    numbers = (
        st.integers(0, 65535)
        if dtype is np.uint16
        else st.floats(width=32, allow_nan=False, allow_infinity=False)
    )
    steps = data.draw(hnp.arrays(np.float64, channels, elements=st.floats(0.001, 10.0)))
    values = {
        "counts": data.draw(hnp.arrays(dtype, (n, channels), elements=numbers)),
        "wavelength": 200.0 + np.cumsum(steps),
        "specimen": data.draw(st.lists(texts, min_size=n, max_size=n)),
        "label": data.draw(st.lists(texts, min_size=n, max_size=n)),
        "shot": data.draw(hnp.arrays(np.int32, n)),
        "compression": data.draw(st.sampled_from([0, 1])),
    }
    path = tmp_path / "p.h5"
    try:
        write_store(path, **values)
        with StoreReader(path) as store:
            np.testing.assert_array_equal(store.rows(slice(None)), values["counts"])
            np.testing.assert_array_equal(store.wavelength, values["wavelength"])
            np.testing.assert_array_equal(store.shot, values["shot"])
            assert store.specimen.tolist() == values["specimen"]
            assert store.label.tolist() == values["label"]
    except SedgeError as error:  # pragma: no cover - the message is the finding
        pytest.fail(str(error))
