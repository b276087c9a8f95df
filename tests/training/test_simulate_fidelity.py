"""The fidelity check: statistics against hand figures, real files against simulation, and that it can fail."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from libsedge.errors import ConfigError, FileFormatError
from libsedge_training.commands.simulate import simulate
from libsedge_training.simulate import chemistry, fidelity, generate, measured, presets
from libsedge_training.simulate import statistics as st
from libsedge_training.simulate.instrument import Spectrometer
from libsedge_training.spectra import SpectraSet

DATA = Path(os.environ.get("LIBSEDGE_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
FLAT: dict[str, Any] = {"spot_far_mm": 0.35, "signal_exponent": 0.0}


@pytest.fixture(scope="module")
def real() -> Path:
    if not (DATA / measured.MOC).exists():
        pytest.skip("real files absent (set LIBSEDGE_REAL_DATA to the folder of real data)")
    return DATA


@pytest.fixture(scope="module")
def plan() -> generate.Plan:
    return generate.make_plan("small", 1, distances=(2.0, 5.0), spectra=2, materials=("calcite", "hematite"))


@pytest.fixture(scope="module")
def benches() -> list[fidelity.Bench]:
    """The physics fitted to the real pellet; fewer pellets than the check takes."""
    plan = generate.make_plan("small", 1, physics="zones")
    return [fidelity.Bench.of(plan, "supercam", number) for number in range(4)]


@pytest.fixture(scope="module")
def rows(real: Path, benches: list[fidelity.Bench]) -> list[fidelity.Row]:
    return fidelity.pellet_rows(measured.pellet(real), [bench.pellet() for bench in benches])


def failed(rows: list[fidelity.Row]) -> set[str]:
    return {row.id for row in rows if not row.passed}


def test_similarities_by_hand() -> None:
    a, b = np.array([1.0, 3.0]), np.array([2.0, 2.0])
    assert st.bray_curtis(a, b) == pytest.approx(2 / 8)
    assert st.cosine(a, b) == pytest.approx(8 / np.sqrt(10 * 8))
    assert st.within(st.bray_curtis, np.stack([a, b, a])) == pytest.approx([0.25, 0.0, 0.25])
    axis = np.array([240.0, 241.0, 300.0, 301.0])  # two detectors
    spectrum = np.array([[1.0, 3.0, -5.0, 10.0]])
    np.testing.assert_allclose(st.normalised(axis, spectrum, "total"), [[1 / 14, 3 / 14, 0, 10 / 14]])
    np.testing.assert_allclose(st.normalised(axis, spectrum, "detector"), [[0.25, 0.75, 0, 1]])
    assert st.gaps(axis) == [(241.0, 300.0)]


def test_lines_noise_and_law_by_hand() -> None:
    axis = np.arange(400.0, 410.0, 0.05)
    line = st.Line("x", "ion", 405.0, 1.5)
    peak = np.exp(-0.5 * ((axis - 405.03) / 0.1) ** 2)
    sloped = 3 * peak + 2 + 0.1 * axis  # the base does not count
    assert st.area(axis, sloped, line) == pytest.approx(3 * 0.1 * np.sqrt(2 * np.pi), rel=1e-3)
    assert st.line_ratios(axis, (2 * sloped)[None], sloped[None], line) == pytest.approx([2.0])
    assert st.line_offset(axis, sloped, 405.0) == pytest.approx(0.03, abs=0.005)
    distance = np.array([1.0, 2.0, 4.0])
    slope, scatter = st.power_law(distance, 5 * distance**-1.2)
    assert (slope, scatter) == pytest.approx((-1.2, 0.0), abs=1e-9)
    rng = np.random.default_rng(1)
    shots = (1 + peak * 20)[None] * (1 + 0.05 * rng.standard_normal((4000, 1)))
    assert st.shot_rsd(shots, 1) == pytest.approx((0.05, 0.0), abs=2e-3)
    shots[:, 101] *= 1 + 0.03 * rng.standard_normal(4000)
    assert st.shot_rsd(shots, 1)[1] == pytest.approx(0.03, rel=0.1)


def test_real_figures_are_those_of_the_dossier(real: Path) -> None:
    """data.md and paper.md, computed there by other code: the figures in issue and brief."""
    rows = {row.id: row for row in fidelity.pellet_rows(measured.pellet(real), [measured.pellet(real)])}
    assert (rows["bray-curtis-within"].low, rows["bray-curtis-within"].high) == pytest.approx(
        (0.024, 0.031), abs=5e-4
    )
    assert (rows["bray-curtis-across"].low, rows["bray-curtis-across"].high) == pytest.approx(
        (0.142, 0.183), abs=2e-3
    )
    assert (rows["cosine-within"].low, rows["cosine-within"].high) == pytest.approx((0.997, 0.999), abs=1e-3)
    assert (rows["cosine-across"].low, rows["cosine-across"].high) == pytest.approx((0.941, 0.971), abs=5e-4)
    for name, ratio in (
        ("si-ii-634.9", 1.68),
        ("mg-ii-279.6", 1.26),
        ("fe-i-438.5", 0.39),
        ("na-i-589.4", 0.79),
    ):
        assert rows[f"line-{name}"].real == pytest.approx(ratio, abs=0.1)
    assert not failed(list(rows.values()))  # the real files pass their own bands
    law = measured.signal_law(real, draws=20)
    assert law.exponent == pytest.approx(0.78 - 2, abs=0.02)
    assert law.scatter == pytest.approx(0.49, abs=0.01)
    assert [t for t, _ in measured.shot_rsds(real)] == pytest.approx([0.051, 0.055, 0.051], abs=1e-3)


def test_core_and_periphery_have_the_distance_effect_of_the_real_pellet(rows: list[fidelity.Row]) -> None:
    similar = {row.id: row.simulated for row in rows}
    assert similar["bray-curtis-within"] < 0.2 * similar["bray-curtis-across"]
    assert similar["line-si-ii-634.9"] > 1.3
    neutral = [row.simulated for row in rows if "(neutral)" in row.title]
    assert len(neutral) == 9
    assert max(neutral) < 1.0
    assert not failed(rows)


def test_without_the_distance_law_the_check_fails(real: Path, benches: list[fidelity.Bench]) -> None:
    """Negative control: the same plasma, no effect of distance."""
    bench = benches[0]
    flat = replace(bench, plan=replace(bench.plan, scene=replace(bench.plan.scene, **FLAT)))
    without = failed(fidelity.pellet_rows(measured.pellet(real), [flat.pellet()]))
    lines = {"line-si-ii-634.9", "line-fe-i-438.5", "line-al-i-394.5", "line-al-i-396.3"}
    assert lines | {"bray-curtis-across", "cosine-across"} <= without


def test_an_axis_that_drifts_is_no_distance_effect(real: Path, plan: generate.Plan) -> None:
    """Negative control of the instrument: a drift of 0.09 nm a session alone would give the Bray-Curtis distance
    that the real pellet shows, and spoil the cosine."""
    moved = {"supercam": replace(presets.INSTRUMENTS["supercam"], drift_cell_nm=0.09)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fidelity, "INSTRUMENTS", moved)
        shifted = fidelity.Bench.of(replace(plan, scene=replace(plan.scene, **FLAT)), "supercam")
    rows = {row.id: row for row in fidelity.pellet_rows(measured.pellet(real), [shifted.pellet()])}
    assert rows["bray-curtis-across"].simulated > 0.1
    assert not rows["cosine-across"].passed


def test_without_shot_noise_the_check_fails(real: Path, benches: list[fidelity.Bench]) -> None:
    """Negative control: the same shot every time."""
    assert not failed(fidelity.shot_rows(measured.shot_rsds(real), benches))
    bench = benches[0]
    still = replace(bench.plan.scene, shot_gain=0.0, shot_ln_t=0.0, shot_ln_n=0.0, shot_composition=0.0)
    calm = replace(bench, plan=replace(bench.plan, scene=still))
    assert {"total-rsd", "line-rsd"} <= failed(fidelity.shot_rows(measured.shot_rsds(real), [calm]))


def _set(exponent: float, clipped: int = 0) -> SpectraSet:
    """A made-up set on the default instrument: one line, 60 targets, the given law of the signal."""
    spectrometer = Spectrometer(presets.INSTRUMENTS["marscode"])
    axis = spectrometer.wavelength
    rng = np.random.default_rng(1)
    distance = np.tile([2.0, 3.0, 5.0], 60)
    specimen = np.repeat([f"s{i}" for i in range(60)], 3)
    moved = 393.477 + rng.uniform(-0.09, 0.09, 180)
    spectra = 200 + 9000 * np.exp(-0.5 * ((axis - moved[:, None]) / 0.13) ** 2)
    spectra *= (distance**exponent * np.exp(0.49 * np.repeat(rng.standard_normal(60), 3)))[:, None]
    counts = np.rint(np.clip(spectra, 0, 65535)).astype(np.uint16)
    counts[0, :clipped] = 65535
    return SpectraSet(counts, axis, distance, specimen, saturation=65535.0)


def test_rows_of_a_set_pass_and_fail(real: Path) -> None:
    spectrometer = Spectrometer(presets.INSTRUMENTS["marscode"])
    law = measured.signal_law(real, draws=100)
    others = measured.clipping(real), measured.axis_offsets(real)

    def rows(spectra: SpectraSet) -> set[str]:
        return failed(fidelity.set_rows(law, *others, spectra, spectrometer))

    assert rows(_set(-1.2)) - {"signal-scatter"} == set()  # 60 targets fix the scatter to 10 % only
    assert "signal-exponent" in rows(_set(0.0))
    assert "clip-share" in rows(_set(-1.2, clipped=500))
    assert "clip-level" in rows(replace(_set(-1.2), saturation=4095.0))


def test_gaps_of_the_presets(real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = measured.instrument_gaps(real)
    assert sorted(expected) == ["chemcam", "handheld", "supercam"]
    rows = fidelity.gap_rows(expected)
    assert len(rows) == 12
    assert not failed(rows)
    gapless = {name: presets.INSTRUMENTS["marscode"] for name in expected}
    monkeypatch.setattr(fidelity, "INSTRUMENTS", gapless)
    assert len(failed(fidelity.gap_rows(expected))) == 12


@pytest.mark.parametrize("name", sorted(presets.INSTRUMENTS))
def test_presets_make_sets(tmp_path: Path, name: str) -> None:
    config = presets.instrument(name)
    plan = generate.make_plan(
        "small", 1, distances=(3.0,), spectra=1, materials=("calcite",), instrument_config=config
    )
    spectra = SpectraSet.load(generate.run(plan, tmp_path / "set.h5", jobs=1))
    assert spectra.instrument == f"{name}-like (simulated)"
    assert spectra.saturation == config.saturation_counts
    assert spectra.counts.max() > 2 * config.dark_level_counts


def test_an_unknown_instrument_and_missing_files(tmp_path: Path, plan: generate.Plan) -> None:
    with pytest.raises(ConfigError, match="instrument"):
        presets.instrument("hubble")
    with pytest.raises(FileFormatError, match="supercam_1545mm_loc1"):
        fidelity.check(tmp_path, plan)


@pytest.mark.parametrize(("simulated", "code", "word"), [(1.5, 0, "pass"), (2.5, 1, "FAIL")])
def test_command(monkeypatch: pytest.MonkeyPatch, simulated: float, code: int, word: str) -> None:
    row = fidelity.Row("x", "statistic x", 1.4, simulated, 1.0, 2.0)
    monkeypatch.setattr(fidelity, "check", lambda *_, **__: fidelity.Fidelity((row,), "d1gest"))
    result = CliRunner().invoke(simulate, ["--check"])
    assert result.exit_code == code
    assert word in result.output
    assert "d1gest" in result.output
    result = CliRunner().invoke(simulate, ["--check", "--json"])
    assert result.exit_code == code
    assert json.loads(result.output)["rows"][0]["passed"] is (code == 0)
    result = CliRunner().invoke(simulate, ["--check", "-o", "x.h5"])
    assert isinstance(result.exception, ConfigError)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--check", "--instrument", "supercam"],
        ["--check", "--distances", "2,3"],
        ["-o", "x.h5", "--preset", "chemistry", "--distances", "2,3"],
        ["-o", "x.h5", "--preset", "families", "--physics", "uniform"],
    ],
)
def test_an_option_that_would_be_ignored_is_refused(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("was begun")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fidelity, "check", never)
    monkeypatch.setattr(chemistry, "make_plan", never)
    refused = CliRunner().invoke(simulate, arguments).exception
    assert isinstance(refused, ConfigError)
    assert refused.field == arguments[-2].removeprefix("--")


def test_the_digest_names_plan_bench_and_bands(plan: generate.Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    row = fidelity.Row("x", "statistic x", 1.4, 1.5, 1.0, 2.0)
    first = fidelity.digest(plan, [row])
    assert fidelity.digest(plan, [replace(row, simulated=9.9)]) == first
    assert fidelity.digest(plan, [replace(row, high=2.1)]) != first
    assert fidelity.digest(replace(plan, scene=replace(plan.scene, **FLAT)), [row]) != first
    noisier = replace(presets.INSTRUMENTS["supercam"], read_noise_electrons=99.0)
    monkeypatch.setattr(fidelity, "INSTRUMENTS", {**presets.INSTRUMENTS, "supercam": noisier})
    assert fidelity.digest(plan, [row]) != first
