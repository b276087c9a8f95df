"""Specimens of the replicated study: the table is what the rule draws, and the rule keeps what it says."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from libsedge_training.simulate import materials
from libsedge_training.study import replicated, universes
from libsedge_training.study.development import development_materials
from libsedge_training.virtual import known_compositions

NUMBERS = range(1, universes.UNIVERSES + 1)
USED = (*materials.load_materials(), *development_materials())


def nearest(parts: dict[str, float]) -> float:
    """Distance from the specimen that was used before and is most like it, `universes.apart`."""
    return min(universes.apart(parts, dict(m.composition)) for m in USED)


def test_the_table_is_what_the_rule_draws() -> None:
    with open(universes.TABLE, newline="", encoding="utf-8") as file:
        rows = [(r["name"], r["class"], r["composition"]) for r in csv.DictReader(file)]
    drawn = [
        (f"u{number} {species}", label, " ".join(f"{e}={f:g}" for e, f in parts.items()))
        for number in (1, 5)
        for label, species, parts in universes.draw_universe(number)
    ]
    assert drawn == [row for row in rows if row[0].startswith(("u1 ", "u5 "))]
    assert len({name for name, _, _ in rows}) == len(rows) == 37 * universes.UNIVERSES


@pytest.mark.parametrize("number", NUMBERS)
def test_a_universe_has_the_studys_shape_and_shares_no_specimen_with_what_was_used(number: int) -> None:
    some = universes.universe(number)
    shape = Counter(m.label for m in materials.load_materials())
    assert Counter(m.label for m in some) == shape
    for label in shape:
        parts = [dict(m.composition) for m in some if m.label == label]
        assert not universes.alone(parts)
        # compositions are kept to four digits, hence a little less than APART
        assert min(map(nearest, parts)) > 0.99 * universes.APART
        near = [universes.apart(a, b) for i, a in enumerate(parts) for b in parts[:i]]
        assert min(near) > 0.99 * universes.APART
    assert not {m.name.split(" ", 1)[1] for m in some} & {m.name for m in USED}


def test_what_the_rule_refuses_is_seen() -> None:
    """Negative controls: goethite by another name, and a class without its only other titanium mineral."""
    table = {m.name: dict(m.composition) for m in materials.load_materials()}
    assert nearest(table["goethite"] | {"Mn": 0.001}) < universes.APART
    oxides = [dict(m.composition) for m in materials.load_materials() if m.label == "oxide"]
    assert not universes.alone(oxides)
    assert universes.alone([p for p in oxides if not 0.05 < p.get("Ti", 0) < 0.5])
    assert universes.apart({"Fe": 1.0}, {"Al": 1.0}) == 1.0


def test_soils_lie_within_the_published_ranges_and_vary() -> None:
    rng = np.random.default_rng(1)
    some = [universes.soil(rng) for _ in range(20)]
    for element, (low, high) in universes.BOWEN.items():
        shares = [s.get(element, 0.0) for s in some]
        assert low * 2 / 3 <= min(shares) < max(shares) <= high * 4 / 3
    assert {"C", "N", "H"} <= set(some[0])


def test_virtual_specimens_know_the_compositions_of_universes() -> None:
    some = universes.universe(3)[4]
    assert known_compositions([some.name]) == {some.name: dict(some.composition)}


def test_the_simulated_plan_is_the_small_presets_with_other_specimens() -> None:
    small = replicated.generate.make_plan("small", 0)
    mine = replicated.simulation(2)
    assert replace(mine, materials=small.materials, seed=0) == small
    assert mine.materials == universes.universe(2)
    assert len({replicated.simulation(n).digest() for n in NUMBERS}) == len(NUMBERS)


def test_the_plan_is_the_small_presets_but_for_its_net() -> None:
    plan, small = replicated.replicated_plan(), replicated.PRESETS["small"]
    assert (plan.folds, plan.batch, plan.lr, plan.weight_decay, plan.augmentation) == (
        small.folds,
        small.batch,
        small.lr,
        small.weight_decay,
        small.augmentation,
    )
    assert plan.final == replace(small.final, net="screen", seeds=1)
    assert set(replicated.METHODS[1:]) <= set(small.strategies)
    tasks = plan.finals(replicated.METHODS)
    assert {t.stage for t in tasks} == {"final"}
    assert len(tasks) == 4 * len(replicated.METHODS)
