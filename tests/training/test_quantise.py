"""int8 quantisation: scales exact, the int8 graph close to the float net, the choice of rule by measurement.

The nets have random weights and the spectra are synthetic lines: they test arithmetic, not accuracy.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from libsedge.errors import DatasetError, ModelError
from libsedge_native import ir, reference
from libsedge_training import quantise as q
from libsedge_training.model import (
    Block,
    FoldedConv,
    FoldedDense,
    FoldedGap,
    NetSpec,
    build,
    fold,
    run_folded,
)

SPEC = NetSpec(
    "tiny", (Block(4, 5, stride=2, pool=2), Block(6, 3, padding=1, pool=2), Block(8, 3)), points=96
)
CLASSES = 4


def spectra(n: int, points: int = 96, seed: int = 0) -> np.ndarray:
    """Synthetic "preprocessed" spectra: a low floor and a few tall lines, as after sqrt(x / mean)."""
    rng = np.random.default_rng(seed)
    x = np.abs(rng.normal(0.4, 0.1, (n, points)))
    for row in x:
        at = rng.choice(points, 5, replace=False)
        row[at] += rng.exponential(2.0, 5)
    return x.astype(np.float32)


def random_net(seed: int, spec: NetSpec = SPEC) -> tuple:
    """A folded random net whose batch normalisation has seen some data: activations are of order 1."""
    torch.manual_seed(seed)
    net = build(spec, spec.points, CLASSES).train()
    with torch.no_grad():
        net.dense.weight *= 8
        for _ in range(20):
            net(torch.from_numpy(spectra(32, spec.points, seed + 1)))
    return fold(net.eval())


def graph_of(layers: tuple, ranges: list[q.TensorRange], points: int, rule: str) -> ir.Graph:
    return q.quantise(layers, q.activations(ranges, rule), points, "net")


@pytest.fixture(scope="module")
def layers() -> tuple:
    return random_net(3)


def test_float_forward_is_the_folded_net(layers: tuple) -> None:
    x = spectra(130)  # three batches, the last one short
    np.testing.assert_allclose(q.float_logits(layers, x), run_folded(layers, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("low", "high", "zero"), [(0.0, 10.0, -128), (-5.0, 5.0, 0), (-10.0, 0.0, 127), (2.0, 10.0, -128)]
)
def test_affine_holds_zero_exactly_and_its_ends(low: float, high: float, zero: int) -> None:
    quant = q.affine(low, high)
    assert quant.zero_point in (zero, zero - 1)
    assert np.float32(quant.scale) == quant.scale
    ends = np.array([min(low, 0.0), max(high, 0.0)])
    steps = np.clip(np.rint(ends / quant.scale) + quant.zero_point, -128, 127)
    assert np.abs(quant.scale * (steps - quant.zero_point) - ends).max() <= quant.scale


def test_affine_of_a_tensor_that_is_zero() -> None:
    assert q.affine(0.0, 0.0) == ir.Quant(1.0, -128)


def test_weights_are_symmetric_per_channel() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(5, 3, 7)).astype(np.float32) * np.array([1, 10, 1e-3, 0, 1])[:, None, None]
    bias = np.array([1.0, -2.0, 0.5, 0.0, 1e6], np.float32)
    rounded, steps, scale = q.quantise_weights(weight.astype(np.float32), bias, 0.05)
    assert np.abs(rounded.astype(int)).max(axis=(1, 2)).tolist()[:3] == [127, 127, 127]
    assert not rounded[3].any()
    assert np.abs(rounded * scale[:, None, None] - weight).max(axis=(1, 2))[:3] == pytest.approx(
        scale[:3] / 2, rel=0.5
    )
    assert np.abs(steps).max() <= 2**30 + 2**10  # the 1e6 bias widened its channel's scale
    step = scale * np.float64(np.float32(0.05))
    assert (np.abs(steps * step - bias) <= 0.5001 * step).all()


def test_dense_head_becomes_one_flatten_and_two_dense_layers() -> None:
    blocks = (Block(8, 5, padding=2, pool=4), Block(8, 3, pool=2))
    layers = random_net(3, NetSpec("flat", blocks, head="dense", hidden=16, points=96))
    graph = graph_of(layers, q.observe(layers, spectra(64)), 96, "max")
    assert [type(op).__name__ for op in graph.ops[4:]] == ["Flatten", "Dense", "Dense"]
    hidden, logits = graph.ops[-2:]
    assert isinstance(hidden, ir.Dense)
    assert isinstance(logits, ir.Dense)
    assert (hidden.relu, hidden.quant.zero_point) == (True, -128)
    assert not logits.relu
    x = spectra(64)
    int8 = reference.run(graph, q.quantise_input(graph, x))
    error = np.abs(q.dequantise_logits(graph, int8.reshape(64, 4)) - q.float_logits(layers, x))
    assert error.max() < 0.1 * np.abs(q.float_logits(layers, x)).max()


def test_relu_tensors_start_at_minus_128_and_pools_keep_the_scale(layers: tuple) -> None:
    graph = graph_of(layers, q.observe(layers, spectra(64)), 96, "max")
    kinds = [type(op).__name__ for op in graph.ops]
    assert kinds == [
        "Conv1d",
        "MaxPool1d",
        "Conv1d",
        "MaxPool1d",
        "Conv1d",
        "GlobalAveragePool",
        "Flatten",
        "Dense",
    ]
    assert graph.input.quant.zero_point == -128
    for op, before, after in zip(graph.ops, graph.tensors, graph.tensors[1:], strict=False):
        if isinstance(op, (ir.MaxPool1d, ir.Flatten)):
            assert after.quant == before.quant
        elif not isinstance(op, ir.Dense):
            assert after.quant.zero_point == -128
    assert graph.output.shape == (CLASSES, 1)


def test_max_rule_covers_the_calibration_exactly(layers: tuple) -> None:
    x = spectra(64)
    graph = graph_of(layers, q.observe(layers, x), 96, "max")
    assert graph.input.quant.scale == float(np.float32(float(x.max()) / 255))
    assert q.quantise_input(graph, x).max() == 127
    assert q.quantise_input(graph, np.zeros((1, 96), np.float32)).tolist() == [[-128] * 96]


@pytest.mark.parametrize("rule", q.RULES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_int8_follows_the_float_net(rule: str, seed: int) -> None:
    """Reference arithmetic of the int8 graph against the float net, for nets with random weights."""
    layers = random_net(seed)
    graph = graph_of(layers, q.observe(layers, spectra(128, seed=10)), 96, rule)
    x = spectra(200, seed=11)
    wanted = q.float_logits(layers, x)
    logits = q.dequantise_logits(graph, reference.run(graph, q.quantise_input(graph, x)))
    spread = wanted.std()
    assert np.abs(logits - wanted).mean() < 0.15 * spread
    assert q.agreement(logits, wanted) > 0.85


def test_a_wrong_scale_shows(layers: tuple) -> None:
    """Negative control: the comparison above goes red when one tensor's scale is doubled on one side."""
    ranges = q.observe(layers, spectra(128, seed=10))
    graph = graph_of(layers, ranges, 96, "max")
    first = graph.ops[0]
    assert isinstance(first, ir.Conv1d)
    wrong = ir.Conv1d(
        first.name, first.weight, first.bias, first.weight_scale * np.float32(2), first.quant, first.stride
    )
    broken = ir.Graph("net", graph.input, (wrong, *graph.ops[1:]))
    x = spectra(100, seed=11)
    wanted = q.float_logits(layers, x)
    logits = q.dequantise_logits(broken, reference.run(broken, q.quantise_input(broken, x)))
    assert np.abs(logits - wanted).mean() > 0.15 * wanted.std()


def test_mse_rule_cuts_a_lone_outlier() -> None:
    counts = np.zeros(q.BINS)
    counts[10:200] = 1000.0
    counts[-1] = 1.0
    seen = q.TensorRange(0.0, 100.0, counts)
    assert seen.clip("max") == 100.0
    assert seen.clip("percentile") < 10.0
    assert 4.5 < seen.clip("mse") < 100.0
    with pytest.raises(ModelError, match="must be one of"):
        seen.clip("median")


def test_mse_rule_is_the_best_of_all_clips_on_real_values() -> None:
    """Oracle: quantise the values themselves at many clips and take the least square error."""
    values = np.abs(np.random.default_rng(0).standard_t(3, 200_000))
    counts = np.histogram(values, bins=q.BINS, range=(0.0, values.max()))[0].astype(float)
    chosen = q.TensorRange(0.0, float(values.max()), counts).clip("mse")

    def error(clip: float) -> float:
        step = clip / 255
        return float(((np.clip(np.rint(values / step), 0, 255) * step - values) ** 2).mean())

    best = min(error(clip) for clip in np.linspace(0.125, 1.0, 200) * values.max())
    assert error(chosen) <= 1.1 * best


def test_choose_keeps_the_rule_nearest_to_the_float_net(layers: tuple) -> None:
    validation = spectra(150, seed=5)
    choice = q.choose(layers, spectra(128), validation, reference.run, "net")
    assert set(choice.agreement) == set(q.RULES)
    assert choice.logit_error[choice.rule] == min(choice.logit_error.values())
    wanted = q.float_logits(layers, validation)
    again = q.dequantise_logits(
        choice.graph, reference.run(choice.graph, q.quantise_input(choice.graph, validation))
    )
    assert q.agreement(again, wanted) == choice.agreement[choice.rule]
    assert np.sqrt(((again - wanted) ** 2).mean()) == pytest.approx(choice.logit_error[choice.rule])


def mean_shift(layers: tuple, of: tuple, quants: tuple[ir.Quant, ...], x: np.ndarray) -> float:
    """Largest |mean int8 logit of `of` - mean float logit of `layers`| of a class, by the reference."""
    graph = q.quantise(of, quants, x.shape[1], "net")
    logits = q.dequantise_logits(graph, reference.run(graph, q.quantise_input(graph, x)))
    return float(np.abs((logits - q.float_logits(layers, x)).mean(axis=0)).max())


@pytest.mark.parametrize("dense", [False, True])
def test_corrected_biases_give_the_int8_net_the_float_nets_means(dense: bool) -> None:
    blocks = (Block(8, 5, padding=2, pool=4), Block(8, 3, pool=2))
    spec = NetSpec("flat", blocks, head="dense", hidden=16, points=96) if dense else SPEC
    layers, x = random_net(3, spec), spectra(256)
    ranges = q.observe(layers, x)
    quants = tuple(q.affine(r.low, 0.6 * r.high) for r in ranges[:-1]) + q.activations(ranges, "max")[-1:]
    before = mean_shift(layers, layers, quants, x)
    corrected: tuple = q.correct_biases(layers, quants, x)
    after = mean_shift(layers, corrected, quants, x)
    assert after < 0.2 * before  # what is left is the rounding of the logits
    # negative control: the same corrections the other way round
    away = tuple(
        layer if isinstance(layer, FoldedGap) else replace(layer, bias=2 * layer.bias - new.bias)
        for layer, new in zip(layers, corrected, strict=True)
    )
    assert mean_shift(layers, away, quants, x) > before


def test_a_net_that_was_trained_with_its_rounding_keeps_its_scales(layers: tuple) -> None:
    given = q.activations(q.observe(layers, spectra(16)), "percentile")
    choice = q.choose(layers, spectra(128), spectra(50, seed=5), reference.run, "net", given)
    assert choice.rule == q.TRAINED
    assert choice.graph.digest == q.quantise(layers, given, 96, "net").digest


def test_same_input_same_graph(layers: tuple) -> None:
    digests = {graph_of(layers, q.observe(layers, spectra(64)), 96, "mse").digest for _ in range(2)}
    assert len(digests) == 1


def test_dead_channels_and_dead_tensors() -> None:
    conv = FoldedConv(np.zeros((3, 1, 5), np.float32), np.zeros(3, np.float32), 1, 0, 2, True)
    dense = FoldedDense(np.ones((2, 3), np.float32), np.array([0.5, -0.5], np.float32))
    layers = (conv, FoldedGap(), dense)
    graph = graph_of(layers, q.observe(layers, spectra(8, 32)), 32, "mse")
    logits = q.dequantise_logits(graph, reference.run(graph, q.quantise_input(graph, spectra(2, 32))))
    np.testing.assert_allclose(logits, [[0.5, -0.5]] * 2, atol=graph.output.quant.scale)


@pytest.mark.parametrize("bad", [np.zeros((0, 96), np.float32), np.full((2, 96), np.nan, np.float32)])
def test_unusable_calibration_is_refused(layers: tuple, bad: np.ndarray) -> None:
    with pytest.raises(DatasetError, match="calibration spectra"):
        q.observe(layers, bad)
