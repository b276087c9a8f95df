"""Ops to stages; Flatten and Dense become one convolution as long as its input."""

from __future__ import annotations

from dataclasses import replace

from libsedge.errors import ModelError

from libsedge_native.ir import Conv1d, Dense, Flatten
from libsedge_native.lowered import Program, Stage


def dense_as_conv(program: Program) -> Program:
    """Dense over the flattened (C, L) is a convolution of L taps: `weight[o, c * L + l]` is `weight[o, c,
    l]`.

    Legal always: one output position, the same products and the same int32 sum, no padding. A Flatten that no
    Dense follows is legal only where it moves nothing (length 1).
    """
    graph = program.graph
    stages: list[Stage] = []
    x = graph.input  # the tensor in front of a pending Flatten
    flat = False
    for op, after in zip(graph.ops, graph.tensors[1:], strict=True):
        if isinstance(op, Flatten):
            flat = True
            continue
        if isinstance(op, Dense):
            conv = Conv1d(
                op.name,
                op.weight.reshape(op.weight.shape[0], x.channels, x.length),
                op.bias,
                op.weight_scale,
                op.quant,
                relu=op.relu,
            )
            stages.append(Stage((conv,), x, after))
        else:
            if flat and x.length > 1:
                raise ModelError("only Dense may follow a Flatten of length > 1", field="op", value=op.name)
            stages.append(Stage((op,), x, after))
        x, flat = after, False
    if x.shape != graph.output.shape:
        raise ModelError("the last Flatten must be followed by a Dense", field="graph", value=graph.name)
    if not stages:
        raise ModelError("there is nothing to compute", field="graph", value=graph.name)
    return replace(program, stages=tuple(stages))
