"""Lowered program to C++ text. Prints; every decision is in passes/."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from libsedge_native.lowered import ALIGN, INPUT, LOGITS, Constant, Kernel, Place, Source, Step

#: headers each kernel needs, as named in include/libsedge
HEADERS: dict[str, tuple[str, ...]] = {
    "amx": ("amx.h", "avx512vnni.h", "requantise.h", "vector_layers.inc", "vector_net.inc", "x86_cpu.h"),
    "avx512vnni": ("avx512vnni.h", "requantise.h", "vector_layers.inc", "vector_net.inc", "x86_cpu.h"),
    "avxvnni": ("avxvnni.h", "requantise.h", "vector_layers.inc", "vector_net.inc", "x86_cpu.h", "ymm.inc"),
    "avx2": ("avx2.h", "requantise.h", "vector_layers.inc", "vector_net.inc", "x86_cpu.h", "ymm.inc"),
    "sse41": ("requantise.h", "sse41.h", "vector_layers.inc", "vector_net.inc", "x86_cpu.h"),
    "i8mm": (
        "arm_cpu.h",
        "i8mm.h",
        "neon_common.inc",
        "neon_dot.inc",
        "neon_ends.inc",
        "neon_lanes.inc",
        "neon_pairs.inc",
        "requantise.h",
        "vector_layers.inc",
        "vector_net.inc",
    ),
    "neondot": (
        "arm_cpu.h",
        "neon_common.inc",
        "neon_dot.inc",
        "neon_ends.inc",
        "neon_lanes.inc",
        "neondot.h",
        "requantise.h",
        "vector_layers.inc",
        "vector_net.inc",
    ),
    "neon": (
        "arm_cpu.h",
        "neon.h",
        "neon_common.inc",
        "neon_ends.inc",
        "neon_quads.inc",
        "requantise.h",
        "vector_layers.inc",
        "vector_net.inc",
    ),
    "armv7neon": (
        "arm_cpu.h",
        "armv7neon.h",
        "neon_common.inc",
        "requantise.h",
        "vector_layers.inc",
        "vector_net.inc",
    ),
    "smlad": ("requantise.h", "smlad.h", "vector_layers.inc", "vector_net.inc"),
    "scalar": ("requantise.h", "scalar.h"),
}

_WIDTH = 108


def headers(kernels: Iterable[Kernel]) -> list[str]:
    """Every header the kernels include, sorted."""
    return sorted({header for kernel in kernels for header in HEADERS[kernel.isa]})


def _number(value: Any, ctype: str) -> str:
    """An exact literal: integers in decimal, floats in hexadecimal."""
    if ctype == "float":
        mantissa, _, exponent = float(value).hex().partition("p")
        return f"{mantissa.rstrip('0').rstrip('.')}p{exponent}F"
    number = int(value)
    return "-2147483647 - 1" if number == -(1 << 31) else str(number)


def _rows(values: Iterable[Any], ctype: str) -> list[str]:
    """Comma-separated literals broken into lines."""
    rows: list[str] = []
    line = ""
    for value in values:
        word = _number(value, ctype) + ","
        if line and len(line) + 1 + len(word) > _WIDTH:
            rows.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*rows, line]


def _constant(constant: Constant) -> dict[str, Any]:
    return {
        "name": constant.name,
        "ctype": constant.ctype,
        "count": constant.count,
        "rows": _rows(constant.values.reshape(-1), constant.ctype),
    }


def _address(kernel: Kernel, place: Place, ctype: str, const: bool) -> str:
    """The C++ expression of a step's source or target."""
    skip = f" + {place.skip}" if place.skip else ""
    if place.buffer == INPUT:
        return f"input{skip}"
    if place.buffer == LOGITS:
        return f"logits{skip}"
    kind = f"const {ctype}*" if const else f"{ctype}*"
    return f"reinterpret_cast<{kind}>(bytes + {kernel.buffers[place.buffer].offset}{skip})"


def _step(kernel: Kernel, step: Step) -> dict[str, Any]:
    inputs = ["x", "x2"][: len(step.sources)]
    return {
        "name": step.name,
        "comment": step.comment,
        "shape": step.shape,
        "template": f"sedge::{kernel.isa}::{step.kind}<shape_{step.name}>",
        "inputs": ", ".join(inputs),
        "parameters": ", ".join(f"const {step.source_type}* {name}" for name in inputs),
        "arguments": "".join(f", constants.{c.name}" for c in step.constants),
        "target_type": step.target_type,
        "sources": ", ".join(_address(kernel, place, step.source_type, True) for place in step.sources),
        "target": _address(kernel, step.target, step.target_type, False),
        "shown": step.shown,
    }


def _kernel(kernel: Kernel, crc: tuple[int, int]) -> dict[str, Any]:
    return {
        "isa": kernel.isa,
        "steps": [_step(kernel, step) for step in kernel.steps],
        "constants": [_constant(c) for step in kernel.steps for c in step.constants],
        "uses_arena": bool(kernel.buffers),
        "crc_little": f"0x{crc[0]:08X}u",
        "crc_big": f"0x{crc[1]:08X}u",
    }


def _render(template: str, source: Source) -> str:
    environment = Environment(
        loader=PackageLoader("libsedge_native"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    graph = source.program.graph
    return environment.get_template(template).render(
        version=source.version,
        name=graph.name,
        macro=f"SEDGE_{graph.name.upper()}",
        digest=source.digest,
        macs=graph.macs,
        notes=source.notes,
        arena_bytes=source.arena_bytes,
        align=ALIGN,
        input_len=graph.input.channels * graph.input.length,
        classes=graph.output.channels,
        headers=[name for name in headers(source.program.kernels) if name.endswith(".h")],
        kernels=[_kernel(k, crc) for k, crc in zip(source.program.kernels, source.crcs, strict=True)],
        golden_count=len(source.golden_inputs),
        golden_inputs=_rows(source.golden_inputs.reshape(-1), "int8_t"),
        golden_outputs=_rows(source.golden_outputs.reshape(-1), "int8_t"),
    )


def model_h(source: Source) -> str:
    """Text of model.h: sizes as macros and the net."""
    return _render("model.h.j2", source)


def model_cpp(source: Source) -> str:
    """Text of model.cpp: constants, one function a layer, one list of calls a kernel, goldens."""
    return _render("model.cpp.j2", source)
