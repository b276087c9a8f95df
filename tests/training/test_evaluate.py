"""Metrics against a table counted by hand; evaluation of a run; the commands."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from libsedge.cli import main
from libsedge.errors import DatasetError, RunError
from libsedge_training import evaluate, fit, run_folder
from libsedge_training.spectra import SpectraSet

KEYS = set(
    [
        "accuracy",
        "precision",
        "recall",
        "f1",
        "per_class",
        "per_distance",
        "confusion",
        "ece",
        "brier",
        "n",
        "simulated",
    ]
)

# Six spectra, three classes; predicted 0 0 1 1 0 1.
TRUE = np.array([0, 0, 0, 1, 1, 2])
PROBABILITIES = np.array(
    [
        [0.82, 0.10, 0.08],
        [0.62, 0.30, 0.08],
        [0.20, 0.72, 0.08],
        [0.10, 0.82, 0.08],
        [0.52, 0.40, 0.08],
        [0.30, 0.52, 0.18],
    ]
)
DISTANCE = np.array([2, 2, 4, 2, 4, np.nan])
SPECIMEN = ["a1", "a2", "a1", "b1", "b1", "c1"]


def hand_case() -> dict[str, Any]:
    return evaluate.metrics(TRUE, PROBABILITIES, DISTANCE, SPECIMEN, ["a", "b", "c"], simulated=True)


def test_metrics_equal_the_hand_count() -> None:
    found = hand_case()
    assert set(found) >= KEYS
    assert found["confusion"] == [[2, 1, 0], [1, 1, 0], [0, 1, 0]]
    assert found["accuracy"] == pytest.approx(3 / 6)
    assert found["precision"] == pytest.approx((2 / 3 + 1 / 3 + 0) / 3)
    assert found["recall"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert found["f1"] == pytest.approx((2 / 3 + 2 / 5 + 0) / 3)
    assert found["brier"] == pytest.approx((0.0488 + 0.2408 + 1.1648 + 0.0488 + 0.6368 + 1.0328) / 6)
    # bins of 1/15: two right at 0.82, one right at 0.62, one wrong at 0.72, two wrong at 0.52
    assert found["ece"] == pytest.approx((2 * 0.18 + 0.38 + 0.72 + 2 * 0.52) / 6)
    assert found["n"] == 6
    assert found["simulated"] is True
    assert found["per_class"] == [
        {"class": "a", "n": 3, "specimens": 2, "precision": pytest.approx(2 / 3), "recall": pytest.approx(2
        / 3), "f1": pytest.approx(2 / 3)}, {"class": "b", "n": 2, "specimens": 1, "precision":
        pytest.approx(1 / 3), "recall": pytest.approx(1 / 2), "f1": pytest.approx(2 / 5)}, {"class": "c",
        "n": 1, "specimens": 1, "precision": 0.0, "recall": 0.0, "f1": 0.0},
    ]  # fmt: skip
    rows = found["per_distance"]
    assert [(r["distance_m"], r["n"], r["specimens"], r["accuracy"]) for r in rows] == [
        (2.0, 3, 3, 1.0),
        (4.0, 2, 2, 0.0),
        (None, 1, 1, 0.0),
    ]
    votes = {r["specimen"]: (r["vote"], r["vote_correct"]) for r in found["per_specimen"]}
    assert votes == {"a1": ("a", True), "a2": ("a", True), "b1": ("b", True), "c1": ("b", False)}
    assert found["vote_accuracy"] == 0.75
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_another_answer_gives_other_figures() -> None:
    """Negative control: one spectrum changed moves every headline figure."""
    before = hand_case()
    changed = PROBABILITIES.copy()
    changed[5] = [0.1, 0.2, 0.7]
    after = evaluate.metrics(TRUE, changed, DISTANCE, SPECIMEN, ["a", "b", "c"], simulated=True)
    for key in ("accuracy", "precision", "recall", "f1", "confusion", "ece", "brier", "vote_accuracy"):
        assert after[key] != before[key], key


def test_intervals_count_specimens_and_not_shots() -> None:
    from scipy.stats import binomtest

    for right, trials in [(0, 3), (2, 4), (9, 9), (5, 37)]:
        expected = binomtest(right, trials).proportion_ci(method="wilson")
        assert np.allclose(evaluate.wilson(right / trials, trials), (expected.low, expected.high))
    # 100 right shots of two specimens prove as much as two shots
    found = evaluate.metrics(
        np.repeat([0, 1], 50), np.repeat(np.eye(2), 50, axis=0), np.full(100, 2.0), ["x"] * 50 + ["y"] * 50,
        ["a", "b"], False
    )  # fmt: skip
    assert found["accuracy"] == 1
    assert found["ece"] == 0
    assert found["brier"] == 0
    assert found["accuracy_interval"] == pytest.approx(evaluate.wilson(1.0, 2))
    assert found["per_distance"][0]["low"] < 0.5


def test_reliability_bins_are_half_open_and_complete() -> None:
    confidence = np.linspace(0.001, 1, 500)
    rows = evaluate.reliability(confidence, np.ones(500, bool))
    assert len(rows) == 15
    assert sum(r["n"] for r in rows) == 500
    assert all(r["low"] < r["confidence"] <= r["high"] for r in rows)
    assert evaluate.reliability(np.array([0.0, 1.0]), np.array([False, True]))[0]["n"] == 1


def test_nothing_to_evaluate_is_refused() -> None:
    with pytest.raises(DatasetError, match="no spectra"):
        evaluate.metrics(TRUE[:0], PROBABILITIES[:0], DISTANCE[:0], [], ["a", "b", "c"], False)
    with pytest.raises(ValueError, match=r"\[6, 2\]"):
        evaluate.metrics(TRUE, PROBABILITIES, DISTANCE, SPECIMEN, ["a", "b"], False)


def made_up_set() -> SpectraSet:
    """One strong peak a class on noise (numpy, not spectra); 2 classes, 4 specimens each, 4 shots at 2
    distances.
    """
    rng = np.random.default_rng(0)
    wavelength = np.linspace(240.5, 849.5, 600)
    label = np.repeat(["clay", "salt"], 16)
    counts = rng.poisson(20, (32, 600)).astype(np.uint16)
    counts[:16, 100:105] += 500
    counts[16:, 300:305] += 500
    specimen = np.array([f"{c}-{i // 4 % 4}" for i, c in enumerate(label)])
    distance = np.tile([2.0, 2.0, 5.0, 5.0], 8)
    return SpectraSet(counts, wavelength, distance, specimen, label, simulated=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with set.h5 and a run made by the command line."""
    folder = tmp_path_factory.mktemp("evaluate")
    made_up_set().save(folder / "set.h5")
    done = CliRunner().invoke(
        main,
        [
            *("train", str(folder / "set.h5"), "-o", str(folder / "run"), "--net", "s", "--batch", "8"),
            *("--epochs", "4", "--test-specimens", "2", "--validation-specimens", "2", "--threads", "1"),
        ],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "validation loss" in done.output
    assert "simulated" in done.output
    return folder


def test_evaluate_scores_the_test_part_of_the_run(trained: Path) -> None:
    done = CliRunner().invoke(main, ["evaluate", str(trained / "run")])
    assert done.exit_code == 0, done.output
    assert "(simulated spectra)" in done.output
    found = json.loads((trained / "run" / "evaluation.json").read_text())
    assert set(found) >= KEYS
    assert (found["n"], found["specimens"], found["split"], found["model"]) == (8, 2, "test", "float32")
    # the same figures by another way: the net on the test rows, counted here
    net, run = run_folder.load_run(trained / "run")
    import torch
    from libsedge_training.prepare import preprocessed, segments_for

    data = SpectraSet.load(trained / "set.h5")
    part = data.select(np.isin(data.specimen, run["specimens"]["test"]))
    values, _ = preprocessed(part, segments_for(net.spec))
    hits = fit.predict(net, torch.from_numpy(values)).argmax(1).numpy() == (part.label == "salt")
    assert found["accuracy"] == hits.mean()
    page = (trained / "run" / "evaluation.html").read_text()
    assert "simulated" in page
    again = CliRunner().invoke(main, ["evaluate", str(trained / "run")])
    assert again.exit_code == 0
    assert (trained / "run" / "evaluation.html").read_text() == page


def test_evaluate_other_splits_and_moved_data(trained: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.h5"
    moved.write_bytes((trained / "set.h5").read_bytes())
    done = CliRunner().invoke(
        main, ["evaluate", str(trained / "run"), "--data", str(moved), "--split", "train"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads((trained / "run" / "evaluation.json").read_text())["n"] == 16


def test_evaluate_refuses_other_spectra(trained: Path, tmp_path: Path) -> None:
    data = made_up_set()
    data.counts[0, 0] += 1
    data.save(tmp_path / "other.h5")
    run = run_folder.read_run(trained / "run")
    with pytest.raises(RunError, match="other spectra"):
        evaluate.run_data(trained / "run", run, str(tmp_path / "other.h5"))
    with pytest.raises(RunError, match="not here any more"):
        evaluate.run_data(tmp_path, run)
    done = CliRunner().invoke(main, ["evaluate", str(trained / "run"), "--data", str(tmp_path / "other.h5")])
    assert done.exit_code == 2
    assert "other.h5: data.digest" in done.output


def test_evaluate_scores_any_labelled_set(trained: Path, tmp_path: Path) -> None:
    """--split all: another instrument's spectra; the balanced accuracy is that of the classes that occur."""
    data = made_up_set()
    other = SpectraSet(
        data.counts[16:, ::2], data.wavelength[::2] + 0.05, specimen=data.specimen[16:], label=data.label[16:]
    )
    other.save(tmp_path / "mine.h5")
    run = str(trained / "run")
    done = CliRunner().invoke(main, ["evaluate", run, "--data", str(tmp_path / "mine.h5"), "--split", "all"])
    assert done.exit_code == 0, done.output
    found = json.loads((trained / "run" / "evaluation-all.json").read_text())
    assert (found["n"], found["split"]) == (16, "all")
    assert f"accuracy {found['accuracy']:.1%}" in done.output
    assert f"balanced {found['accuracy']:.1%}" in done.output  # only "salt" occurs
    dataclasses.replace(other, label=np.repeat(" SALTS", 16)).save(tmp_path / "spelt.h5")
    done = CliRunner().invoke(main, ["evaluate", run, "--data", str(tmp_path / "spelt.h5"), "--split", "all"])
    assert done.exit_code == 0, done.output
    assert json.loads((trained / "run" / "evaluation-all.json").read_text()) == found
    dataclasses.replace(other, label=np.repeat("sand", 16)).save(tmp_path / "wrong.h5")
    done = CliRunner().invoke(main, ["evaluate", run, "--data", str(tmp_path / "wrong.h5"), "--split", "all"])
    assert done.exit_code == 2
    assert "label[row 0]" in done.output
    other.select([]).save(tmp_path / "none.h5")
    done = CliRunner().invoke(main, ["evaluate", run, "--data", str(tmp_path / "none.h5"), "--split", "all"])
    assert done.exit_code == 2
    assert "none.h5: counts: holds no spectrum" in done.output


def test_resume_takes_the_runs_own_options(trained: Path) -> None:
    arguments = ["train", str(trained / "set.h5"), "-o", str(trained / "run"), "--resume"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "net s" in done.output
    done = CliRunner().invoke(main, [*arguments, "--batch", "16"])
    assert done.exit_code == 2
    assert "config.batch = 16" in done.output
    done = CliRunner().invoke(main, arguments[:-1])
    assert done.exit_code == 2
    assert "holds a run already" in done.output


def test_weights_command_prints_a_table_and_draws(trained: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["weights", "--list"])
    assert done.exit_code == 0
    assert "cc-bcd:w3:r1:a=8:b=8" in done.output
    assert "not the paper's formula" in done.output
    plot = tmp_path / "weights.png"
    arguments = ["weights", str(trained / "set.h5"), "--test-specimens", "2", "-o", str(plot)]
    done = CliRunner().invoke(main, [*arguments, "--strategy", "distance:p=1"])
    assert done.exit_code == 0, done.output
    for cell in ("2 m", "5 m", "0.571", "1.429", "simulated"):  # 2 / 3.5 and 5 / 3.5
        assert cell in done.output
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["weights.png"]
    done = CliRunner().invoke(main, [*arguments, "--strategy", "nonsense"])
    assert done.exit_code == 2
    assert "known: equal" in done.output
    assert CliRunner().invoke(main, ["weights"]).exit_code == 2


def test_a_bundle_of_other_classes_is_refused(trained: Path) -> None:
    bundle: Any = SimpleNamespace(labels=["clay", "sand"])
    with pytest.raises(RunError, match=r"\['clay', 'sand'\]: the bundle's classes are not the run's"):
        evaluate.evaluate_bundle(trained / "run", made_up_set(), bundle)
