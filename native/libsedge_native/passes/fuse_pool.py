"""A max pool joins the convolution in front of it."""

from __future__ import annotations

from dataclasses import replace

from libsedge_native.ir import MaxPool1d
from libsedge_native.lowered import Program, Stage


def fuse_pool(program: Program) -> Program:
    """Pool the int32 accumulators, then requantise only the maximum.

    Legal where the windows do not overlap (kernel = stride): requantisation is monotone in the accumulator
    because its multiplier is positive, so it commutes with the maximum, bit for bit. Convolution outputs that
    the pool drops at the end are never computed.
    """
    fused: list[Stage] = []
    for stage in program.stages:
        op = stage.ops[0]
        before = fused[-1] if fused else None
        if (
            isinstance(op, MaxPool1d)
            and op.kernel == op.stride
            and before is not None
            and before.conv is not None
            and before.pool == 1
            and len(before.ops) == 1
        ):
            fused[-1] = Stage((*before.ops, op), before.x, stage.y)
        else:
            fused.append(stage)
    return replace(program, stages=tuple(fused))
