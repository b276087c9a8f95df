"""Lowered float32 program to C++ text, with the words of `emit`. Prints; every decision is in passes/."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from libsedge_native.emit import _kernel as kernel_words
from libsedge_native.emit import _rows as literal_rows
from libsedge_native.lowered import ALIGN, Kernel, Source

_VECTOR = ("float_layers.inc", "float_net.inc", "float_toom.inc")

#: headers each kernel needs, as named in include/libsedge
HEADERS: dict[str, tuple[str, ...]] = {
    "float_avx512": ("float_avx512.h", *_VECTOR, "x86_cpu.h"),
    "float_avx2": ("float_avx2.h", *_VECTOR, "x86_cpu.h"),
    "float_neon": ("arm_cpu.h", "float_neon.h", *_VECTOR),
    "float_scalar": ("float_scalar.h",),
}


def headers(kernels: tuple[Kernel, ...]) -> list[str]:
    """Every header the kernels include, sorted."""
    return sorted({header for kernel in kernels for header in HEADERS[kernel.isa]})


def isa_name(kernel: Kernel) -> str:
    """The name by which a kernel is asked for."""
    return kernel.isa.removeprefix("float_")


def _kernel(kernel: Kernel, crc: tuple[int, int]) -> dict[str, Any]:
    return kernel_words(kernel, crc) | {"name": isa_name(kernel)}


def _render(template: str, source: Source, tolerance: float) -> str:
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
        golden_inputs=literal_rows(source.golden_inputs.reshape(-1), "float"),
        golden_outputs=literal_rows(source.golden_outputs.reshape(-1), "float"),
        tolerance=tolerance,
    )


def model_h(source: Source, tolerance: float) -> str:
    """Text of model.h: sizes as macros and the net."""
    return _render("float_model.h.j2", source, tolerance)


def model_cpp(source: Source, tolerance: float) -> str:
    """Text of model.cpp: constants, one function a layer, one list of calls a kernel, goldens."""
    return _render("float_model.cpp.j2", source, tolerance)
