"""Virtual specimens: what they may know, what they keep, what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from libsedge.errors import ConfigError, DatasetError
from libsedge.preprocess import DEFAULT_SEGMENTS
from libsedge_training import virtual, virtual_light, weighting
from libsedge_training.virtual import Variation, class_rules, draw
from libsedge_training.weighting.train_part import TrainPart
from libsedge_training.weighting.virtual import _strangers

COMPOSITIONS = {
    "calcite": {"Ca": 0.40, "C": 0.12, "O": 0.48},
    "magnesite": {"Mg": 0.29, "C": 0.14, "O": 0.57},
    "gypsum": {"Ca": 0.23, "S": 0.19, "O": 0.56, "H": 0.02},
    "kieserite": {"Mg": 0.18, "S": 0.23, "O": 0.57, "H": 0.02},
    "steel": {"Fe": 0.98, "C": 0.02},
    "bronze": {"Cu": 0.9, "Sn": 0.1},
}
LABEL = dict(
    zip(COMPOSITIONS, ("carbonate", "carbonate", "sulfate", "sulfate", "metal", "metal"), strict=True)
)


def test_rules_of_the_classes_by_hand() -> None:
    rules = class_rules(COMPOSITIONS, LABEL)
    assert rules.core == {"carbonate": {"C", "O"}, "sulfate": {"S", "O", "H"}, "metal": frozenset()}
    # carbon in the steel is no main element: it stays the carbonates' own
    assert rules.barred == {"carbonate": {"S", "H"}, "sulfate": {"C"}, "metal": {"C", "O", "S", "H"}}
    more = class_rules(
        {**COMPOSITIONS, "cementite": {"Fe": 0.93, "C": 0.07}}, {**LABEL, "cementite": "metal"}
    )
    assert "C" not in more.barred["metal"]


def test_draws_keep_the_core_and_bring_nothing_that_is_barred() -> None:
    rules, how = class_rules(COMPOSITIONS, LABEL), Variation(foreign=1.0)
    rng = np.random.default_rng(0)
    for name, label in LABEL.items():
        found = [draw(name, rules, how, rng) for _ in range(200)]
        assert all(abs(sum(c.values()) - 1) < 1e-9 for c in found)
        mates = {e for n, c in COMPOSITIONS.items() if LABEL[n] == label for e in c}
        assert all(rules.core[label] <= set(c) for c in found)
        assert all(not (set(c) - mates) & rules.barred[label] for c in found)
        if label != "metal":
            assert any({"Fe", "Cu"} & set(c) for c in found), "no foreign element in 200 draws"
    # negative control: without the bar sulfur gets into carbonates
    free = virtual.ClassRules(COMPOSITIONS, LABEL, rules.core, dict.fromkeys(rules.barred, frozenset()))
    assert any("S" in draw("calcite", free, how, rng) for _ in range(200))
    # no foreign, no mixture, no spread: the specimen itself
    still = draw("gypsum", rules, Variation(0, 0, 0, 0), rng)
    assert still == pytest.approx(COMPOSITIONS["gypsum"], rel=1e-6)


def test_a_gain_field_is_where_the_element_has_its_lines() -> None:
    segments = DEFAULT_SEGMENTS[:1]
    a, b = {"Ca": 0.40, "C": 0.12, "O": 0.48}, {"Ca": 0.35, "Mg": 0.05, "C": 0.12, "O": 0.48}
    field = np.log(virtual_light.radiance(b, segments) / virtual_light.radiance(a, segments))
    nm = 240 + (np.arange(1800) + 0.5) / 18
    assert field[np.abs(nm - 279.64).argmin()] > 1  # Mg II 279.6 nm
    assert abs(field[np.abs(nm - 256.0).argmin()]) < 0.1


def test_light_summed_over_elements_is_that_of_the_plasma_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against `radiance`, which asks libskit for the mixture: metals, moisture, a strong element among weak ones."""
    segments = DEFAULT_SEGMENTS[1:]
    known = (COMPOSITIONS["gypsum"], COMPOSITIONS["bronze"], {"Ca": 0.31, "Mg": 0.09, "C": 0.12, "O": 0.48})
    whole = [virtual_light.radiance(c, segments, in_zones=True) for c in known]

    def apart() -> list[tuple[float, float]]:
        """Light that differs over all light; root mean square of ln; of each composition."""
        found = virtual_light.ZoneLight(segments)(known)
        return [
            (float(np.abs(a - b).sum() / b.sum()), float(np.sqrt(np.mean(np.log(a / b) ** 2))))
            for a, b in zip(found, whole, strict=True)
        ]

    assert max(light for light, _ in apart()) < 0.01
    assert max(ln for _, ln in apart()) < 0.03
    # negative control: with libskit's usual cut weak lines are missing where the strong ones are saturated
    virtual_light._table.cache_clear()
    monkeypatch.setattr(virtual_light, "_ACCURACY", 1e-5)
    assert max(light for light, _ in apart()) > 0.03
    virtual_light._table.cache_clear()


def test_states_draw_another_plasma_for_every_composition_and_nothing_else() -> None:
    """The same compositions, seen in plasmas of their own; without an exchange of elements no state leaves a field."""
    pairs, segments = (("calcite", "carbonate"), ("gypsum", "sulfate")), tuple(DEFAULT_SEGMENTS[1:2])
    still = virtual.gain_fields(pairs, segments, 2, Variation())
    drawn = virtual.gain_fields(pairs, segments, 2, Variation(states=1.0))
    assert np.abs(still - drawn).max() > 0.2
    assert np.corrcoef(still[0, 0], drawn[0, 0])[0, 1] > 0.5  # the same composition
    same = virtual.gain_fields(pairs, segments, 1, Variation(0, 0, 0, 0, states=1.0))
    assert np.abs(same).max() < 1e-4
    other = virtual.gain_fields(pairs, segments, 2, Variation(zones=True))
    assert np.abs(still - other).max() > 0.2  # another plasma
    assert np.abs(virtual.gain_fields(pairs, segments, 1, Variation(0, 0, 0, 0, zones=True))).max() < 1e-4
    assert weighting.strategy("virtual:zones=1").name.endswith(":sigma=1:zones=1")
    with pytest.raises(ConfigError, match="states"):
        weighting.strategy("virtual:states=3")


def part(shots: int = 3) -> TrainPart:
    names = np.repeat(["calcite", "dolomite", "gypsum", "kieserite"], shots)
    label = np.repeat(["carbonate", "carbonate", "sulfate", "sulfate"], shots)
    values = np.random.default_rng(1).random((len(names), 540)).astype(np.float32)
    values[:, 60:80] = 0  # a gap of the detector
    return TrainPart(values, label, names, np.full(len(names), 2.0, np.float32))


def test_mixing_keeps_segments_gaps_and_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = virtual.known_compositions
    monkeypatch.setattr(virtual, "known_compositions", lambda names: asked.extend(names) or real(names))
    virtual.gain_fields.cache_clear()
    train = part()
    x, rows = torch.from_numpy(train.values), torch.arange(len(train))
    run = weighting.strategy("virtual:n=2:p=1").start(train, 0)
    assert run is not None
    found = run.mix(x, rows, torch.Generator().manual_seed(0))
    assert set(asked) == set(train.specimen.tolist()), "saw the composition of another specimen"
    assert not torch.equal(found, x)
    assert torch.equal(x, torch.from_numpy(part().values))
    assert float(found[:, 60:80].abs().max()) == 0
    for was, now in zip(x.split(180, dim=1), found.split(180, dim=1), strict=True):
        assert torch.allclose(was.square().sum(1), now.square().sum(1), rtol=1e-4)
    assert torch.equal(found, run.mix(x, rows, torch.Generator().manual_seed(0)))
    none = weighting.strategy("virtual:n=2:p=0").start(train, 0)
    assert none is not None
    assert torch.equal(none.mix(x, rows, torch.Generator()), x)
    wrong = weighting.strategy("virtual:n=2:p=1:wrong=1").start(train, 0)
    assert wrong is not None
    assert not torch.equal(wrong.mix(x, rows, torch.Generator().manual_seed(0)), found)


def test_the_control_deals_fields_to_other_classes() -> None:
    labels = ["a", "a", "a", "b", "c", "c"]
    assert all(labels[i] != labels[j] for i, j in enumerate(_strangers(labels)))


def test_an_unknown_specimen_is_named() -> None:
    train = part()
    train.specimen[0] = "my pellet"
    run = weighting.strategy("virtual").start(train, 0)
    assert run is not None
    with pytest.raises(DatasetError, match="my pellet"):
        run.mix(torch.from_numpy(train.values), torch.arange(len(train)), torch.Generator())


def test_development_specimens_are_none_of_the_study() -> None:
    from libsedge_training.simulate.materials import load_materials
    from libsedge_training.study.development import development_materials

    studied, other = load_materials(), development_materials()
    assert not {m.name for m in studied} & {m.name for m in other}
    assert {m.label for m in studied} == {m.label for m in other}
    shares = [dict(m.composition) for m in studied]
    for m in other:  # nor one of them under another name: no composition within 2 % of one
        mine = dict(m.composition)
        nearest = min(sum(abs(mine.get(e, 0) - c.get(e, 0)) for e in {*mine, *c}) / 2 for c in shares)
        assert nearest > 0.02, m.name
