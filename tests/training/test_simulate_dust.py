"""Dust on the first shots: none unless asked for, what it does to the spectra, and the fit of its decay."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from libsedge.errors import ConfigError
from libsedge.store import StoreReader
from libsedge_training.commands.simulate import simulate
from libsedge_training.readers import read
from libsedge_training.simulate import dust, fit_dust, generate, measured, scene
from libsedge_training.simulate import statistics as st

DATA = Path(os.environ.get("LIBSEDGE_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))


def real_shots(name: str) -> tuple[np.ndarray, np.ndarray]:
    if not (DATA / name).is_file():
        pytest.skip("real files absent (set LIBSEDGE_REAL_DATA to the folder of real data)")
    spectra = read(DATA / name)
    return spectra.wavelength, spectra.counts.astype(np.float64)


def test_without_dust_plans_are_what_they_were() -> None:
    """The digests as the commit before dust (a4d9bc0) gave them; studies name sets by what they decide."""
    expected = {
        "tiny": "5d9fe65b52f0825aed9909b0d5bf694e13be31f1a8d896b55b4be9d9dd390e3d",
        "small": "6230c3d3c600cef60f122d73141b1bdeaf3af2741399c0adbaff7b9de00d0364",
        "full": "5f0c27430fd1d98251b1d9d2331f8a9b4839d492c3ba23e3386a477fbce1e1d4",
    }
    assert {name: generate.make_plan(name, 1, dust=dust.make(0.0)).digest() for name in expected} == expected
    dusty = [
        generate.make_plan("tiny", 1, dust=dust.make(*how)).digest() for how in ((0.5,), (0.5, 2.0), (0.4,))
    ]
    assert len({*dusty, expected["tiny"]}) == 4


def test_the_dust_holds_what_its_table_says() -> None:
    parts = dict(dust.composition())
    assert sum(parts.values()) == pytest.approx(1)
    assert parts["Si"] / parts["Mg"] == pytest.approx(
        45.41 * 28.085 / 60.083 / (8.35 * 24.305 / 40.304), rel=1e-3
    )
    assert parts["H"] == pytest.approx(2.0 * 0.1119 / 107.73, rel=1e-3)  # the table's figures sum to 107.73


def test_shares_fall_by_e_and_end() -> None:
    one = dust.Dust(0.5, 2.0)
    assert one.shares(30) == pytest.approx(
        [0.5 * np.exp(-k / 2) for k in range(13)]
    )  # the next is below 0.001
    assert len(one.shares(4)) == 4
    made = dust.make(1.0)
    assert made is not None
    mixed = made.over({"Ca": 0.4, "C": 0.12, "O": 0.48}, 0.25)
    assert list(mixed)[:3] == ["Ca", "C", "O"]
    assert sum(mixed.values()) == pytest.approx(1)
    assert mixed["Ca"] == pytest.approx(0.3 + 0.25 * dict(dust.composition())["Ca"])


@dataclass(frozen=True)
class Constant:
    """Two pixels of the same radiance, the shot's composition beside it."""

    value: float

    def shots(self, drawn: scene.Shots, rows: slice | np.ndarray) -> np.ndarray:
        composition = drawn.composition[rows, 0]
        return np.stack([np.full(len(composition), self.value), composition], axis=1)


@pytest.mark.parametrize("rows", [slice(0, 12), slice(3, 9), slice(10, 60)])
def test_every_point_begins_with_the_first_table(rows: slice) -> None:
    law = replace(scene.SceneConfig(), shots_per_point=5)
    drawn = scene.draw_shots(np.random.default_rng(1), scene.Target(0, 0, 0), 3.0, 12, law)
    made = dust.DustyTable((Constant(2.0), Constant(1.0), Constant(0.0))).shots(drawn, rows)
    assert made[:, 0].tolist() == [2.0, 1.0, 0, 0, 0, 2.0, 1.0, 0, 0, 0, 2.0, 1.0][rows]
    assert made[:, 1].tolist() == drawn.composition[rows, 0].tolist()


def test_a_dusty_set_shows_the_dust_first(tmp_path: Path) -> None:
    """Calcite has no magnesium: its line comes with the dust and goes with it, and calcium's returns."""
    magnesium, calcium = st.Line("Mg", "ion", 279.9, 0.9), st.Line("Ca", "neutral", 445.6, 0.4)
    areas = {}
    for share in ("0", "0.5"):
        path = tmp_path / f"{share}.h5"
        options = (
            "--preset tiny --materials calcite --distances 2 --spectra 3 --physics uniform --quiet --jobs 1"
        )
        more = ["--dust", share, *(["--dust-decay", "0.3"] if share != "0" else []), "-o", str(path)]
        made = CliRunner().invoke(simulate, [*options.split(), *more], catch_exceptions=False)
        assert made.exit_code == 0
        with StoreReader(path) as reader:
            shots = np.array([row.counts for row in reader], np.float64)
            for line in (magnesium, calcium):
                area = np.array([st.area(reader.wavelength, shot, line) for shot in shots])
                areas[share, line.name] = area / shots.sum(axis=1)
    shown = areas["0.5", "Mg"]
    assert (shown[:-1] > 1.5 * shown[1:]).all()
    assert shown[0] > 30 * np.abs(areas["0", "Mg"]).max()
    assert areas["0.5", "Ca"][0] < 0.7 * areas["0", "Ca"][0]
    assert areas["0.5", "Ca"][2] == pytest.approx(areas["0", "Ca"][2], rel=0.05)


def made_up(decay: float, change: float) -> tuple[np.ndarray, np.ndarray]:
    """30 shots whose lines stand on a flat spectrum and change by turns up and down, with 2 % of noise."""
    axis, rng = np.arange(240.0, 850.0, 0.05), np.random.default_rng(3)
    shots = np.full((30, axis.size), 10.0)
    for i, line in enumerate(st.LINES):
        shape = 100 * np.exp(-0.5 * ((axis - line.centre) / 0.1) ** 2)
        height = 1 + change * (-1) ** i * np.exp(-np.arange(30) / decay) + 0.02 * rng.standard_normal(30)
        shots += height[:, None] * shape
    return axis, shots


@pytest.mark.parametrize("decay", [1.1, 6.0])
def test_a_decay_is_found(decay: float) -> None:
    found = fit_dust.fit(*made_up(decay, 0.3))
    assert found.decay == pytest.approx(decay, rel=0.15)
    assert found.interval[0] <= decay <= found.interval[1]
    assert found.change[:2] == pytest.approx((0.3, -0.3), abs=0.06)
    assert found.explained > 0.7
    assert found.rms == pytest.approx(1, abs=0.3)


def test_shots_that_do_not_change_have_no_decay() -> None:
    """Negative control."""
    assert fit_dust.fit(*made_up(1.0, 0.0)).explained < 0.15


def test_the_default_is_coronations_decay() -> None:
    axis, shots = real_shots(measured.CORONATION)
    found = fit_dust.fit(axis, shots)
    assert found.decay == pytest.approx(dust.DECAY_SHOTS, rel=0.1)
    assert found.explained > 0.6
    magnesium, aluminium = (
        found.change[[line.name for line in st.LINES].index(n)] for n in ("Mg II 279.6", "Al I 396.3")
    )
    assert magnesium > 0.5
    assert aluminium < -0.2
    # negative control: the same shots in another order
    order = np.random.default_rng(1).permutation(len(shots))
    assert fit_dust.fit(axis, shots[order]).explained < 0.3


def test_maaz_is_slower() -> None:
    assert fit_dust.fit(*real_shots(measured.MAAZ)).decay > 3 * dust.DECAY_SHOTS


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ("--dust 1.5", "dust"),
        ("--dust -0.1", "dust"),
        ("--dust nan", "dust"),
        ("--dust 0.5 --dust-decay 0", "dust_decay"),
        ("--dust-decay 2", "dust_decay"),
        ("--dust 0.5 --preset chemistry", "dust"),
        ("--dust 0.5 --check", "dust"),
    ],
)
def test_what_is_refused(arguments: str, field: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        CliRunner().invoke(
            simulate, [*arguments.split(), "-o", str(tmp_path / "set.h5")], catch_exceptions=False
        )
    assert error.value.field == field
    assert not list(tmp_path.iterdir())


def test_the_help_names_the_default_decay() -> None:
    said = " ".join(CliRunner().invoke(simulate, ["--help"]).output.split())
    assert f"default: {dust.DECAY_SHOTS:g}, as on the rock" in said
