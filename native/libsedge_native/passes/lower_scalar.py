"""The kernel that every machine runs: plain C++ over int8 [channels][length]."""

from __future__ import annotations

import numpy as np

from libsedge_native.ir import INPUT as GRAPH_INPUT
from libsedge_native.ir import Add, AveragePool1d, Concat, Conv1d, GlobalAveragePool, MaxPool1d
from libsedge_native.lowered import INPUT, LOGITS, Buffer, Constant, Kernel, Place, Program, Stage, Step
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
    shape = {"channels": stage.x.channels, "in_length": stage.x.length, **zeros}
    return "average", shape, (Constant(f"{name}_multiplier", "float", np.array([scale], np.float32)),)


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
    """One step a stage, or one an input of a Concat. Legal always; the last kernel of the table, and the one
    that sedge_trace shows.

    The zero point is subtracted tap by tap and padded taps are skipped (they are real zeros), so this kernel
    shares no folding trick with the vector kernels that are compared with it. Groups cost what they compute.
    """
    steps: list[Step] = []
    buffers: list[Buffer] = []
    places = {GRAPH_INPUT: Place(INPUT)}
    for stage in program.stages:
        last = stage is program.stages[-1]
        target = LOGITS if last else len(buffers)
        if not last:
            buffers.append(Buffer(stage.y.channels * stage.y.length))
        places[stage.name] = Place(target)
        op, sources = stage.ops[0], [places[name] for name in stage.inputs]
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
            "int8_t",
            "int8_t",
            stage.y.shape,
        )
        steps.append(step)
    return program.with_kernel(Kernel("scalar", tuple(steps), tuple(buffers)))
