"""The chemistry set and model, small: lines of a made-up table, so that only one test needs libskit."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from libsedge.errors import ConfigError, RunError
from libsedge_training import chemistry, chemistry_real
from libsedge_training.calibrate import choose_min_confidence
from libsedge_training.simulate import absorption, bands, minerals, random_instrument, random_plasma
from libsedge_training.simulate import chemistry as simulated
from libsedge_training.spectra import SpectraSet

KINDS = (
    "quartz",
    "forsterite",
    "albite",
    "galena",
    "pyrite",
    "sphalerite",
    "calcite",
    "magnesite",
    "siderite",
)
SEED = 5


def made_up() -> absorption.Absorption:
    """A dozen lines an element at places that its name decides; every atom has lost half an electron."""
    chosen = tuple(m for m in minerals.load_minerals() if m.name in KINDS)
    names = tuple(simulated.elements(chosen))
    nm = absorption.grid()
    shape = (len(names), len(absorption.TEMPERATURES), len(absorption.DENSITIES), nm.size)
    kappa = np.zeros(shape, np.float32)
    for row, name in enumerate(names):
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        for centre in rng.uniform(242, 848, 12):
            kappa[row] += np.float32(3e-20 * rng.random()) * np.exp(-0.5 * ((nm - centre) / 0.03) ** 2)
    return absorption.Absorption(names, kappa, np.full(shape[:3], 0.5))


@pytest.fixture(scope="module")
def table() -> absorption.Absorption:
    return made_up()


def small_plan(specimens: int = 8, spectra: int = 2) -> simulated.Plan:
    plan = simulated.make_plan("nowhere.h5", SEED, specimens=specimens, spectra=spectra)
    return replace(plan, materials=tuple(m for m in plan.materials if m.name in KINDS))


@pytest.fixture(scope="module")
def small_set(table: absorption.Absorption) -> SpectraSet:
    plan = small_plan()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulated, "_table", lambda folder: table)
        counts = np.concatenate([plan.simulate(mineral) for mineral in plan.materials])
    cells = plan.specimens * plan.spectra
    return SpectraSet(
        counts=counts,
        wavelength=simulated.model_grid().grid_nm,
        specimen=np.array([f"{m.name} {k // plan.spectra}" for m in plan.materials for k in range(cells)]),
        label=np.array([m.label for m in plan.materials for _ in range(cells)]),
        source=f"libsedge simulate --preset chemistry, seed {SEED}, plan none",
        quantity="intensity",
        simulated=True,
    ).validate()


def test_absorption_of_a_mixture_is_libskits() -> None:
    """libskit's spectrum of a mixture, which `absorption` never asks for, within 5 %."""
    from libsedge_training.simulate import plasma

    masses = {"Ca": 0.3, "Fe": 0.3, "Si": 0.2, "O": 0.2}
    i, k = 4, 2
    parts = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(absorption, "TEMPERATURES", absorption.TEMPERATURES[i : i + 1])
        patch.setattr(absorption, "DENSITIES", absorption.DENSITIES[k : k + 1])
        parts = {element: absorption.of_element(element) for element in masses}
        made = absorption.Absorption(
            tuple(parts), np.stack([p[0] for p in parts.values()]), np.stack([p[1] for p in parts.values()])
        )
        shares = random_plasma.atom_fractions(masses)
        depth = made.per_metre(shares, 0, 0).astype(np.float64)
    libskit, nm = plasma._libskit(), absorption.grid()
    temperature, density, length = absorption.TEMPERATURES[i], absorption.DENSITIES[k], 1e-11
    spread = libskit.GenericSpectrometer(absorption.STEP_NM / np.sqrt(8 * np.log(2)), 0.0)
    theirs = spread.calculate_spectrum(nm, libskit.LTEModel(masses, temperature, density, length))
    mine = absorption.planck(nm, temperature) * depth * length
    assert np.abs(mine - theirs).sum() < 0.05 * theirs.sum()
    lines = theirs > 1e-2 * theirs.max()
    assert lines.sum() > 50
    assert np.percentile(np.abs(mine[lines] / theirs[lines] - 1), 90) < 0.11
    # negative control: without the atoms' electrons the amounts are wrong
    wrong = absorption.planck(nm, temperature) * depth * length * made.atoms(shares, 0, 0) / density
    assert np.abs(wrong - theirs).sum() > 0.3 * theirs.sum()


def test_spectra_are_the_same_for_the_same_seed_and_differ_otherwise(table: absorption.Absorption) -> None:
    plan = small_plan(specimens=2, spectra=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulated, "_table", lambda folder: table)
        first, again = (plan.simulate(plan.materials[0]) for _ in range(2))
        other = replace(plan, seed=SEED + 1).simulate(plan.materials[0])
        assert replace(plan, folder="elsewhere").digest() == plan.digest() != replace(plan, seed=9).digest()
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.5
    assert np.isfinite(first).all()
    assert first.shape == (2, simulated.model_grid().points)


def test_an_invented_mineral_is_seen_once(table: absorption.Absorption) -> None:
    plan = simulated.make_plan("nowhere.h5", SEED, specimens=1, spectra=2)
    plan = replace(
        plan, materials=tuple(m for m in plan.materials if not m.formula or m.name == "quartz"), invented=2
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulated, "_table", lambda folder: table)
        rows = [len(plan.simulate(material)) for material in plan.materials]
    assert sorted(rows) == [2] * 9
    assert sum(rows) == plan.count
    assert len({plan.specimens_of(material) for material in plan.materials}) == 2


def test_the_families_are_the_same_minerals_without_three_classes_and_with_soils_and_rocks() -> None:
    families, chemistry_set = (
        simulated.make_plan("nowhere.h5", SEED, classes=name) for name in ("families", "chemistry")
    )
    labels = {m.name: families.label(m) for m in families.materials}
    assert labels["carbon steel"] == labels["invented native metal"] == "metal"
    assert labels["peat"] == labels["invented soil"] == "soil"
    assert labels["granite"] == labels["invented rock"] == "silicate"
    left_out = {m.label for m in chemistry_set.materials if m.name not in labels}
    assert left_out == {"halide", "phosphate", "sulfide"}
    added = {m.label for m in families.materials} - {m.label for m in chemistry_set.materials}
    assert added == {"soil", "rock"}
    count = {m.name: families.specimens_of(m) for m in families.materials}
    silicate = next(m for m in chemistry_set.materials if m.name == "invented silicate")
    assert count["invented rock"] == count["invented soil"] == chemistry_set.specimens_of(silicate)
    assert count["invented silicate"] == count["invented rock"] // 2
    assert families.digest() != chemistry_set.digest()
    with pytest.raises(ConfigError, match="fluorite"):
        simulated.make_plan("nowhere.h5", SEED, classes="families", names=["fluorite"])
    with pytest.raises(ConfigError, match="peat"):
        simulated.make_plan("nowhere.h5", SEED, names=["peat"])


def test_labels_are_those_of_the_class_set(small_set: SpectraSet) -> None:
    chemistry.check_labels(small_set, "chemistry")
    with pytest.raises(ConfigError, match="sulfide"):
        chemistry.check_labels(small_set, "families")


def test_a_real_target_has_the_class_of_the_models_set() -> None:
    by_name = {target.name: target for target in chemistry_real.TARGETS}
    expected = {
        "chemistry": {"soils": "silicate", "stainless steel": "native metal", "BHVO-2": "silicate"},
        "families": {"soils": "soil", "stainless steel": "metal", "BHVO-2": "silicate"},
    }
    for name, wanted in expected.items():
        labels = sorted(set(minerals.CLASS_SETS[name].values()))
        assert {n: chemistry_real.true_label(by_name[n], labels) for n in wanted} == wanted
        assert chemistry_real.true_label(by_name["cranberry plants"], labels) is None


def test_the_hottest_plasma_shows_doubly_ionised_atoms() -> None:
    """Al III 569.66 over Al II 559.33 nm (air), as spectrometers that begin with the laser pulse see it."""
    nm, ratio = absorption.grid(), {}
    for node in (-1, absorption.TEMPERATURES.index(16000.0)):
        temperature = absorption.TEMPERATURES[node]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(absorption, "TEMPERATURES", (temperature,))
            patch.setattr(absorption, "DENSITIES", (2e23,))
            light = absorption.of_element("Al")[0][0, 0] * absorption.planck(nm, temperature)
        ratio[node] = light[np.abs(nm - 569.82) < 0.2].max() / light[np.abs(nm - 559.48) < 0.2].max()
    assert ratio[-1] > 3 > 0.1 > ratio[absorption.TEMPERATURES.index(16000.0)]


def test_a_mineral_has_its_own_lines(table: absorption.Absorption) -> None:
    """Light of galena is bright where lead's lines are, and of quartz is not."""
    lead = table.kappa[table.elements.index("Pb"), 4, 1]
    strongest = lead > 0.5 * lead.max()
    ratio = {}
    for name in ("galena", "quartz"):
        mineral = next(m for m in minerals.load_minerals() if m.name == name)
        rng = np.random.default_rng(3)
        light = [
            random_plasma.draw(table, minerals.draw_specimen(mineral, rng), rng).radiance for _ in range(10)
        ]
        ratio[name] = float(np.median([one[strongest].mean() / one.mean() for one in light]))
    assert ratio["galena"] > 3 * ratio["quartz"]


def test_line_strengths_are_uncertain_and_hydrogens_are_not(table: absorption.Absorption) -> None:
    points = absorption.grid().size
    gains = random_plasma._gains(("Fe", "O", "H"), points, np.random.default_rng(2))
    assert set(gains) == {"Fe", "O"}
    spread = {name: float(np.log(gain).std()) for name, gain in gains.items()}
    assert all(0 < s < random_plasma.LINE_ERROR for s in spread.values())
    assert abs(np.corrcoef(gains["Fe"], gains["O"])[0, 1]) < 0.1  # of their own
    assert np.corrcoef(gains["Fe"][:-1], gains["Fe"][1:])[0, 1] > 0.9  # a line is scaled as a whole
    shares = {"Fe": 0.5, "O": 0.5}
    plain, scaled = table.per_metre(shares, 2, 1), table.per_metre(shares, 2, 1, gains)
    only_iron = table.per_metre(shares, 2, 1, {"Fe": gains["Fe"]})
    assert not np.allclose(plain, scaled)
    iron = table.per_metre({"Fe": 1.0}, 2, 1)
    np.testing.assert_allclose(
        only_iron - plain, 0.5 * iron * (gains["Fe"] - 1), rtol=2e-2, atol=1e-3 * iron.max()
    )


def test_an_instrument_moves_widens_and_scales_but_keeps_lines() -> None:
    nm = absorption.grid()
    light = (0.01 + np.exp(-0.5 * ((nm - 500.0) / 0.02) ** 2)).astype(np.float32)
    at = simulated.model_grid().grid_nm
    for seed in range(20):
        rng = np.random.default_rng(seed)
        instrument = replace(random_instrument.draw(rng), opening=0.0, electrons=1e9, read_noise=0.0)
        found = random_instrument.measure(light, instrument, at, rng)
        part = next(part for part in instrument.detectors if part.start <= 500.0 < part.stop)
        near = (np.abs(at - 500.0) < 4) & (at >= part.start) & (at < part.stop)
        moved = float(np.interp(500.0, [part.start, part.stop], part.error))
        assert abs(float(at[near][found[near].argmax()]) - 500.0 - moved) < 0.6


def test_axis_errors_are_small_but_for_a_few_lost_spectrometers() -> None:
    def largest(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        drawn = [random_instrument.draw(rng) for _ in range(600)]
        return np.array([max(abs(e) for part in one.detectors for e in part.error) for one in drawn])

    few = float((largest(4) > random_instrument.MOST_ERROR).mean())
    assert 0.02 < few < random_instrument.LOST + 0.03
    for share, most in ((0.0, random_instrument.MOST_ERROR), (1.0, random_instrument.MOST_LOST)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(random_instrument, "LOST", share)
            assert largest(5).max() == most  # some are cut there


def test_bands_are_at_their_heads() -> None:
    shapes = bands.shapes(absorption.AXIS[0], absorption.STEP_NM, absorption.grid().size)
    elements, cn = shapes["CN"]
    assert elements == ("C", "N")
    assert abs(absorption.grid()[int(cn.argmax())] - 388.45) < 0.05  # 388.34 nm in air
    assert all(abs(float(shape.mean()) - 1) < 1e-3 for _, shape in shapes.values())


def test_the_grid_is_even_and_whole() -> None:
    grid = simulated.model_grid()
    assert grid.points == 5000
    assert np.diff(grid.grid_nm).max() < 0.151
    assert (grid.segments[0].start_nm, grid.segments[-1].stop_nm) == (240.0, 850.0)


def quick(**changes: object) -> object:
    given = {"epochs": 10, "patience": 10, "batch": 16, "test_specimens": 9, "validation_specimens": 18}
    return replace(chemistry.CONFIG, **{**given, **changes})  # type: ignore[arg-type]


def test_it_learns_and_shuffled_labels_teach_nothing(small_set: SpectraSet, tmp_path: Path) -> None:
    run = chemistry.train(small_set, tmp_path / "run", quick(), "specimens", threads=1)  # type: ignore[arg-type]
    assert run["preprocess"] == simulated.model_grid().to_json()
    assert run["best"]["accuracy"] > 0.75
    assert run["min_coverage"] == 1.0
    names = small_set.specimens
    labels = [small_set.label[small_set.specimen == name][0] for name in names]
    shuffled = dict(zip(names, np.random.default_rng(0).permutation(labels).tolist(), strict=True))
    wrong = replace(small_set, label=np.array([shuffled[name] for name in small_set.specimen.tolist()]))
    chance = chemistry.train(wrong, tmp_path / "chance", quick(epochs=4), "specimens", threads=1)  # type: ignore[arg-type]
    assert chance["best"]["accuracy"] < 0.6


def test_minerals_held_out_are_not_trained_on(small_set: SpectraSet, tmp_path: Path) -> None:
    config = quick(epochs=1, test_specimens=3, validation_specimens=3)
    run = chemistry.train(small_set, tmp_path / "run", config, "minerals", threads=1)  # type: ignore[arg-type]
    kinds = {part: {n.rpartition(" ")[0] for n in names} for part, names in run["specimens"].items()}
    assert [len(kinds[part]) for part in ("train", "validation", "test")] == [3, 3, 3]
    assert len(kinds["train"] | kinds["validation"] | kinds["test"]) == 9
    with pytest.raises(RunError, match="hold-out"):
        chemistry.train(small_set, tmp_path / "run", config, "specimens", resume=True)  # type: ignore[arg-type]


def test_invented_minerals_are_trained_on_and_nothing_else(small_set: SpectraSet, tmp_path: Path) -> None:
    rows = np.arange(0, len(small_set), 5)
    more = small_set.select(rows)
    made_up = np.array([f"invented {name} {k}" for k, name in enumerate(more.label)])
    both = replace(
        small_set,
        counts=np.concatenate([small_set.counts, more.counts]),
        specimen=np.concatenate([small_set.specimen, made_up]),
        label=np.concatenate([small_set.label, more.label]),
        distance_m=np.concatenate([small_set.distance_m, more.distance_m]),
        shot=np.concatenate([small_set.shot, more.shot]),
    ).validate()
    for hold_out, config in (
        ("specimens", quick(epochs=1)),
        ("minerals", quick(epochs=1, test_specimens=3, validation_specimens=3)),
    ):
        run = chemistry.train(both, tmp_path / hold_out, config, hold_out, threads=1)  # type: ignore[arg-type]
        found = {
            part: sum(n.startswith("invented") for n in names) for part, names in run["specimens"].items()
        }
        assert found == {"train": len(rows), "validation": 0, "test": 0}


def test_a_resumed_run_is_the_uninterrupted_one(small_set: SpectraSet, tmp_path: Path) -> None:
    """The weights are the same bytes."""
    config = quick(epochs=3)
    chemistry.train(small_set, tmp_path / "whole", config, "specimens", threads=1)  # type: ignore[arg-type]

    def stop(record: dict[str, object]) -> None:
        if record["epoch"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        chemistry.train(small_set, tmp_path / "cut", config, "specimens", threads=1, on_epoch=stop)  # type: ignore[arg-type]
    chemistry.train(small_set, tmp_path / "cut", config, "specimens", threads=1, resume=True)  # type: ignore[arg-type]
    assert (tmp_path / "cut/model.safetensors").read_bytes() == (
        tmp_path / "whole/model.safetensors"
    ).read_bytes()


def test_wrong_plans_are_refused() -> None:
    with pytest.raises(ConfigError, match="unobtainium"):
        simulated.make_plan("x.h5", 1, names=["unobtainium"])
    with pytest.raises(ConfigError, match="spectra"):
        simulated.make_plan("x.h5", 1, spectra=-1)


def test_the_bundle_accepts_every_answer() -> None:
    """A run's own share of accepted answers reaches the threshold; the usual share would refuse the unsure ones."""
    confidence, right = np.linspace(0.2, 0.99, 50), np.arange(50) > 20
    assert choose_min_confidence(confidence, right, chemistry.MIN_COVERAGE) <= confidence.min()
    assert choose_min_confidence(confidence, right) > confidence.min()


def test_train_says_what_is_missing(tmp_path: Path) -> None:
    from click.testing import CliRunner
    from libsedge.cli import main

    done = CliRunner().invoke(main, ["train", "-o", str(tmp_path / "run")])
    assert done.exit_code == 2
    assert "--classes" in done.output
    (tmp_path / "run.h5").write_bytes(b"not a set")
    done = CliRunner().invoke(main, ["train", "--classes", "chemistry", "-o", str(tmp_path / "run")])
    assert done.exit_code == 2
    assert "run.h5" in done.output
