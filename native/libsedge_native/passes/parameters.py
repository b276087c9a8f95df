"""Shapes and constants that several kernels share, the constants from the formulas of `reference`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from libsedge_native.ir import Add, AveragePool1d, Conv1d, MaxPool1d, Quant, Tensor
from libsedge_native.lowered import Stage
from libsedge_native.reference import add_factors, average_multiplier, rescale_table


def conv_shape(stage: Stage, conv: Conv1d) -> dict[str, int]:
    """What a convolution over [channels][length] needs to know, whatever it computes in."""
    return {
        "in_channels": stage.x.channels,
        "in_length": stage.x.length,
        "out_channels": stage.y.channels,
        "out_length": stage.y.length,
        "taps": conv.weight.shape[2],
        "stride": conv.stride,
        "dilation": conv.dilation,
        "pad_left": conv.pads[0],
        "groups": conv.groups,
        "pool": stage.pool,
    }


def window_shape(stage: Stage, op: MaxPool1d | AveragePool1d) -> dict[str, int]:
    """What a pool needs to know besides its channels."""
    return {
        "in_length": stage.x.length,
        "out_length": stage.y.length,
        "kernel": op.kernel,
        "stride": op.stride,
        "pad_left": op.pads[0],
    }


def counts_seen(op: AveragePool1d) -> bool:
    """Whether the divisor of a mean is the number of values that its window sees, which differs at the ends."""
    return any(op.pads) and not op.include_pad


def float_pool(stage: Stage, op: MaxPool1d | AveragePool1d) -> tuple[str, dict[str, int]]:
    """Kind and shape of a float32 pool."""
    if isinstance(op, MaxPool1d):
        return "max_pool", window_shape(stage, op)
    return "average_pool", {**window_shape(stage, op), "counted": int(counts_seen(op))}


def average_multipliers(op: AveragePool1d, x: Tensor) -> NDArray[np.float32]:
    """float32 [1], or where windows at the ends see fewer values [kernel], by the number of values seen."""
    counts = range(1, op.kernel + 1) if counts_seen(op) else (op.kernel,)
    return np.array([average_multiplier(x.quant.scale, op.quant.scale, n) for n in counts], np.float32)


def add_shape(stage: Stage, op: Add) -> dict[str, int]:
    """Factors, shift and zero points of an Add."""
    a, b = stage.xs
    first, second, shift = add_factors(a.quant, b.quant, op.quant)
    return {
        "a_factor": first,
        "b_factor": second,
        "shift": shift,
        "a_zero": a.quant.zero_point,
        "b_zero": b.quant.zero_point,
        "y_zero": op.quant.zero_point,
        "y_low": op.quant.zero_point if op.relu else -128,
    }


def table(x: Quant, y: Quant, byte_offset: int) -> NDArray[np.int8] | None:
    """int8 [256] by the stored byte (q + byte_offset, modulo 256), or None where nothing changes."""
    if x == y:
        return None
    stored = np.arange(256)
    q = (stored - byte_offset + 128) % 256  # index into the table by q + 128
    values = rescale_table(x, y)[q].astype(np.int16) + byte_offset
    return (values % 256).astype(np.uint8).view(np.int8)
