"""Static quantisation: a folded float net and calibration spectra become an int8 `ir.Graph`.

Weights: symmetric in [-127, 127], one scale per output channel (max |w| / 127). Biases: int32 with scale
s_x * s_w. Activations: one scale per tensor; the input and everything after a ReLU is int8 with zero point
-128 over [0, clip], the logits int8 with their own scale and zero point (Jacob et al., CVPR 2018;
Krishnamoorthi, 2018, arXiv:1806.08342). A max pool keeps its tensor's scale; the global average pool gets
its own, because means are far smaller than peaks.

`clip` is chosen by a rule per tensor on the calibration (training) spectra:

* "max": the largest value seen;
* "percentile": the 99.99th percentile of the non-zero values;
* "mse": the clip of least mean square error, rounding noise step^2 / 12 below it and clipping error above it.

`choose` quantises by every rule, corrects the biases, and keeps the net whose logits are nearest to the float net's on
the validation spectra: logits tell rules apart where agreement is the chance of a few spectra (docs/quantisation.md).
It never sees test spectra. A net that was trained with its rounding (`qat.py`) brings its activations' scales along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from libsedge import _core
from libsedge.errors import DatasetError, ModelError
from libsedge_native import ir

from libsedge_training.model import FoldedConv, FoldedDense, FoldedGap, FoldedLayer

RULES = ("max", "percentile", "mse")
#: the rule's name where a net was trained with its rounding
TRAINED = "trained"
BINS = 4096
BATCH = 64
#: the logits' range is the calibration's times this: two classes that both clip at the top look the same
LOGIT_HEADROOM = 1.25
#: most calibration spectra for the means that biases are corrected by
MOST_FOR_MEANS = 256
#: |bias| in int32 stays below this, so that no accumulator leaves int32
_BIAS_LIMIT = float(1 << 30)

RunInt8 = Callable[[ir.Graph, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class TensorRange:
    """Values of one tensor over the calibration spectra: least, largest, and a histogram of [0, largest]."""

    low: float
    high: float
    counts: np.ndarray  # float64 [BINS]; zeros (masked points, ReLU) are left out, int8 holds them exactly

    def clip(self, rule: str) -> float:
        """The upper end of the quantised range under `rule`."""
        total = self.counts.sum()
        if rule == "max" or self.high <= 0 or total == 0:
            return self.high
        edges = np.arange(1, BINS + 1) * (self.high / BINS)
        if rule == "percentile":
            return float(edges[np.searchsorted(np.cumsum(self.counts), 0.9999 * total)])
        if rule != "mse":
            raise ModelError(f"must be one of {RULES}", field="rule", value=rule)
        values = edges - self.high / BINS / 2
        clips = edges[BINS // 8 - 1 :: BINS // 256]
        over = np.maximum(values[None, :] - clips[:, None], 0.0)
        inside = np.cumsum(self.counts)[np.searchsorted(edges, clips)]
        error = inside * (clips / 255) ** 2 / 12 + (over**2) @ self.counts
        return float(clips[np.argmin(error)])


@dataclass(frozen=True)
class Choice:
    """A quantised net and how it compares with the float net on the validation spectra, per rule tried."""

    graph: ir.Graph
    rule: str
    agreement: dict[str, float]  # top-1 agreement int8 / float, per rule
    logit_error: dict[str, float]  # root mean square of int8 logit - float logit, per rule


def _apply(layer: FoldedLayer, y: torch.Tensor) -> torch.Tensor:
    """[batch, channels, length] of a layer for y [batch, channels, length]."""
    if isinstance(layer, FoldedGap):
        return y.mean(dim=2, keepdim=True)
    weight, bias = torch.from_numpy(layer.weight), torch.from_numpy(layer.bias)
    if isinstance(layer, FoldedDense):
        y = torch.nn.functional.linear(y.flatten(1), weight, bias)[:, :, None]
        return torch.relu(y) if layer.relu else y
    y = torch.nn.functional.conv1d(y, weight, bias, stride=layer.stride, padding=layer.padding)
    y = torch.relu(y) if layer.relu else y
    return torch.nn.functional.max_pool1d(y, layer.pool) if layer.pool > 1 else y


def forward(
    layers: Sequence[FoldedLayer], x: np.ndarray, quants: Sequence[ir.Quant] | None = None
) -> Iterator[list[np.ndarray]]:
    """The input and every layer's output (after ReLU and pool) for x float32 [n, points], BATCH at a time.

    Arrays are float32 [batch, channels, length]; the dense layer's [batch, classes, 1]. quants : of the input and of
    every layer's output, which are then rounded to them.
    """
    for start in range(0, len(x), BATCH):
        with torch.inference_mode():
            block = np.ascontiguousarray(x[start : start + BATCH], dtype=np.float32)
            y = torch.from_numpy(block)[:, None, :]
            outputs: list[torch.Tensor] = []
            for at in range(len(layers) + 1):
                y = _apply(layers[at - 1], y) if at else y
                if quants is not None:
                    own = quants[at]
                    y = torch.fake_quantize_per_tensor_affine(y, own.scale, own.zero_point, -128, 127)
                outputs.append(y)
            yield [tensor.numpy() for tensor in outputs]


def float_logits(layers: Sequence[FoldedLayer], x: np.ndarray) -> np.ndarray:
    """Logits float32 [n, classes] of the folded float net for x float32 [n, points]."""
    return np.concatenate([outputs[-1][:, :, 0] for outputs in forward(layers, x)])


def observe(layers: Sequence[FoldedLayer], x: np.ndarray) -> list[TensorRange]:
    """The range of the input and of every layer's output over calibration spectra x float32 [n, points]."""
    if x.ndim != 2 or len(x) == 0 or not np.isfinite(x).all():
        raise DatasetError("must be finite [n >= 1, points]", field="calibration spectra", value=x.shape)
    low = np.zeros(len(layers) + 1)
    high = np.zeros(len(layers) + 1)
    for outputs in forward(layers, x):
        low = np.minimum(low, [tensor.min() for tensor in outputs])
        high = np.maximum(high, [tensor.max() for tensor in outputs])
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ModelError("the float net's activations are not finite", field="calibration spectra")
    counts = np.zeros((len(layers) + 1, BINS))
    for outputs in forward(layers, x):
        for row, tensor in enumerate(outputs):
            if high[row] > 0:
                positive = tensor[tensor > 0]
                counts[row] += np.histogram(positive, bins=BINS, range=(0.0, high[row]))[0]
    return [TensorRange(*row) for row in zip(low.tolist(), high.tolist(), counts, strict=True)]


def affine(low: float, high: float) -> ir.Quant:
    """int8 over [low, high], widened to hold 0 exactly; low = 0 gives zero point -128."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / 255)
    if scale < np.finfo(np.float32).tiny:  # a tensor that is zero everywhere
        scale = np.float32(1.0)
    return ir.Quant(float(scale), int(np.clip(np.rint(-128 - low / float(scale)), -128, 127)))


def weight_scale(weight: np.ndarray, bias: np.ndarray, input_scale: float) -> np.ndarray:
    """float32 scale per output channel of float weight [O, ...] with bias [O]."""
    peak = np.abs(weight.reshape(len(weight), -1)).max(axis=1).astype(np.float64)
    least = np.abs(bias.astype(np.float64)) / (input_scale * _BIAS_LIMIT)
    scale = np.maximum(peak / 127, least)
    # Below this a channel is zero to the net; its scale only has to be a normal float32.
    return np.where(scale < 1e-30, 1.0, scale).astype(np.float32)


def quantise_weights(
    weight: np.ndarray, bias: np.ndarray, input_scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(int8 weight, int32 bias, float32 scale per output channel) for float weight [O, ...] and bias [O]."""
    scale = weight_scale(weight, bias, input_scale)
    columns = scale.astype(np.float64).reshape(-1, *[1] * (weight.ndim - 1))
    rounded = np.clip(np.rint(weight / columns), -127, 127).astype(np.int8)
    steps = np.rint(bias.astype(np.float64) / (np.float64(np.float32(input_scale)) * scale))
    return rounded, steps.astype(np.int32), scale


def activations(ranges: Sequence[TensorRange], rule: str) -> tuple[ir.Quant, ...]:
    """The quantisation of the input, of every layer's output and of the logits, by `rule`."""
    *inner, last = ranges
    logits = affine(LOGIT_HEADROOM * last.low, LOGIT_HEADROOM * last.high)
    return (*(affine(seen.low, seen.clip(rule)) for seen in inner), logits)


def correct_biases(
    layers: Sequence[FoldedLayer], quants: Sequence[ir.Quant], x: np.ndarray
) -> tuple[FoldedLayer, ...]:
    """The layers with biases that give every channel of the int8 net, before its ReLU, the mean that it has in the
    float net over spectra x float32 [n, points].

    Rounded weights and clipped activations move that mean (Nagel et al., ICCV 2019, section 4.2, who take it from the
    batch normalisation). Layer by layer: each one sees the corrected ones before it.
    """
    wanted = _means(layers, x)
    found: list[FoldedLayer] = []
    rounded: list[FoldedLayer] = []
    for layer, float_mean in zip(layers, wanted, strict=False):
        if isinstance(layer, FoldedGap):
            found.append(layer)
            rounded.append(layer)
            continue
        at = len(rounded)
        weight, _, scale = quantise_weights(layer.weight, layer.bias, quants[at].scale)
        near = (weight * scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.float32)
        int8_mean = _means(rounded, x, quants[: at + 1])[-1]
        # before its ReLU a layer is affine: its mean output is that of the mean input
        moved = _channel_means(replace(layer, weight=near), int8_mean) - _channel_means(layer, float_mean)
        found.append(replace(layer, bias=layer.bias - moved))
        rounded.append(replace(found[-1], weight=near))
    return tuple(found)


def _means(
    layers: Sequence[FoldedLayer], x: np.ndarray, quants: Sequence[ir.Quant] | None = None
) -> list[np.ndarray]:
    """Means over the spectra of the input and of every layer's output, float32 [channels, length] each."""
    total: list[np.ndarray] | None = None
    for outputs in forward(layers, x, quants):
        sums = [tensor.sum(axis=0, dtype=np.float64) for tensor in outputs]
        total = sums if total is None else [a + b for a, b in zip(total, sums, strict=True)]
    assert total is not None
    return [(values / len(x)).astype(np.float32) for values in total]


def _channel_means(layer: FoldedConv | FoldedDense, y: np.ndarray) -> np.ndarray:
    """Mean of every channel before ReLU and pool, float32 [channels], for y [channels, length]."""
    plain = (
        replace(layer, relu=False) if isinstance(layer, FoldedDense) else replace(layer, relu=False, pool=1)
    )
    with torch.inference_mode():
        found: np.ndarray = _apply(plain, torch.from_numpy(y)[None]).mean(dim=2)[0].numpy()
    return found


def quantise(layers: Sequence[FoldedLayer], quants: Sequence[ir.Quant], points: int, name: str) -> ir.Graph:
    """The int8 graph of folded layers for `points` grid points, with `activations`."""
    x = quants[0]
    ops: list[ir.Op] = []
    convs = dense = 0
    for layer, quant in zip(layers, quants[1:], strict=True):
        if isinstance(layer, FoldedConv):
            convs += 1
            weight, bias, scale = quantise_weights(layer.weight, layer.bias, x.scale)
            pads = (layer.padding, layer.padding)
            ops.append(
                ir.Conv1d(
                    name=f"conv{convs}",
                    weight=weight,
                    bias=bias,
                    weight_scale=scale,
                    quant=quant,
                    stride=layer.stride,
                    pads=pads,
                    relu=layer.relu,
                )
            )
            if layer.pool > 1:
                ops.append(ir.MaxPool1d(f"pool{convs}", kernel=layer.pool, stride=layer.pool))
        elif isinstance(layer, FoldedGap):
            ops.append(ir.GlobalAveragePool("gap", quant))
        else:
            dense += 1
            weight, bias, scale = quantise_weights(layer.weight, layer.bias, x.scale)
            if dense == 1:
                ops.append(ir.Flatten("flatten"))
            ops.append(ir.Dense(f"dense{dense}", weight, bias, scale, quant, relu=layer.relu))
        x = quant
    return ir.Graph(name, ir.Tensor(1, points, quants[0]), tuple(ops))


def quantise_input(graph: ir.Graph, x: np.ndarray) -> np.ndarray:
    """int8 [n, points] of preprocessed spectra float32 [n, points]: preprocessing's own `quantise` step."""
    quant = graph.input.quant
    flat = np.ascontiguousarray(x, dtype=np.float32).reshape(-1)
    return _core.quantise(flat, quant.scale, quant.zero_point).reshape(x.shape)


def dequantise_logits(graph: ir.Graph, q: np.ndarray) -> np.ndarray:
    """Logits float64 of int8 outputs."""
    quant = graph.output.quant
    return quant.scale * (q.astype(np.float64) - quant.zero_point)


def agreement(first: np.ndarray, second: np.ndarray) -> float:
    """Share of rows in which two logit arrays [n, classes] have their maximum at the same class."""
    return float((first.argmax(axis=1) == second.argmax(axis=1)).mean())


def choose(
    layers: Sequence[FoldedLayer],
    calibration: np.ndarray,
    validation: np.ndarray,
    run: RunInt8,
    name: str = "net",
    trained: Sequence[ir.Quant] | None = None,
) -> Choice:
    """Quantise by every rule, biases corrected, and keep the one with the least logit error on `validation`.

    calibration, validation : preprocessed float32 [n, points]. run(graph, int8 [n, points]) -> int8 [n,
    classes]. Ties go to the earlier rule. trained : what the net was trained with (`qat.py`), in place of all rules and
    of the correction.
    """
    if trained is None:
        ranges = observe(layers, calibration)
        few = calibration[:: -(-len(calibration) // MOST_FOR_MEANS)]
        by_rule = {rule: activations(ranges, rule) for rule in RULES}
        nets = {rule: (correct_biases(layers, quants, few), quants) for rule, quants in by_rule.items()}
    else:
        nets = {TRAINED: (tuple(layers), tuple(trained))}
    wanted = float_logits(layers, validation)
    graphs, shares, errors = {}, {}, {}
    for rule, (corrected, quants) in nets.items():
        graph = quantise(corrected, quants, calibration.shape[1], name)
        logits = dequantise_logits(graph, run(graph, quantise_input(graph, validation)))
        graphs[rule] = graph
        shares[rule] = agreement(logits, wanted)
        errors[rule] = float(np.sqrt(np.square(logits - wanted).mean()))
    best = min(nets, key=errors.__getitem__)
    return Choice(graphs[best], best, shares, errors)
