"""The fit of the fluctuations: every step goes towards what it is to bring, seen on benches that are made up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from libsedge_training.simulate import fidelity, fit_fluctuations, generate, zones
from libsedge_training.simulate.measured import Pellet

AXIS = np.concatenate([np.arange(250.0, 260.0, 0.1), np.arange(390.0, 400.0, 0.1)])


@dataclass(frozen=True)
class Bench:
    """Spectra that scatter as the scene says, by nothing else."""

    plan: generate.Plan

    def pellet(self) -> Pellet:
        rng = np.random.default_rng(1)
        spread = self.plan.scene.point_composition
        near, far = (np.exp(0.05 * spread * rng.standard_normal((8, AXIS.size))) for _ in "nf")
        return Pellet(AXIS, near, far)


@pytest.fixture
def bench() -> Bench:
    return Bench(generate.make_plan("tiny", 1, physics="zones"))


def test_points_are_set_by_the_distance_within(bench: Bench) -> None:
    before = bench.plan.scene
    for wanted in (0.01, 0.05):
        found = fit_fluctuations.pellet_scene([bench], before, wanted)  # type: ignore[list-item]
        moved = Bench(replace(bench.plan, scene=found)).pellet()
        assert np.mean(fidelity.similarities(moved)[0]) == pytest.approx(wanted, rel=0.05)
        ratios = {getattr(found, name) / getattr(before, name) for name in fit_fluctuations.POINTS}
        assert max(ratios) == pytest.approx(min(ratios))  # by one factor
        assert found.shot_gain == before.shot_gain


def test_shots_are_set_by_total_and_lines(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def rsds(bench: Bench) -> list[tuple[float, float]]:
        scene = bench.plan.scene
        return [(float(np.hypot(scene.shot_gain, 0.03)), 0.04 * scene.shot_composition)]

    monkeypatch.setattr(fidelity, "shot_rsds", rsds)
    found = fit_fluctuations.shot_scene([bench], zones.SCENE, 0.053, 0.031)  # type: ignore[list-item]
    assert rsds(Bench(replace(bench.plan, scene=found)))[0] == pytest.approx((0.053, 0.031))


def test_the_law_is_set_by_exponent_and_target_gain(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A law that the plan's scene gives exactly; from another scene one step leads there."""
    other = replace(zones.SCENE, signal_exponent=0.9, target_gain=0.2)

    def run(plan: generate.Plan, path: Path) -> Path:
        seen.append(plan)
        return path

    monkeypatch.setattr(generate, "run", run)
    monkeypatch.setattr(fit_fluctuations.SpectraSet, "load", lambda path: None)
    monkeypatch.setattr(
        fidelity,
        "signal_law",
        lambda *_: (-0.1 - seen[-1].scene.signal_exponent, float(np.hypot(seen[-1].scene.target_gain, 0.3))),
    )
    seen: list[generate.Plan] = []
    law = fit_fluctuations.measured.Law(-1.2, (-1.3, -1.1), 0.5, (0.48, 0.52), 9)
    found = fit_fluctuations.signal_scene(replace(bench.plan, scene=other), law)
    assert seen[0].targets == fidelity.TARGETS
    assert (found.signal_exponent, found.target_gain) == pytest.approx((1.1, 0.4))
