"""Which kernels read their constants from one table."""

from __future__ import annotations

from dataclasses import replace

from libsedge_native.lowered import Constant, Kernel, Program, Step, Table
from libsedge_native.passes.tile import VECTOR_ISAS

NAME = "shared"


def _grouped(kernel: Kernel) -> bool:
    isa = VECTOR_ISAS.get(kernel.isa)
    return isa is not None and isa.grouped


class _Pool:
    """Constants so far, equal ones once. Of two that differ under one name the second is named after its kernel."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str, bytes], Constant] = {}

    def take(self, constant: Constant, isa: str) -> Constant:
        key = (constant.name, constant.ctype, constant.values.tobytes())
        if key not in self.held:
            taken = any(name == constant.name for name, _, _ in self.held)
            named = replace(constant, name=f"{constant.name}_{isa}") if taken else constant
            self.held[key] = named
        return self.held[key]

    def step(self, step: Step, isa: str) -> Step:
        return replace(step, constants=tuple(self.take(c, isa) for c in step.constants))


def share_constants(program: Program) -> Program:
    """The kernels whose weights lie in the same groups of channels (x86-64) share one table.

    Legal always: the constants stay what they are. A table counts as every one of its kernels' for the CRC.
    """
    isas = tuple(k.isa for k in program.kernels if _grouped(k))
    if len(isas) < 2:
        return program
    pool = _Pool()
    kernels = [
        replace(k, steps=tuple(pool.step(step, k.isa) for step in k.steps)) if _grouped(k) else k
        for k in program.kernels
    ]
    table = Table(NAME, isas, tuple(pool.held.values()))
    return replace(program, kernels=tuple(replace(k, table=table) if _grouped(k) else k for k in kernels))
