"""The physics of core and periphery: its table, its distance effect, its fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from libsedge.errors import ConfigError
from libsedge_training.simulate import fit, generate, plasma, scene, zones
from libsedge_training.simulate.instrument import InstrumentConfig, Spectrometer
from libsedge_training.simulate.materials import choose, load_materials
from libsedge_training.spectra import SpectraSet

CONFIG = zones.ZonesConfig()
SCENE = zones.SCENE
SPECTROMETER = Spectrometer(InstrumentConfig())
ZERO, AVERAGE = np.zeros(1), np.zeros((1, SCENE.directions))


def _composition(name: str) -> dict[str, float]:
    return dict(choose([name], load_materials())[0].composition)


@pytest.fixture(scope="module")
def basalt() -> zones.ZonesTable:
    composition = _composition("BHVO-2G")
    varied = plasma.directions(composition, CONFIG.spread, SCENE.directions, np.random.default_rng(1))
    return zones.state_table(composition, varied, SPECTROMETER.bands, CONFIG)


def _spectrum(states: zones.ZonesTable, distance: float, law: scene.SceneConfig) -> np.ndarray:
    """Photo-electrons without noise, drift and gain."""
    x = scene.ln_irradiance(distance, law)
    return SPECTROMETER.electrons(states.radiance(ZERO + x, ZERO, ZERO, AVERAGE), np.zeros((1, 3)))[0]


def _line(spectrum: np.ndarray, centre: float, half: float) -> float:
    """Area over a straight base through the window's ends."""
    window = np.abs(SPECTROMETER.wavelength - centre) < half
    part = spectrum[window]
    return float((part - np.linspace(part[0], part[-1], part.size)).sum())


def test_interpolation_against_direct_computation(basalt: zones.ZonesTable) -> None:
    """Along the distance within 2 % of the total; with fluctuations of one to two standard deviations, 5 %."""
    composition = _composition("BHVO-2G")
    varied = plasma.directions(composition, CONFIG.spread, SCENE.directions, np.random.default_rng(1))

    def difference(distance: float, t: float, n: float, c: float, wrong: float = 0.0) -> float:
        x = scene.ln_irradiance(distance, SCENE)
        parts = plasma.moved(composition, varied[1], c)
        direct = zones.emission(parts, x, t, n, SPECTROMETER.bands, CONFIG)
        along = AVERAGE + c * np.eye(SCENE.directions)[1]
        table = basalt.radiance(ZERO + x + wrong, ZERO + t, ZERO + n, along)[0]
        return float(np.abs(table - direct).sum() / direct.sum())

    for distance in (1.545, 2.3, 3.3, 6.5):
        assert difference(distance, 0.0, 0.0, 0.0) < 0.02
        # the check sees an irradiance that is off by five per cent
        assert difference(distance, 0.0, 0.0, 0.0, wrong=0.05) > 0.02
    assert difference(3.0, 0.02, -0.08, 0.0) < 0.05
    assert difference(4.5, -0.015, 0.08, 1.0) < 0.05


def test_nodes_of_the_table_are_exact(basalt: zones.ZonesTable) -> None:
    inner = ZERO + zones.NODES[1]
    np.testing.assert_allclose(
        np.log(basalt.radiance(inner, ZERO, ZERO, AVERAGE)[0]), basalt.log_radiance[1], rtol=0, atol=1e-12
    )
    moved = basalt.radiance(inner, ZERO + CONFIG.step_t, ZERO - CONFIG.step_n, AVERAGE + 1)[0]
    expected = basalt.log_radiance[1] + CONFIG.step_t * basalt.by_t[0] - CONFIG.step_n * basalt.by_n
    np.testing.assert_allclose(
        np.log(moved), expected + basalt.by_composition.sum(axis=0), rtol=0, atol=1e-12
    )


def _contrast(states: zones.ZonesTable, law: scene.SceneConfig) -> list[float]:
    """Near (1.6 m) over far (4.25 m) of ion / neutral: Si II 634.9 / Si I 288.2, Ca II 393 / Ca I 422."""
    near, far = _spectrum(states, 1.6, law), _spectrum(states, 4.25, law)
    pairs = (((634.889, 0.9), (288.242, 0.4)), ((393.477, 0.8), (422.792, 0.7)))
    return [_line(near, *i) / _line(near, *n) / (_line(far, *i) / _line(far, *n)) for i, n in pairs]


def test_ions_are_stronger_near_neutrals_far(basalt: zones.ZonesTable) -> None:
    silicon, calcium = _contrast(basalt, SCENE)
    # SuperCam on BHVO-2, 1.545 against 4.25 m: 1.68 / 0.83 = 2.0 and 1.03 / 0.74 = 1.4
    assert 1.3 < silicon < 2.9
    assert 1.0 < calcium < 2.2
    off = replace(SCENE, spot_far_mm=SCENE.spot_near_mm)
    assert _contrast(basalt, off) == pytest.approx([1.0, 1.0])  # negative control: no law, no contrast


def test_core_and_periphery_add_up() -> None:
    """The periphery is cooler: it lifts the neutral line more than the ion's; no periphery, no lift."""
    grid = SPECTROMETER.bands
    wavelength = np.concatenate([band.grid for band in grid])

    def lines(config: zones.ZonesConfig) -> tuple[float, float]:
        spectrum = zones.emission({"Ca": 0.1, "O": 0.9}, 0.0, 0.0, 0.0, grid, config)
        return tuple(float(spectrum[np.abs(wavelength - c) < 0.5].max()) for c in (422.792, 393.477))  # type: ignore

    both, core = lines(CONFIG), lines(replace(CONFIG, periphery_weight=0.0))
    assert both[0] / core[0] > 1.05
    assert both[0] / core[0] > both[1] / core[1]


def test_the_rim_takes_light_from_resonance_lines() -> None:
    """In front of the core: Ca II K loses, Ca II 318 (lower level at 3.1 eV) does not; behind it, it would add."""
    bands = SPECTROMETER.bands
    wavelength = np.concatenate([band.grid for band in bands])

    def lines(length: float) -> list[float]:
        config = replace(CONFIG, periphery_weight=0.0, early_weight=0.0, rim_length_m=length)
        spectrum = zones.emission({"Ca": 0.1, "O": 0.9}, 0.0, 0.0, 0.0, bands, config)
        return [float(spectrum[np.abs(wavelength - c) < 0.3].max()) for c in (393.477, 318.0)]

    bare, thin, rim = lines(0.0), lines(1e-12), lines(CONFIG.rim_length_m)
    assert thin == pytest.approx(bare, rel=5e-3)
    assert rim[0] < 0.8 * bare[0]
    assert rim[1] == pytest.approx(bare[1], rel=0.05)


def test_the_fit_recovers_a_plasma_that_was_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against spectra of a known configuration, least squares goes back towards it from a wrong start."""
    monkeypatch.setattr(fit, "LINES", tuple(x for x in fit.LINES if x.name[:2] in ("Ca", "Mg", "O ")))
    problem = object.__new__(fit.Problem)
    problem.composition = {"Ca": 0.1, "Mg": 0.05, "O": 0.85}
    problem.spectrometer = SPECTROMETER
    problem.axis = SPECTROMETER.wavelength
    problem.real = problem.spectra(CONFIG)
    problem.total = float(problem.real[0].sum() / problem.real[1].sum())
    problem.ratios = problem.line_ratios(*problem.real)
    problem.sigma = np.full(len(fit.LINES), 0.1)
    assert np.abs(problem.residuals(CONFIG)).max() < 1e-9
    np.testing.assert_allclose(fit.pack(fit.unpack(fit.pack(CONFIG), CONFIG)), fit.pack(CONFIG))
    wrong = replace(CONFIG, temperature_k=CONFIG.temperature_k * 1.05)
    before = float((problem.residuals(wrong) ** 2).sum())
    found = fit.fit(problem, wrong, steps=2)
    assert float((problem.residuals(found) ** 2).sum()) < 0.3 * before


def test_brighter_materials_are_held_back(basalt: zones.ZonesTable) -> None:
    """Energy balance: BHVO-2 is the reference; iron, with its many lines, radiates more and gets less than its due."""
    assert basalt.gain == pytest.approx(1.0, abs=0.1)
    steel = zones.state_table({"Fe": 1.0}, [{"Fe": 0.0}], SPECTROMETER.bands, CONFIG)
    assert steel.gain < 0.7


def test_the_command_and_the_plan_have_one_default() -> None:
    from libsedge_training.commands.simulate import simulate

    option = next(p for p in simulate.params if p.name == "physics")
    assert option.default == generate.DEFAULT_PHYSICS
    assert generate.make_plan("small", 1) == generate.make_plan("small", 1, physics=option.default)
    assert generate.make_plan("small", 1) != generate.make_plan("small", 1, physics="uniform")


def test_a_set_of_either_physics(tmp_path) -> None:
    counts = {}
    for physics in generate.PHYSICS:
        plan = generate.make_plan(
            "small", 1, distances=(2.0, 5.0), spectra=2, materials=("gypsum",), physics=physics
        )
        counts[physics] = SpectraSet.load(generate.run(plan, tmp_path / f"{physics}.h5", jobs=1)).counts
    assert counts["zones"].shape == counts["uniform"].shape
    assert (counts["zones"] != counts["uniform"]).mean() > 0.5
    with pytest.raises(ConfigError, match="physics"):
        generate.make_plan("small", 1, physics="phlogiston")


def test_table_reaches_all_distances() -> None:
    for distance in (scene.NEAREST, scene.FARTHEST):
        assert abs(scene.ln_irradiance(distance, SCENE)) < CONFIG.span
    spread = np.hypot(np.hypot(SCENE.target_ln_t, SCENE.point_ln_t), SCENE.shot_ln_t)
    assert 3 * spread < 4 * CONFIG.step_t
    spread = np.hypot(np.hypot(SCENE.target_ln_n, SCENE.point_ln_n), SCENE.shot_ln_n)
    assert 3 * spread < 4 * CONFIG.step_n


def test_points_vary_in_independent_directions() -> None:
    """What an element varies by does not depend on how many directions share it; points of one shot each."""
    composition = {"Si": 0.4, "O": 0.6}
    for count in (1, 4):
        rng = np.random.default_rng(3)
        drawn = [plasma.directions(composition, 0.08, count, rng) for _ in range(4000)]
        together = [sum(d["Si"] ** 2 for d in along) ** 0.5 for along in drawn]
        assert np.sqrt(np.mean(np.square(together))) == pytest.approx(0.08, rel=0.05)
    law = replace(SCENE, shots_per_point=1, point_composition=0.6, shot_composition=0.8, directions=3)
    shots = scene.draw_shots(np.random.default_rng(1), scene.Target(0, 0, 0), 3.0, 4000, law)
    np.testing.assert_allclose(np.cov(shots.composition.T), np.eye(3), atol=0.07)
    still = replace(law, point_composition=0.0, shot_composition=0.0)
    assert not scene.draw_shots(
        np.random.default_rng(1), scene.Target(0, 0, 0), 3.0, 9, still
    ).composition.any()
