"""Offsets of the buffers of every kernel in one arena."""

from __future__ import annotations

from dataclasses import replace

from libsedge_native.lowered import ALIGN, Buffer, Kernel, Program


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


def _plan(kernel: Kernel) -> Kernel:
    sizes = [_aligned(b.bytes) for b in kernel.buffers]
    pairs = [a + b for a, b in zip(sizes, [*sizes[1:], 0], strict=False)]
    total = max(pairs, default=0)
    buffers = tuple(
        Buffer(b.bytes, 0 if i % 2 == 0 else total - sizes[i]) for i, b in enumerate(kernel.buffers)
    )
    return replace(kernel, buffers=buffers, arena_bytes=total)


def plan_memory(program: Program) -> Program:
    """Ping-pong: even buffers grow from the arena's start, odd ones from its end.

    Legal because the steps are a chain: while a step runs, its source and its target are alive and nothing
    else, so the arena is as small as the largest such pair (rounded up to the alignment), which no plan can
    undercut.
    """
    return replace(program, kernels=tuple(_plan(k) for k in program.kernels))
