"""The training loop on made-up peaks (numpy, not spectra): weights, determinism, resuming, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from libsedge.errors import ConfigError, DatasetError, RunError
from libsedge_training import fit, run_folder, trainer, weighting
from libsedge_training.prepare import data_digest, preprocessed, segments_for, weights_by_distance
from libsedge_training.spectra import SpectraSet
from rich.console import Console
from safetensors.torch import load_file

CLASSES = ("basalt", "clay", "salt")


def made_up_peaks(seed: int = 0, specimens: int = 4, shots: int = 5) -> SpectraSet:
    """Three Gaussian peaks a class on a flat background, Poisson noise, 5 distances; 900 channels."""
    rng = np.random.default_rng(seed)
    wavelength = np.linspace(240.5, 849.5, 900)
    rows: dict[str, list[Any]] = {"counts": [], "specimen": [], "label": [], "distance_m": []}
    for c, label in enumerate(CLASSES):
        centres = np.array([300, 420, 650]) + 15.0 * c
        for s in range(specimens):
            height = rng.uniform(50, 150, 3)
            signal = 5 + (height * np.exp(-(((wavelength[:, None] - centres) / 2) ** 2))).sum(axis=1)
            for shot in range(shots):
                rows["counts"].append(rng.poisson(signal / (1 + shot)))
                rows["specimen"].append(f"{label}-{s}")
                rows["label"].append(label)
                rows["distance_m"].append(1.5 + shot)
    counts = np.array(rows.pop("counts"), dtype=np.uint16)
    return SpectraSet(counts, wavelength, simulated=True, **{k: np.array(v) for k, v in rows.items()})


SMALL = fit.TrainConfig(net="s", epochs=3, batch=16, test_specimens=3, validation_specimens=3)


def files(run_dir: Path) -> dict[str, bytes]:
    return {name: (run_dir / name).read_bytes() for name in ("model.safetensors", "run.json")}


def curves(run_dir: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (run_dir / "history.jsonl").read_text().splitlines()]
    for record in records:
        assert record.pop("seconds") > 0
    return records


@pytest.fixture(scope="module")
def data() -> SpectraSet:
    return made_up_peaks()


@pytest.fixture(scope="module")
def finished(data: SpectraSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One uninterrupted run of SMALL."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    fit.train(data, run_dir, SMALL, threads=1)
    return run_dir


def test_a_run_is_complete_and_can_be_loaded(data: SpectraSet, finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names == {
        "run.json",
        "model.safetensors",
        "checkpoint.safetensors",
        "checkpoint.json",
        "history.jsonl",
        "tensorboard",
    }
    assert list((finished / "tensorboard").iterdir())
    net, run = run_folder.load_run(finished)
    assert run["status"] == "complete"
    assert run["simulated"] is True
    assert run["classes"] == list(CLASSES)
    assert run["data"]["digest"] == data_digest(data)
    assert run["config"]["weighting"] == "equal"
    assert {part: len(names) for part, names in run["specimens"].items()} == {
        "train": 6,
        "validation": 3,
        "test": 3,
    }
    assert "/" not in json.dumps({k: v for k, v in run.items() if k != "versions"})
    history = curves(finished)
    assert [record["epoch"] for record in history] == [1, 2, 3]
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    best = max(history, key=lambda r: (r["validation_accuracy"], -r["validation_loss"]))
    assert run["best"] == {
        "epoch": best["epoch"],
        "loss": best["validation_loss"],
        "accuracy": best["validation_accuracy"],
    }
    assert fit.TrainConfig.from_json(run["config"]) == SMALL
    # The stored net is the best epoch's: its validation loss comes out again.
    held = np.isin(data.specimen, run["specimens"]["validation"])
    x = torch.from_numpy(preprocessed(data.select(held), segments_for(net.spec))[0])
    y = torch.tensor([CLASSES.index(label) for label in data.label[held]])
    loss = torch.nn.functional.cross_entropy(fit.predict(net, x).double(), y)
    assert float(loss) == pytest.approx(best["validation_loss"], rel=1e-5)


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(
    data: SpectraSet, finished: Path, tmp_path: Path
) -> None:
    fit.train(data, tmp_path / "again", SMALL, threads=1)
    assert files(tmp_path / "again") == files(finished)
    fit.train(data, tmp_path / "other", replace(SMALL, seed=1, epochs=1), threads=1)
    assert files(tmp_path / "other") != files(finished)


class Cut(Exception):
    """Stands for a power cut."""


@pytest.mark.parametrize("where", ["between epochs", "within an epoch"])
def test_interrupted_and_resumed_equals_uninterrupted(
    where: str, data: SpectraSet, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(record: dict[str, Any]) -> None:
        if record["epoch"] == 2:
            raise Cut

    calls: list[int] = []
    real = trainer.weighted_loss

    def cut_at_step_4(*args: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 4:  # 2 steps an epoch: the second step of epoch 2
            raise Cut
        return real(*args)

    with monkeypatch.context() as patch:
        if where == "within an epoch":
            patch.setattr(trainer, "weighted_loss", cut_at_step_4)
        with pytest.raises(Cut):
            fit.train(data, tmp_path / "cut", SMALL, threads=1, on_epoch=stop)
    with pytest.raises(RunError, match="--resume"):
        run_folder.load_run(tmp_path / "cut")
    torch.rand(100)  # the caller's RNG must not matter
    fit.train(data, tmp_path / "cut", SMALL, threads=1, resume=True)
    assert files(tmp_path / "cut") == files(finished)
    assert curves(tmp_path / "cut") == curves(finished)
    # a finished run is left as it is
    before = (tmp_path / "cut" / "checkpoint.safetensors").stat().st_mtime_ns
    fit.train(data, tmp_path / "cut", SMALL, threads=1, resume=True)
    assert (tmp_path / "cut" / "checkpoint.safetensors").stat().st_mtime_ns == before


def test_the_resume_check_sees_a_lost_state(
    data: SpectraSet, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: without the optimizer's moments the resumed run ends elsewhere."""

    def stop(record: dict[str, Any]) -> None:
        raise Cut

    with pytest.raises(Cut):
        fit.train(data, tmp_path / "cut", SMALL, threads=1, on_epoch=stop)
    monkeypatch.setattr(fit.checkpoint, "_fill", lambda optimizer, slots: None)
    fit.train(data, tmp_path / "cut", SMALL, threads=1, resume=True)
    assert files(tmp_path / "cut")["model.safetensors"] != files(finished)["model.safetensors"]


def one_step_by_hand(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(gradient of the dense weights by autograd through `weighted_loss`, the same from the formula in
    NumPy).
    """
    torch.manual_seed(0)
    h = torch.rand(6, 4)
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    dense = torch.nn.Linear(4, 3)
    trainer.weighted_loss(dense(h), y, torch.from_numpy(weights.astype(np.float32))).backward()
    assert dense.weight.grad is not None
    logits = h.numpy() @ dense.weight.detach().numpy().T + dense.bias.detach().numpy()
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    delta = (p - np.eye(3)[y.numpy()]) * weights[:, None] / len(weights)
    return dense.weight.grad.numpy(), delta.T @ h.numpy()


def test_one_step_follows_the_weighted_gradient() -> None:
    weights = np.array([3.0, 0.5, 0.5, 1.0, 0.9, 0.1])
    by_torch, by_hand = one_step_by_hand(weights)
    assert np.allclose(by_torch, by_hand, atol=1e-6)
    # mean over the spectra, not over the weights: twice the weights, twice the gradient
    assert np.allclose(one_step_by_hand(2 * weights)[0], 2 * by_torch, atol=1e-6)


def test_a_loss_that_ignores_the_weights_turns_the_gradient_check_red(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Negative control."""
    monkeypatch.setattr(
        trainer, "weighted_loss", lambda z, y, w, mean=None: torch.nn.functional.cross_entropy(z, y)
    )
    by_torch, by_hand = one_step_by_hand(np.array([3.0, 0.5, 0.5, 1.0, 0.9, 0.1]))
    assert not np.allclose(by_torch, by_hand, atol=1e-3)


class OneClass(weighting.Strategy):
    """Nearly all weight on the class "salt"."""

    family = "test-one-class"
    summary = "a test's"
    examples = ()

    @classmethod
    def parse(cls, parts: Any) -> OneClass:
        return cls()

    @property
    def name(self) -> str:
        return self.family

    @property
    def parameters(self) -> dict[str, Any]:
        return {}

    def fit(self, train: weighting.TrainPart) -> np.ndarray:
        raw = np.where(train.label == "salt", 1.0, 1e-6)
        return raw / raw.mean()


def salt_share(run_dir: Path, data: SpectraSet) -> float:
    """Share of the training spectra that the net of the last (not the best) epoch calls salt."""
    net, run = run_folder.load_run(run_dir)
    last = load_file(run_dir / "checkpoint.safetensors")
    net.load_state_dict({name[4:]: t for name, t in last.items() if name.startswith("net.")})
    rows = np.isin(data.specimen, run["specimens"]["train"])
    x = torch.from_numpy(preprocessed(data.select(rows), segments_for(net.spec))[0])
    return float((fit.predict(net, x).argmax(1) == CLASSES.index("salt")).float().mean())


def test_the_loop_uses_the_weights(
    data: SpectraSet, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A net that only one class was weighted for knows only that class; ignoring the weights shows."""
    monkeypatch.setitem(weighting.FAMILIES, OneClass.family, OneClass)
    config = replace(SMALL, weighting=OneClass.family, epochs=15, patience=15)
    run = fit.train(data, tmp_path / "one", config, threads=1)
    assert salt_share(tmp_path / "one", data) > 0.9
    assert run["weights"][0]["max"] == pytest.approx(3.0, rel=1e-3)
    assert files(tmp_path / "one")["model.safetensors"] != files(finished)["model.safetensors"]
    # negative control: the same run with a loss that ignores the weights is not one-sided
    monkeypatch.setattr(
        trainer, "weighted_loss", lambda z, y, w, mean=None: torch.nn.functional.cross_entropy(z, y)
    )
    fit.train(data, tmp_path / "ignored", config, threads=1)
    assert salt_share(tmp_path / "ignored", data) < 0.9


def test_weights_come_from_the_training_part_only(data: SpectraSet, finished: Path, tmp_path: Path) -> None:
    """Other spectra in validation and test change neither the weights nor the first epoch's training loss."""
    run = json.loads((finished / "run.json").read_text())
    counts = data.counts.copy()
    outside = ~np.isin(data.specimen, run["specimens"]["train"])
    counts[outside] = counts[outside][:, ::-1]
    config = replace(SMALL, weighting="cc-bcd:w3:r1:a=8:b=8", epochs=1)
    a = fit.train(data, tmp_path / "a", config, threads=1)
    b = fit.train(replace(data, counts=counts), tmp_path / "b", config, threads=1)
    assert a["data"]["digest"] != b["data"]["digest"]
    assert a["weights"] == b["weights"]
    assert curves(tmp_path / "a")[0]["train_loss"] == curves(tmp_path / "b")[0]["train_loss"]
    assert a["best"]["loss"] != b["best"]["loss"]
    assert (
        abs(np.average([w["mean"] for w in a["weights"]], weights=[w["spectra"] for w in a["weights"]]) - 1)
        < 1e-9
    )


def test_the_test_part_has_no_influence_on_the_net(data: SpectraSet, finished: Path, tmp_path: Path) -> None:
    run = json.loads((finished / "run.json").read_text())
    counts = data.counts.copy()
    test = np.isin(data.specimen, run["specimens"]["test"])
    counts[test] = counts[test][:, ::-1]
    fit.train(replace(data, counts=counts), tmp_path / "b", SMALL, threads=1)
    assert files(tmp_path / "b")["model.safetensors"] == files(finished)["model.safetensors"]


def test_early_stopping_keeps_the_best_epoch(
    data: SpectraSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # (loss, balanced accuracy): epoch 2 has the accuracy of epoch 4 at a lower loss, epoch 3 only the lowest loss
    records = iter([(0.9, 0.4), (0.5, 0.6), (0.3, 0.5), (0.6, 0.6), (0.8, 0.5), (0.1, 0.9)])
    seen: list[torch.Tensor] = []

    def validate(self: Any, number: int) -> dict[str, float]:
        seen.append(self.net.dense.weight.detach().clone())
        loss, accuracy = next(records)
        return {"validation_loss": loss, "validation_accuracy": accuracy}

    monkeypatch.setattr(fit.Loop, "_validate", validate)
    run = fit.train(data, tmp_path / "run", replace(SMALL, epochs=9, patience=3), threads=1)
    assert run["epochs_run"] == 5
    assert run["best"]["epoch"] == 2
    assert torch.equal(run_folder.load_run(tmp_path / "run")[0].dense.weight, seen[1])


def test_a_diverged_run_is_marked_and_refused(data: SpectraSet, tmp_path: Path) -> None:
    config = replace(SMALL, lr=1e30)
    with pytest.raises(RunError, match="the loss became"):
        fit.train(data, tmp_path / "run", config, threads=1)
    with pytest.raises(RunError, match="diverged"):
        run_folder.load_run(tmp_path / "run")
    with pytest.raises(RunError, match="would do so again"):
        fit.train(data, tmp_path / "run", config, threads=1, resume=True)
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_spectra_without_signal_are_said_and_a_set_of_them_is_refused(
    data: SpectraSet, finished: Path, tmp_path: Path
) -> None:
    learnt = {
        *run_folder.read_run(finished)["specimens"]["train"],
        *run_folder.read_run(finished)["specimens"]["validation"],
    }
    row = next(i for i, name in enumerate(data.specimen.tolist()) if name in learnt)
    counts = data.counts.astype(np.float32)
    counts[row] *= -1
    said = StringIO()
    config = replace(SMALL, epochs=1)
    fit.train(
        replace(data, counts=counts),
        tmp_path / "one",
        config,
        threads=1,
        console=Console(file=said, width=300),
    )
    assert f"1 of {sum(n in learnt for n in data.specimen.tolist())} spectra" in said.getvalue()
    assert f"(first: row {row})" in said.getvalue()
    with pytest.raises(DatasetError, match="counts: no spectrum to learn from"):
        fit.train(replace(data, counts=-counts * 0 - 1), tmp_path / "all", config, threads=1)
    said = StringIO()
    fit.train(data, tmp_path / "none", config, threads=1, console=Console(file=said, width=300))
    assert "no positive signal" not in said.getvalue()


def test_folders_and_resumes_that_do_not_fit_are_refused(
    data: SpectraSet, finished: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="holds a run already"):
        fit.train(data, finished, SMALL)
    with pytest.raises(RunError, match=r"config\.batch = 8: the run was started with 16"):
        fit.train(data, finished, replace(SMALL, batch=8), resume=True)
    with pytest.raises(RunError, match="other spectra"):
        fit.train(made_up_peaks(seed=1), finished, SMALL, resume=True)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        fit.train(data, tmp_path, SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_damaged_checkpoint_is_refused(data: SpectraSet, tmp_path: Path) -> None:
    def stop(record: dict[str, Any]) -> None:
        raise Cut

    with pytest.raises(Cut):
        fit.train(data, tmp_path / "run", SMALL, threads=1, on_epoch=stop)
    path = tmp_path / "run" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RunError, match=r"checkpoint\.safetensors: cannot be resumed from"):
        fit.train(data, tmp_path / "run", SMALL, threads=1, resume=True)


def test_bad_input_leaves_no_folder(data: SpectraSet, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="test = 99"):
        fit.train(data, tmp_path / "run", replace(SMALL, test_specimens=99))
    with pytest.raises(DatasetError, match="no label"):
        fit.train(replace(data, label=np.full(len(data), "")), tmp_path / "run", SMALL)
    for changes, message in [
        ({"epochs": 0}, "epochs = 0"),
        ({"lr": float("nan")}, "lr"),
        ({"net": "xl"}, "net = 'xl'"),
        ({"weighting": "best"}, "weighting = 'best'"),
    ]:
        with pytest.raises(ConfigError, match=message):
            replace(SMALL, **changes)
    with pytest.raises(ConfigError, match="not a training configuration"):
        fit.TrainConfig.from_json({"net": "m"})
    with pytest.raises(ConfigError, match="threads"):
        fit.train(data, tmp_path / "run", SMALL, threads=0)
    assert list(tmp_path.iterdir()) == []


def test_weights_by_distance_keeps_unknown_ones_apart() -> None:
    rows = weights_by_distance(np.array([1.0, 3.0, 0.5, 1.5]), np.array([2.0, 2.0, np.nan, 1.0], np.float32))
    assert [(r["distance_m"], r["spectra"], r["mean"], r["min"], r["max"]) for r in rows] == [
        (1.0, 1, 1.5, 1.5, 1.5),
        (2.0, 2, 2.0, 1.0, 3.0),
        (None, 1, 0.5, 0.5, 0.5),
    ]
