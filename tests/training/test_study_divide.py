"""Ways to divide a set: what may be learnt from, what is tested, names, and a study in two of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from libsedge.errors import ConfigError, DatasetError
from libsedge_training import splits
from libsedge_training.commands.study import study as command
from libsedge_training.study import nine
from libsedge_training.study.divide import NAMES, Division, Part, divide, folds
from libsedge_training.study.plan import PRESETS, Plan, Stage
from libsedge_training.study.run import study
from libsedge_training.study.table import tables

from .test_study import CLASSES, peaks

METRES = (2.0, 2.3, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0)


def grid(specimens: int = 6, shots: int = 20) -> tuple[list[str], list[str], np.ndarray]:
    """(labels, specimens, distances) of 3 classes at METRES."""
    rows = [
        (c, f"{c}-{s}", d) for c in CLASSES for s in range(specimens) for d in METRES for _ in range(shots)
    ]
    return [c for c, _, _ in rows], [s for _, s, _ in rows], np.array([d for *_, d in rows], np.float32)


def parts(name: str, fold: int = 0, seed: int = 0) -> tuple[Part, dict[str, np.ndarray], dict[str, set[str]]]:
    """A part of `grid`; distances (one decimal) and specimens of its rows."""
    labels, specimens, metres = grid()
    part = divide(Division.parse(name), labels, specimens, metres, 4, seed, fold)
    for rows in part.rows.values():
        assert {labels[i] for i in rows} == set(CLASSES)
    at = {k: np.round(metres[rows].astype(float), 3) for k, rows in part.rows.items()}
    return part, at, {k: {specimens[i] for i in rows} for k, rows in part.rows.items()}


@pytest.mark.parametrize("name", NAMES)
def test_specimens_stay_whole_in_every_division(name: str) -> None:
    for fold in range(4):
        part, _, who = parts(name, fold)
        splits.check_no_leak(part.rows, grid()[1])
        assert not who["test"] & (who["train"] | who["validation"])
        assert 0 < part.share <= 1


@pytest.mark.parametrize(
    ("name", "learnt", "tested"),
    [
        ("folds", METRES, METRES),
        ("hold-out:6", METRES, METRES),
        ("leave-distances-out", METRES[:4], METRES[4:]),
        ("leave-distances-out:2.3:5", (2.0, 2.5, 3.0, 3.5, 4.0, 4.5), (2.3, 5.0)),
        ("few-distances", (2.0, 5.0), METRES[1:-1]),
        ("few-distances:3", (2.0, 3.5, 5.0), (2.3, 2.5, 3.0, 4.0, 4.5)),
        ("unbalanced", METRES, METRES),
    ],
)
def test_what_is_chosen_by_knows_no_more_distances_than_what_is_trained(
    name: str, learnt: tuple[float, ...], tested: tuple[float, ...]
) -> None:
    part, at, _ = parts(name)
    for which in ("train", "validation"):
        assert sorted(set(at[which].tolist())) == sorted(learnt)
    assert sorted(set(at["test"].tolist())) == sorted(tested)
    if name != "unbalanced":
        assert part.share == pytest.approx(len(learnt) / len(METRES))


def test_unbalanced_means_ten_times_as_many_near_spectra_in_training_and_all_in_the_test() -> None:
    whole, part = parts("folds")[0], parts("unbalanced")
    for which in ("train", "validation"):
        counts = [int((part[1][which] == d).sum()) for d in METRES]
        assert counts == sorted(counts, reverse=True)
        assert counts[0] == pytest.approx(10 * counts[-1])
    assert np.array_equal(part[0].rows["test"], whole.rows["test"])
    assert set(part[0].rows["train"]) < set(whole.rows["train"])
    assert len(parts("unbalanced:1")[0].rows["train"]) == len(whole.rows["train"])


def test_hold_outs_differ_from_fold_to_fold_and_seed_to_seed() -> None:
    found = [frozenset(parts("hold-out:6", fold, seed)[2]["test"]) for seed in range(2) for fold in range(3)]
    assert {len(one) for one in found} == {6}
    assert len(set(found)) == 6
    assert frozenset(parts("hold-out:6", 1, 0)[2]["test"]) == found[1]


def test_names_are_canonical_and_bad_ones_are_refused() -> None:
    assert Division.parse("few-distances").name == "few-distances:2"
    assert Division.parse("leave-distances-out:5:4.50").name == "leave-distances-out:4.5:5"
    assert tuple(Division.parse(name).name for name in NAMES) == NAMES
    for name, why in [
        ("by-shot", "no such split; known: folds, hold-out"),
        ("unbalanced:much", "expected numbers"),
        ("unbalanced:0.5", "takes one number"),
        ("hold-out:2.5", "takes one number"),
        ("few-distances:2:3", "takes one number"),
        ("folds:3", "does not take"),
        ("leave-distances-out:-1", "does not take"),
    ]:
        with pytest.raises(ConfigError, match=why):
            Division.parse(name)


def test_what_a_set_cannot_give_is_refused_before_the_first_run(tmp_path: Path) -> None:
    peaks().save(tmp_path / "set.h5")
    plan = Plan(("focal",), (), folds=2, screen=Stage("screen", 1, 1), final=Stage("screen", 1, 1))
    for name, why in [
        ("leave-distances-out:3", "no such distance"),
        ("leave-distances-out:2:4", "none to learn from"),
        ("few-distances:2", "none to test"),
        ("hold-out:11", "at most"),
    ]:
        with pytest.raises(DatasetError, match=why):
            study(tmp_path / "set.h5", tmp_path / "out", Plan(**{**plan.__dict__, "splits": ("folds", name)}))
    assert not (tmp_path / "out").exists()
    one = (CLASSES[0],) * 4 + (CLASSES[1],) * 4
    names = [f"{c}-{i % 4}" for i, c in enumerate(one)]
    far = np.array([2.0] * 4 + [4.0] * 4)
    with pytest.raises(DatasetError, match=r"no spectrum of this class in the (train|validation) part"):
        divide(Division.parse("leave-distances-out"), one, names, far, 2, 0, 0)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("two")
    peaks().save(path / "set.h5")
    plan = Plan(
        ("focal", "cc-bcd:w3:r1", "cc-bcd:w3:r2"),
        ("lda",),
        folds=2,
        screen=Stage("screen", 2, 1),
        final=Stage("screen", 1, 1),
        batch=8,
        splits=("folds", "leave-distances-out"),
        stages=("screen",),
    )
    return study(path / "set.h5", path / "out", plan, jobs=1)


def test_every_split_has_rows_and_a_summary_of_its_own(two: dict[str, Any]) -> None:
    assert two["split"] == {"name": "folds", "learnt_m": [2.0, 4.0], "tested_m": [2.0, 4.0]}
    other = two["splits"]["leave-distances-out"]
    assert (other["learnt_m"], other["tested_m"]) == ([2.0], [4.0])
    reading = [n for n in other["summary"] if n.startswith("cc-bcd")]
    assert len(reading) == 1  # the one that validation preferred; all of them in the first split
    assert {n for n in two["summary"] if n.startswith("cc-bcd")} > set(reading)
    assert [r["distance_m"] for r in other["summary"]["equal"]["per_distance"]] == [4.0]
    for split, summary in (("folds", two["summary"]), ("leave-distances-out", other["summary"])):
        rows = [r for r in two["runs"] if (r["split"], r["method"]) == (split, "focal:gamma=2")]
        cells = [
            (s["class"], at) for r in rows for s in r["specimens"].values() for at in s["predicted_at_mm"]
        ]
        right = sum(called[k] for k, (_, called) in cells)
        assert summary["focal:gamma=2"]["accuracy"] == pytest.approx(
            right / sum(sum(c) for _, (_, c) in cells)
        )
    curves = {r["split"]: len(r["curve"]) for r in two["runs"] if r["method"] == "equal"}
    assert curves == {"folds": 2, "leave-distances-out": 4}  # half of the spectra, twice the epochs


def test_the_tables_hold_every_split_and_method(two: dict[str, Any]) -> None:
    text = tables(two)
    assert "Split `leave-distances-out`" in text
    assert text.startswith(f"Simulated, 48 spectra of 12 specimens, data digest {two['data']['digest'][:16]}")
    for name, e in two["summary"].items():
        assert f"| `{name}` | {100 * e['accuracy']:.1f} |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.count("|") in {rows[i].count("|") for i in range(len(rows))} for line in rows)


def test_the_plan_is_printed_without_a_run(tmp_path: Path) -> None:
    peaks().save(tmp_path / "set.h5")
    best = {"format": "libsedge-search", "version": 1, "weighting": "focal:gamma=3", "data": "another"}
    (tmp_path / "best.json").write_text(json.dumps(best))
    both = ["--split", "folds", "--split", "unbalanced"]
    chosen = ["--strategy", f"@{tmp_path / 'best.json'}", *both, "--folds", "2", "--jobs", "1"]
    out = tmp_path / "out"
    found = CliRunner().invoke(command, [str(tmp_path / "set.h5"), "-o", str(out), *chosen, "--plan"])
    assert found.exit_code == 0, found.output
    rows = [line.split()[:4] for line in found.stdout.splitlines()[1:-1]]
    assert ["screen", "folds", "8", "32"] in rows  # equal, the found one, six baselines; 2 seeds, 2 folds
    assert ["screen", "unbalanced:10", "8", "32"] in rows
    assert "hours" in found.stdout
    assert not out.exists()


def test_the_full_preset_holds_all_splits_and_both_published_nets() -> None:
    full = PRESETS["full"]
    assert full.splits == NAMES
    assert {"cnn:a", "cnn:b"} <= set(full.baselines)
    assert min(full.screen.seeds, full.final.seeds) >= 10
    assert "cnn:a" not in {t.method for t in full.elsewhere(NAMES[1], None)}  # days of work for a baseline
    keys = [t.key for t in [*full.screening(), *(t for s in NAMES[1:] for t in full.elsewhere(s, None))]]
    assert len(set(keys)) == len(keys)


def test_folds_test_every_specimen_once_and_share_none() -> None:
    data = peaks(6)
    labels, specimens = data.label.tolist(), data.specimen.tolist()
    found = folds(labels, specimens, 3, 5)
    tested = [specimens[i] for s in found for i in s["test"]]
    assert sorted(tested) == sorted(specimens)
    for split in found:
        splits.check_no_leak(split, specimens)
        for part in ("train", "validation", "test"):
            assert {labels[i] for i in split[part]} == set(CLASSES)
        assert sum(map(len, split.values())) == len(specimens)
    other = folds(labels, specimens, 3, 6)
    assert any(not np.array_equal(a["test"], b["test"]) for a, b in zip(found, other, strict=True))


def test_nine_reads_hold_outs_that_both_methods_were_tested_on(tmp_path: Path) -> None:
    rows = [
        {"seed": 0, "fold": f, "method": m, "status": "complete", "accuracy": a}
        for m, shares in (("sk:lda", (0.5, 0.7, 0.9)), ("focal:gamma=2", (0.4, 0.9)), ("equal", (0.1, 0.2)))
        for f, a in enumerate(shares)
    ]
    found = nine.of_rows(rows, ("sk:lda", "focal:gamma=2"))
    assert np.allclose(found, [[50, 40], [70, 90]])
    assert nine.told(found)["share of splits with 8.45 points or more"] == 1.0
    with pytest.raises(ConfigError, match="both methods"):
        nine.of_rows(rows, ("sk:lda", "sk:svm"))
    peaks(6).save(tmp_path / "set.h5")
    measured = nine.accuracies(str(tmp_path / "set.h5"), ("equal", "sk:1-nn"), 1, epochs=1)
    assert measured.shape == (1, 2)
    assert measured.min() >= 0
    assert measured.max() <= 100
