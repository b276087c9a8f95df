"""Plasma with a hot core and a cool periphery, the second physics of the simulation (``--physics zones``).

Uniform columns in local thermodynamic equilibrium (`plasma`), each with self-absorption: a core seen through a thin
cool rim, which takes light out of its resonance lines (Ca II H and K, Mg II 280), and beside it a periphery, because an
exposure holds the plasma's early and late stage, its middle and edge. Irradiance drives them (powers in `ZonesConfig`):
near, the core is hotter and denser and the periphery weighs less, so ions rise and neutrals fall. States and powers
were fitted to BHVO-2 on SuperCam at 1.545 m and 4.25 m (`python -m libsedge_training.simulate.fit`), fluctuations by
`fit_fluctuations`, never to a classifier. The continuum stays an assumption: the real files have theirs removed.

A `ZonesTable` keeps the emission of one material at five irradiances, and interpolates its logarithm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from libsedge_training.simulate import plasma, scene
from libsedge_training.simulate.plasma import HELIUM_OVER_HYDROGEN, Band, with_atmosphere
from libsedge_training.simulate.scene import SceneConfig, Shots

#: scene of this physics: irradiance acts through `ZonesConfig`; fluctuations set to the real pellet and shots
SCENE = replace(
    SceneConfig(),
    temperature_exponent=0.0,
    density_exponent=0.0,
    signal_exponent=1.11,
    target_gain=0.367,
    point_ln_t=0.0044,
    point_ln_n=0.065,
    point_composition=1.09,
    shot_gain=0.0442,
    shot_ln_t=0.008,
    shot_ln_n=0.02,
    shot_composition=1.36,
    directions=3,
)


@dataclass(frozen=True)
class ZonesConfig:
    """Core and periphery at the reference irradiance, and what irradiance does to them.

    ``temperature_k``, ``density_m3`` (electrons), ``length_m`` are the core's, ``periphery_temperature`` and
    ``periphery_density`` the periphery's over the core's, ``periphery_weight`` its share in the exposure over the
    core's. With x = ln(irradiance / reference) each goes as exp(power x): temperatures with ``temperature_power`` and
    ``periphery_temperature_power``, both densities with ``density_power``, the core's length with ``length_power``,
    the periphery's weight with ``weight_power``; what the periphery's density has beyond that of the core is
    ``periphery_density_power``. The rim in front of the core is a column of ``rim_length_m`` that goes with
    ``rim_length_power``, its temperature and density are those of the core times ``rim_temperature`` and
    ``rim_density``; no length, no rim. ``hydrogen`` is the mass fraction (moisture; water adsorbed by a
    pellet) added to a sample that lists none. These are fitted.

    ``co2`` is the mass fraction of entrained CO2 (assumption). The early stage that gives the continuum is
    ``early_temperature`` and ``early_density`` times hotter and denser, goes with the powers
    ``early_*_power`` and lasts the fraction ``early_weight`` of the emission (assumptions). ``span`` is the
    half width of the table in x, ``step_t`` and ``step_n`` the steps of its slopes in ln T and ln n_e.
    ``scale`` brings the radiance of BHVO-2 to that of `plasma.PlasmaConfig`, for which the instruments'
    sensitivities are set. ``energy_balance``: a pulse has the energy it has, so a plasma that would radiate
    more than ``reference_radiance`` (W m^-2 sr^-1, BHVO-2's) cools sooner: a material's signal goes with
    the power 1 - ``energy_balance`` of what the states alone give, chosen so that materials scatter as
    targets on Mars, and so does what the composition of a point changes. ``spread`` is the standard deviation of ln of
    an element's abundance from point to point (pressed pellets are not perfectly homogeneous; assumption, of which
    `SCENE` takes the fitted multiple ``point_composition``).
    """

    temperature_k: float = 1.33e04
    density_m3: float = 5.901e21
    length_m: float = 0.01404
    periphery_temperature: float = 0.6706
    periphery_density: float = 12.16
    periphery_length_m: float = 0.001709
    periphery_weight: float = 0.04818
    temperature_power: float = 0.3648
    periphery_temperature_power: float = 1.174
    density_power: float = 2.767
    length_power: float = -4.442
    weight_power: float = -2.246
    periphery_density_power: float = -0.7247
    rim_length_m: float = 0.0002719
    rim_length_power: float = 0.5815
    rim_temperature: float = 0.3916
    rim_density: float = 0.367
    hydrogen: float = 2.869e-05
    co2: float = 0.05
    early_temperature: float = 1.1
    early_density: float = 50.0
    early_temperature_power: float = 0.14
    early_density_power: float = 0.5
    early_weight: float = 0.2
    span: float = 0.48
    step_t: float = 0.03
    step_n: float = 0.10
    scale: float = 2.01
    energy_balance: float = 0.72
    reference_radiance: float = 1.84e6
    spread: float = 0.08


def emission(
    composition: Mapping[str, float],
    ln_irradiance: float,
    ln_t: float,
    ln_n: float,
    bands: Sequence[Band],
    config: ZonesConfig,
) -> np.ndarray:
    """Spectral radiance of the plasma, W m^-2 sr^-1 nm^-1, on the joined grids of ``bands``, float64.

    ``composition``: mass fractions of the sample; ``ln_irradiance``: ln over the reference; ``ln_t``, ``ln_n``:
    deviations of ln T and ln n_e of both zones from what the irradiance gives. The line spread of each band is
    applied (its Gaussian also stands for the pixel's width).
    """
    libskit = plasma._libskit()
    x, c = ln_irradiance, config
    parts = with_atmosphere(composition, c.co2)
    parts["He"] = max(parts.pop("H", 0.0), c.hydrogen) * HELIUM_OVER_HYDROGEN
    total = sum(parts.values())
    parts = {element: fraction / total for element, fraction in parts.items()}
    hot, density = c.temperature_k * np.exp(ln_t), c.density_m3 * np.exp(c.density_power * x + ln_n)
    core_t, core_m = hot * np.exp(c.temperature_power * x), c.length_m * np.exp(c.length_power * x)
    rim_m = c.rim_length_m * np.exp(c.rim_length_power * x)
    core = (
        libskit.LTESharedLayers(  # from the back to the front
            parts, [core_t, core_t * c.rim_temperature], [density, density * c.rim_density], [core_m, rim_m]
        )
        if rim_m > 0
        else libskit.LTEModel(parts, core_t, density, core_m)
    )
    periphery = libskit.LTEModel(
        parts,
        hot * c.periphery_temperature * np.exp(c.periphery_temperature_power * x),
        density * c.periphery_density * np.exp(c.periphery_density_power * x),
        c.periphery_length_m,
    )
    models = ((1.0, core), (c.periphery_weight * np.exp(c.weight_power * x), periphery))
    spectra = []
    for band in bands:
        step = band.grid[1] - band.grid[0]
        extra = int(np.ceil(3 * band.fwhm / step))  # so that the convolution's ends fall outside
        grid = band.grid[0] + step * np.arange(-extra, band.grid.size + extra)
        spread = libskit.GenericSpectrometer(band.fwhm / np.sqrt(8 * np.log(2)), 0.0)
        lines = sum(weight * spread.calculate_spectrum(grid, model) for weight, model in models)
        spectra.append(lines[extra:-extra] * 1e-9)
    grid = np.concatenate([band.grid for band in bands])
    early_t = hot * c.early_temperature * np.exp(c.early_temperature_power * x)
    early_n = c.density_m3 * c.early_density * np.exp(c.early_density_power * x + ln_n)
    early = plasma.continuum(grid, early_t, early_n, plasma.PlasmaConfig())
    return c.scale * (np.concatenate(spectra) + c.early_weight * early)


#: nodes of the table in ln irradiance, five distances; it is exact at the two of the fit
NODES = np.array([scene.ln_irradiance(metres, SceneConfig()) for metres in (7.0, 5.5, 4.25, 2.8, 1.545)])
#: where the slope in ln T is taken (two nodes), and that in ln n_e and in composition (middle)
_BY_T, _BY_N = (1, 3), 2


def _lagrange(x: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Lagrange weights [n, nodes] of ``x`` [n] on the ``nodes``."""
    factors = [
        np.prod([(x - other) / (node - other) for other in nodes if other != node], axis=0) for node in nodes
    ]
    return np.stack(factors, axis=1)


@dataclass(frozen=True)
class ZonesTable:
    """ln of the radiance of one material at five irradiances, and how it changes around them.

    ``log_radiance`` [5, points]; ``by_t`` [2, points], ``by_n`` [points], ``by_composition`` [directions, points]:
    slopes in ln T, in ln n_e and along the composition directions; ``gain``: the material's factor by its
    energy balance.
    """

    log_radiance: np.ndarray
    by_t: np.ndarray
    by_n: np.ndarray
    by_composition: np.ndarray
    gain: float
    config: ZonesConfig

    def radiance(
        self, ln_irradiance: np.ndarray, ln_t: np.ndarray, ln_n: np.ndarray, composition: np.ndarray
    ) -> np.ndarray:
        """Radiance [n, points], W m^-2 sr^-1 nm^-1, of ``n`` states, without `gain`.

        ``ln_irradiance``, ``ln_t``, ``ln_n`` [n]: as in `emission`; ``composition`` [n, directions]: standard
        deviations along the material's composition directions. An irradiance beyond the table is held at its edge,
        deviations at four steps, composition at two standard deviations.
        """
        x = np.clip(ln_irradiance, -self.config.span, self.config.span)
        weights, between = _lagrange(x, NODES), _lagrange(x, NODES[list(_BY_T)])
        t = np.clip(ln_t, -4 * self.config.step_t, 4 * self.config.step_t)
        n = np.clip(ln_n, -4 * self.config.step_n, 4 * self.config.step_n)
        # summed term by term, not by BLAS: the order, and so the bits, never depend on the number of threads
        total, c = n[:, None] * self.by_n, np.clip(composition, -2, 2)
        for k in range(c.shape[1]):
            total += c[:, k, None] * self.by_composition[k]
        for k in range(len(NODES)):
            total += weights[:, k, None] * self.log_radiance[k]
        for k in range(len(_BY_T)):
            total += (between[:, k] * t)[:, None] * self.by_t[k]
        return np.exp(total)

    def shots(self, drawn: Shots, rows: slice | np.ndarray) -> np.ndarray:
        """Radiance [rows, points] of drawn shots, without their gain."""
        states = (drawn.ln_irradiance, drawn.ln_t, drawn.ln_n, drawn.composition)
        return self.gain * self.radiance(*(values[rows] for values in states))


def state_table(
    composition: Mapping[str, float],
    varied: Sequence[Mapping[str, float]],
    bands: Sequence[Band],
    config: ZonesConfig,
) -> ZonesTable:
    """The table of one material: eight calls of `emission`, one more for each of ``varied`` (`plasma.directions`)."""

    def log_emission(
        node: int, t: float = 0.0, n: float = 0.0, parts: Mapping[str, float] = composition
    ) -> np.ndarray:
        return np.log(emission(parts, float(NODES[node]), t, n, bands, config))

    nodes = [log_emission(k) for k in range(len(NODES))]
    by_t = [(log_emission(k, t=config.step_t) - nodes[k]) / config.step_t for k in _BY_T]
    by_n = (log_emission(_BY_N, n=config.step_n) - nodes[_BY_N]) / config.step_n
    changed = [log_emission(_BY_N, parts=plasma.moved(composition, along, 1.0)) for along in varied]
    steps = np.concatenate([np.full(band.grid.size, band.grid[1] - band.grid[0]) for band in bands])

    def balance(ln_radiance: np.ndarray, reference: float) -> float:
        total = float((np.exp(ln_radiance) * steps).sum())
        return float(-config.energy_balance * np.log(total / reference))

    middle = float((np.exp(nodes[_BY_N]) * steps).sum())
    by_composition = np.stack([ln - nodes[_BY_N] + balance(ln, middle) for ln in changed])
    made = ZonesTable(np.stack(nodes), np.stack(by_t), by_n, by_composition, 1.0, config)
    return replace(made, gain=float(np.exp(balance(nodes[_BY_N], config.reference_radiance))))
