"""Which layers of a kernel are streamed, and how many rows each makes in each round."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from libsedge_native.lowered import INPUT, Buffer, Flow, Kernel, Optimise, Program, Round, Step, Sweep
from libsedge_native.passes.plan_memory import place_buffers

#: most lines of the table of rounds, most rounds and most rows a round that are looked at
TABLE, ROUNDS, ROWS = 8, 128, 65535
#: "size" takes the smallest arena within this factor of the least estimated time
SLOWER = 1.08
#: "speed" streams only with lines of at most this many bytes: they and the weights in use stay in the first cache
LINES = 16 * 1024
#: kernels that took the same time streamed as with whole layers, within 0.02 (docs/performance.md, "Memory"): their
#: rows count as a hundredth less, so that the smaller arena wins. "speed" streams no others: AMX would be slower, the
#: rest was not measured
STREAMED, FROM_LINE = frozenset({"avx512vnni", "avxvnni", "avx2", "sse41"}), 0.99


def _prefix(kernel: Kernel) -> tuple[list[Step], str]:
    """The chain at the front, every step of which reads what the one before it makes and nothing else reads; and why
    it ends.
    """
    chain: list[Step] = []
    source = INPUT
    for step in kernel.steps:
        if len(step.sources) > 1:
            return chain, f"{step.name} joins branches"
        if step.flow is None or step.sources[0].buffer != source:
            return chain, f"{step.name} reads whole layers"
        readers = [s for s in kernel.steps if any(p.buffer == step.target.buffer for p in s.sources)]
        chain.append(step)
        if len(readers) != 1:
            return chain, f"{step.name} is read {len(readers)} times"
        source = step.target.buffer
    return chain, "the net ends"


def _needed(flow: Flow, made: int, length: int) -> int:
    """Rows of the source, of `length`, that `made` rows of a step need: its windows, and up to the next one."""
    if made == 0:
        return 0
    return min(length, max((made - 1) * flow.hop + flow.window, made * flow.hop) - flow.pad)


def _targets(flows: list[Flow], chunk: int) -> Iterator[list[int]]:
    """Per round, the rows that every step has made at its end."""
    made = 0
    while made < flows[-1].length:
        made = _whole(flows[-1], made + chunk)
        row = [made]
        for flow, reader in zip(reversed(flows[:-1]), reversed(flows[1:]), strict=True):
            row.append(_whole(flow, _needed(reader, row[-1], flow.length)))
        yield row[::-1]


def _whole(flow: Flow, rows: int) -> int:
    """`rows` up to a multiple of the unit, or all where less than a unit would be left."""
    rows = -(-rows // flow.unit) * flow.unit
    return flow.length if flow.length - rows < flow.unit else rows


def sweep(flows: list[Flow], chunk: int) -> Sweep | None:
    """The rounds in which the last step makes `chunk` rows each; None where rows would move onto themselves."""
    if flows[-1].length > ROUNDS * chunk:
        return None
    done = [0] * len(flows)
    held = [flow.left for flow in flows]
    capacity = list(held)
    rounds = []
    for made in _targets(flows, chunk):
        rows = tuple(now - before for now, before in zip(made, done, strict=True))
        for i, flow in enumerate(flows):
            held[i] += rows[i]
            if rows[i] and made[i] == flow.length:
                held[i] += flow.right
            capacity[i] = max(capacity[i], held[i])
            if i == 0 or not rows[i]:
                continue
            skipped = flow.pad - flows[i - 1].left  # in front of a pool, whose windows leave padding out
            gone = max(0, made[i] * flow.hop - skipped) - max(0, done[i] * flow.hop - skipped)
            left = max(0, held[i - 1] - gone)
            if 0 < gone < left:
                return None
            held[i - 1] = left
        done = made
        rounds.append(rows)
        if max(rows) > ROWS:
            return None
    table = tuple(Round(len(list(same)), rows) for rows, same in groupby(rounds))
    return Sweep(table, tuple(capacity)) if len(table) <= TABLE else None


def _cycles(flows: list[Flow], found: Sweep) -> tuple[float, float]:
    """Estimated cycles of the rows, and of the calls beside them."""
    rows = calls = 0.0
    for r in found.rounds:
        for flow, made in zip(flows, r.rows, strict=True):
            if made:
                rows += r.times * -(-made // flow.unit) * flow.unit * flow.row_cycles
                calls += r.times * flow.call_cycles
    return rows, calls


def _streamed(kernel: Kernel, flows: list[Flow], found: Sweep) -> Kernel:
    """The kernel with lines instead of the layers of the sweep; the last target stays whole."""
    buffers = list(kernel.buffers)
    for step, flow, capacity in zip(kernel.steps[:-1], flows[:-1], found.capacity, strict=False):
        buffers[step.target.buffer] = Buffer(capacity * flow.row + flow.slack)
    return replace(kernel, buffers=tuple(buffers), sweep=found, whole=kernel.buffers)


def _chunks(flow: Flow) -> list[int]:
    """Multiples of the unit, more and more coarsely."""
    sizes = sorted({round(flow.unit * 2 ** (i / 4)) // flow.unit * flow.unit for i in range(64)})
    return [size for size in sizes if 0 < size < flow.length]


@dataclass(frozen=True, eq=False)
class _Plan:
    kernel: Kernel
    cycles: float

    @property
    def bytes(self) -> int:
        return self.kernel.arena_bytes


def _whole_cycles(flows: list[Flow]) -> float:
    return sum(flow.call_cycles + flow.length * flow.row_cycles for flow in flows)


def _plans(kernel: Kernel, chain: list[Step], why: str, parts: range) -> Iterator[_Plan]:
    """The full plan, and the first steps of the chain, as many as `parts` says, in rounds of every size."""
    flows = [step.flow for step in chain if step.flow is not None]
    yield _Plan(
        place_buffers(replace(kernel, reason=f"full: no sweep is expected to be better; {why}")),
        _whole_cycles(flows),
    )
    for count in parts:
        part, ends = flows[:count], chain[count - 1].name
        reason = (
            f"streamed up to {ends}; {why if count == len(flows) else 'behind it whole layers take less'}"
        )
        for chunk in _chunks(part[-1]):
            found = sweep(part, chunk)
            if found is not None:
                rows, calls = _cycles(part, found)
                rows *= FROM_LINE if kernel.isa in STREAMED else 1.0
                placed = place_buffers(replace(_streamed(kernel, part, found), reason=reason))
                yield _Plan(placed, rows + calls + _whole_cycles(flows[count:]))


def _lines(plan: _Plan) -> int:
    found = plan.kernel.sweep
    steps = plan.kernel.steps[: found.steps - 1] if found else ()
    return sum(plan.kernel.buffers[step.target.buffer].bytes for step in steps)


def _choose(kernel: Kernel, optimise: Optimise) -> Kernel:
    chain, why = _prefix(kernel)
    if optimise == "layers":
        return replace(kernel, reason="full: as asked")
    if len(chain) < 2:
        return replace(kernel, reason=f"full: {why}")
    if optimise == "speed":
        parts = range(len(chain), len(chain) + (kernel.isa in STREAMED))
        fitting = (plan for plan in _plans(kernel, chain, why, parts) if _lines(plan) <= LINES)
        return min(fitting, key=lambda plan: plan.cycles).kernel
    plans = list(_plans(kernel, chain, why, range(2, len(chain) + 1)))
    least = min(plan.cycles for plan in plans)
    return min((plan for plan in plans if plan.cycles <= least * SLOWER), key=lambda plan: plan.bytes).kernel


def stream(program: Program) -> Program:
    """The steps at the front of a kernel run in rounds over lines that hold only the rows still needed.

    Legal for a chain: every step reads only what the one before it makes, and is its only reader. Every row is then
    made once, by the same function from the same rows as in the full plan, so the bytes are the same.
    """
    return replace(program, kernels=tuple(_choose(k, program.optimise) for k in program.kernels))
