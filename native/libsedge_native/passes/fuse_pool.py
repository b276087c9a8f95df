"""A max pool joins the convolution in front of it."""

from __future__ import annotations

from dataclasses import replace

from libsedge_native.ir import MaxPool1d
from libsedge_native.lowered import Program, Stage


def fuse_pool(program: Program) -> Program:
    """Pool the int32 accumulators, then requantise only the maximum.

    Legal where the windows neither overlap (kernel = stride) nor reach into padding, and nothing else reads the
    convolution: requantisation is monotone in the accumulator
    because its multiplier is positive, so it commutes with the maximum, bit for bit. Convolution outputs that
    the pool drops at the end are never computed.
    """
    fused: list[Stage] = []
    for stage in program.stages:
        op = stage.ops[0]
        readers = [s for s in program.stages if stage.inputs[0] in s.inputs]
        at = next((i for i, s in enumerate(fused) if s.name == stage.inputs[0]), None)
        if (
            isinstance(op, MaxPool1d)
            and op.kernel == op.stride
            and op.pads == (0, 0)
            and at is not None
            and len(readers) == 1
            and fused[at].conv is not None
            and len(fused[at].ops) == 1
        ):
            conv = fused[at]
            fused[at] = Stage((*conv.ops, op), conv.inputs, conv.xs, stage.y)
        else:
            fused.append(stage)
    return replace(program, stages=tuple(fused))
