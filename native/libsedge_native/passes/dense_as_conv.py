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
    #: a Flatten by name: the value it stands for
    behind: dict[str, str] = {}
    for op, after in zip(graph.ops, graph.tensors[1:], strict=True):
        inputs = tuple(behind.get(name, name) for name in op.inputs)
        xs = tuple(graph.tensor(name) for name in inputs)
        if isinstance(op, Flatten):
            behind[op.name] = inputs[0]
            continue
        if isinstance(op, Dense):
            shape = (op.weight.shape[0], *xs[0].shape)
            op = Conv1d(op.name, op.weight.reshape(shape), op.bias, op.weight_scale, op.quant, relu=op.relu)
        elif any(name in behind and x.length > 1 for name, x in zip(op.inputs, xs, strict=True)):
            raise ModelError("only Dense may follow a Flatten of length > 1", field="op", value=op.name)
        stages.append(Stage((op,), inputs, xs, after))
    if not stages:
        raise ModelError("there is nothing to compute", field="graph", value=graph.name)
    if stages[-1].y.shape != graph.output.shape:
        raise ModelError("the last Flatten must be followed by a Dense", field="graph", value=graph.name)
    return replace(program, stages=tuple(stages))
