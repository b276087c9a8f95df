"""Plain float32 ONNX: what is read, what is folded, what is refused by node, op and reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from libsedge.errors import ModelError
from libsedge_native import float_reference, verify
from libsedge_native.ir import Conv1d, Graph
from libsedge_native.onnx_float import read_float_onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

RNG = np.random.default_rng(11)


def model(nodes: list[NodeProto], shape: list[int], out: list[int], **constants: Any) -> bytes:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def agrees(data: bytes, graph: Graph, shape: list[int]) -> bool:
    x = normal(*shape)
    want = verify.ort_session(data).run(None, {"x": x})[0].reshape(-1)
    got = float_reference.run(graph, x.reshape(1, -1))[0]
    return bool(np.abs(got - want).max() < 1e-5 * max(1.0, np.abs(want).max()))


def convolutional(*, axis: int, relu: bool = True, norm: bool = True) -> tuple[bytes, list[int]]:
    """Conv [, BatchNormalization] [, Relu], MaxPool, Flatten, Gemm in the 1-D (axis 2) or a 2-D spelling."""
    spell = {2: lambda n, one: [n], 3: lambda n, one: [n, one], 4: lambda n, one: [one, n]}[axis]
    x = {2: [1, 3, 40], 3: [1, 3, 40, 1], 4: [1, 3, 1, 40]}[axis]
    weight = normal(8, 3, *spell(5, 1))
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", strides=spell(2, 1))]
    constants: dict[str, Any] = {"w": weight, "b": normal(8)}
    last = "c"
    if norm:
        statistics = ["scale", "shift", "mean", "variance"]
        nodes.append(helper.make_node("BatchNormalization", [last, *statistics], ["n"], "norm", epsilon=1e-3))
        constants |= {name: normal(8) for name in statistics[:3]} | {"variance": np.abs(normal(8))}
        last = "n"
    if relu:
        nodes.append(helper.make_node("Relu", [last], ["r"], "relu"))
        last = "r"
    nodes += [
        helper.make_node("MaxPool", [last], ["p"], "pool", kernel_shape=spell(2, 1), strides=spell(2, 1)),
        helper.make_node("Flatten", ["p"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "wd", "bd"], ["y"], "dense", transB=1),
    ]
    constants |= {"wd": normal(4, 72), "bd": normal(4)}
    return model(nodes, x, [1, 4], **constants), x


@pytest.mark.parametrize("axis", [2, 3, 4])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_every_spelling_means_what_onnx_runtime_computes(axis: int, norm: bool, relu: bool) -> None:
    data, shape = convolutional(axis=axis, norm=norm, relu=relu)
    read = read_float_onnx(data)
    assert agrees(data, read.graph, shape)
    conv = read.graph.ops[0]
    assert isinstance(conv, Conv1d)
    assert conv.relu is relu
    assert any("BatchNormalization norm is folded" in note for note in read.notes) is norm


def one(kind: str, inputs: list[str], **attributes: Any) -> list[NodeProto]:
    return [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node(kind, inputs, ["t"], "odd", **attributes),
        helper.make_node("GlobalAveragePool", ["t"], ["y"], "mean"),
    ]


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        (one("Sigmoid", ["c"]), "Sigmoid.*not supported"),
        (one("QuantizeLinear", ["c", "six", "zero"]), "'odd' .QuantizeLinear.*the model is quantised"),
        (one("Clip", ["c", "zero", "six"]), "'odd' .Clip.*only a Clip from 0 upwards"),
        (one("Relu", ["x"]), "'odd' .Relu.*behind Conv"),
        (one("BatchNormalization", ["x", "six", "six", "six", "six"]), "'odd' .BatchNorm.*behind a Conv"),
        (one("Add", ["c", "zero"]), "'odd' .Add.*constants"),
        (one("Conv", ["c", "wide"]), "'odd' .Conv.*must be float32"),
        (one("Conv", ["c", "hole"]), "'odd' .Conv.*finite"),
        (
            [
                helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
                helper.make_node("Relu", ["c"], ["r"], "relu"),
                helper.make_node("Add", ["c", "r"], ["t"], "late"),
                helper.make_node("GlobalAveragePool", ["t"], ["y"], "mean"),
            ],
            "'late' .Add.*already joined",
        ),
        (
            [
                helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
                helper.make_node("MaxPool", ["c"], ["p"], "pool", kernel_shape=[3], strides=[1], pads=[1, 1]),
                helper.make_node("Relu", ["c"], ["r"], "relu"),
                helper.make_node("Add", ["p", "r"], ["t"], "sum"),
                helper.make_node("GlobalAveragePool", ["t"], ["y"], "mean"),
            ],
            "'relu' .Relu.*nothing else reads",
        ),
    ],
)
def test_what_is_not_proved_is_refused_by_node_op_and_reason(nodes: list[NodeProto], why: str) -> None:
    hole = normal(2, 4, 3)
    hole[0, 0, 0] = np.nan
    constants = {
        "w": normal(4, 2, 3),
        "wide": normal(2, 4, 3).astype(np.float64),
        "hole": hole,
        "zero": np.float32(0),
        "six": np.float32(6),
    }
    with pytest.raises(ModelError, match=why):
        read_float_onnx(model(nodes, [1, 2, 20], [1, 4, 1], **constants))


def test_a_result_that_two_nodes_read_is_read_as_it_is() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("MaxPool", ["c"], ["p"], "pool", kernel_shape=[3], strides=[1], pads=[1, 1]),
        helper.make_node("Add", ["c", "p"], ["s"], "sum"),
        helper.make_node("Relu", ["s"], ["r"], "relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["y"], "mean"),
    ]
    data = model(nodes, [1, 2, 20], [1, 4, 1], w=normal(4, 2, 3))
    graph = read_float_onnx(data).graph
    assert [type(op).__name__ for op in graph.ops] == ["Conv1d", "MaxPool1d", "Add", "GlobalAveragePool"]
    assert agrees(data, graph, [1, 2, 20])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torch_spelling(tmp_path: Any) -> None:
    torch = pytest.importorskip("torch")
    from torch import nn

    torch.manual_seed(3)
    net = nn.Sequential(
        *(nn.Conv1d(1, 8, 7, stride=2, padding=3), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2)),
        *(nn.Conv1d(8, 16, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 5)),
    ).eval()
    torch.onnx.export(net, (torch.zeros(1, 1, 90),), str(tmp_path / "net.onnx"), dynamo=False)
    data = (tmp_path / "net.onnx").read_bytes()
    x = torch.randn(2, 1, 90)
    got = float_reference.run(read_float_onnx(data).graph, x.numpy().reshape(2, 90))
    assert np.abs(got - net(x).detach().numpy()).max() < 1e-5
