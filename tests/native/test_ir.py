"""Graphs validate themselves; equal graphs have equal digests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
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
from libsedge_native.random_graph import random_graph

Q = Quant(0.05, -128)


def conv(**changes: object) -> Conv1d:
    fields: dict = {
        "name": "conv",
        "weight": np.ones((4, 2, 3), np.int8),
        "bias": np.zeros(4, np.int32),
        "weight_scale": np.full(4, 0.01, np.float32),
        "quant": Q,
    }
    return Conv1d(**{**fields, **changes})


def graph(*ops: object, channels: int = 2, length: int = 10) -> Graph:
    return Graph("net", Tensor(channels, length, Q), ops)  # type: ignore[arg-type]


def test_shapes_follow_the_ops() -> None:
    dense = Dense("fc", np.ones((3, 4), np.int8), np.zeros(3, np.int32), np.full(3, 0.1, np.float32), Q)
    net = graph(
        conv(stride=2, pads=(1, 2)), MaxPool1d("pool", 2, 2), GlobalAveragePool("gap", Q), Flatten("f"), dense
    )
    assert [t.shape for t in net.tensors] == [(2, 10), (4, 6), (4, 3), (4, 1), (4, 1), (3, 1)]
    assert net.macs == 4 * 2 * 3 * 6 + 3 * 4


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"weight": np.full((4, 2, 3), -128, np.int8)}, "-128"),
        ({"weight": np.ones((4, 2, 3), np.int16)}, "int8"),
        ({"weight": np.ones((4, 2), np.int8)}, "3 axes"),
        ({"bias": np.zeros(3, np.int32)}, "per output channel"),
        ({"bias": np.full(4, 2**31 - 1, np.int32)}, "int32"),
        ({"weight_scale": np.array([1, 1, 1, 0], np.float32)}, "positive"),
        ({"weight_scale": np.array([1, 1, 1, np.inf], np.float32)}, "finite"),
        ({"weight_scale": np.array([1, 1, 1, 1e-40], np.float32)}, "normal"),
        ({"stride": 0}, "stride"),
        ({"dilation": -1}, "dilation"),
        ({"pads": (-1, 0)}, "pads"),
        ({"groups": 3}, "groups"),
    ],
)
def test_a_wrong_convolution_cannot_be_built(changes: dict, why: str) -> None:
    with pytest.raises(ModelError, match=why) as caught:
        conv(**changes)
    assert "conv" in str(caught.value)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), 1e-40, 1e40])
def test_a_wrong_scale_is_refused(scale: float) -> None:
    with pytest.raises(ModelError, match="scale"):
        Quant(scale, 0)


@pytest.mark.parametrize("zero", [-129, 128, 0.5, True])
def test_a_wrong_zero_point_is_refused(zero: object) -> None:
    with pytest.raises(ModelError, match="zero_point"):
        Quant(1.0, zero)  # type: ignore[arg-type]


def test_graphs_that_do_not_fit_are_refused() -> None:
    gap, flat = GlobalAveragePool("gap", Q), Flatten("flat")
    with pytest.raises(ModelError, match="input channels"):
        graph(conv(), gap, channels=3)
    with pytest.raises(ModelError, match="longer than the padded input"):
        graph(conv(), gap, length=2)
    with pytest.raises(ModelError, match="length 1"):
        graph(conv())
    with pytest.raises(ModelError, match="differ"):
        graph(conv(), conv(weight=np.ones((4, 4, 1), np.int8)), gap)
    with pytest.raises(ModelError, match="Dense, and only Dense"):
        graph(gap, flat, conv())
    with pytest.raises(ModelError, match="identifiers"):
        graph(replace(gap, name="1; int main"))
    with pytest.raises(ModelError, match="sedge_"):
        graph(replace(gap, name="sedge_input"))
    with pytest.raises(ModelError, match="at most 65793"):
        graph(gap, length=70_000)


def test_arrays_are_copies_and_read_only() -> None:
    weight = np.ones((4, 2, 3), np.int8)
    op = conv(weight=weight)
    weight[:] = 5
    assert op.weight.max() == 1
    with pytest.raises(ValueError, match="read-only"):
        op.weight[0, 0, 0] = 2


def test_the_flag_of_a_relu_at_minus_128_is_always_set() -> None:
    assert conv().relu
    assert not conv(quant=Quant(0.05, -127)).relu


def test_equal_graphs_have_equal_digests_and_any_change_another() -> None:
    net = random_graph(3)
    assert net.digest == random_graph(3).digest
    op = next(o for o in net.ops if isinstance(o, Conv1d))
    index = net.ops.index(op)
    weight = op.weight.copy()
    weight.flat[-1] = weight.flat[-1] - 1 if weight.flat[-1] > 0 else weight.flat[-1] + 1
    changed = (
        replace(op, weight=weight),
        replace(op, bias=op.bias + np.int32(1)),
        replace(op, weight_scale=op.weight_scale * np.float32(2)),
    )
    digests = {replace(net, ops=(*net.ops[:index], c, *net.ops[index + 1 :])).digest for c in changed}
    assert len(digests | {net.digest, replace(net, name="other").digest}) == 5


def test_ops_read_what_they_name_and_by_default_the_op_in_front() -> None:
    net = graph(
        conv(), conv(name="b", inputs=("input",)), Add("sum", Q, ("conv", "b")), GlobalAveragePool("gap", Q)
    )
    assert [op.inputs for op in net.ops] == [("input",), ("input",), ("conv", "b"), ("sum",)]
    assert net.tensor("sum").shape == (4, 8)
    assert net.sources(net.ops[2]) == (net.tensor("conv"), net.tensor("b"))
    written = graph(conv(inputs=("input",)), conv(name="b", inputs=("input",)), *net.ops[2:])
    assert written.digest == net.digest
    crossed = graph(conv(), conv(name="b", inputs=("input",)), Add("sum", Q, ("b", "conv")), net.ops[3])
    assert crossed.digest != net.digest


def test_branches_that_do_not_fit_are_refused() -> None:
    gap = GlobalAveragePool("gap", Q)
    both = conv(name="b", inputs=("input",))
    with pytest.raises(ModelError, match="not in front of it"):
        graph(conv(inputs=("gap",)), gap)
    with pytest.raises(ModelError, match="nothing reads its result"):
        graph(conv(), both, replace(gap, inputs=("conv",)))
    with pytest.raises(ModelError, match="two inputs"):
        Add("sum", Q, ("conv",))
    with pytest.raises(ModelError, match="one shape"):
        graph(conv(), replace(both, stride=2), Add("sum", Q, ("conv", "b")), gap)
    with pytest.raises(ModelError, match="one length"):
        graph(conv(), replace(both, stride=2), Concat("cat", Q, ("conv", "b")), gap)
    with pytest.raises(ModelError, match="must all be flat"):
        graph(replace(gap, name="g"), Flatten("f"), Add("sum", Q, ("g", "f")))
    with pytest.raises(ModelError, match="out of range"):
        graph(conv(), replace(both, quant=Quant(3000.0, 0)), Add("sum", Q, ("conv", "b")), gap)
    with pytest.raises(ModelError, match="one input"):
        graph(replace(gap, inputs=("input", "input")))
    with pytest.raises(ModelError, match="generator's"):
        graph(replace(gap, name="input"))
    for pool in (MaxPool1d, lambda *a: AveragePool1d(a[0], a[1], a[2], Q, a[3])):
        with pytest.raises(ModelError, match="narrower than the window"):
            pool("pool", 2, 2, (2, 0))


def test_without_padding_both_ways_of_counting_are_one_op() -> None:
    pools = [AveragePool1d("pool", 10, 1, Q, include_pad=flag) for flag in (False, True)]
    assert graph(pools[0]).digest == graph(pools[1]).digest
