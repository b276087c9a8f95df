"""Weights, biases and scales of a convolution in the order a vector kernel reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libsedge_native.ir import Conv1d, Tensor
from libsedge_native.passes.neon_slide import READ_ALONE, WHOLE, Slide
from libsedge_native.passes.tile import VectorIsa
from libsedge_native.reference import multiplier

#: channels whose weights lie together where instruction sets share them
GROUP = 16
#: the int32 that, read as float32, is 2**23; adding 0 <= acc < 2**23 gives the float 2**23 + acc
BIAS_BITS = 0x4B000000


@dataclass(frozen=True, eq=False)
class Packed:
    weight: NDArray[Any]
    bias: NDArray[np.int32]
    multiplier: NDArray[np.float32]
    offset: NDArray[np.float32]
    #: the bytes of one window: `runs` runs of `run_steps` groups of four
    runs: int
    run_steps: int
    #: as stored: other instruction sets that read the same weights may take longer runs
    stored_steps: int
    #: bytes the last window reads behind its input
    overrun: int
    #: accumulators carry BIAS_BITS
    biased: bool


def ungrouped(conv: Conv1d) -> NDArray[np.int8]:
    """int8 [O, I, K]: a grouped convolution is a full one with zeros between the groups."""
    out, per_group, taps = conv.weight.shape
    full = np.zeros((out, per_group * conv.groups, taps), np.int8)
    for o in range(out):
        first = o // (out // conv.groups) * per_group
        full[o, first : first + per_group] = conv.weight[o]
    return full


def folded_bias(weight: NDArray[np.int8], conv: Conv1d, x: Tensor, offset: int) -> NDArray[np.int64]:
    """`bias - (zero_point + offset) * sum(weight)`: what activations stored as q + offset need.

    Legal because every tap of every position is summed: padding is in memory and holds the zero point.
    """
    total = weight.astype(np.int64).sum(axis=(1, 2))
    return conv.bias.astype(np.int64) - (x.quant.zero_point + offset) * total


def can_be_biased(
    weight: NDArray[np.int8], bias: NDArray[np.int64], scale: NDArray[np.float32], conv: Conv1d
) -> bool:
    """Whether `fma(2**23 + acc, m, -2**23 * m)` is exactly `float32(acc) * m` wherever the result is not
    clamped. `bias` is that of activations in 0..255 (offset 128); other offsets give the same accumulators.

    Legal where the output is a ReLU at zero point -128 (so negative accumulators give -128 whatever they
    become), every accumulator stays below 2**23 and above -2**30, and the scaled value stays inside int32.
    Then 2**23 + acc is an exact float, 2**23 * m is exact, and the multiply-add rounds once, as the product
    does.
    """
    if not conv.relu or conv.quant.zero_point != -128:
        return False
    wide = weight.astype(np.int64)
    high = bias + 255 * np.maximum(wide, 0).sum(axis=(1, 2))
    low = bias + 255 * np.minimum(wide, 0).sum(axis=(1, 2))
    scaled = np.abs(np.stack([high, low])).astype(np.float64) * scale
    return bool(
        high.max() < 1 << 23 and low.min() > -(1 << 30) and scaled.max() < 1 << 30 and scale.max() < 1 << 60
    )


def _panels(steps: NDArray[np.int8], vectors: int, isa: VectorIsa, slide: Slide) -> NDArray[np.int8]:
    """Weights [register][lane][step][4] in the order of one instruction set, flat."""
    whole = slide.taps > 0 and isa.slides in WHOLE
    if slide.taps:
        steps = slide.order(steps, isa)
    if whole:
        return steps.reshape(-1)
    panels = [
        steps[first : first + vectors].transpose(2, 0, 1, 3).reshape(-1)
        for first in range(0, len(steps), vectors)
    ]
    packed = np.concatenate(panels)
    if isa.order == "halves":  # weights 0, 1 and then 2, 3 of every lane
        packed = packed.reshape(-1, isa.lanes, 2, 2).transpose(0, 2, 1, 3).reshape(-1)
    return packed


def pack(
    conv: Conv1d,
    x: Tensor,
    width: int,
    channels: int,
    vectors: int,
    isa: VectorIsa,
    unit: int = 4,
    stored: int = 4,
    wide: bool = False,
    slide: Slide = READ_ALONE,
) -> Packed:
    """Pack for windows over bytes [position][width].

    weight becomes [panel][step][register][lane][4]; or, for a grouped instruction set, [group][step][channel][4],
    as int16 (`wide`) [group][step][half][channel][2]. channels (a multiple of lanes) includes padding channels,
    whose weights, biases and scales are zero. Dilation 1 makes a window one run; else every tap is one. Runs are
    read up to a multiple of `unit` bytes, and stored up to one of `stored` (at least that), with zero weights.
    """
    lanes = isa.lanes
    weight = ungrouped(conv)
    out, inputs, taps = weight.shape
    one_run = conv.dilation == 1
    assert one_run or width % 4 == 0
    bias = folded_bias(weight, conv, x, isa.byte_offset)
    scale = multiplier(x.quant.scale, conv.weight_scale, conv.quant.scale)
    biased = can_be_biased(weight, folded_bias(weight, conv, x, 128), scale, conv)

    window = np.zeros((channels, taps, width), np.int8)
    window[:out, :, :inputs] = weight.transpose(0, 2, 1)
    runs, length = (1, taps * width) if one_run else (taps, width)
    run_steps = -(-length // unit) * unit // 4
    stored_steps = -(-length // stored) * stored // 4 if isa.grouped else run_steps
    padded_window = np.zeros((channels, runs, stored_steps * 4), np.int8)
    padded_window[:, :, :length] = window.reshape(channels, runs, length)
    if isa.grouped:
        item = 2 if wide else 4
        groups = padded_window.reshape(channels // GROUP, GROUP, -1, item)
        packed = groups.transpose(0, 2, 1, 3).reshape(-1).astype(np.int16 if wide else np.int8)
    else:
        packed = _panels(padded_window.reshape(channels // lanes, lanes, -1, 4), vectors, isa, slide)

    def padded(values: NDArray[Any], dtype: type) -> NDArray[Any]:
        full: NDArray[Any] = np.zeros(channels, dtype)
        full[:out] = values
        return full

    offset = np.float32(-(2.0**23)) * scale if biased else np.zeros(out, np.float32)
    return Packed(
        packed,
        padded(bias, np.int32) + np.int32(BIAS_BITS if biased else 0),
        padded(scale, np.float32),
        padded(offset, np.float32),
        runs,
        run_steps,
        stored_steps,
        run_steps * 4 - length,
        biased,
    )


def pack_depthwise(
    conv: Conv1d, x: Tensor, channels: int, isa: VectorIsa
) -> tuple[NDArray[np.int8], NDArray[np.int32], NDArray[np.float32]]:
    """Weight [tap][channel], folded bias and multiplier of one channel a group, channels padded with zeros."""
    out, _, taps = conv.weight.shape
    weight = np.zeros((taps, channels), np.int8)
    weight[:, :out] = conv.weight[:, 0, :].T
    bias, scale = np.zeros(channels, np.int32), np.zeros(channels, np.float32)
    bias[:out] = folded_bias(conv.weight, conv, x, isa.byte_offset)
    scale[:out] = multiplier(x.quant.scale, conv.weight_scale, conv.quant.scale)
    return weight.reshape(-1), bias, scale
