"""Constants that the scalar and the vector kernels share, from the formulas of `reference`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from libsedge_native.ir import Add, AveragePool1d, Quant, Tensor
from libsedge_native.lowered import Stage
from libsedge_native.reference import add_factors, average_multiplier, rescale_table


def average_multipliers(op: AveragePool1d, x: Tensor) -> NDArray[np.float32]:
    """float32 [1], or where windows at the ends see fewer values [kernel], by the number of values seen."""
    counts = range(1, op.kernel + 1) if any(op.pads) and not op.include_pad else (op.kernel,)
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
