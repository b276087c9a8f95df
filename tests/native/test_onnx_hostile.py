"""Hostile ONNX beside the tables of test_onnx_roundtrip.py: small files that ask for much, and damaged real files."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from libsedge.errors import ModelError
from libsedge_native import reference
from libsedge_native.ir import AveragePool1d, Conv1d, GlobalAveragePool, Graph, MaxPool1d, Quant, Tensor
from libsedge_native.onnx_export import to_onnx
from libsedge_native.onnx_import import read_onnx
from libsedge_native.random_graph import random_graph
from onnx import ModelProto, TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).parent))
import onnx_fuzz

SCALE = Quant(0.1, 0)


def conv(name: str, shape: tuple[int, int, int], **rest: object) -> Conv1d:
    out = shape[0]
    weight, scale = np.ones(shape, np.int8), np.full(out, 0.1, np.float32)
    return Conv1d(name, weight, np.zeros(out, np.int32), scale, SCALE, **rest)  # type: ignore[arg-type]


def constant(model: ModelProto, name: str) -> TensorProto:
    return next(t for t in model.graph.initializer if t.name == name)


def node(model: ModelProto, name: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.name == name)


def external_attribute(model: ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(3, np.int64), "hidden")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add().key = "location"
    made = helper.make_node("Constant", [], ["hidden"], "secret")
    made.attribute.append(helper.make_attribute("value", tensor))
    model.graph.node.insert(0, made)


def subgraph(model: ModelProto) -> None:
    inner = helper.make_graph([], "inner", [], [])
    node(model, "conv").attribute.append(helper.make_attribute("body", inner))


HOSTILE: dict[str, tuple[Callable[[ModelProto], object], str]] = {
    "missing scale": (
        lambda m: m.graph.initializer.remove(constant(m, "conv_q_scale")),
        r"node 'conv_q' \(QuantizeLinear\).*must be an initialiser",
    ),
    "missing weight scale": (
        lambda m: m.graph.initializer.remove(constant(m, "conv_weight_scale")),
        r"node 'conv_weight_dq' \(DequantizeLinear\).*must be an initialiser",
    ),
    "infinite scale": (
        lambda m: constant(m, "conv_q_scale").CopyFrom(
            numpy_helper.from_array(np.array(np.inf, np.float32), "conv_q_scale")
        ),
        r"node 'conv_q' \(QuantizeLinear\).*finite",
    ),
    "zero weight scale": (
        lambda m: constant(m, "conv_weight_scale").CopyFrom(
            numpy_helper.from_array(np.zeros(4, np.float32), "conv_weight_scale")
        ),
        r"node 'conv_weight_dq' .*positive",
    ),
    "no opset": (lambda m: m.ClearField("opset_import"), "opset_import"),
    "two opsets": (lambda m: m.opset_import.append(m.opset_import[0]), "opset_import"),
    "external data in a node": (external_attribute, r"node 'secret' \(Constant\).*external data"),
    "a graph in a node": (subgraph, r"node 'conv' \(Conv\).*unknown attribute"),
    "itself as input": (
        lambda m: node(m, "conv").input.__setitem__(0, "conv_float"),
        r"node 'conv' \(Conv\).*no node in front of it",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_models_are_refused_by_node_and_reason(name: str) -> None:
    change, why = HOSTILE[name]
    ops = (conv("conv", (4, 1, 3)), GlobalAveragePool("gap", SCALE))
    model = onnx.load_model_from_string(to_onnx(Graph("small", Tensor(1, 8, SCALE), ops)))
    read_onnx(model.SerializeToString())  # negative control: before the change it is a model
    change(model)
    with pytest.raises(ModelError, match=why):
        read_onnx(model.SerializeToString())


LONG = Tensor(1, 1 << 20, SCALE)
GREEDY = {
    "layer": (LONG, (conv("layer", (16, 1, 512)),)),
    "top": (LONG, (conv("first", (64, 1, 1)), MaxPool1d("top", 4000, 1))),
    "mean": (LONG, (conv("first", (64, 1, 1)), AveragePool1d("mean", 4000, 1, SCALE))),
}


@pytest.mark.parametrize("name", GREEDY)
def test_a_small_file_cannot_ask_for_hours(name: str) -> None:
    """A kilobyte that asks for billions of sums is refused before any is computed, naming the op."""
    first, ops = GREEDY[name]
    begin = time.perf_counter()
    with pytest.raises(ModelError, match=rf"'{name}'.*windows read more than 4294967296"):
        Graph("greedy", first, (*ops, GlobalAveragePool("gap", SCALE)))
    assert time.perf_counter() - begin < 5


def test_a_convolution_in_blocks_is_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference's memory is bounded by computing some positions at a time; the sums stay the same."""
    graph = random_graph(3)
    op = next(op for op in graph.ops if isinstance(op, Conv1d))
    t = graph.sources(op)[0]
    x = np.random.default_rng(1).integers(-128, 128, t.shape).astype(np.int8)
    whole = reference.conv1d_sum(op, x, t)
    assert whole.shape[1] > 3
    monkeypatch.setattr(reference, "BLOCK_VALUES", op.weight[0].size * op.groups * 2)
    assert (reference.conv1d_sum(op, x, t) == whole).all()


def test_damaged_real_files_end_in_a_graph_or_a_model_error() -> None:
    pytest.importorskip("onnxruntime.quantization", reason="onnxruntime is not installed")
    command = [sys.executable, onnx_fuzz.__file__, "--count", "1500"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "1,500 files" in done.stdout
    greedy = (
        "import onnx_fuzz as f; f.limit_memory(f.MEMORY); f.read_onnx = lambda data: bytearray(2 * f.MEMORY); "
        "f.run(7, 1, [f.to_onnx(f.random_graph(4))])"
    )
    folder = Path(__file__).parent
    starved = subprocess.run(
        [sys.executable, "-c", greedy], cwd=folder, capture_output=True, text=True, check=False
    )
    assert "seed 7 ended with MemoryError" in starved.stderr, "negative control: too much memory is seen"


def test_another_exception_or_a_slow_file_turns_the_fuzz_red(monkeypatch: pytest.MonkeyPatch) -> None:
    bases = [to_onnx(random_graph(4))]

    def broken(data: bytes) -> None:
        raise KeyError("conv")

    monkeypatch.setattr(onnx_fuzz, "read_onnx", broken)
    with pytest.raises(AssertionError, match="seed 7 ended with KeyError"):
        onnx_fuzz.run(7, 1, bases)
    monkeypatch.setattr(onnx_fuzz, "SECONDS", 1)
    monkeypatch.setattr(onnx_fuzz, "read_onnx", lambda data: time.sleep(3))
    with pytest.raises(AssertionError, match="seed 7 ended with TimeoutError"):
        onnx_fuzz.run(7, 1, bases)
