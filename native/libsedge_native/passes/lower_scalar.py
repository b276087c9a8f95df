"""The kernel that every machine runs: plain C++ over int8 [channels][length]."""

from __future__ import annotations

import numpy as np

from libsedge_native.ir import INPUT as GRAPH_INPUT
from libsedge_native.ir import Add, AveragePool1d, Concat, Conv1d, GlobalAveragePool, MaxPool1d
from libsedge_native.lowered import INPUT, LOGITS, Buffer, Constant, Flow, Kernel, Place, Program, Stage, Step
from libsedge_native.passes.describe import describe, describe_part
from libsedge_native.passes.parameters import add_shape, average_multipliers, table
from libsedge_native.reference import average_multiplier, multiplier

Parts = tuple[str, dict[str, int], tuple[Constant, ...]]


def _conv(stage: Stage, conv: Conv1d) -> Parts:
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
    return "conv1d", shape, constants


def _window(stage: Stage, op: MaxPool1d | AveragePool1d) -> dict[str, int]:
    return {
        "channels": stage.x.channels,
        "in_length": stage.x.length,
        "out_length": stage.y.length,
        "kernel": op.kernel,
        "stride": op.stride,
        "pad_left": op.pads[0],
    }


def _parts(stage: Stage) -> Parts:
    """Kind, shape and constants of a stage that is one step."""
    op, name = stage.ops[0], stage.name
    if isinstance(op, Conv1d):
        return _conv(stage, op)
    if isinstance(op, MaxPool1d):
        return "max_pool", _window(stage, op), ()
    zeros = {"x_zero": stage.x.quant.zero_point, "y_zero": stage.y.quant.zero_point}
    if isinstance(op, AveragePool1d):
        scales = average_multipliers(op, stage.x)
        shape = {**_window(stage, op), "counted": int(scales.size > 1), **zeros}
        return "average_pool", shape, (Constant(f"{name}_multiplier", "float", scales),)
    if isinstance(op, Add):
        return "add", {"count": stage.x.channels * stage.x.length, **add_shape(stage, op)}, ()
    assert isinstance(op, GlobalAveragePool)
    scale = average_multiplier(stage.x.quant.scale, op.quant.scale, stage.x.length)
    shape = {"channels": stage.x.channels, "y_zero": zeros["y_zero"]}
    return "average", shape, (Constant(f"{name}_multiplier", "float", np.array([scale], np.float32)),)


def _flow(stage: Stage) -> Flow | None:
    """Estimates are for a processor without vectors: a cycle a product, five a tap and channel of a call."""
    op, length, row = stage.ops[0], stage.y.length, stage.y.channels
    if length == 1:
        return None
    if isinstance(op, Conv1d):
        _, per_group, taps = op.weight.shape
        span = op.dilation * (taps - 1) + 1 + (stage.pool - 1) * op.stride
        work = row * per_group * taps
        hop = op.stride * stage.pool
        cycles = (float(work * stage.pool), 5.0 * work)
        return Flow(length, row, 0, 0, 0, span, hop, op.pads[0], 1, *cycles)
    if isinstance(op, (MaxPool1d, AveragePool1d)):
        cycles = (float(row * op.kernel), 10.0 * row)
        return Flow(length, row, 0, 0, 0, op.kernel, op.stride, op.pads[0], 1, *cycles)
    return None


def _sum(stage: Stage, source: Place, target: int) -> Step:
    x = stage.x
    shape = {"channels": x.channels, "in_length": x.length, "x_zero": x.quant.zero_point}
    flow = Flow(x.length, 0, row_cycles=x.channels, call_cycles=10.0 * x.channels)
    return Step(
        "sum",
        f"sedge_sum_{stage.name}",
        ("sums over all positions",),
        tuple(shape.items()),
        (),
        (source,),
        Place(target),
        "int8_t",
        "int32_t",
        flow=flow,
    )


def _concat(stage: Stage, op: Concat, sources: list[Place], target: int) -> list[Step]:
    """One step an input; the last one is named, and traced, as the op."""
    steps = []
    skip = 0
    for i, (x, source) in enumerate(zip(stage.xs, sources, strict=True)):
        last = i == len(sources) - 1
        name = stage.name if last else f"sedge_part{i}_{stage.name}"
        values = table(x.quant, op.quant, 0)
        size = x.channels * x.length
        steps.append(
            Step(
                "copy" if values is None else "rescale",
                name,
                describe(stage) if last else describe_part(stage, i),
                (("first", skip), ("count", size)),
                () if values is None else (Constant(f"{name}_table", "int8_t", values),),
                (source,),
                Place(target),
                "int8_t",
                "int8_t",
                stage.y.shape if last else None,
            )
        )
        skip += size
    return steps


def lower_scalar(program: Program) -> Program:
    """One step a stage, one an input of a Concat, two an average over everything. Legal always; the last kernel of
    the table, and the one that sedge_trace shows.

    The zero point is subtracted tap by tap and padded taps are skipped (they are real zeros), so this kernel
    shares no folding trick with the vector kernels that are compared with it. Groups cost what they compute.
    """
    steps: list[Step] = []
    buffers: list[Buffer] = []
    places = {GRAPH_INPUT: Place(INPUT)}
    for stage in program.stages:
        last = stage is program.stages[-1]
        average = isinstance(stage.ops[0], GlobalAveragePool)
        if average:
            steps.append(_sum(stage, places[stage.inputs[0]], len(buffers)))
            buffers.append(Buffer(stage.x.channels * 4))
        target = LOGITS if last else len(buffers)
        if not last:
            buffers.append(Buffer(stage.y.channels * stage.y.length))
        places[stage.name] = Place(target)
        op, sources = stage.ops[0], [places[name] for name in stage.inputs]
        if average:
            sources = [steps[-1].target]
        if isinstance(op, Concat):
            steps += _concat(stage, op, sources, target)
            continue
        kind, shape, constants = _parts(stage)
        words = describe(stage)
        step = Step(
            kind,
            stage.name,
            words,
            tuple(shape.items()),
            constants,
            tuple(sources),
            Place(target),
            "int32_t" if average else "int8_t",
            "int8_t",
            stage.y.shape,
            _flow(stage),
        )
        steps.append(step)
    return program.with_kernel(Kernel("scalar", tuple(steps), tuple(buffers)))
