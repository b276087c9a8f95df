"""The float32 kernel that every machine runs: plain C++ over [channels][length]."""

from __future__ import annotations

from libsedge_native.ir import INPUT as GRAPH_INPUT
from libsedge_native.ir import Add, AveragePool1d, Concat, Conv1d, GlobalAveragePool, MaxPool1d
from libsedge_native.lowered import INPUT, LOGITS, Buffer, Constant, Kernel, Place, Program, Stage, Step
from libsedge_native.passes.describe import describe, describe_part

FLOAT = 4


def _conv(stage: Stage, conv: Conv1d) -> tuple[dict[str, int], tuple[Constant, ...]]:
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
        "relu": int(conv.relu),
    }
    weight = Constant(f"{stage.name}_weight", "float", conv.weight.reshape(-1))
    return shape, (weight, Constant(f"{stage.name}_bias", "float", conv.bias))


def window_shape(stage: Stage, op: MaxPool1d | AveragePool1d) -> dict[str, int]:
    """What a pool needs to know besides its channels."""
    shape = {
        "in_length": stage.x.length,
        "out_length": stage.y.length,
        "kernel": op.kernel,
        "stride": op.stride,
        "pad_left": op.pads[0],
    }
    if isinstance(op, AveragePool1d):
        shape["counted"] = int(any(op.pads) and not op.include_pad)
    return shape


def _parts(stage: Stage) -> tuple[str, dict[str, int], tuple[Constant, ...]]:
    """Kind, shape and constants of a stage that is one step."""
    op, channels = stage.ops[0], {"channels": stage.x.channels}
    if isinstance(op, Conv1d):
        return "conv1d", *_conv(stage, op)
    if isinstance(op, (MaxPool1d, AveragePool1d)):
        kind = "max_pool" if isinstance(op, MaxPool1d) else "average_pool"
        return kind, channels | window_shape(stage, op), ()
    if isinstance(op, Add):
        return "sum_of_two", {"count": stage.x.channels * stage.x.length, "relu": int(op.relu)}, ()
    assert isinstance(op, GlobalAveragePool)
    return "average", channels | {"in_length": stage.x.length}, ()


def _concat(stage: Stage, sources: tuple[Place, ...], target: Place) -> list[Step]:
    """One step an input; the last one is named as the op."""
    steps, skip = [], 0
    for i, (x, source) in enumerate(zip(stage.xs, sources, strict=True)):
        last = i == len(sources) - 1
        name = stage.name if last else f"sedge_part{i}_{stage.name}"
        comment = describe(stage) if last else describe_part(stage, i)
        size = x.channels * x.length
        shape = (("first", skip), ("count", size))
        steps.append(Step("copy", name, comment, shape, (), (source,), target, "float", "float"))
        skip += size
    return steps


def float_scalar(program: Program) -> Program:
    """One step a stage, or one an input of a Concat. Legal always; the last kernel of the table.

    Always the direct convolution, so that this kernel shares no scheme with those that are compared with it.
    """
    steps: list[Step] = []
    buffers: list[Buffer] = []
    places = {GRAPH_INPUT: Place(INPUT)}
    for stage in program.stages:
        last = stage is program.stages[-1]
        target = Place(LOGITS if last else len(buffers))
        if not last:
            buffers.append(Buffer(stage.y.channels * stage.y.length * FLOAT))
        places[stage.name] = target
        sources = tuple(places[name] for name in stage.inputs)
        if isinstance(stage.ops[0], Concat):
            steps += _concat(stage, sources, target)
            continue
        kind, shape, constants = _parts(stage)
        steps.append(
            Step(
                kind,
                stage.name,
                describe(stage),
                tuple(shape.items()),
                constants,
                sources,
                target,
                "float",
                "float",
            )
        )
    return program.with_kernel(Kernel("float_scalar", tuple(steps), tuple(buffers)))
