"""A trained net in float32: the same logits as torch's, from the folded layers to the command's file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from libsedge.cli import main
from libsedge.errors import SelfTestError
from libsedge_native import emulate, float_reference, ir
from libsedge_native.generate import generate
from libsedge_native.onnx_float import read_float_onnx
from libsedge_native.targets import TARGETS
from libsedge_native.toolchain import compile_shared
from libsedge_training import model, run_folder
from libsedge_training.float_export import float_graph, prove_elsewhere, worst


def noisy(name: str, points: int) -> model.SpectrumNet:
    """A net whose batch normalisation does something."""
    torch.manual_seed(4)
    net = model.build(model.NETS[name], points, 5)
    with torch.no_grad():
        for norm in net.norms:
            assert isinstance(norm, torch.nn.BatchNorm2d)
            assert norm.running_mean is not None
            norm.running_mean.normal_(0.0, 0.5)
            norm.bias.normal_(0.0, 0.5)
    return net.eval()


@pytest.mark.parametrize(("name", "points"), [("m", 600), ("s", 300), ("m-fc", 300), ("paper", 600)])
def test_the_graph_gives_the_logits_of_the_folded_net(name: str, points: int) -> None:
    layers = model.fold(noisy(name, points))
    x = np.random.default_rng(2).random((3, points), dtype=np.float32)
    want = model.run_folded(layers, x)
    graph = float_graph(layers, points, "net")
    assert np.abs(float_reference.run(graph, x) - want).max() < 1e-9 * np.abs(want).max()


def test_the_command_writes_what_torch_computes(tmp_path: Path) -> None:
    net = noisy("m", 600)
    run = {"format": run_folder.RUN_FORMAT, "version": run_folder.RUN_VERSION, "status": "complete"}
    run |= {"net": net.spec.to_json(), "channels": 600, "classes": list("abcde")}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps(run))
    model.save_weights(net, tmp_path / "run" / "model.safetensors")
    result = CliRunner().invoke(main, ["float-onnx", str(tmp_path / "run"), "-o", str(tmp_path / "net.onnx")])
    assert result.exit_code == 0, result.output
    graph = read_float_onnx((tmp_path / "net.onnx").read_bytes()).graph
    assert graph.name == "run"
    x = np.random.default_rng(2).random((3, 600), dtype=np.float32)
    with torch.no_grad():
        want = net(torch.from_numpy(x)).numpy()
    assert np.abs(float_reference.run(graph, x) - want).max() < 1e-4 * np.abs(want).max()


def test_a_kernel_that_is_wrong_on_another_machine_is_refused() -> None:
    """Negative control: the classes' weights are 0.01 % too large, and the goldens in the model agree with that."""
    if why := emulate.available(TARGETS["aarch64-linux"]):
        pytest.skip(why)
    graph = float_graph(model.fold(noisy("s", 300)), 300, "net")
    last = graph.ops[-1]
    assert isinstance(last, ir.Dense)
    factor = np.float32(1.0001)
    larger = replace(last, weight=last.weight * factor, bias=last.bias * factor)
    x = np.random.default_rng(3).random((4, 300), dtype=np.float32)
    said: list[str] = []
    for dense, held in ((last, True), (larger, False)):
        made = ir.Graph("net", graph.input, (*graph.ops[:-1], dense))
        shared = compile_shared(
            generate(made, isas=("neon",), precision="float32"), "aarch64-linux", ("-O1",)
        )
        if held:
            prove_elsewhere(graph, "aarch64-linux", shared, x, lambda _, text: said.append(text))
            continue
        with pytest.raises(
            SelfTestError, match=r"is (0\.0001|1e-04) of the largest logit .* emulated cortex-a53"
        ):
            prove_elsewhere(graph, "aarch64-linux", shared, x, lambda _, text: None)
    assert len(said) == len(TARGETS["aarch64-linux"].cpus)
    assert all("(neon, scalar): at most " in text for text in said)


def test_a_logit_that_is_not_a_number_is_the_worst() -> None:
    wanted = np.array([[1.0, 2.0]])
    assert np.isnan(worst(np.array([[np.nan, 2.0]], np.float32), wanted))
    assert worst(np.array([[1.0, 2.5]], np.float32), wanted) == 0.25
