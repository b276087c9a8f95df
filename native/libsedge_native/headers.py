"""The hand-written files that a generated model is compiled with, by kernel (include/libsedge)."""

from __future__ import annotations

from collections.abc import Iterable

from libsedge_native.lowered import Kernel

_VECTOR = ("requantise.h", "vector_layers.inc", "vector_net.inc", "vector_rows.inc", "windows.inc")
_ARM = (*_VECTOR, "arm_cpu.h", "neon_common.inc")
_SLIDING = (*_ARM, "neon_ends.inc")
_DOT = (*_SLIDING, "neon_dot.inc", "neon_lanes.inc")
_X86 = (*_VECTOR, "x86_cpu.h")
_FLOAT = ("float_layers.inc", "float_net.inc", "float_toom.inc", "windows.inc")

HEADERS: dict[str, tuple[str, ...]] = {
    "amx": (*_X86, "amx.h", "avx512vnni.h"),
    "avx512vnni": (*_X86, "avx512vnni.h"),
    "avxvnni": (*_X86, "avxvnni.h", "ymm.inc"),
    "avx2": (*_X86, "avx2.h", "wide_tile.inc", "ymm.inc"),
    "sse41": (*_X86, "sse41.h", "wide_tile.inc"),
    "i8mm": (*_DOT, "i8mm.h", "neon_pairs.inc"),
    "neondot": (*_DOT, "neondot.h"),
    "neon": (*_SLIDING, "neon.h", "neon_quads.inc"),
    "armv7neon": (*_ARM, "armv7neon.h"),
    "mve": (*_VECTOR, "dsp_common.inc", "mve.h", "mve_tile.inc"),
    "smlad": (*_VECTOR, "dsp_common.inc", "smlad.h"),
    "scalar": ("requantise.h", "scalar.h", "windows.inc"),
    "float_avx512": (*_FLOAT, "float_avx512.h", "x86_cpu.h"),
    "float_avx2": (*_FLOAT, "float_avx2.h", "x86_cpu.h"),
    "float_neon": (*_FLOAT, "arm_cpu.h", "float_neon.h"),
    "float_scalar": ("float_scalar.h", "windows.inc"),
}


def headers(kernels: Iterable[Kernel]) -> list[str]:
    """Every header the kernels include, sorted."""
    return sorted({header for kernel in kernels for header in HEADERS[kernel.isa]})
