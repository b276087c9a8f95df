"""The instruction sets of the float32 kernels and the register tiles that fit them."""

from __future__ import annotations

from libsedge_native.passes.tile import VectorIsa

#: rows by registers of channels: accumulators, one row of weights and one broadcast fit 32 or 16 registers, and at
#: least eight accumulators hide the four cycles of a multiply-add on two ports
FLOAT_ISAS: dict[str, VectorIsa] = {
    "float_avx512": VectorIsa("float_avx512", 16, {1: 24, 2: 12, 3: 8, 4: 6, 8: 1}, "float"),
    "float_avx2": VectorIsa("float_avx2", 8, {1: 12, 2: 6, 3: 4, 4: 2, 8: 1}, "float"),
    "float_neon": VectorIsa("float_neon", 4, {1: 24, 2: 12, 3: 8, 4: 6, 8: 1}, "float"),
}
