"""IR to ONNX and back loses nothing; whatever is not provably such a model is refused by name and reason."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libsedge.errors import ModelError
from libsedge_native.ir import (
    Add,
    AveragePool1d,
    Concat,
    Conv1d,
    Dense,
    Flatten,
    GlobalAveragePool,
    Graph,
    MaxPool1d,
    Quant,
    Tensor,
)
from libsedge_native.onnx_export import to_onnx
from libsedge_native.onnx_import import from_onnx
from libsedge_native.random_graph import random_graph
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper


def small() -> Graph:
    """Conv, pool, average, dense; ReLUs with and without a Relu node."""
    rng = np.random.default_rng(5)

    def parameters(*shape: int) -> tuple:
        weight = rng.integers(-127, 128, shape).astype(np.int8)
        return weight, rng.integers(-9, 9, shape[0]).astype(np.int32), np.full(shape[0], 0.01, np.float32)

    ops = (
        Conv1d("conv", *parameters(4, 1, 3), Quant(0.1, -128), 2, 1, (1, 1)),
        MaxPool1d("pool", 2, 2),
        Conv1d("conv_b", *parameters(4, 2, 3), Quant(0.2, -100), groups=2, relu=True),
        GlobalAveragePool("gap", Quant(0.1, 3)),
        Flatten("flat"),
        Dense("fc", *parameters(3, 4), Quant(0.5, 7)),
    )
    return Graph("small", Tensor(1, 30, Quant(0.02, -128)), ops)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_round_trip_loses_nothing(seed: int) -> None:
    graph = random_graph(seed, max_length=60)
    data = to_onnx(graph)
    assert from_onnx(data).digest == graph.digest
    assert to_onnx(from_onnx(data)) == data


def edited(change: Callable[[ModelProto], object]) -> bytes:
    model = onnx.load_model_from_string(to_onnx(small()))
    change(model)
    return model.SerializeToString()


def constant(model: ModelProto, name: str) -> TensorProto:
    return next(t for t in model.graph.initializer if t.name == name)


def replace_constant(model: ModelProto, name: str, value: np.ndarray) -> None:
    constant(model, name).CopyFrom(numpy_helper.from_array(value, name))


def node(model: ModelProto, name: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.name == name)


def set_attribute(model: ModelProto, name: str, attribute: str, value: object) -> None:
    target = node(model, name)
    kept = [a for a in target.attribute if a.name != attribute]
    del target.attribute[:]
    target.attribute.extend([*kept, helper.make_attribute(attribute, value)])


def external(model: ModelProto) -> None:
    tensor = constant(model, "conv_weight")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    tensor.ClearField("raw_data")


def elsewhere() -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "t")
    tensor.external_data.add().key = "location"
    return tensor


def cycle(model: ModelProto) -> None:
    node(model, "conv").input[0] = "fc_float"


def branch(model: ModelProto) -> None:
    node(model, "conv_b").input[0] = "conv_q_dq"


def huge(model: ModelProto) -> None:
    tensor = constant(model, "conv_weight")
    del tensor.dims[:]
    tensor.dims.extend([1 << 40, 1 << 40, 1 << 40])


def huge_input(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 1 << 50


def other_type(model: ModelProto) -> None:
    replace_constant(model, "conv_q_zero_point", np.array(0, np.uint8))


def many_nodes(model: ModelProto) -> None:
    for i in range(3000):
        model.graph.node.append(helper.make_node("Relu", ["x"], [f"y{i}"]))


HOSTILE: dict[str, tuple[Callable[[ModelProto], object], str]] = {
    "external data": (external, "external data"),
    "unknown op": (lambda m: setattr(node(m, "conv"), "op_type", "LSTM"), "conv.*not supported"),
    "foreign domain": (lambda m: setattr(node(m, "conv"), "domain", "com.evil"), "com.evil"),
    "zero scale": (lambda m: replace_constant(m, "conv_q_scale", np.float32(0).reshape(())), "positive"),
    "nan scale": (lambda m: replace_constant(m, "conv_q_scale", np.float32("nan").reshape(())), "finite"),
    "negative weight scale": (
        lambda m: replace_constant(m, "conv_weight_scale", np.full(4, -1, np.float32)),
        "positive",
    ),
    "weight of -128": (
        lambda m: replace_constant(m, "conv_weight", np.full((4, 1, 3), -128, np.int8)),
        "-128",
    ),
    "zero point of weights": (
        lambda m: replace_constant(m, "conv_weight_zero_point", np.full(4, 1, np.int8)),
        "must be 0",
    ),
    "type changes": (other_type, "must undo"),
    "bias scale": (
        lambda m: replace_constant(m, "conv_bias_scale", np.full(4, 0.5, np.float32)),
        "input scale \\* weight scale",
    ),
    "huge bias": (lambda m: replace_constant(m, "conv_bias", np.full(4, 2**31 - 1, np.int32)), "int32"),
    "pool changes scale": (
        lambda m: replace_constant(m, "pool_q_scale", np.float32(9).reshape(())),
        "keep scale",
    ),
    "dequantise with another scale": (
        lambda m: replace_constant(m, "conv_q_dq_scale", np.float32(9).reshape(())),
        "same scale",
    ),
    "cycle": (cycle, "conv.*reads what no node in front of it gives"),
    "branch": (branch, "pool.*nothing reads its result"),
    "huge weight": (huge, "too large"),
    "huge input": (huge_input, "dimensions"),
    "unknown opset": (lambda m: setattr(m.opset_import[0], "version", 99), "opset"),
    "old opset": (lambda m: setattr(m.opset_import[0], "version", 7), "opset"),
    "ir version": (lambda m: setattr(m, "ir_version", 99), "ir_version"),
    "auto_pad": (lambda m: set_attribute(m, "conv", "auto_pad", "SAME_SOMEHOW"), "auto_pad"),
    "auto_pad and pads": (lambda m: set_attribute(m, "conv", "auto_pad", "SAME_UPPER"), "exclude each other"),
    "reference attribute": (
        lambda m: setattr(node(m, "conv").attribute[0], "ref_attr_name", "x"),
        "node 'conv'.*cannot be read",
    ),
    "constant of text": (
        lambda m: m.graph.node.insert(0, helper.make_node("Constant", [], ["t"], "t", value_string="x")),
        "node 't'.*value_string",
    ),
    "constant of a file": (
        lambda m: m.graph.node.insert(0, helper.make_node("Constant", [], ["t"], "t", value=elsewhere())),
        "node 't'.*external data",
    ),
    "unknown attribute": (lambda m: set_attribute(m, "conv", "surprise", 1), "surprise"),
    "ceil mode": (lambda m: set_attribute(m, "pool", "ceil_mode", 2), "ceil_mode"),
    "pool of padding only": (lambda m: set_attribute(m, "pool", "pads", [2, 1]), "narrower than the window"),
    "gemm alpha": (lambda m: set_attribute(m, "fc", "alpha", 2.0), "alpha"),
    "zero stride": (lambda m: set_attribute(m, "conv", "strides", [0]), "stride"),
    "groups": (lambda m: set_attribute(m, "conv", "group", 3), "group"),
    "truncated weights": (lambda m: setattr(constant(m, "conv_weight"), "raw_data", b"\0"), "cannot be read"),
    "missing zero point": (lambda m: node(m, "conv_q").input.pop(), "zero point"),
    "many nodes": (many_nodes, "more than"),
    "no nodes": (lambda m: m.graph.ClearField("node"), "output"),
    "two inputs": (lambda m: m.graph.input.append(m.graph.input[0]), "one input"),
    "twice the constant": (lambda m: m.graph.initializer.append(m.graph.initializer[0]), "twice"),
}


def branching() -> Graph:
    """A sum, a concatenation and pools, to be damaged."""
    rng = np.random.default_rng(6)

    def block(name: str, source: str, out: int, inputs: int) -> Conv1d:
        weight = rng.integers(-127, 128, (out, inputs, 3)).astype(np.int8)
        scale = np.full(out, 0.01, np.float32)
        return Conv1d(
            name, weight, np.zeros(out, np.int32), scale, Quant(0.1, -128), pads=(1, 1), inputs=(source,)
        )

    ops = (
        block("stem", "input", 4, 1),
        block("body", "stem", 4, 4),
        Add("sum", Quant(0.2, -100), ("stem", "body"), relu=True),
        AveragePool1d("mean", 3, 1, Quant(0.15, 5), (1, 1)),
        MaxPool1d("top", 3, 1, (1, 1), ("sum",)),
        Concat("cat", Quant(0.2, 0), ("mean", "top")),
        GlobalAveragePool("gap", Quant(0.1, 3)),
        Flatten("flat"),
        Dense(
            "fc", np.ones((3, 8), np.int8), np.zeros(3, np.int32), np.full(3, 0.01, np.float32), Quant(0.1, 7)
        ),
    )
    return Graph("branching", Tensor(1, 30, Quant(0.02, -128)), ops)


def insert(
    model: ModelProto, before: str, new: NodeProto, constants: dict[str, np.ndarray] | None = None
) -> None:
    """A node between `before` and what it reads."""
    target = node(model, before)
    new.input[0] = target.input[0]
    target.input[0] = new.output[0]
    at = list(model.graph.node).index(target)
    nodes = [*model.graph.node[:at], new, *model.graph.node[at:]]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for name, value in (constants or {}).items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))


def moved(kind: str, before: str, *values: list[int], **attributes: object) -> Callable[[ModelProto], None]:
    """An op that reshapes, in front of `before`."""

    def change(model: ModelProto) -> None:
        constants = {f"c{i}": np.array(v, np.int64) for i, v in enumerate(values)}
        insert(
            model,
            before,
            helper.make_node(kind, ["", *constants], ["moved"], "mover", **attributes),
            constants,
        )

    return change


def clip(low: float, high: float) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        bounds = {"low": np.array(low, np.float32), "high": np.array(high, np.float32)}
        insert(model, "body_q", helper.make_node("Clip", ["", "low", "high"], ["clipped"], "limit"), bounds)

    return change


def two_readers(model: ModelProto) -> None:
    node(model, "sum").input[1] = "stem_float"


def constant_summand(model: ModelProto) -> None:
    node(model, "sum").input[1] = "cat_q_scale"


def swapped_axes(model: ModelProto) -> None:
    """A square weight whose scale runs along the inputs."""
    fc = node(model, "fc")
    replace_constant(model, "fc_weight", np.ones((8, 8), np.int8))
    replace_constant(model, "fc_weight_scale", np.full(8, 0.01, np.float32))
    replace_constant(model, "fc_weight_zero_point", np.zeros(8, np.int8))
    set_attribute(model, "fc_weight_dq", "axis", 1)
    del fc.input[2:]


HOSTILE_BRANCHES: dict[str, tuple[Callable[[ModelProto], object], str]] = {
    "sum without quantisation": (two_readers, "sum.*needs its own quantisation|expected behind"),
    "sum with a constant": (constant_summand, "sum.*constants"),
    "concat along positions": (lambda m: set_attribute(m, "cat", "axis", 2), "cat.*axis"),
    "average of everything in 2-D": (
        lambda m: set_attribute(m, "mean", "kernel_shape", [3, 3]),
        "mean.*axes",
    ),
    "average with ceil": (lambda m: set_attribute(m, "mean", "ceil_mode", 2), "mean.*ceil_mode"),
    "average of padding": (lambda m: set_attribute(m, "mean", "pads", [3, 0]), "narrower than the window"),
    "dilated pool": (lambda m: set_attribute(m, "top", "dilations", [2]), "top.*dilated"),
    "negative padding": (lambda m: set_attribute(m, "top", "pads", [-1, 1]), "narrower than the window"),
    "clip that int8 does not do": (clip(0.0, 1.0), "body.*Clip"),
    "clip from below": (clip(0.5, 99.0), "body.*Clip"),
    "clip that is no number": (clip(float("nan"), 1.0), "limit.*number"),
    "reshape that mixes": (moved("Reshape", "body", [1, 2, 60]), "body.*moves data"),
    "reshape to another size": (moved("Reshape", "body", [1, 4, 31]), "mover.*keep the data"),
    "reshape with two unknowns": (moved("Reshape", "body", [1, -1, -1]), "mover.*keep the data"),
    "reshape of the batch": (moved("Reshape", "body", [2, 4, 15]), "mover.*keep the data"),
    "transpose": (moved("Transpose", "body", perm=[0, 2, 1]), "mover.*moves data"),
    "transpose of nothing": (moved("Transpose", "body", perm=[0, 0, 1]), "mover.*permutation"),
    "squeeze of an axis that is there": (moved("Squeeze", "body", [1]), "mover.*length 1"),
    "squeeze of the batch": (moved("Squeeze", "body", [0]), "mover.*batch"),
    "unsqueeze to a plane": (moved("Reshape", "body", [1, 4, 5, 6]), "body.*1-D"),
    "too many axes": (moved("Unsqueeze", "body", [1, 2, 3]), "mover.*axes"),
    "softmax in the middle": (moved("Softmax", "body", axis=1), "mover.*over the classes"),
    "weight scales along the inputs": (swapped_axes, "fc.*along the output channels"),
    "no outputs": (lambda m: node(m, "mean").ClearField("output"), "mean.*exactly one output"),
    "a list for a number": (lambda m: set_attribute(m, "stem", "group", [1]), "stem.*group has another type"),
    "a number for a list": (
        lambda m: set_attribute(m, "mean", "kernel_shape", 3),
        "kernel_shape has another",
    ),
    "text for a list": (lambda m: set_attribute(m, "top", "pads", "none"), "pads has another type"),
    "defined twice": (lambda m: node(m, "mean").output.__setitem__(0, "sum_float"), "defined twice"),
}


@pytest.mark.parametrize("name", HOSTILE_BRANCHES)
def test_hostile_branches_are_refused_by_name_and_reason(name: str) -> None:
    change, why = HOSTILE_BRANCHES[name]
    model = onnx.load_model_from_string(to_onnx(branching()))
    change(model)
    with pytest.raises(ModelError, match=why):
        from_onnx(model.SerializeToString())


@pytest.mark.parametrize(
    "change",
    [
        lambda model: None,
        moved("Reshape", "body", [0, -1, 30]),
        moved("Unsqueeze", "gap", [2]),
        moved("Transpose", "flat", perm=[0, 1, 2]),
        moved("Identity", "body"),
        moved("Relu", "body"),
        clip(0.0, 26.0),
    ],
)
def test_what_changes_nothing_is_accepted(change: Callable[[ModelProto], None]) -> None:
    """Negative control of the table above: the same edits with harmless values give the same graph."""
    model = onnx.load_model_from_string(to_onnx(branching()))
    change(model)
    assert from_onnx(model.SerializeToString()).digest == branching().digest


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_models_are_refused_by_name_and_reason(name: str) -> None:
    change, why = HOSTILE[name]
    data = edited(change)
    start = time.perf_counter()
    with pytest.raises(ModelError, match=why):
        from_onnx(data)
    assert time.perf_counter() - start < 5


def test_the_unchanged_model_is_accepted() -> None:
    """Negative control of the table above: the edits, not the base, are what is refused."""
    assert from_onnx(edited(lambda model: None)).digest == small().digest


def test_names_that_are_no_text_are_refused() -> None:
    data = BASES[0]
    assert data.count(b"conv_b_weight") > 1
    with pytest.raises(ModelError, match=r"UTF-8|not an ONNX model"):
        from_onnx(data.replace(b"conv_b_weight", b"conv_\xff_weight"))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damaged_bytes_are_refused_or_another_valid_graph(data: st.DataObject) -> None:
    """Whatever bytes come in, the answer is a Graph or a ModelError, never another exception."""
    model = bytearray(data.draw(st.sampled_from(BASES)))
    for _ in range(data.draw(st.integers(1, 4))):
        model[data.draw(st.integers(0, len(model) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(model)))
    with contextlib.suppress(ModelError):
        assert isinstance(from_onnx(bytes(model[:end])), Graph)


BASES = [to_onnx(small()), to_onnx(branching())]
