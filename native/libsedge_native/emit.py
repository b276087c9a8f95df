"""Lowered program to C++ text. Prints; every decision is in passes/."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from libsedge_native.headers import headers
from libsedge_native.lowered import ALIGN, INPUT, LOGITS, Buffer, Constant, Kernel, Place, Source, Step

_WIDTH = 108


def _number(value: Any, ctype: str) -> str:
    """An exact literal: integers in decimal, floats in hexadecimal."""
    if ctype == "float":
        mantissa, _, exponent = float(value).hex().partition("p")
        return f"{mantissa.rstrip('0').rstrip('.')}p{exponent}F"
    return "-2147483647 - 1" if int(value) == -(1 << 31) else str(int(value))


def rows(values: Iterable[Any], ctype: str) -> list[str]:
    """Comma-separated literals broken into lines."""
    lines = [""]
    for word in (_number(value, ctype) + "," for value in values):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > _WIDTH:
            lines.append(word)
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return lines


def _strings(values: Any) -> list[str]:
    """int8 values as string literals: printable characters as they are, others in octal, three digits each."""
    words = [
        chr(b) if 32 <= b < 127 and b not in b'"\\?' else f"\\{b:03o}" for b in values.astype("i1").tobytes()
    ]
    return [f'"{"".join(words[i : i + 36])}"' for i in range(0, len(words), 36)]


def _constant(constant: Constant) -> dict[str, Any]:
    values = constant.values.reshape(-1)
    lines = _strings(values) if constant.as_text else rows(values, constant.ctype)
    return {"name": constant.name, "ctype": constant.ctype, "count": constant.count, "rows": lines}


def _address(buffers: Sequence[Buffer], place: Place, ctype: str, const: bool) -> str:
    """The C++ expression of a step's source or target."""
    skip = f" + {place.skip}" if place.skip else ""
    if place.buffer == INPUT:
        return f"input{skip}"
    if place.buffer == LOGITS:
        return f"logits{skip}"
    pointer = f"{'const ' if const else ''}{ctype}*"
    return f"reinterpret_cast<{pointer}>(bytes + {buffers[place.buffer].offset}{skip})"


def _call(step: Step, buffers: Sequence[Buffer]) -> dict[str, Any]:
    """A whole layer at once."""
    places = [step.target] + ([step.scratch] if step.scratch else [])
    return {
        "name": step.name,
        "sources": ", ".join(_address(buffers, place, step.source_type, True) for place in step.sources),
        "targets": ", ".join(_address(buffers, place, step.target_type, False) for place in places),
        "shown": step.shown,
    }


def _step(kernel: Kernel, step: Step, streamed: bool) -> dict[str, Any]:
    inputs = ["x", "x2"][: len(step.sources)]
    lined = streamed and step.sources[0].buffer != INPUT
    words = [*(["scratch"] if step.scratch else []), *(f"constants.{c.name}" for c in step.constants)]
    types = ["Line&"] if lined else [f"const {step.source_type}*"] * len(inputs)
    return {
        **_call(step, kernel.buffers),
        "comment": step.comment,
        "shape": step.shape,
        "template": f"sedge::{kernel.isa}::{step.kind}{'_rows' if streamed else ''}<shape_{step.name}>",
        "inputs": ", ".join(inputs),
        "parameters": ", ".join(f"{ctype} {name}" for ctype, name in zip(types, inputs, strict=True)),
        "arguments": "".join(f", {word}" for word in words),
        "outputs": f"{step.target_type}* y" + (f", {step.target_type}* scratch" if step.scratch else ""),
        "streamed": streamed,
    }


def _line(kernel: Kernel, i: int, buffers: Sequence[Buffer], pitch: int) -> dict[str, Any]:
    """A layer in rows: its line, begun in a buffer, and what it is made from."""
    step = kernel.steps[i]
    place = f"bytes + {buffers[step.target.buffer].offset}"
    begin = f"begin<shape_{step.name}>({place})" if kernel.isa != "scalar" else f"begin({place}, {pitch})"
    if step.target_type == "int32_t":
        begin = f"begin_sums<shape_{step.name}>({place})"
    return {
        "name": step.name,
        "begin": f"sedge::{kernel.isa}::{begin}",
        "source": f"line_{kernel.steps[i - 1].name}" if i else "input",
        "row": i + 1,
        "length": pitch,
        "shown": step.shown,
    }


def _sweep(kernel: Kernel) -> dict[str, Any] | None:
    if kernel.sweep is None:
        return None
    last = kernel.sweep.steps - 1
    lengths = [step.flow.length for step in kernel.steps[: last + 1] if step.flow is not None]
    pitches = [*kernel.sweep.capacity[:-1], lengths[-1]]
    return {
        "names": ", ".join(step.name for step in kernel.steps[: last + 1]),
        "width": last + 2,
        "rounds": [", ".join(map(str, (r.times, *r.rows))) for r in kernel.sweep.rounds],
        "lines": [_line(kernel, i, kernel.buffers, pitch) for i, pitch in enumerate(pitches)],
        "whole_lines": [_line(kernel, i, kernel.whole, length) for i, length in enumerate(lengths)],
        "whole_calls": [_call(step, kernel.whole) for step in kernel.steps[last + 1 :]],
    }


def _kernel(kernel: Kernel, crc: tuple[int, int]) -> dict[str, Any]:
    streamed = kernel.sweep.steps if kernel.sweep else 0
    return {
        "isa": kernel.isa,
        "name": kernel.name,
        "steps": [_step(kernel, step, i < streamed) for i, step in enumerate(kernel.steps)],
        "sweep": _sweep(kernel),
        "memory": f"{kernel.name:<10} {kernel.arena_bytes:>8,}  {kernel.reason}",
        "table": kernel.table.name if kernel.table else "",
        "constants": [] if kernel.table else [_constant(c) for c in kernel.constants],
        "uses_arena": bool(kernel.buffers),
        "crc_little": f"0x{crc[0]:08X}u",
        "crc_big": f"0x{crc[1]:08X}u",
    }


@cache
def environment() -> Environment:
    """Where the templates are, and how they are filled in: an unknown name is an error."""
    return Environment(
        loader=PackageLoader("libsedge_native"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


def _render(template: str, source: Source) -> str:
    graph, program = source.program.graph, source.program
    value = "float" if graph.is_float else "int8_t"
    page = environment().get_template(template)
    return page.render(
        version=source.version,
        name=graph.name,
        macro=f"SEDGE_{graph.name.upper()}",
        digest=source.digest,
        macs=graph.macs,
        notes=source.notes,
        is_float=graph.is_float,
        precision="float32" if graph.is_float else "int8",
        value=value,
        suffix="_f32" if graph.is_float else "",
        arena_bytes=source.arena_bytes,
        trace_bytes=source.trace_bytes,
        optimise=program.optimise,
        align=ALIGN,
        input_len=graph.input.channels * graph.input.length,
        classes=graph.output.channels,
        headers=[name for name in headers(program.kernels) if name.endswith(".h")],
        kernels=[_kernel(k, crc) for k, crc in zip(program.kernels, source.crcs, strict=True)],
        tables=[(t.name, t.isas, [_constant(c) for c in t.constants]) for t in program.tables],
        golden_count=len(source.golden_inputs),
        golden_inputs=rows(source.golden_inputs.reshape(-1), value),
        golden_outputs=rows(source.golden_outputs.reshape(-1), value),
        tolerance=source.tolerance,
    )


def model_h(source: Source) -> str:
    """Text of model.h: sizes as macros and the net."""
    return _render("model.h.j2", source)


def model_cpp(source: Source) -> str:
    """Text of model.cpp: constants, one function a layer, one list of calls a kernel, goldens."""
    return _render("model.cpp.j2", source)
