"""The kernel that every machine runs: plain C++ over int8 [channels][length]."""

from __future__ import annotations

import numpy as np

from libsedge_native.ir import Conv1d, GlobalAveragePool, MaxPool1d
from libsedge_native.lowered import INPUT, LOGITS, Buffer, Constant, Kernel, Program, Stage, Step
from libsedge_native.passes.describe import describe
from libsedge_native.reference import average_multiplier, multiplier


def _conv(stage: Stage, conv: Conv1d) -> tuple[tuple[tuple[str, int], ...], tuple[Constant, ...]]:
    out, _, taps = conv.weight.shape
    shape = {
        "in_channels": stage.x.channels,
        "in_length": stage.x.length,
        "out_channels": out,
        "out_length": stage.y.length,
        "taps": taps,
        "stride": conv.stride,
        "dilation": conv.dilation,
        "pad_left": conv.pads[0],
        "groups": conv.groups,
        "pool": stage.pool,
        "x_zero": stage.x.quant.zero_point,
        "y_zero": conv.quant.zero_point,
        "y_low": conv.quant.zero_point if conv.relu else -128,
    }
    scale = multiplier(stage.x.quant.scale, conv.weight_scale, conv.quant.scale)
    name = stage.name
    constants = (
        Constant(f"{name}_weight", "int8_t", conv.weight.reshape(-1)),
        Constant(f"{name}_bias", "int32_t", conv.bias),
        Constant(f"{name}_multiplier", "float", scale),
    )
    return tuple(shape.items()), constants


def _step(stage: Stage, source: int, target: int) -> Step:
    op = stage.ops[0]
    if isinstance(op, Conv1d):
        kind, (shape, constants) = "conv1d", _conv(stage, op)
    elif isinstance(op, MaxPool1d):
        kind, constants = "max_pool", ()
        shape = (
            ("channels", stage.x.channels),
            ("in_length", stage.x.length),
            ("out_length", stage.y.length),
            ("kernel", op.kernel),
            ("stride", op.stride),
        )
    else:
        assert isinstance(op, GlobalAveragePool)
        kind = "average"
        scale = average_multiplier(stage.x.quant.scale, op.quant.scale, stage.x.length)
        constants = (Constant(f"{stage.name}_multiplier", "float", np.array([scale], np.float32)),)
        shape = (
            ("channels", stage.x.channels),
            ("in_length", stage.x.length),
            ("x_zero", stage.x.quant.zero_point),
            ("y_zero", op.quant.zero_point),
        )
    return Step(
        kind, stage.name, describe(stage), shape, constants, source, target, "int8_t", "int8_t", stage.y.shape
    )


def lower_scalar(program: Program) -> Program:
    """One step a stage. Legal always; the last kernel of the table, and the one that sedge_trace shows.

    The zero point is subtracted tap by tap and padded taps are skipped (they are real zeros), so this kernel
    shares no folding trick with the vector kernels that are compared with it.
    """
    steps: list[Step] = []
    buffers: list[Buffer] = []
    last = len(program.stages) - 1
    for i, stage in enumerate(program.stages):
        target = LOGITS if i == last else i
        steps.append(_step(stage, INPUT if i == 0 else i - 1, target))
        if i != last:
            buffers.append(Buffer(stage.y.channels * stage.y.length))
    return program.with_kernel(Kernel("scalar", tuple(steps), tuple(buffers)))
