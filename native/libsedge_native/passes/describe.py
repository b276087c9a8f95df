"""The words of the comments in the generated source; no decision is made here."""

from __future__ import annotations

from libsedge_native.ir import Add, AveragePool1d, Concat, Conv1d, MaxPool1d, Op, Real, Tensor
from libsedge_native.lowered import Stage


def _tensor(t: Tensor) -> str:
    if isinstance(t.quant, Real):
        return f"float32 [{t.channels}][{t.length}]"
    return f"int8 [{t.channels}][{t.length}], scale {t.quant.scale:.9g}, zero point {t.quant.zero_point}"


def _window(op: MaxPool1d | AveragePool1d) -> str:
    words = f"{type(op).__name__} {op.kernel}, stride {op.stride}"
    if any(op.pads):
        words += f", padding {op.pads[0]}, {op.pads[1]}"
    return words


def _op(op: Op) -> str:
    if isinstance(op, Conv1d):
        out, per_group, taps = op.weight.shape
        words = [f"Conv1d {per_group * op.groups} -> {out} channels", f"{taps} taps", f"stride {op.stride}"]
        if op.dilation > 1:
            words.append(f"dilation {op.dilation}")
        if any(op.pads):
            words.append(f"padding {op.pads[0]}, {op.pads[1]}")
        if op.groups > 1:
            words.append(f"{op.groups} groups")
        if op.relu:
            words.append("ReLU")
        return ", ".join(words)
    if isinstance(op, MaxPool1d):
        return _window(op)
    if isinstance(op, AveragePool1d):
        return _window(op) + (", padding counts" if op.include_pad else "")
    if isinstance(op, (Add, Concat)):
        relu = ", ReLU" if isinstance(op, Add) and op.relu else ""
        return f"{type(op).__name__} of {', '.join(op.inputs)}{relu}"
    return type(op).__name__


def describe(stage: Stage) -> tuple[str, ...]:
    """What a stage does, its inputs and its output, one line each."""
    ops = "; ".join(f"{op.name}: {_op(op)}" for op in stage.ops)
    return (ops, *(f"in   {_tensor(x)}" for x in stage.xs), f"out  {_tensor(stage.y)}")


def describe_part(stage: Stage, part: int) -> tuple[str, ...]:
    """One input of a Concat on its way into the output."""
    return (
        f"{stage.name}: input {part} of {len(stage.xs)}, {stage.inputs[part]}",
        f"in   {_tensor(stage.xs[part])}",
    )
