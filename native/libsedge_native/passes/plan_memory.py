"""Offsets of the buffers of every kernel in one arena."""

from __future__ import annotations

from dataclasses import replace

from libsedge_native.lowered import ALIGN, Buffer, Kernel, Program


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


def lifetimes(kernel: Kernel) -> list[tuple[int, int]]:
    """Per buffer the first and the last step that touches it; the lines of a sweep live through all of it."""
    last = kernel.sweep.steps - 1 if kernel.sweep else -1
    spans: list[tuple[int, int] | None] = [None] * len(kernel.buffers)
    for i, step in enumerate(kernel.steps):
        first, end = (0, last) if i <= last else (i, i)
        for place in step.places:
            if place.buffer >= 0:
                known = spans[place.buffer]
                spans[place.buffer] = (known[0] if known else first, end)
    return [span for span in spans if span is not None]


def _is_chain(spans: list[tuple[int, int]]) -> bool:
    """Whether every buffer is filled by one step and read by the next one only."""
    return all(span == (i, i + 1) for i, span in enumerate(spans))


def _ping_pong(sizes: list[int]) -> tuple[list[int], int]:
    """Even buffers from the arena's start, odd ones from its end; as small as the largest pair of neighbours."""
    total = max((a + b for a, b in zip(sizes, [*sizes[1:], 0], strict=False)), default=0)
    return [0 if i % 2 == 0 else total - size for i, size in enumerate(sizes)], total


def _first_fit(sizes: list[int], spans: list[tuple[int, int]], order: list[int]) -> tuple[list[int], int]:
    """In this order, each at the lowest gap between those that are alive at the same time."""
    offsets = [0] * len(sizes)
    placed: list[int] = []
    for i in order:
        alive = [j for j in placed if spans[j][0] <= spans[i][1] and spans[i][0] <= spans[j][1]]
        for j in sorted(alive, key=lambda j: (offsets[j], j)):
            if offsets[j] - offsets[i] >= sizes[i]:
                break
            offsets[i] = max(offsets[i], offsets[j] + sizes[j])
        placed.append(i)
    return offsets, max((o + s for o, s in zip(offsets, sizes, strict=True)), default=0)


def _greedy(sizes: list[int], spans: list[tuple[int, int]]) -> tuple[list[int], int]:
    """The smaller plan of two: the largest buffer first, and those that live longest first."""
    by_size = sorted(range(len(sizes)), key=lambda i: (-sizes[i], i))
    by_life = sorted(by_size, key=lambda i: spans[i][0] - spans[i][1])
    return min((_first_fit(sizes, spans, order) for order in (by_size, by_life)), key=lambda plan: plan[1])


def place_buffers(kernel: Kernel) -> Kernel:
    """The kernel with the offset of every buffer and the size of its arena."""
    sizes = [_aligned(b.bytes) for b in kernel.buffers]
    spans = lifetimes(kernel)
    offsets, total = _ping_pong(sizes) if _is_chain(spans) else _greedy(sizes, spans)
    buffers = tuple(Buffer(b.bytes, offset) for b, offset in zip(kernel.buffers, offsets, strict=True))
    return replace(kernel, buffers=buffers, arena_bytes=total)


def _place_all(kernel: Kernel) -> Kernel:
    """Also of the whole layers that a streamed kernel has where it is traced."""
    placed = place_buffers(kernel)
    if kernel.sweep is None:
        return placed
    whole = place_buffers(replace(kernel, sweep=None, buffers=kernel.whole))
    return replace(placed, whole=whole.buffers, whole_bytes=whole.arena_bytes)


def plan_memory(program: Program) -> Program:
    """Two buffers overlap only where no step runs while both are alive.

    A buffer is alive from the first step that fills it to the last that reads it. In a chain that is one pair of
    neighbours at a time, and the arena is the largest pair, which no plan can undercut; where the graph branches
    or a step has scratch, the plan is greedy.
    """
    return replace(program, kernels=tuple(_place_all(k) for k in program.kernels))
