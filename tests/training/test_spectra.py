"""SpectraSet: defaults, validation that names the place, selection, concatenation, the store round trip."""

from __future__ import annotations

import numpy as np
import pytest
from libsedge.errors import AxisError, FileFormatError, SpectrumError
from libsedge_training.spectra import SpectraSet

AXIS = np.linspace(240.0, 850.0, 20)


def example(n: int = 6, **changes) -> SpectraSet:
    fields = {
        "counts": np.arange(n * 20, dtype=np.float32).reshape(n, 20),
        "wavelength": AXIS,
        "distance_m": np.linspace(1.5, 6.0, n),
        "specimen": [f"s{i // 2}" for i in range(n)],
        "label": ["iron", "basalt", ""][: n % 4] * 2 if n == 6 else ["iron"] * n,
        "quantity": "radiance",
        "instrument": "i",
        "source": "s",
    }
    if n == 6:
        fields["label"] = ["iron", "iron", "basalt", "basalt", "", ""]
    return SpectraSet(**{**fields, **changes})


def test_defaults_and_dtypes():
    spectra = SpectraSet(np.ones((3, 20), np.int64), AXIS.tolist()).validate()
    assert (len(spectra), spectra.channels) == (3, 20)
    assert spectra.counts.dtype == np.float32
    assert spectra.wavelength.dtype == np.float64
    assert np.isnan(spectra.distance_m).all()
    assert np.isnan(spectra.saturation)
    assert spectra.specimen.tolist() == spectra.label.tolist() == ["", "", ""]
    assert spectra.shot.tolist() == [0, 1, 2]
    assert spectra.mask.dtype == bool
    assert spectra.mask.all()
    assert SpectraSet(np.ones((3, 20), np.uint16), AXIS).counts.dtype == np.uint16


def test_classes_and_specimens_are_sorted_and_leave_out_the_unlabelled():
    assert example().classes == ["basalt", "iron"]
    assert example().specimens == ["s0", "s1", "s2"]


def nan_at(row: int, channel: int, value: float) -> np.ndarray:
    counts = np.ones((6, 20), np.float32)
    counts[row, channel] = value
    return counts


@pytest.mark.parametrize(
    ("change", "error", "field", "value"),
    [
        ({"counts": nan_at(4, 7, np.inf)}, SpectrumError, "counts[row 4, channel 7]", np.inf),
        ({"counts": nan_at(0, 19, -np.inf)}, SpectrumError, "counts[row 0, channel 19]", -np.inf),
        ({"wavelength": np.r_[AXIS[:5], AXIS[4:-1]]}, AxisError, "wavelength[5]", AXIS[4]),
        ({"wavelength": np.r_[-1.0, AXIS[1:]]}, AxisError, "wavelength[0]", -1.0),
        ({"distance_m": [1, 2, 3, -0.5, 5, 6]}, SpectrumError, "distance_m[row 3]", -0.5),
        ({"distance_m": [1, np.inf, 3, 4, 5, 6]}, SpectrumError, "distance_m[row 1]", np.inf),
        ({"mask": np.zeros(20)}, SpectrumError, "mask", None),
        ({"quantity": "volts"}, SpectrumError, "quantity", "volts"),
        ({"saturation": 0.0}, SpectrumError, "saturation", 0.0),
        ({"dark": np.r_[np.zeros(19), np.inf]}, SpectrumError, "dark[19]", np.inf),
    ],
)
def test_validate_names_field_row_and_value(change, error, field, value):
    example().validate()
    with pytest.raises(error) as caught:
        example(**change).validate()
    assert caught.value.field == field
    assert caught.value.value == value


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"counts": np.ones(20)}, "counts"),
        ({"wavelength": AXIS[1:]}, "wavelength"),
        ({"specimen": ["a"]}, "specimen"),
        ({"label": ["a"] * 7}, "label"),
        ({"distance_m": 3.0}, "distance_m"),
        ({"mask": np.ones(19)}, "mask"),
        ({"dark": np.ones(21)}, "dark"),
    ],
)
def test_wrong_shapes_are_refused_at_once(change, field):
    with pytest.raises(SpectrumError) as caught:
        example(**change)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "index", [slice(1, 5, 2), [1, 3], np.array([True, False, True] * 2), [5, 0, 0], [], 3, np.zeros(6, bool)]
)
def test_select_keeps_rows_together(index):
    whole, part = example(), example().select(index)
    rows = np.atleast_1d(np.arange(6)[np.asarray(index, int) if isinstance(index, list) else index])
    assert len(part) == len(rows)
    for name in ("counts", "distance_m", "specimen", "label", "shot"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[rows])
    assert part.quantity == "radiance"


def test_concat():
    a, b = example(), example(instrument="j", simulated=True, specimen=["a much longer name"] * 6)
    both = SpectraSet.concat([a.select([0, 1]), b])
    assert len(both) == 8
    assert both.specimen[2] == "a much longer name"
    assert both.instrument == "i; j"
    assert both.source == "s"
    assert both.simulated is True
    np.testing.assert_array_equal(both.counts[2:], b.counts)
    with pytest.raises(SpectrumError):
        SpectraSet.concat([])


@pytest.mark.parametrize(
    "change",
    [
        {"wavelength": AXIS + 1e-9},
        {"mask": np.arange(20) > 0},
        {"dark": np.zeros(20)},
        {"quantity": "counts"},
        {"saturation": 5.0},
    ],
)
def test_concat_refuses_what_differs(change):
    with pytest.raises(SpectrumError) as caught:
        SpectraSet.concat([example(), example(), example(**change)])
    assert caught.value.field == f"concat[2].{next(iter(change))}"


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_save_and_load(tmp_path, dtype):
    spectra = example(
        counts=np.arange(120).reshape(6, 20).astype(dtype),
        dark=np.ones(20),
        mask=np.arange(20) > 2,
        saturation=1e5,
        simulated=True,
    )
    spectra.save(tmp_path / "s.h5")
    loaded = SpectraSet.load(tmp_path / "s.h5")
    assert loaded.counts.dtype == dtype
    for name in vars(spectra):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(spectra, name), err_msg=name)
    loaded.save(tmp_path / "t.h5")
    assert (tmp_path / "s.h5").read_bytes() == (tmp_path / "t.h5").read_bytes()


def test_what_is_not_valid_is_not_saved_and_not_loaded(tmp_path):
    with pytest.raises(SpectrumError):
        example(saturation=-1.0).save(tmp_path / "s.h5")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileFormatError, match=r"absent\.h5"):
        SpectraSet.load(tmp_path / "absent.h5")
