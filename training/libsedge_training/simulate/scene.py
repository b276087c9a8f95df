"""What the distance, the target and the single shot do to the plasma and to the signal.

Distance: the laser spot grows from 0.35 mm at 1.5 m to 0.55 mm at 7 m (ChemCam's published range; MarSCoDe's
own law is not public), the irradiance falls with its area, temperature and electron density fall with small
powers of the irradiance. The two powers were chosen on a coarse grid near the least squares of twelve line
ratios near over far that SuperCam gave on BHVO-2 at 1.545 m and 4.25 m (Si II 634.7 1.68, Si I 288 0.83, Mg
II 279.6 1.26, Ca II 393 1.03, Ca I 422 0.74, Al I 396 0.66, Na I 0.79, K I 0.71, O I 777 1.39, Fe I 438 0.39,
Ca I 445 0.48, 616 0.51; the simulation is within 0.28 in ln, root mean square). Signal: raw counts fall as
about d^-1.2 (3,288 SuperCam observations on Mars, scatter 0.5 in ln from the target); a part of the fall
comes from the cooler plasma, `signal_exponent` is the rest, so that the mean over all materials is d^-1.2,
and `target_gain` adds to the 0.4 in ln by which the materials differ by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from libsedge.errors import ConfigError

#: distances (m) that the instruments work at: MarSCoDe from 1.6 m, SuperCam was calibrated from 1.545 m
NEAREST, FARTHEST = 1.5, 7.0


@dataclass(frozen=True)
class SceneConfig:
    """Distance law and fluctuations. Standard deviations are of natural logarithms, unless noted.

    ``target_gain``: between targets (roughness, coupling), all distances alike; ``cell_gain``: between
    distances of one target (focus). ``target_*``: matrix effects on the plasma. ``point_*``: between analysis
    points of one target; the composition in units of `PlasmaConfig.spread`, in so many independent ``directions``
    (with one, all elements go together; grains of several phases vary in several). ``shot_*``: between shots of one
    point (composition as above), set to the measured 5 to 5.5 % of the total and 2 to 4 % of normalised strong lines.
    """

    reference_m: float = 4.0
    spot_near_mm: float = 0.35
    spot_far_mm: float = 0.55
    temperature_exponent: float = 0.14
    density_exponent: float = 0.50
    signal_exponent: float = 0.745
    target_gain: float = 0.30
    cell_gain: float = 0.10
    target_ln_t: float = 0.015
    target_ln_n: float = 0.08
    point_ln_t: float = 0.008
    point_ln_n: float = 0.04
    point_composition: float = 1.0
    directions: int = 1
    shots_per_point: int = 10
    shot_gain: float = 0.042
    shot_ln_t: float = 0.007
    shot_ln_n: float = 0.02
    shot_composition: float = 0.0


@dataclass(frozen=True)
class Target:
    """What one material keeps at every distance: ln gain and the offsets of ln T and ln n_e."""

    gain: float
    ln_t: float
    ln_n: float


@dataclass(frozen=True)
class Shots:
    """``n`` shots: ln irradiance, ln T and ln n_e over the reference, linear gain, each [n]; composition in
    standard deviations [n, directions]; ``number`` [n]: which shot of its point, from 0.
    """

    ln_irradiance: np.ndarray
    ln_t: np.ndarray
    ln_n: np.ndarray
    composition: np.ndarray
    gain: np.ndarray
    number: np.ndarray


def check_distance(distance_m: float) -> float:
    """``distance_m`` rounded to 1 mm; `ConfigError` outside 1.5 to 7 m."""
    if not NEAREST <= distance_m <= FARTHEST:
        raise ConfigError(f"distances are {NEAREST} to {FARTHEST} m", field="distances", value=distance_m)
    return round(distance_m, 3)


def spot_mm(distance_m: float, config: SceneConfig) -> float:
    """Diameter of the laser spot, mm, linear between 1.5 m and 7 m."""
    return config.spot_near_mm + (config.spot_far_mm - config.spot_near_mm) * (distance_m - 1.5) / 5.5


def ln_irradiance(distance_m: float, config: SceneConfig) -> float:
    """ln of the irradiance at a distance over that at the reference distance."""
    return 2 * float(np.log(spot_mm(config.reference_m, config) / spot_mm(distance_m, config)))


def plasma_shift(distance_m: float, config: SceneConfig) -> tuple[float, float]:
    """(ln T, ln n_e) at a distance over those at the reference distance."""
    x = ln_irradiance(distance_m, config)
    return config.temperature_exponent * x, config.density_exponent * x


def draw_target(rng: np.random.Generator, config: SceneConfig) -> Target:
    """The constant properties of one target."""
    gain, ln_t, ln_n = rng.standard_normal(3)
    return Target(
        config.target_gain * float(gain), config.target_ln_t * float(ln_t), config.target_ln_n * float(ln_n)
    )


def draw_shots(
    rng: np.random.Generator, target: Target, distance_m: float, count: int, config: SceneConfig
) -> Shots:
    """``count`` shots at one distance, `SceneConfig.shots_per_point` to each analysis point."""
    ln_t, ln_n = plasma_shift(distance_m, config)
    fall = -config.signal_exponent * np.log(distance_m / config.reference_m)
    cell = config.cell_gain * rng.standard_normal()
    point, number = np.divmod(np.arange(count), config.shots_per_point)
    at_point = rng.standard_normal((point[-1] + 1, 2 + config.directions))[point]
    at_shot = rng.standard_normal((count, 3))
    composition = config.point_composition * at_point[:, 2:]
    if config.shot_composition > 0:
        composition = composition + config.shot_composition * rng.standard_normal(composition.shape)
    return Shots(
        np.full(count, ln_irradiance(distance_m, config)),
        ln_t + target.ln_t + config.point_ln_t * at_point[:, 0] + config.shot_ln_t * at_shot[:, 0],
        ln_n + target.ln_n + config.point_ln_n * at_point[:, 1] + config.shot_ln_n * at_shot[:, 1],
        composition,
        np.exp(fall + target.gain + cell + config.shot_gain * at_shot[:, 2]),
        number,
    )
