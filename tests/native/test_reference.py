"""The oracle against two others: loops over Python integers, and ONNX Runtime."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libsedge_native import reference, verify
from libsedge_native.agreement import OURS, graphs_that_agree, one_op
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
    Op,
    Quant,
    Tensor,
)
from libsedge_native.onnx_export import to_onnx
from libsedge_native.random_graph import random_graph, random_inputs


def float32(value: Fraction) -> Fraction:
    """Nearest float32, ties to even, by exact arithmetic on the integers (normal range only)."""
    if value == 0:
        return value
    sign, value = (-1 if value < 0 else 1), abs(value)
    exponent = 0
    while value >= Fraction(2) ** (exponent + 24):
        exponent += 1
    while value < Fraction(2) ** (exponent + 23):
        exponent -= 1
    return sign * half_even(value / Fraction(2) ** exponent) * Fraction(2) ** exponent


def half_even(value: Fraction) -> int:
    below = value.numerator // value.denominator
    twice = 2 * (value - below)
    return below + (1 if twice > 1 or (twice == 1 and below % 2 == 1) else 0)


def requantise(acc: int, m: Fraction, zero: int, low: int) -> int:
    return max(low, min(127, half_even(float32(float32(Fraction(acc)) * m)) + zero))


def brute_force(graph: Graph, x: list[int]) -> list[int]:
    """quant_spec.md once more, in loops over Python integers and fractions; shares nothing with reference.py."""
    channels, length = graph.input.shape
    known = {"input": [[x[c * length + p] for p in range(length)] for c in range(channels)]}
    for op in graph.ops:
        known[op.name] = brute_op(op, [known[n] for n in op.inputs], graph.sources(op))
    return [row[0] for row in known[graph.ops[-1].name]]


def clamp(value: int, low: int = -128) -> int:
    return max(low, min(127, value))


def window(row: list[int], op: MaxPool1d | AveragePool1d, p: int) -> list[int]:
    """The values of a row that window p sees."""
    places = (p * op.stride + j - op.pads[0] for j in range(op.kernel))
    return [row[i] for i in places if 0 <= i < len(row)]


def brute_join(op: Add | Concat, xs: list[list[list[int]]], ts: tuple[Tensor, ...]) -> list[list[int]]:
    zero, s_y = op.quant.zero_point, Fraction(op.quant.scale)
    if isinstance(op, Concat):
        out = []
        for x, t in zip(xs, ts, strict=True):
            s, z = Fraction(t.quant.scale), t.quant.zero_point
            same = t.quant == op.quant
            out += [
                [v if same else clamp(half_even(float32(float32((v - z) * s) / s_y)) + zero) for v in row]
                for row in x
            ]
        return out
    ratios = [float32(Fraction(t.quant.scale) / s_y) for t in ts]
    shift = next(
        k for k in range(24, 7, -1) if 255 * sum(half_even(r * 2**k) for r in ratios) + 129 * 2**k < 2**31
    )
    factors = [Fraction(half_even(r * 2**shift), 2**shift) for r in ratios]
    return [
        [
            clamp(
                half_even(
                    sum(f * (v - t.quant.zero_point) for f, v, t in zip(factors, pair, ts, strict=True))
                    + zero
                ),
                zero if op.relu else -128,
            )
            for pair in zip(*rows, strict=True)
        ]
        for rows in zip(*xs, strict=True)
    ]


def brute_op(op: Op, xs: list[list[list[int]]], ts: tuple[Tensor, ...]) -> list[list[int]]:
    if isinstance(op, (Add, Concat)):
        return brute_join(op, xs, ts)
    q, t = xs[0], ts[0]
    s, z = Fraction(t.quant.scale), t.quant.zero_point
    if isinstance(op, (MaxPool1d, AveragePool1d)):
        count = op.output(t).length
        seen = [[window(row, op, p) for p in range(count)] for row in q]
        if isinstance(op, MaxPool1d):
            return [[max(values) for values in row] for row in seen]
        out = []
        for row in seen:
            out.append([])
            for values in row:
                n = op.kernel if op.include_pad else len(values)
                m = float32(s / float32(Fraction(op.quant.scale) * n))
                exact = float32(Fraction(sum(v - z for v in values)) * m) + op.quant.zero_point
                out[-1].append(clamp(half_even(exact)))
        return out
    if isinstance(op, GlobalAveragePool):
        m = float32(s / float32(Fraction(op.quant.scale) * len(q[0])))
        return [[requantise(sum(v - z for v in row), m, op.quant.zero_point, -128)] for row in q]
    if isinstance(op, Flatten):
        return [[v] for row in q for v in row]
    assert isinstance(op, (Conv1d, Dense))
    y, zero, low = (
        Fraction(op.quant.scale),
        op.quant.zero_point,
        op.quant.zero_point if op.relu else -128,
    )
    scales = [float32(float32(s * Fraction(float(w))) / y) for w in op.weight_scale]
    out = []
    for o in range(len(op.weight)):
        if isinstance(op, Dense):
            acc = sum(int(w) * (q[i][0] - z) for i, w in enumerate(op.weight[o]))
            out.append([requantise(acc + int(op.bias[o]), scales[o], zero, low)])
            continue
        _, per_group, taps = op.weight.shape
        group = o // (len(op.weight) // op.groups)
        row = []
        for p in range(op.output(t).length):
            acc = int(op.bias[o])
            for c in range(per_group):
                for k in range(taps):
                    i = p * op.stride + k * op.dilation - op.pads[0]
                    if 0 <= i < len(q[0]):
                        acc += int(op.weight[o, c, k]) * (q[group * per_group + c][i] - z)
            row.append(requantise(acc, scales[o], zero, low))
        out.append(row)
    return out


@pytest.mark.parametrize("seed", range(25))
def test_reference_equals_loops_over_integers(seed: int) -> None:
    graph = random_graph(1000 + seed, max_length=12)
    x = random_inputs(graph, seed, 6)[-1]
    while graph.macs > 40_000:
        seed += 1000
        graph = random_graph(seed, max_length=12)
        x = random_inputs(graph, seed, 6)[-1]
    assert reference.run(graph, x).tolist() == brute_force(graph, x.tolist())


@settings(max_examples=300, deadline=None)
@given(
    acc=st.integers(-(2**31), 2**31 - 1) | st.integers(-5000, 5000),
    scale=st.floats(2.0**-30, 4.0, width=32),
    zero=st.integers(-128, 127),
)
def test_requantise_equals_exact_fractions(acc: int, scale: float, zero: int) -> None:
    got = reference.requantise(np.array([acc]), np.array([scale], np.float32), zero)
    assert got.tolist() == [requantise(acc, Fraction(scale), zero, -128)]


def test_ties_go_to_the_even_number() -> None:
    acc = np.array([-5, -3, -1, 1, 3, 5])
    got = reference.requantise(acc, np.array(0.5, np.float32), 0)
    assert got.tolist() == [-2, -2, 0, 0, 2, 2]


SAME_AS_ORT = [seed for seed, _ in graphs_that_agree(20)]


@pytest.mark.parametrize("seed", SAME_AS_ORT)
def test_reference_equals_onnx_runtime(seed: int) -> None:
    """Exactly on x86 with VNNI; elsewhere ONNX Runtime may saturate 16-bit pairs, one step is allowed."""
    check = verify.verify_ort(random_graph(seed), count=8, seed=seed)
    assert check.cells > 0
    assert check.max_difference <= (0 if _has_vnni() else 1)


def test_concat_is_among_the_ops_that_equal_onnx_runtime() -> None:
    assert any(isinstance(op, Concat) for seed in SAME_AS_ORT for op in random_graph(seed).ops)


@pytest.mark.parametrize("kind", OURS)
def test_our_sums_and_means_are_at_most_one_step_from_onnx_runtime(kind: type) -> None:
    checks = [verify.verify_ort(one_op(seed, kind), count=6, seed=seed) for seed in range(10)]
    cells = sum(check.cells for check in checks)
    assert max(check.max_difference for check in checks) <= 1
    assert sum(check.different for check in checks) <= cells // 500, (cells, checks)
    assert all(not check.float_ops for check in checks), (
        "ONNX Runtime must run QLinearAdd, QLinearAveragePool"
    )


def test_ties_of_means_and_sums_go_to_the_even_result() -> None:
    """2.5 with zero point 1 is 3.5, so 4: the zero point is added first, as ONNX Runtime does."""
    t = Tensor(1, 3, Quant(1.0, 0))
    pool = AveragePool1d("pool", 2, 2, Quant(1.0, 1))
    graph = Graph("n", t, (pool,))
    session = verify.ort_session(to_onnx(graph), int8=True)
    for values, want in (([2, 3], 4), ([1, 2], 2), ([-2, -3], -2), ([0, 1], 2)):
        x = np.array([[*values, 99]], np.int8)
        assert reference.average_pool(pool, x, t).tolist() == [[want]]
        assert verify.ort_run(session, graph, x).tolist() == [[want]]
    half = Tensor(1, 1, Quant(0.5, 0))
    add = Add("sum", Quant(1.0, 1), ("a", "b"))
    for a, b, want in ((2, 3, 4), (1, 2, 2), (-2, -3, -2)):
        xs = [np.array([[v]], np.int8) for v in (a, b)]
        assert reference.add(add, xs, [half, half]).tolist() == [[want]]


@settings(max_examples=200, deadline=None)
@given(
    a=st.floats(2.0**-20, 2.0**12, width=32),
    b=st.floats(2.0**-20, 2.0**12, width=32),
    zero=st.integers(-128, 127),
)
def test_the_sum_of_two_never_leaves_int32(a: float, b: float, zero: int) -> None:
    first, second, shift = reference.add_factors(Quant(a, 127), Quant(b, 127), Quant(1.0, zero))
    largest = 255 * (first + second) + abs(zero) * 2**shift + 2 ** (shift - 1)
    assert largest < 2**31
    assert shift >= 8
    assert abs(first / 2**shift - a) <= 2.0 ** -(shift + 1)


def test_a_relu_at_minus_128_leaves_no_float_op_in_onnx_runtime() -> None:
    graph = next(g for g in map(random_graph, range(500)) if _all_clip(g))
    assert verify.verify_ort(graph, count=4).float_ops == ()


def test_float_ops_are_noticed(tmp_path: object) -> None:
    """Negative control: a ReLU at another zero point stays in float, and the check says so."""
    graph = next(
        g
        for g in map(random_graph, range(500))
        if any(isinstance(o, Conv1d) and o.relu and o.quant.zero_point != -128 for o in g.ops)
    )
    assert verify.verify_ort(graph, count=4).float_ops != ()


def _all_clip(graph: Graph) -> bool:
    convs = [op for op in graph.ops if isinstance(op, (Conv1d, Dense))]
    pools = any(isinstance(op, GlobalAveragePool) for op in graph.ops)
    if any(isinstance(op, Add) and op.relu and op.quant.zero_point != -128 for op in graph.ops):
        return False
    return pools and len(convs) > 2 and all(not op.relu or op.quant.zero_point == -128 for op in convs)


def _has_vnni() -> bool:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as text:
            return "vnni" in text.read()
    except OSError:
        return False
