"""Sets the fluctuations of `zones.SCENE` to those of real spectra, over many seeds; the step after `fit`.

    python -m libsedge_training.simulate.fit_fluctuations [--real-data DIR] [--rounds N]

Five figures of the scene, each to the one real statistic that it decides, by fixed-point steps (variances add):

* points (T, n_e and composition by one factor): Bray-Curtis within a distance, BHVO-2 on SuperCam;
* composition from shot to shot: RSD of strong normalised lines; shot gain: RSD of the total;
* signal exponent and target gain: power law of the signal on Mars and the scatter around it.

How points share among T, n_e and composition, and T and n_e of shots, are kept as they are: on the real pellet the line
that a fluctuating temperature would move most (Fe I 438) differs least between locations (2 %; 0.01 in ln T would give
10 %), so temperature has to be small. Where a band is not symmetric around the real mean its middle is aimed at. The
first three are means over one pellet of each of `SEEDS`, the law comes from `fidelity.TARGETS` of every material with
the first of them. No classifier and no label is involved. Prints the values, which are then put into `zones.SCENE` by
hand, rounded.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from libsedge_training.simulate import fidelity, generate, measured, zones
from libsedge_training.simulate.instrument import Spectrometer
from libsedge_training.simulate.scene import SceneConfig
from libsedge_training.spectra import SpectraSet

#: those of the fit; figures in docs/simulation.md are those of others
SEEDS = range(1, 9)
#: what goes by one factor
POINTS = ("point_ln_t", "point_ln_n", "point_composition")


def _middle(values: Sequence[float]) -> float:
    return (min(values) + max(values)) / 2


def pellet_scene(benches: Sequence[fidelity.Bench], scene: SceneConfig, within: float) -> SceneConfig:
    """``scene`` with points that fluctuate by what brings Bray-Curtis ``within`` a distance; one step."""
    moved = [replace(bench, plan=replace(bench.plan, scene=scene)) for bench in benches]
    pellets = [bench.pellet() for bench in moved]
    made = float(np.mean([fidelity.similarities(pellet)[0] for pellet in pellets]))
    print(f"Bray-Curtis within: {made:.5f}, wanted {within:.5f}", flush=True)
    return replace(scene, **{name: getattr(scene, name) * within / made for name in POINTS})


def shot_scene(
    benches: Sequence[fidelity.Bench], scene: SceneConfig, total: float, lines: float
) -> SceneConfig:
    """``scene`` with shots that fluctuate by what brings the RSD of the ``total`` and of strong ``lines``; one step."""
    moved = [replace(bench, plan=replace(bench.plan, scene=scene)) for bench in benches]
    made = np.mean([rsd for bench in moved for rsd in fidelity.shot_rsds(bench)], axis=0)
    print(
        f"RSD of the total, of lines: {made[0]:.5f}, {made[1]:.5f}, wanted {total:.5f}, {lines:.5f}",
        flush=True,
    )
    factor = lines / float(made[1])
    gain = scene.shot_gain**2 + total**2 - float(made[0]) ** 2
    return replace(
        scene,
        shot_gain=float(np.sqrt(max(gain, 0.25 * scene.shot_gain**2))),
        shot_composition=scene.shot_composition * factor,
    )


def signal_scene(plan: generate.Plan, law: measured.Law) -> SceneConfig:
    """The plan's scene with the exponent and the target gain that bring the ``law``; one step."""
    with tempfile.TemporaryDirectory(prefix="libsedge-fit-") as scratch:
        path = generate.run(replace(plan, targets=fidelity.TARGETS), Path(scratch, "set.h5"))
        exponent, scatter = fidelity.signal_law(SpectraSet.load(path), Spectrometer(plan.instrument))
    wanted, spread = _middle(law.exponent_band), _middle(law.scatter_band)
    print(f"exponent, scatter: {exponent:.4f}, {scatter:.4f}, wanted {wanted:.4f}, {spread:.4f}", flush=True)
    gain = plan.scene.target_gain**2 + spread**2 - scatter**2
    return replace(
        plan.scene,
        signal_exponent=plan.scene.signal_exponent + exponent - wanted,
        target_gain=float(np.sqrt(max(gain, 0.0))),
    )


def main(arguments: list[str] | None = None) -> None:
    """The command; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m libsedge_training.simulate.fit_fluctuations")
    parser.add_argument("--real-data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rounds", type=int, default=2, help="steps for points and shots")
    options = parser.parse_args(arguments)
    real, shots = measured.pellet(options.real_data), measured.shot_rsds(options.real_data)
    within = _middle(fidelity.similarities(real)[0])
    scene = zones.SCENE
    plans = [generate.make_plan("small", seed, physics="zones") for seed in SEEDS]
    benches = [fidelity.Bench.of(plan, "supercam") for plan in plans]
    for _ in range(options.rounds):
        scene = pellet_scene(benches, scene, within)
        scene = shot_scene(benches, scene, _middle([s[0] for s in shots]), _middle([s[1] for s in shots]))
    plan = generate.make_plan(
        "small",
        SEEDS[0],
        distances=fidelity.SET_DISTANCES,
        spectra=fidelity.SET_SPECTRA,
        physics="zones",
        scene_config=scene,
    )
    scene = signal_scene(plan, measured.signal_law(options.real_data))
    for name in (*POINTS, "shot_composition", "shot_gain", "signal_exponent", "target_gain"):
        print(f"    {name}={getattr(scene, name):.4g},")


if __name__ == "__main__":
    main()
