"""The oracle against two others: loops over Python integers, and ONNX Runtime."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libsedge_native import reference, verify
from libsedge_native.ir import Conv1d, Dense, GlobalAveragePool, Graph, MaxPool1d
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
    q = [[x[c * length + p] for p in range(length)] for c in range(channels)]
    for op, t in zip(graph.ops, graph.tensors, strict=False):
        s, z = Fraction(t.quant.scale), t.quant.zero_point
        if isinstance(op, MaxPool1d):
            count = (len(q[0]) - op.kernel) // op.stride + 1
            q = [[max(row[p * op.stride : p * op.stride + op.kernel]) for p in range(count)] for row in q]
        elif isinstance(op, GlobalAveragePool):
            m = float32(s / float32(Fraction(op.quant.scale) * len(q[0])))
            q = [[requantise(sum(v - z for v in row), m, op.quant.zero_point, -128)] for row in q]
        elif isinstance(op, (Conv1d, Dense)):
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
            q = out
        else:  # Flatten
            q = [[v] for row in q for v in row]
    return [row[0] for row in q]


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


@pytest.mark.parametrize("seed", range(20))
def test_reference_equals_onnx_runtime(seed: int) -> None:
    """Exactly on x86 with VNNI; elsewhere ONNX Runtime may saturate 16-bit pairs, one step is allowed."""
    check = verify.verify_ort(random_graph(seed), count=8, seed=seed)
    assert check.cells > 0
    assert check.max_difference <= (0 if _has_vnni() else 1)


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
    return pools and len(convs) > 2 and all(not op.relu or op.quant.zero_point == -128 for op in convs)


def _has_vnni() -> bool:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as text:
            return "vnni" in text.read()
    except OSError:
        return False
