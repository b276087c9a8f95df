"""The benchmark's graph as ncnn's own files, int8 or float32, written here: ncnn's converters are not on PyPI.

Layers are Convolution and Pooling of height 1. ncnn's int8 is symmetric per tensor, so an activation after a ReLU has
seven bits of the eight; its answers differ by that, its instructions do not.
"""

from __future__ import annotations

import numpy as np
from libsedge_native.ir import Conv1d, Dense, Flatten, GlobalAveragePool, Graph, MaxPool1d, Tensor
from nets import real_weights
from numpy.typing import NDArray

MAGIC = 7767517
INT8_TAG = 0x000D4B38


def _largest(x: Tensor) -> float:
    """The largest magnitude that the tensor's int8 values stand for."""
    return x.quant.scale * max(127 - x.quant.zero_point, 128 + x.quant.zero_point)


def _weights(op: Conv1d | Dense, x: Tensor, quantised: bool) -> bytes:
    real, bias = real_weights(op, x)
    if not quantised:
        return np.uint32(0).tobytes() + real.tobytes() + bias.tobytes()
    data = op.weight.tobytes()
    per_channel = (1 / op.weight_scale.astype(np.float64)).astype(np.float32)
    scales: list[NDArray[np.float32]] = [per_channel, np.array([127 / _largest(x)], np.float32)]
    padded = data + bytes(-len(data) % 4)
    return (
        np.uint32(INT8_TAG).tobytes()
        + padded
        + bias.tobytes()
        + b"".join(scale.tobytes() for scale in scales)
    )


def to_ncnn(graph: Graph, *, quantised: bool) -> tuple[str, bytes]:
    """(.param text, .bin bytes): float input "input" of width `length`, float output "logits"."""
    term = 2 if quantised else 0
    layers = [f"Input input 0 1 input 0={graph.input.length} 1=1 2={graph.input.channels}"]
    weights, before = [], "input"
    ops = [(op, x) for op, x in zip(graph.ops, graph.tensors, strict=False) if not isinstance(op, Flatten)]
    for i, (op, x) in enumerate(ops):
        name = "logits" if i == len(ops) - 1 else op.name
        head = f"{op.name} 1 1 {before} {name}"
        if isinstance(op, Conv1d):
            out, _, taps = op.weight.shape
            layers.append(
                f"Convolution {head} 0={out} 1={taps} 11=1 2=1 12=1 3={op.stride} 13=1 4=0 14=0 5=1 "
                f"6={op.weight.size} 8={term} 9={int(op.relu)}"
            )
            weights.append(_weights(op, x, quantised))
        elif isinstance(op, Dense):
            out = op.weight.shape[0]
            layers.append(f"InnerProduct {head} 0={out} 1=1 2={op.weight.size} 8={term} 9={int(op.relu)}")
            weights.append(_weights(op, x, quantised))
        elif isinstance(op, MaxPool1d):
            layers.append(f"Pooling {head} 0=0 1={op.kernel} 11=1 2={op.stride} 12=1 5=1")
        else:
            assert isinstance(op, GlobalAveragePool)
            layers.append(f"Pooling {head} 0=1 4=1")
        before = name
    text = "\n".join([str(MAGIC), f"{len(layers)} {len(layers)}", *layers, ""])
    return text, b"".join(weights)
