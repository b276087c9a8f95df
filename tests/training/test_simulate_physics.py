"""Plasma, scene and spectrometer of the simulation against known physics and published figures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from libsedge.errors import ConfigError
from libsedge_training.simulate import plasma, scene
from libsedge_training.simulate.instrument import InstrumentConfig, Spectrometer
from libsedge_training.simulate.materials import choose, load_materials

CONFIG = plasma.PlasmaConfig()
SCENE = scene.SceneConfig()
SPECTROMETER = Spectrometer(InstrumentConfig())
ZERO, AVERAGE = np.zeros(1), np.zeros((1, 1))


def _composition(name: str) -> dict[str, float]:
    return dict(choose([name], load_materials())[0].composition)


@pytest.fixture(scope="session")
def basalt() -> plasma.StateTable:
    composition = _composition("BHVO-2G")
    varied = plasma.directions(composition, CONFIG.spread, 1, np.random.default_rng(1))
    return plasma.state_table(composition, varied, SPECTROMETER.bands, CONFIG)


def _spectrum(states: plasma.StateTable, distance: float, law: scene.SceneConfig) -> np.ndarray:
    """Photo-electrons without noise, drift and gain."""
    ln_t, ln_n = scene.plasma_shift(distance, law)
    return SPECTROMETER.electrons(states.radiance(ZERO + ln_t, ZERO + ln_n, AVERAGE), np.zeros((1, 3)))[0]


def _line(spectrum: np.ndarray, centre: float, half: float) -> float:
    """Area over a straight base through the window's ends."""
    window = np.abs(SPECTROMETER.wavelength - centre) < half
    part = spectrum[window]
    return float((part - np.linspace(part[0], part[-1], part.size)).sum())


@pytest.mark.parametrize(
    "line", [393.477, 396.959, 279.635, 280.353, 589.158], ids=["Ca-K", "Ca-H", "Mg-k", "Mg-h", "Na-D2"]
)
def test_strong_lines_lie_at_their_vacuum_wavelengths(basalt: plasma.StateTable, line: float) -> None:
    spectrum = _spectrum(basalt, 3.0, SCENE)
    axis = SPECTROMETER.wavelength
    near = np.flatnonzero(np.abs(axis - line) < 0.3)
    peak = near[np.argmax(spectrum[near])]
    width = axis[peak + 1] - axis[peak]
    assert abs(axis[peak] - line) <= width
    assert spectrum[peak] > 5 * np.median(spectrum)
    air = line / 1.000283  # an axis in air would show up as two pixels or more in the first two channels
    assert line > 540 or abs(axis[peak] - air) > 0.4 * width


def test_interpolation_against_direct_computation(basalt: plasma.StateTable) -> None:
    composition = _composition("BHVO-2G")
    rng = np.random.default_rng(1)
    varied = plasma.directions(composition, CONFIG.spread, 1, rng)
    for t, n, c in ((0.06, -0.2, 0.0), (-0.09, 0.4, 1.0), (0.03, 0.1, -1.8)):
        parts = plasma.moved(composition, varied[0], c)
        direct = plasma.emission(
            parts,
            CONFIG.temperature_k * np.exp(t),
            CONFIG.density_m3 * np.exp(n),
            SPECTROMETER.bands,
            CONFIG,
        )
        table = basalt.radiance(ZERO + t, ZERO + n, AVERAGE + c)[0]
        assert np.abs(table - direct).sum() / direct.sum() < 0.01
        assert np.percentile(np.abs(np.log(table / direct)), 99) < 0.03
        # the check sees a state that is off by one per cent of the temperature
        wrong = basalt.radiance(ZERO + t + 0.01, ZERO + n, AVERAGE + c)[0]
        assert np.abs(wrong - direct).sum() / direct.sum() > 0.01


def test_nodes_of_the_table_are_exact(basalt: plasma.StateTable) -> None:
    middle = basalt.radiance(ZERO, ZERO, AVERAGE)[0]
    np.testing.assert_allclose(np.log(middle), basalt.log_radiance[4], rtol=0, atol=1e-12)
    edge = basalt.radiance(ZERO + CONFIG.ln_temperature, ZERO - CONFIG.ln_density, AVERAGE)[0]
    np.testing.assert_allclose(np.log(edge), basalt.log_radiance[6], rtol=0, atol=1e-12)


def _contrast(states: plasma.StateTable, law: scene.SceneConfig) -> list[float]:
    """Near (1.6 m) over far (4.25 m) of ion / neutral: Si II 634.9 / Si I 288.2, Ca II 393 / Ca I 422."""
    near, far = _spectrum(states, 1.6, law), _spectrum(states, 4.25, law)
    pairs = (((634.889, 0.9), (288.242, 0.4)), ((393.477, 0.8), (422.792, 0.7)))
    return [_line(near, *i) / _line(near, *n) / (_line(far, *i) / _line(far, *n)) for i, n in pairs]


def test_ions_are_stronger_near_neutrals_far(basalt: plasma.StateTable) -> None:
    silicon, calcium = _contrast(basalt, SCENE)
    # SuperCam on BHVO-2, 1.545 against 4.25 m: 1.68 / 0.83 = 2.0 and 1.03 / 0.74 = 1.4
    assert 1.5 < silicon < 2.7
    assert 1.1 < calcium < 1.9
    off = replace(SCENE, temperature_exponent=0.0, density_exponent=0.0)
    assert _contrast(basalt, off) == pytest.approx([1.0, 1.0])  # negative control: no law, no contrast


def test_continuum_is_kramers() -> None:
    """Free-free limit against Rybicki and Lightman, eq. 5.14b: 6.8e-38 n^2 T^-1/2 exp(-h nu/kT) erg/s/cm^3/Hz
    into 4 pi; their constant has two digits."""
    config = replace(CONFIG, biberman=0.0, gaunt=1.0)
    wavelength, temperature, density = np.array([300.0, 700.0]), 12_000.0, 1e23
    nu = 2.99792458e17 / wavelength
    n = density * 1e-6
    j_nu = 6.8e-38 * n * n / np.sqrt(temperature) * np.exp(-4.799243e-11 * nu / temperature) / (4 * np.pi)
    watts = j_nu * 1e-7 * 1e6 * nu / wavelength * config.length_m  # per m^2, sr and nm
    ours = plasma.continuum(wavelength, temperature, density, config)
    np.testing.assert_allclose(ours, watts, rtol=8e-3)


def test_hydrogen_of_gypsum_is_seen_and_of_anhydrite_is_not() -> None:
    grid = SPECTROMETER.bands[2:]
    wavelength = grid[0].grid

    def h_alpha(name: str) -> float:
        spectrum = plasma.emission(_composition(name), CONFIG.temperature_k, CONFIG.density_m3, grid, CONFIG)
        inside = np.abs(wavelength - 656.47) < 0.5
        outside = (np.abs(wavelength - 656.47) > 4) & (np.abs(wavelength - 656.47) < 6)
        return float(spectrum[inside].mean() / np.median(spectrum[outside]))

    assert h_alpha("gypsum") > 1.5
    assert h_alpha("anhydrite") < 1.1


def test_pixel_axes() -> None:
    config = InstrumentConfig()
    assert SPECTROMETER.wavelength.shape == (5400,)
    assert np.all(np.diff(SPECTROMETER.wavelength) > 0)
    for channel in config.channels:
        axis = channel.axis()
        first_bin = channel.start_nm + (channel.stop_nm - channel.start_nm) / channel.pixels / 2
        assert channel.start_nm < axis[0] < first_bin  # the model's grid lies inside the axis
        assert axis[-1] < channel.stop_nm
        assert axis[-1] > channel.stop_nm - (first_bin - channel.start_nm)
        widths = np.diff(axis)
        assert 1.03 < widths.max() / widths.min() < 1.1  # not linear


def test_noise_statistics() -> None:
    config = SPECTROMETER.config
    rng = np.random.default_rng(7)
    pattern = SPECTROMETER.draw_pattern(rng)
    expected = np.full((600, 5400), 8_000.0)  # electrons
    counts = SPECTROMETER.expose(expected, pattern, rng).astype(float) - pattern
    assert counts.mean() == pytest.approx(8_000.0 / config.electrons_per_count, rel=1e-3)
    variance = (8_000.0 + config.read_noise_electrons**2 + config.dark_noise_electrons**2) / (
        config.electrons_per_count**2
    )
    assert counts.var(axis=0).mean() == pytest.approx(variance + 1 / 12, rel=0.01)  # 1/12: rounding
    dark = SPECTROMETER.mean_dark(pattern, rng)
    error = np.hypot(config.read_noise_electrons, config.dark_noise_electrons) / config.electrons_per_count
    assert (dark - pattern).std() == pytest.approx(error / np.sqrt(config.dark_frames), rel=0.1)


def test_saturation_clips() -> None:
    rng = np.random.default_rng(7)
    pattern = SPECTROMETER.draw_pattern(rng)
    counts = SPECTROMETER.expose(np.full((1, 5400), 1e6), pattern, rng)
    assert counts.dtype == np.uint16
    assert (counts == 65535).all()
    low = Spectrometer(replace(InstrumentConfig(), saturation_counts=4095))
    assert low.expose(np.full((1, 5400), 1e6), pattern, rng).max() == 4095


def test_drift_moves_lines_the_right_way(basalt: plasma.StateTable) -> None:
    radiance = basalt.radiance(ZERO, ZERO, AVERAGE)
    axis = SPECTROMETER.wavelength
    window = np.abs(axis - 422.79) < 1.0

    def centroid(drift: float) -> float:
        part = SPECTROMETER.electrons(radiance, np.full((1, 3), drift))[0][window]
        part = np.clip(part - np.percentile(part, 40), 0, None)
        return float((axis[window] * part).sum() / part.sum())

    # the pixel sees redder light, so the line appears at a shorter nominal wavelength
    assert centroid(0.0) - centroid(0.1) == pytest.approx(0.1, abs=0.03)
    drift = SPECTROMETER.draw_drift(np.random.default_rng(1), 500)
    assert np.abs(drift).max() < 0.15
    assert (drift.std(axis=0) > 0).all()


def test_shot_to_shot_fluctuation(basalt: plasma.StateTable) -> None:
    """Shots on one point: total 5 to 5.5 %, normalised strong lines 2 to 2.5 % (ChemCam, SuperCam)."""
    one_point = replace(SCENE, shots_per_point=300)
    rng = np.random.default_rng(11)
    shots = scene.draw_shots(rng, scene.Target(0.0, 0.0, 0.0), 3.0, 300, one_point)
    radiance = basalt.radiance(shots.ln_t, shots.ln_n, shots.composition) * shots.gain[:, None]
    electrons = SPECTROMETER.electrons(radiance, SPECTROMETER.draw_drift(rng, 300))
    total = electrons.sum(axis=1)
    assert 0.045 < total.std() / total.mean() < 0.060
    first, second = electrons[:, :1800], electrons[:, 1800:3600]
    axis = SPECTROMETER.wavelength
    spread = []
    for part, lines in ((first, (288.242, 309.361)), (second, (393.477, 396.264, 422.792))):
        normal = part / part.sum(axis=1, keepdims=True)
        offset = 0 if part is first else 1800
        for line in lines:
            window = np.abs(axis[offset : offset + 1800] - line) < 0.5
            area = normal[:, window].sum(axis=1)
            spread.append(area.std() / area.mean())
    assert 0.012 < np.mean(spread) < 0.035


@pytest.mark.parametrize("distance", [1.49, 7.01, float("nan"), -2.0])
def test_distances_outside_the_range_are_refused(distance: float) -> None:
    with pytest.raises(ConfigError, match=r"1\.5 to 7"):
        scene.check_distance(distance)


def test_table_reaches_all_distances() -> None:
    for distance in (scene.NEAREST, scene.FARTHEST):
        ln_t, ln_n = scene.plasma_shift(distance, SCENE)
        assert abs(ln_t) + 3 * SCENE.target_ln_t < CONFIG.ln_temperature
        assert abs(ln_n) + 3 * SCENE.target_ln_n < CONFIG.ln_density
