"""The study on made-up peaks: folds, rows, resuming after kill -9, divergence, selection, the command."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from libsedge.errors import ConfigError, DatasetError, RunError
from libsedge_training import pool
from libsedge_training.prepare import data_digest
from libsedge_training.spectra import SpectraSet
from libsedge_training.study import summary, work
from libsedge_training.study.baselines import BASELINES
from libsedge_training.study.data import binned, prepare
from libsedge_training.study.divide import folds
from libsedge_training.study.plan import PRESETS, Plan, Stage, Task
from libsedge_training.study.run import Folder, applicable, study

CLASSES = ("basalt", "clay", "salt")


def peaks(specimens: int = 4) -> SpectraSet:
    """Three Gaussian peaks a class, Poisson noise, 2 distances, 2 shots (made up)."""
    rng = np.random.default_rng(0)
    wavelength = np.linspace(240.5, 849.5, 600)
    rows = [(c, s, d) for c in range(3) for s in range(specimens) for d in (2.0, 4.0) for _ in range(2)]
    signal_ = [
        5 + 40 * np.exp(-(((wavelength[:, None] - np.array([300, 420, 650]) - 4 * c) / 3) ** 2)).sum(1) / d
        for c, _, d in rows
    ]
    return SpectraSet(
        rng.poisson(signal_).astype(np.uint16),
        wavelength,
        specimen=np.array([f"{CLASSES[c]}-{s}" for c, s, _ in rows]),
        label=np.array([CLASSES[c] for c, _, _ in rows]),
        distance_m=np.array([d for *_, d in rows]),
        source="made up",
        simulated=True,
    )


PLAN = Plan(
    ("focal:gamma=2", "cc-bcd:w3:r1:a=8:b=8"),
    ("1-nn", "lda"),
    folds=2,
    screen=Stage("screen", 2, 2),
    final=Stage("screen", 1, 1),
    finalists=1,
    batch=8,
    timing_rounds=1,
)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("set") / "set.h5"
    peaks().save(path)
    return path


@pytest.fixture(scope="module")
def done(stored: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("study") / "one"
    return out, study(stored, out, PLAN, jobs=1)


def same(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without what depends on the clock, in the order of their keys."""
    drop = ("seconds", "epoch_seconds", "ratios", "answers")
    kept = [{k: v for k, v in r.items() if k not in drop} for r in rows if r["stage"] != "timing"]
    return sorted(kept, key=lambda r: r["key"])


def test_a_study_leaves_rows_summary_and_report(done: tuple[Path, dict[str, Any]]) -> None:
    out, found = done
    assert {p.name for p in out.iterdir()} == {"plan.json", "runs", "study.json", "report.html"}
    assert json.loads((out / "study.json").read_text()) == found
    keys = {p.stem for p in (out / "runs").glob("*.json")}
    assert keys == {r["key"] for r in found["runs"]}
    screen = [r for r in found["runs"] if r["stage"] == "screen"]
    assert len(screen) == 5 * 2 * 2
    for method in ("equal", "focal:gamma=2", "sk:1-nn"):  # each specimen is tested once a seed
        for seed in range(2):
            tested = [n for r in screen if (r["method"], r["seed"]) == (method, seed) for n in r["specimens"]]
            assert sorted(tested) == sorted(set(peaks().specimen.tolist()))
    for name in ("focal:gamma=2", "cc-bcd:w3:r1:a=8:b=8"):
        entry = found["summary"][name]
        assert entry["minus_equal"]["low"] <= entry["minus_equal"]["mean"] <= entry["minus_equal"]["high"]
        assert entry["p_holm"] >= entry["p"]
        assert entry["epoch_time_ratio"] > 0
        for key in ("accuracy", "precision", "recall", "f1", "worst_distance", "ece"):
            assert 0 <= entry[key] <= 1
    final = [r for r in found["runs"] if r["stage"] == "final"]
    assert {r["method"] for r in final} >= {"equal", "cc-bcd:w3:r1:a=8:b=8"}
    for r in final:  # learnt from the validation specimens, so nothing may be chosen by them
        assert not {"validation_accuracy", "validation_loss"} & set(r)
        assert abs(r["int8_accuracy"] - r["accuracy"]) <= 1 - r["int8_agreement"] + 1e-9
    assert found["summary"]["equal"]["int8_accuracy"] == pytest.approx(
        np.mean([r["int8_accuracy"] for r in final if r["method"] == "equal"])
    )
    assert all("int8_accuracy" in found["summary"][name] for name in PLAN.strategies)
    assert found["summary"]["sk:1-nn"]["int8_accuracy"] is None
    assert found["summary"]["equal"]["minus_equal"] == {"mean": 0, "low": 0, "high": 0}
    for entry in found["summary"].values():  # whoever reads the summary finds every figure in every entry
        assert {"accuracy", "precision", "recall", "f1", "worst_distance", "int8_accuracy", "ece"} <= set(
            entry
        )
        assert {"epoch_time_ratio", "minus_equal"} <= set(entry)
    assert found["summary"]["sk:1-nn"]["ece"] is None
    for name in ("equal", "sk:lda"):
        e = found["summary"][name]
        assert e["ece"] == e["ece_after"]["value"]
        assert 0 <= e["ece_floor"]["specimens"]["mean"] <= e["ece_floor"]["specimens"]["high"] <= 1
        accuracies = [row["accuracy"] for row in e["per_distance"]]
        assert e["distance_spread"]["value"] == pytest.approx(max(accuracies) - min(accuracies))
    assert {p.stem for p in (out / "runs").glob("*.npz")} == {
        r["key"] for r in found["runs"] if r["stage"] != "timing" and r["method"] != "sk:1-nn"
    }
    best = found["best"]["strategy"]
    assert best in PLAN.strategies[1:]
    names = set(found["controls"]["controls"])
    of = found["controls"]["of"]
    assert names == {f"permuted:{of}", f"distance-mean:{of}", f"class-mean:{of}", "equal*2"}
    twice = [r for r in found["runs"] if r["method"] == "equal*2"]
    assert {len(r["curve"]) for r in twice} == {4}
    page = (out / "report.html").read_text()
    assert "simulated" in page
    assert "<script" not in page
    assert best in page


def test_the_final_stage_learns_from_the_validation_specimens_and_never_from_the_test(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str]] = []

    class Watched(work.fit.Trainer):
        def __init__(self, config: Any, spec: Any, parts: Any) -> None:
            seen.append(set(parts.train.specimen.tolist()))
            super().__init__(config, spec, parts)

    monkeypatch.setattr(work.fit, "Trainer", Watched)
    data = peaks(6)
    data.save(stored.with_name("six.h5"))
    for stage in ("screen", "final"):
        task = Task(stage, "equal", "screen", 1, 0, 0)
        work.perform(task, PLAN, str(stored.with_name("six.h5")), data_digest(data))
    split = folds(data.label.tolist(), data.specimen.tolist(), PLAN.folds, 0)[0]
    of = {part: set(data.specimen[rows].tolist()) for part, rows in split.items()}
    assert seen == [of["train"], of["train"] | of["validation"]]


def test_the_summary_counts_what_the_rows_say(done: tuple[Path, dict[str, Any]]) -> None:
    """Accuracy of the summary = mean over the seeds of hits over spectra, counted here by hand."""
    found = done[1]
    shares = []
    for seed in range(2):
        hit = total = 0
        for r in found["runs"]:
            if (r["stage"], r["method"], r["seed"]) == ("screen", "focal:gamma=2", seed):
                for s in r["specimens"].values():
                    for _, called in s["predicted_at_mm"]:
                        hit, total = hit + called[s["class"]], total + sum(called)
        assert total == len(peaks())
        shares.append(hit / total)
    entry = found["stages"]["screen"]["focal:gamma=2"]
    assert entry["accuracy"] == pytest.approx(np.mean(shares))


def test_a_study_goes_on_where_it_was(
    stored: Path, done: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(Exception):
        pass

    kept: list[str] = []
    real = Folder.keep

    def keep(self: Folder, row: Any) -> None:
        if len(kept) == 7:
            raise Cut
        kept.append(row["key"])
        real(self, row)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "keep", keep)
        with pytest.raises(Cut):
            study(stored, tmp_path / "s", PLAN, jobs=1)
    assert not (tmp_path / "s" / "study.json").exists()
    before = {k: (tmp_path / "s" / "runs" / f"{k}.json").stat().st_mtime_ns for k in kept}
    again = study(stored, tmp_path / "s", PLAN, jobs=1)
    assert {k: (tmp_path / "s" / "runs" / f"{k}.json").stat().st_mtime_ns for k in kept} == before
    assert same(again["runs"]) == same(done[1]["runs"])


def test_another_plan_other_spectra_and_damaged_rows_are_refused(
    stored: Path, done: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    out = done[0]
    with pytest.raises(RunError, match="another plan"):
        study(stored, out, replace(PLAN, batch=4), jobs=1)
    peaks(5).save(tmp_path / "other.h5")
    with pytest.raises(RunError, match="other spectra"):
        study(tmp_path / "other.h5", out, PLAN, jobs=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        study(stored, tmp_path / "mine", PLAN, jobs=1)
    folder = Folder(tmp_path / "f")
    folder.runs.mkdir(parents=True)
    task = PLAN.screening()[0]
    (folder.runs / f"{task.key}.json").write_text('{"key": ')
    with pytest.raises(RunError, match="remove it to run it again"):
        folder.row(task)
    (folder.runs / f"{task.key}.npz").write_bytes(b"half")
    with pytest.raises(RunError, match="remove it and its row"):
        folder.answers({"key": task.key})
    assert folder.answers({"key": "another"}) is None


def test_strategies_that_need_compositions_are_left_out_where_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = sorted(set(peaks().specimen.tolist()))
    plan = replace(PLAN, strategies=("focal", "virtual"))
    less, why = applicable(plan, names)
    assert less.strategies == ("equal", "focal:gamma=2")
    assert "basalt-0" in why
    with pytest.raises(DatasetError, match="LIBSEDGE_MATERIALS"):
        applicable(replace(PLAN, strategies=("virtual",)), names)
    assert applicable(PLAN, names) == (PLAN, "")
    rows = [f"{name},{name[:4]},mineral,made up,SiO2," for name in names]
    (tmp_path / "own.csv").write_text("\n".join(["name,class,kind,source,formula,composition", *rows]))
    monkeypatch.setenv("LIBSEDGE_MATERIALS", str(tmp_path / "own.csv"))
    assert applicable(plan, names) == (plan, "")


def arguments(stored: Path, out: Path) -> list[str]:
    command = [sys.executable, "-c", "from libsedge.cli import main; main()", "study", str(stored)]
    chosen = ["--strategy", "focal", "--folds", "2", "--screen-epochs", "20", "--screen-seeds", "1"]
    skipped = [word for stage in ("controls", "final", "timing") for word in ("--skip", stage)]
    return [*command, "-o", str(out), *chosen, *skipped, "--jobs", "2"]


@pytest.mark.timeout(1200)
def test_kill_9_of_the_study_loses_no_finished_run(stored: Path, tmp_path: Path) -> None:
    """Through the command and Dask: killed after a few rows, its workers end, called again it completes."""
    import psutil

    out = tmp_path / "s"
    with open(tmp_path / "log", "wb") as log:
        running = subprocess.Popen(arguments(stored, out), stdout=log, stderr=log)
    try:
        limit = time.monotonic() + 400  # a few seconds on an idle machine
        while len(list(out.glob("runs/*.json"))) < 2:
            assert running.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < limit
            time.sleep(0.02)
        workers = psutil.Process(running.pid).children(recursive=True)
    finally:
        running.kill()  # SIGKILL
        running.wait()
    gone, alive = psutil.wait_procs(workers, timeout=120)
    assert gone
    assert not alive
    rows = {p: p.read_bytes() for p in out.glob("runs/*.json")}
    assert 2 <= len(rows) < 16, "killed too late to prove anything"
    for text in rows.values():
        json.loads(text)
    assert not (out / "study.json").exists()
    again = subprocess.run(arguments(stored, out), capture_output=True, text=True, timeout=500)
    assert again.returncode == 0, again.stderr
    assert "runs on 2 workers: about" in again.stderr
    assert all(p.read_bytes() == text for p, text in rows.items())
    assert len(list(out.glob("runs/*.json"))) == 16
    assert "best weighting by validation: focal:gamma=2 (simulated spectra)" in again.stdout


def die_once(task: Task, marker: str) -> dict[str, Any]:
    """Kills its own process at the first call."""
    path = Path(marker)
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"pid": os.getpid()}


def test_kill_9_of_a_worker_costs_nothing_but_time(stored: Path, tmp_path: Path) -> None:
    tasks = [Task("screen", "equal", "screen", 1, seed, 0) for seed in range(4)]
    with pool.open_pool(2, None) as workers:
        assert workers.workers == 2
        found = list(workers.run(die_once, tasks, str(tmp_path / "marker")))
        assert sorted(t.seed for t, _ in found) == [0, 1, 2, 3]
        assert (tmp_path / "marker").exists()
        assert all(row["pid"] != os.getpid() for _, row in found)
        # an address of a scheduler: its workers, which outlive the client
        with pool.open_pool(None, workers._client.scheduler.address) as far:  # type: ignore[attr-defined]
            assert far.workers >= 1  # the killed one may still be on its way back
            assert len(list(far.run(die_once, tasks[:2], str(tmp_path / "marker")))) == 2
        # the same rows as in this process
        digest = data_digest(peaks())
        task = PLAN.screening()[1]
        elsewhere = [row for _, row in workers.run(work.perform, [task], PLAN, str(stored), digest)]
        assert same(elsewhere) == same([work.perform(task, PLAN, str(stored), digest)])


def test_a_scheduler_that_is_not_there_is_a_clear_error() -> None:
    with pytest.raises(ConfigError, match="scheduler"):
        pool.open_pool(None, "nonsense://x")
    with pytest.raises(ConfigError, match="jobs = 0"):
        pool.open_pool(0, None)


def test_a_diverged_run_is_kept_and_left_out(stored: Path, done: tuple[Path, dict[str, Any]]) -> None:
    digest = data_digest(peaks())
    row = work.perform(PLAN.screening()[0], replace(PLAN, lr=1e30), str(stored), digest)
    assert row["status"] == "diverged"
    assert "the loss became" in row["why"]
    rows = copy.deepcopy(done[1]["runs"])
    for r in rows:
        if (r["stage"], r["method"], r["seed"], r["fold"]) == ("screen", "focal:gamma=2", 0, 0):
            for key in ("specimens", "accuracy", "curve", "validation_accuracy"):
                del r[key]
            r |= {"status": "diverged", "why": "the loss became nan"}
    found = summary.summarise(rows, PLAN, 3)
    entry = found["stages"]["screen"]["focal:gamma=2"]
    assert (entry["runs"], entry["diverged"]) == (3, 1)
    assert summary.rank_by_validation(rows, "screen", PLAN.strategies)[-1] != "focal:gamma=2"
    assert "focal:gamma=2" not in summary.finalists(rows, PLAN)
    with pytest.raises(RunError, match="every run of equal weights diverged"):
        summary.summarise([r for r in rows if r["method"] != "equal"], PLAN, 3)


def test_the_test_parts_have_no_say_in_what_is_chosen(done: tuple[Path, dict[str, Any]]) -> None:
    rows = copy.deepcopy(done[1]["runs"])
    chosen = summary.finalists(rows, PLAN), summary.best_weighting(rows, PLAN)
    names = list(PLAN.strategies)
    picked = [r["key"] for r in summary._picked(rows, "screen", names)]
    for r in rows:
        for s in r.get("specimens", {}).values():  # all wrong for the chosen one, all right for the others
            for cell in s["predicted_at_mm"]:
                right = r["method"] != chosen[1]
                cell[1] = [0, 0, 0]
                cell[1][s["class"] if right else (s["class"] + 1) % 3] = 2
    assert (summary.finalists(rows, PLAN), summary.best_weighting(rows, PLAN)) == chosen
    assert [r["key"] for r in summary._picked(rows, "screen", names)] == picked
    entry = summary.summarise(rows, PLAN, 3)["stages"]["screen"][chosen[1]]
    assert entry["minus_equal"] == {"mean": -1.0, "low": -1.0, "high": -1.0}
    # negative control: the validation figures do decide
    for r in rows:
        if r["method"] == "cc-bcd:w3:r1:a=8:b=8":
            r["validation_accuracy"] = 2.0
    assert summary.best_weighting(rows, PLAN) == "cc-bcd:w3:r1:a=8:b=8"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: replace(d, distance_m=np.full(len(d), 2, np.float32)), "at least two"),
        (lambda d: replace(d, distance_m=np.full(len(d), np.nan, np.float32)), "first: row 0"),
        (lambda d: replace(d, label=np.where(np.arange(len(d)) == 5, "", d.label)), "row 5"),
        (lambda d: d.select(~np.isin(d.specimen, ["clay-1", "clay-2", "clay-3"])), "has 1 specimen"),
        (lambda d: replace(d, counts=np.zeros_like(d.counts)), "no spectrum has a positive signal"),
    ],
)
def test_sets_that_cannot_be_studied_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    change(peaks()).save(tmp_path / "set.h5")
    with pytest.raises(DatasetError, match=message):
        study(tmp_path / "set.h5", tmp_path / "out", PLAN, jobs=1)
    assert not (tmp_path / "out").exists()


def test_bins_keep_the_mean_signal_of_their_valid_points() -> None:
    values = np.array([[1, 3, 0, 0, 2, 2]], np.float32)
    mask = np.array([True, True, True, False, False, False])
    got, valid = binned(values, mask, 2)
    assert np.allclose(got, [[np.sqrt(5), 0, 0]])
    assert valid.tolist() == [True, True, False]
    data = prepare(peaks())
    assert data.values.shape == (48, 1800)
    assert np.allclose(
        (data.values**2).reshape(48, 3, 600).mean(axis=2), 1, atol=1e-2
    )  # the axis ends inside the grid


@pytest.mark.parametrize("name", list(BASELINES))
def test_baselines_learn_what_can_be_learnt(name: str, stored: Path) -> None:
    task = Task("screen", f"sk:{name}", "", 0, 0, 0)
    digest = data_digest(peaks())
    row = work.perform(task, PLAN, str(stored), digest)
    assert row["accuracy"] > 0.6
    assert (row["ece"] is None) == (name in ("svm", "1-nn", "pls-da"))


def test_presets_are_plans_whose_rows_have_names_of_their_own() -> None:
    for name, plan in PRESETS.items():
        keys = [t.key for t in plan.screening()]
        assert len(set(keys)) == len(keys), name
        assert plan.strategies[0] == "equal"
    assert PRESETS["full"].screen.seeds >= 10
    readings = {n.split(":")[1] + n.split(":")[2] for n in PRESETS["full"].strategies if n.startswith("cc-")}
    assert len(readings) == 32  # eight formulas on four references
    for change, message in [
        ({"strategies": ("best",)}, "no such strategy"),
        ({"baselines": ("forest",)}, "known: lda"),
        ({"folds": 1}, "folds = 1"),
        ({"strategies": ("equal",)}, "name a strategy"),
    ]:
        with pytest.raises(ConfigError, match=message):
            replace(PLAN, **change)  # type: ignore[arg-type]
