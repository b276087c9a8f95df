"""Nets: sizes against hand counts, folding against eval mode, storing and loading."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from libsedge.errors import ConfigError, RunError
from libsedge_training import model, run_folder


def trained_looking(spec: model.NetSpec, channels: int, classes: int) -> model.SpectrumNet:
    """A net whose batch-norm statistics and affine terms are far from their initial 0 and 1."""
    torch.manual_seed(1)
    net = model.build(spec, channels, classes)
    with torch.no_grad():
        for norm in net.norms:
            norm.running_mean.normal_(0.0, 0.5)
            norm.running_var.uniform_(0.2, 3.0)
            norm.weight.normal_(1.0, 0.5)
            norm.bias.normal_(0.0, 0.5)
    return net.eval()


def test_macs_of_m_equal_the_hand_count() -> None:
    # research/peers.md section 2: per layer 474,320 / 4,806,144 / 6,819,840 / 4,067,328, dense 64 x 12 = 768
    assert (
        model.macs(model.NETS["m"], 5400, 12)
        == 474_320 + 4_806_144 + 6_819_840 + 4_067_328 + 768
        == 16_168_400
    )
    assert model.macs(model.NETS["s"], 1800, 12) == 5_253_200
    # the same table's net with Flatten 64 x 331, Dense 128, Dense 12
    assert model.macs(model.NETS["m-fc"], 5400, 12) == 18_880_720


@pytest.mark.parametrize(("name", "points"), [("m", 600), ("s", 300), ("m-fc", 300), ("paper", 600)])
def test_folded_net_equals_eval_mode(name: str, points: int) -> None:
    net = trained_looking(model.NETS[name], points, 5)
    x = np.random.default_rng(2).random((4, points), dtype=np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(x)).numpy()
    layers = model.fold(net)
    assert np.abs(model.run_folded(layers, x) - expected).max() < 1e-4
    head = "FoldedDense" if model.NETS[name].head == "dense" else "FoldedGap"
    assert [type(layer).__name__ for layer in layers[-2:]] == [head, "FoldedDense"]
    first = layers[0]
    assert isinstance(first, model.FoldedConv)
    assert first.weight.shape == (16, 1, model.NETS[name].blocks[0].kernel)
    assert first.weight.dtype == first.bias.dtype == np.float32


def test_folding_check_sees_a_wrong_fold() -> None:
    """Negative control: leaving the running mean out of one bias is far outside the tolerance."""
    net = trained_looking(model.NETS["m"], 600, 5)
    x = np.random.default_rng(2).random((4, 600), dtype=np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(x)).numpy()
        net.norms[1].running_mean.zero_()
    assert np.abs(model.run_folded(model.fold(net), x) - expected).max() > 1e-2


def test_paper_net_keeps_same_length_before_pooling() -> None:
    spec = model.NETS["paper"]
    length = 5400
    for block in spec.blocks:
        conv, after = block.length(length)
        assert conv == length
        length = after
    assert length == 21  # 5400 / 4 / 4 / 4 / 4, remainders dropped


def test_spec_survives_json() -> None:
    for spec in model.NETS.values():
        assert model.NetSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_bad_nets_are_refused() -> None:
    with pytest.raises(ConfigError, match="known: m, s"):
        model.net_spec("xxl")
    with pytest.raises(ConfigError, match="no point after block 3"):
        model.build(model.NETS["m"], 60, 3)
    with pytest.raises(ConfigError, match="at least 2"):
        model.build(model.NETS["m"], 600, 1)
    with pytest.raises(ConfigError, match="'gap' or 'dense'"):
        model.build(dataclasses.replace(model.NETS["m"], head="max"), 600, 3)
    with pytest.raises(ConfigError, match="hidden"):
        model.build(dataclasses.replace(model.NETS["m"], head="dense"), 600, 3)
    with pytest.raises(ConfigError, match="blocks"):
        model.NetSpec.from_json({"name": "x"})
    with pytest.raises(ValueError, match=r"expected \[n, 600\]"):
        model.build(model.NETS["m"], 600, 3)(torch.zeros(2, 601))


def make_run(folder: Path, net: model.SpectrumNet, changes: dict[str, object] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    run = {
        "format": run_folder.RUN_FORMAT,
        "version": run_folder.RUN_VERSION,
        "status": "complete",
        "net": net.spec.to_json(),
        "channels": net.channels,
        "classes": ["a", "b", "c"],
    } | (changes or {})
    (folder / "run.json").write_text(json.dumps(run))
    model.save_weights(net, folder / "model.safetensors")
    return folder


def test_run_round_trip_is_exact_and_the_file_is_reproducible(tmp_path: Path) -> None:
    net = trained_looking(model.NETS["m"], 600, 3)
    run_dir = make_run(tmp_path / "run", net)
    first = (run_dir / "model.safetensors").read_bytes()
    model.save_weights(net, run_dir / "model.safetensors")
    assert (run_dir / "model.safetensors").read_bytes() == first
    loaded, run = run_folder.load_run(run_dir)
    assert run["classes"] == ["a", "b", "c"]
    assert not loaded.training
    x = torch.rand(2, 600)
    assert torch.equal(loaded(x), net(x))
    assert sorted(p.name for p in run_dir.iterdir()) == ["model.safetensors", "run.json"]


def test_unusable_runs_are_refused(tmp_path: Path) -> None:
    net = trained_looking(model.NETS["m"], 600, 3)
    with pytest.raises(RunError, match="no training run here"):
        run_folder.load_run(tmp_path)
    for changes, message in [
        ({"status": "diverged"}, "diverged"),
        ({"status": "running"}, "--resume"),
        ({"version": 99}, "version = 99"),
        ({"format": "other"}, "not a training run"),
        ({"net": {"name": "m"}}, "network description"),
        ({"classes": ["a", "b", "c", "d"]}, "another net"),
    ]:
        with pytest.raises(RunError, match=message):
            run_folder.load_run(make_run(tmp_path / "run", net, changes))
    run_dir = make_run(tmp_path / "run", net)
    weights = run_dir / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(RunError, match="cannot be read"):
        run_folder.load_run(run_dir)
    (run_dir / "run.json").write_text("{")
    with pytest.raises(RunError, match=r"run\.json"):
        run_folder.load_run(run_dir)
