"""Training with the int8 export's rounding: the net that is trained is the one that is exported.

The nets are tiny, the spectra synthetic lines: they test arithmetic, not accuracy.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from libsedge import keys
from libsedge.errors import ConfigError, RunError
from libsedge.preprocess import PreprocessConfig, Segment
from libsedge_native import ir, reference
from libsedge_training import export, fit, int8_export, qat, quantise
from libsedge_training.augment import Augmentation
from libsedge_training.model import Block, NetSpec, SpectrumNet, fold
from libsedge_training.run_folder import load_run
from libsedge_training.spectra import SpectraSet
from libsedge_training.trainer import Parts, Trainer, predict, torch_settings
from libsedge_training.weighting import TrainPart

POINTS, ROWS = 120, 96
POOLED = NetSpec("pooled", (Block(6, 7, stride=2, pool=2), Block(8, 3, padding=1, pool=2)), points=POINTS)
DENSE = NetSpec(
    "dense",
    (Block(6, 7, stride=3, padding=3), Block(8, 3)),
    dropout=0.3,
    head="dense",
    hidden=12,
    points=POINTS,
)
CONFIG = fit.TrainConfig(epochs=3, qat=2, batch=16, lr=1e-2, augmentation=Augmentation(gaps=()))


def parts() -> Parts:
    """Three classes, a line each on a noisy floor; the same spectra for validation."""
    rng = np.random.default_rng(3)
    target = np.arange(ROWS) % 3
    values = rng.uniform(0, 1, (ROWS, POINTS)).astype(np.float32)
    values[np.arange(ROWS), 20 + 30 * target] += 2
    segments = (Segment(240.0, 850.0, POINTS),)
    names = np.array([f"class-{t}" for t in target])
    part = TrainPart(values, names, names, np.full(ROWS, 2.0, np.float32), segments)
    return Parts(part, target, values, target, PreprocessConfig(segments), np.ones(POINTS, bool), 3)


def trained(spec: NetSpec, config: fit.TrainConfig = CONFIG) -> Trainer:
    with torch_settings(0, 1):
        trainer = Trainer(config, spec, parts())
        for _ in range(config.epochs):
            trainer.epoch()
    return trainer


@pytest.fixture(scope="module", params=[POOLED, DENSE], ids=lambda spec: spec.name)
def net(request: pytest.FixtureRequest) -> SpectrumNet:
    return trained(request.param).net.eval()


def steps_apart(net: SpectrumNet, quants: tuple[ir.Quant, ...]) -> np.ndarray:
    """|logit of training - logit of the reference| in steps, [n, classes]; the reference runs on `quants`."""
    x = parts().held
    graph = quantise.quantise(fold(net), quants, POINTS, "net")
    exported = quantise.dequantise_logits(graph, reference.run(graph, quantise.quantise_input(graph, x)))
    return np.abs(predict(net, torch.from_numpy(x)).numpy() - exported) / graph.output.quant.scale


def test_the_net_in_training_is_the_int8_net(net: SpectrumNet) -> None:
    assert net.rounding is not None
    apart = steps_apart(net, net.rounding.quants)
    # both round the same numbers; where one is a rounding error from a tie, they may part by a step
    assert apart.max() < 1.001
    assert (apart < 0.001).mean() > 0.98


@pytest.mark.parametrize("tensor", [0, 1, 2, 3])
def test_other_scales_than_the_trained_ones_show(net: SpectrumNet, tensor: int) -> None:
    """Negative control: one tensor's scale is off by 5 %; and a net without rounding is not the int8 net."""
    assert net.rounding is not None
    quants = list(net.rounding.quants)
    quants[tensor] = replace(quants[tensor], scale=float(np.float32(1.05 * quants[tensor].scale)))
    assert (steps_apart(net, tuple(quants)) < 0.001).mean() < 0.9
    plain = trained(net.spec, replace(CONFIG, qat=0)).net.eval()
    assert (steps_apart(plain, net.rounding.quants) < 0.001).mean() < 0.9


def test_every_tensor_of_the_forward_pass_is_on_its_grid(net: SpectrumNet, monkeypatch: Any) -> None:
    """Weights are the export's integers, biases its steps: what convolutions and dense layers are called with."""
    assert net.rounding is not None
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def watched(name: str) -> None:
        real = getattr(torch.nn.functional, name)

        def call(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, *rest: Any) -> torch.Tensor:
            seen.append((weight.detach().numpy(), bias.detach().numpy()))
            return real(x, weight, bias, *rest)

        monkeypatch.setattr(torch.nn.functional, name, call)

    for name in ("conv2d", "linear"):
        watched(name)
    predict(net, torch.from_numpy(parts().held[:1]))
    graph = quantise.quantise(fold(net), net.rounding.quants, POINTS, "net")
    scale = graph.input.quant.scale
    ops = [op for op in graph.ops if isinstance(op, (ir.Conv1d, ir.Dense))]
    for op, (weight, bias) in zip(ops, seen, strict=True):
        columns = op.weight_scale.reshape(-1, *[1] * (weight.ndim - 1))
        np.testing.assert_allclose(weight / columns, op.weight.reshape(weight.shape), atol=1e-3)
        source = graph.sources(op)[0].quant.scale
        np.testing.assert_allclose(bias / (op.weight_scale * source), op.bias, rtol=1e-5, atol=1e-2)
    assert scale == net.rounding.quants[0].scale


def test_gradients_go_through_the_rounding() -> None:
    """Straight through: near those of the net without it, for every parameter, and none is zero."""
    base = trained(DENSE, replace(CONFIG, qat=0)).net.eval()
    x, y = torch.from_numpy(parts().held), torch.from_numpy(parts().held_target)

    def gradients() -> dict[str, torch.Tensor]:
        base.zero_grad()
        torch.nn.functional.cross_entropy(base(x), y).backward()
        return {name: p.grad.clone() for name, p in base.named_parameters() if p.grad is not None}

    without = gradients()
    base.rounding = qat.rounding(base, parts().train.values)
    rounded = gradients()
    assert rounded.keys() == without.keys() == dict(base.named_parameters()).keys()
    for name, gradient in rounded.items():
        assert torch.nn.functional.cosine_similarity(gradient.ravel(), without[name].ravel(), dim=0) > 0.9, (
            name
        )


def test_epochs_with_rounding_train_and_leave_the_statistics_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    improving = {1: 0.9, 2: 0.4, 3: 0.5}  # balanced accuracy by epoch; the first, best one has no rounding
    monkeypatch.setattr(
        Trainer, "_validate", lambda self, n: {"validation_loss": 1.0, "validation_accuracy": improving[n]}
    )
    with torch_settings(0, 1):
        trainer = Trainer(CONFIG, POOLED, parts())
        trainer.epoch()
        assert trainer.net.rounding is None
        before = {name: t.clone() for name, t in trainer.net.state_dict().items()}
        trainer.epoch()
        first = trainer.net.rounding
        trainer.epoch()
    assert first is not None
    assert trainer.net.rounding != first  # the scales follow the net, epoch by epoch
    after = trainer.net.state_dict()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]) == ("running" in name or "num_batches" in name), name
    # the kept net is the best of those that were trained with rounding, with its own scales
    assert trainer._best_record()["epoch"] == 3
    assert trainer.best_rounding == trainer.net.rounding


def lines(seed: int = 0) -> SpectraSet:
    rng = np.random.default_rng(seed)
    axis = np.linspace(240.5, 849.5, 600)
    rows = [(c, s) for c in range(2) for s in range(3) for _ in range(4)]
    height = [5 + 40 * np.exp(-(((axis - 300 - 100 * c) / 3) ** 2)) for c, _ in rows]
    return SpectraSet(
        rng.poisson(height).astype(np.uint16),
        axis,
        specimen=np.array([f"{c}-{s}" for c, s in rows]),
        label=np.array([f"class-{c}" for c, _ in rows]),
        distance_m=np.full(len(rows), 2.0),
        simulated=True,
    )


RUN = replace(CONFIG, net="small", batch=8, lr=1e-3, patience=1, test_specimens=2, validation_specimens=2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    fit.train(lines(), folder, RUN, threads=1)
    return folder


def test_a_run_carries_its_scales(finished: Path) -> None:
    net, run = load_run(finished)
    assert net.rounding is not None
    assert qat.Rounding.from_json(json.loads(json.dumps(run["quantisation"])), net.spec) == net.rounding
    assert len(net.rounding.quants) == len(fold(net)) + 1
    assert run["best"]["epoch"] > 1
    assert fit.TrainConfig.from_json(run["config"]) == RUN


class Cut(Exception):
    """Stands for a power cut, or for the rest of an export."""


def test_the_export_takes_the_trained_scales(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIBSEDGE_HOME", str(tmp_path))
    keys.generate()
    lines().save(tmp_path / "set.h5")
    made: list[int8_export.Int8] = []

    class Watched(int8_export.Int8):
        def __init__(self, *parts: Any) -> None:
            super().__init__(*parts)
            made.append(self)
            raise Cut

    monkeypatch.setattr(export, "Int8", Watched)
    with pytest.raises(Cut):
        export.export_run(finished, tmp_path / "model.sedge", data=tmp_path / "set.h5")
    net, _ = load_run(finished)
    assert net.rounding is not None
    assert made[0].choice.rule == quantise.TRAINED
    assert made[0].graph.digest == quantise.quantise(fold(net), net.rounding.quants, 5400, "whole").digest


@pytest.mark.parametrize("epoch", [1, 2])
def test_interrupted_and_resumed_equals_uninterrupted(epoch: int, finished: Path, tmp_path: Path) -> None:
    def stop(record: dict[str, Any]) -> None:
        if record["epoch"] == epoch:
            raise Cut

    with pytest.raises(Cut):
        fit.train(lines(), tmp_path / "cut", RUN, threads=1, on_epoch=stop)
    fit.train(lines(), tmp_path / "cut", RUN, threads=1, resume=True)
    for name in ("model.safetensors", "run.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (finished / name).read_bytes()


def test_a_run_older_than_the_option_is_continued(finished: Path, tmp_path: Path) -> None:
    def forget(folder: Path) -> None:
        run = json.loads((folder / "run.json").read_text())
        del run["config"]["qat"]
        (folder / "run.json").write_text(json.dumps(run))

    plain = replace(RUN, qat=0, epochs=1)
    fit.train(lines(), tmp_path / "old", plain, threads=1)
    forget(tmp_path / "old")
    assert fit.train(lines(), tmp_path / "old", plain, resume=True)["status"] == "complete"
    # negative control: one that had rounding is not taken for one without
    shutil.copytree(finished, tmp_path / "new")
    forget(tmp_path / "new")
    with pytest.raises(RunError, match=r"config\.qat = 2: the run was started with 0"):
        fit.train(lines(), tmp_path / "new", RUN, resume=True)


def test_patience_counts_in_the_epochs_with_rounding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter(range(100))
    monkeypatch.setattr(
        fit.Loop, "_validate", lambda self, n: {"validation_loss": next(losses), "validation_accuracy": 0.5}
    )
    run = fit.train(lines(), tmp_path / "run", replace(RUN, epochs=8, qat=4), threads=1)
    assert (run["epochs_run"], run["best"]["epoch"]) == (6, 5)  # 4 plain, the first with rounding, one more


@pytest.mark.parametrize(
    "change", [lambda a: a[:-1], lambda a: [{**a[0], "scale": -1.0}, *a[1:]], lambda a: 1]
)
def test_damaged_scales_are_refused(finished: Path, tmp_path: Path, change: Any) -> None:
    run = json.loads((finished / "run.json").read_text())
    run["quantisation"]["activations"] = change(run["quantisation"]["activations"])
    (tmp_path / "run.json").write_text(json.dumps(run))
    (tmp_path / "model.safetensors").write_bytes((finished / "model.safetensors").read_bytes())
    with pytest.raises(RunError, match=r"run\.json"):
        load_run(tmp_path)


@pytest.mark.parametrize("epochs", [-1, 4])
def test_more_epochs_with_rounding_than_epochs_are_refused(epochs: int) -> None:
    with pytest.raises(ConfigError, match="qat"):
        replace(CONFIG, qat=epochs)
