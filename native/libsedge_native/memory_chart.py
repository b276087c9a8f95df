"""The memory of a net as text: the plan of every kernel, its buffers, and when each of them is in use."""

from __future__ import annotations

from collections.abc import Sequence

from libsedge.manifest import Precision

from libsedge_native.generate import read_model
from libsedge_native.lowered import Kernel, Optimise, Step
from libsedge_native.passes import lower
from libsedge_native.passes.plan_memory import lifetimes
from libsedge_native.targets import isas_of

#: letters of a buffer's name in the chart
NAME = 18


def _rows(kernel: Kernel, step: Step, number: int) -> str:
    """Which part of the layer that a step makes its target holds."""
    if step.flow is None or step.flow.row == 0:
        return "sums" if step.target_type == "int32_t" else "whole"
    if kernel.sweep is None or number >= kernel.sweep.steps - 1:
        return f"whole, {step.flow.length:,} rows"
    return f"line, {kernel.sweep.capacity[number]:,} of {step.flow.length:,} rows"


def _chart(kernel: Kernel) -> list[str]:
    """A line a buffer: place, size, part of the layer, and a column a step; the steps of a sweep run together."""
    streamed = kernel.sweep.steps if kernel.sweep else 0
    columns = [kernel.steps[:streamed]] if streamed else []
    columns += [(step,) for step in kernel.steps[streamed:]]
    numbered = list(enumerate(kernel.steps))
    makers = {step.target.buffer: (i, step, _rows(kernel, step, i)) for i, step in reversed(numbered)}
    makers |= {step.scratch.buffer: (i, step, "scratch") for i, step in numbered if step.scratch}
    lines = []
    for number, ((first, last), buffer) in enumerate(zip(lifetimes(kernel), kernel.buffers, strict=True)):
        i, step, holds = makers[number]
        alive = [
            any(first <= kernel.steps.index(s) <= last for s in column)
            or (streamed > 0 and i < streamed and n == 0)
            for n, column in enumerate(columns)
        ]
        drawn = "".join("#" if now else "." for now in alive)
        lines.append(f"  {step.name:<{NAME}} {buffer.offset:>8,} {buffer.bytes:>8,}  {holds:<28} {drawn}")
    return lines


def _kernel(kernel: Kernel) -> list[str]:
    lines = [f"{kernel.name}: {kernel.arena_bytes:,} bytes; {kernel.reason}"]
    if kernel.sweep is not None:
        names = ", ".join(step.name for step in kernel.steps[: kernel.sweep.steps])
        lines.append(f"  {kernel.sweep.count} rounds; rows that {names} make in one:")
        lines += [f"    {r.times:>4} x {', '.join(map(str, r.rows))}" for r in kernel.sweep.rounds]
    head = f"  {'buffer':<{NAME}} {'offset':>8} {'bytes':>8}  {'holds':<28} "
    order = "the sweep, then " if kernel.sweep else ""
    rest = kernel.steps[kernel.sweep.steps if kernel.sweep else 0 :]
    lines.append(f"{head}in use during: {order}{', '.join(step.name for step in rest)}")
    return [*lines, *_chart(kernel)]


def memory_chart(
    onnx: bytes, optimise: Optimise, targets: Sequence[str], precision: Precision = "int8"
) -> str:
    """The plan of every kernel that `generate` writes for these targets; raises ModelError.

    A buffer is the target of the step that names it; `#` marks the steps during which it is in use. Buffers in use
    at the same time do not overlap.
    """
    program = lower(read_model(onnx, precision).graph, isas_of(targets, precision), optimise)
    whole = max(kernel.arena_bytes for kernel in program.kernels)
    lines = [
        f"arena {whole:,} bytes, the largest of the kernels, optimised for {optimise}; without input, weights"
    ]
    for kernel in program.kernels:
        lines += ["", *_kernel(kernel)]
    return "\n".join(lines)
