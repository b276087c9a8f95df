"""The analysis of a replicated study on made-up rows whose effect is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from libsedge.errors import RunError
from libsedge_training.study import replicated, replicated_summary
from libsedge_training.study.confidence import Answers
from libsedge_training.study.replicated import CC_BCD, OURS
from libsedge_training.study.replicated_page import replicated_page, tables
from libsedge_training.study.run import Folder

CLASSES, EACH, MM = 3, 6, (2000, 5000)
EQUAL = "equal"


def made_up(
    universes: int, effect: float, seed: int, between: float = 0.0, divisions: int = 1
) -> tuple[list[dict[str, Any]], dict[str, Answers]]:
    """Rows and answers of three methods: a specimen is right in a share of its spectra that is mostly 0 or 1; `OURS`
    has the same specimens, with a chance of `effect` (and a universe's own part of it, standard deviation `between`)
    that a wrong one is right or, where negative, the reverse. `CC_BCD` is `equal` again.
    """
    rng = np.random.default_rng(seed)
    rows, answers = [], {}
    for place in range(universes):
        chance = effect + between * rng.standard_normal()
        names = [f"u{place + 1} {k}-{i}" for k in range(CLASSES) for i in range(EACH)]
        truth = np.repeat(np.arange(CLASSES), EACH)
        right = rng.random(len(names)) < 0.7
        other = np.where(rng.random(len(names)) < abs(chance), chance > 0, right)
        for division in range(divisions):
            for fold in range(2):
                here = np.arange(len(names)) % 2 == fold
                for method, hits in ((EQUAL, right), (OURS, other), (CC_BCD, right)):
                    row = _row(
                        method,
                        place,
                        fold,
                        [n for n, h in zip(names, here, strict=True) if h],
                        truth[here],
                        hits[here],
                    )
                    row["division"] = division
                    key = f"{place}-{division}-{method}-{fold}"
                    answers[key] = row.pop("answers")
                    rows.append({**row, "key": key})
    return rows, answers


def _row(
    method: str, place: int, fold: int, names: list[str], truth: np.ndarray, hits: np.ndarray
) -> dict[str, Any]:
    called = np.where(hits, truth, (truth + 1) % CLASSES)
    cells = {
        n: {
            "class": int(t),
            "predicted_at_mm": [[d, (4 * np.eye(CLASSES, dtype=int)[c]).tolist()] for d in MM],
        }
        for n, t, c in zip(names, truth, called, strict=True)
    }
    logits = np.repeat(2.0 * np.eye(CLASSES, dtype=np.float32)[called], 8, axis=0)
    return {
        "stage": "final",
        "method": method,
        "status": "complete",
        "seed": place,
        "fold": fold,
        "specimens": cells,
        "accuracy": float(hits.mean()),
        "int8_accuracy": float(hits.mean()) - 0.001,
        "int8_agreement": 1.0,
        "n": 8 * len(names),
        "seconds": 1.0,
        "answers": Answers(logits, np.repeat(truth, 8), np.repeat(np.array(names), 8)),
    }


def compared(rows: list[dict[str, Any]]) -> dict[str, Any]:
    whole = replicated_summary.Universes(rows, CLASSES, lambda row: None)
    counts = [whole.of([r for r in rows if r["method"] == name]) for name in (OURS, EQUAL)]
    found: dict[str, Any] = whole.compared(*counts)["accuracy"]
    return found


def test_a_known_effect_is_found_and_none_is_not() -> None:
    rows, _ = made_up(8, 0.5, seed=0)
    by_hand = []
    for place in range(8):
        of = [
            {r["fold"]: r["accuracy"] for r in rows if r["seed"] == place and r["method"] == name}
            for name in (OURS, EQUAL)
        ]
        by_hand.append(np.mean([of[0][f] - of[1][f] for f in (0, 1)]))
    found = compared(rows)
    assert found["mean"] == pytest.approx(np.mean(by_hand))
    assert [u["mean"] for u in found["universes"]] == pytest.approx(by_hand)
    for interval in (found["these"], found["others"], found["t"]):
        assert 0 < interval["low"] < found["mean"] < interval["high"]
    assert found["p"] < 0.01
    # the same rows under both names: nothing, without any width
    same = [{**r, "method": OURS} for r in rows if r["method"] == EQUAL] + [
        r for r in rows if r["method"] == EQUAL
    ]
    nothing = compared(same)
    assert (nothing["mean"], nothing["others"], nothing["p"]) == (0, {"low": 0, "high": 0}, 1)


def test_intervals_over_universes_cover_what_those_of_one_set_of_universes_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Universes whose own effects differ by more than their specimens say, 0 on average: an interval that takes the
    universes for given claims an effect too often (the negative control)."""
    difference = replicated_summary.difference
    monkeypatch.setattr(
        replicated_summary, "difference", lambda a, b, seeds_too=True: difference(a, b, 200, seeds_too)
    )
    held = dict.fromkeys(("these", "others", "t"), 0)
    for repeat in range(30):
        found = compared(_two_signs(8, repeat))
        for name in held:
            held[name] += found[name]["low"] <= 0 <= found[name]["high"]
    assert held["others"] >= 25
    assert held["t"] >= 25
    assert held["these"] <= 18


def _two_signs(universes: int, seed: int) -> list[dict[str, Any]]:
    """Rows in which `OURS` is right, or wrong, in all spectra of half of the specimens: which, a universe decides."""
    rng = np.random.default_rng(seed)
    rows, _ = made_up(universes, 0.0, seed)
    signs = rng.random(universes) < 0.5
    for row in rows:
        if row["method"] == OURS:
            for at, one in enumerate(row["specimens"].values()):
                if at % 2:
                    share = signs[row["seed"]]
                    called = one["class"] if share else (one["class"] + 1) % CLASSES
                    one["predicted_at_mm"] = [
                        [d, (4 * np.eye(CLASSES, dtype=int)[called]).tolist()] for d in MM
                    ]
        else:
            for at, one in enumerate(row["specimens"].values()):
                if at % 2:
                    half = 2 * (
                        np.eye(CLASSES, dtype=int)[one["class"]]
                        + np.eye(CLASSES, dtype=int)[(one["class"] + 1) % CLASSES]
                    )
                    one["predicted_at_mm"] = [[d, half.tolist()] for d in MM]
    return rows


def test_specimens_are_resampled_within_their_universe_and_class() -> None:
    rows, _ = made_up(3, 0.2, seed=1)
    whole = replicated_summary.Universes(rows, CLASSES, lambda row: None)
    counts = whole.of([r for r in rows if r["method"] == OURS])
    specimens, seeds = counts.resamples(50)
    for place in range(3):
        for k in range(CLASSES):
            here = (whole.place == place) & (counts.truth == k)
            assert here.sum() == EACH
            assert (specimens[:, here].sum(axis=1) == EACH).all()
    assert (seeds.sum(axis=1) == 3).all()
    # two divisions of the same universe are one universe
    twice, _ = made_up(3, 0.2, seed=1, divisions=2)
    assert compared(twice)["mean"] == pytest.approx(compared(rows)["mean"])


def test_the_analysis_has_every_figure_of_the_plan() -> None:
    rows, answers = made_up(3, 0.5, seed=2)
    found = replicated_summary.analyse(rows, CLASSES, lambda row: answers[row["key"]])
    assert list(found["summary"]) == [EQUAL, OURS, CC_BCD]
    assert list(found["comparisons"]) == [f"{a} minus {b}" for a, b in replicated.COMPARISONS]
    nothing = found["comparisons"][f"{CC_BCD} minus {EQUAL}"]["accuracy"]
    assert (nothing["mean"], nothing["p_holm"]) == (0, 1)
    ours = found["summary"][OURS]
    assert ours["int8_minus_float"]["mean"] == pytest.approx(-0.001)
    assert ours["selective"]["coverage"] == 0.85
    assert {"value", "low", "high"} <= set(ours["ece_after"])
    assert "specimens" in ours["ece_floor"]
    # one confidence for all answers (but for the folds' temperatures): calibrated to the accuracy, nothing to rank by
    assert ours["ece_after"]["value"] < ours["ece_before"]["value"]
    assert ours["selective"]["error_ratio"]["value"] == pytest.approx(1.0, abs=0.2)
    # wrong answers that are less sure
    shy = {
        k: replace(a, logits=np.where((a.logits.argmax(1) == a.truth)[:, None], a.logits, a.logits / 4))
        for k, a in answers.items()
    }
    ranked = replicated_summary.analyse(rows, CLASSES, lambda row: shy[row["key"]])["summary"][OURS][
        "selective"
    ]
    assert ranked["error_ratio"]["value"] < 0.6
    whole = {
        "simulated": True,
        "net": "screen",
        "universes": [1, 2, 3],
        "seconds": 60.0,
        "plan": replicated.replicated_plan().to_json(),
        **found,
    }
    words, page = tables(whole), replicated_page(whole)
    mean = 100 * found["comparisons"][f"{OURS} minus {EQUAL}"]["accuracy"]["mean"]
    assert f"{mean:+.1f} (" in words
    assert page.count("<img") == 4
    assert "Forest plot" in page


def test_only_complete_universes_count(tmp_path: Path) -> None:
    plan = replicated.replicated_plan()
    with pytest.raises(RunError, match="no universe is complete"):
        replicated_summary.summarise(tmp_path, plan)
    tasks = plan.finals(replicated.METHODS)
    rows, _ = made_up(1, 0.5, seed=3)
    for number, some in ((2, tasks), (3, tasks[:-1])):
        folder = Folder(tmp_path / f"u{number}-screen")
        folder.open(plan, "digest")
        for task in some:
            of = next(r for r in rows if r["method"] == task.method and r["fold"] == task.fold % 2)
            folder.keep({**of, "key": task.key, "fold": task.fold, "seed": 0})
    rows, numbers, _ = replicated_summary.gather(tmp_path, plan)
    assert numbers == [2]
    assert len(rows) == len(tasks)
    assert {(r["seed"], r["universe"]) for r in rows} == {(0, 2)}
