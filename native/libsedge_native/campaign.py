"""Random graphs by the thousand, each compiled, run on every instruction set of this machine and held against the
reference, bit for bit: `python -m libsedge_native.campaign --graphs 10000`.

A graph is its seed. Every tenth is a `random_graph` under every memory plan, the others are `small_graph`s under one
plan each, in turn; every second one is compiled with its convolutions on matrix tiles wherever they fit, paying or
not. Twenty seeds are one translation unit; one unit of eight is compiled with -O3, as a bundle is, the others
with -O2.

Every finished graph is a line of build/campaign/graphs.jsonl, so a killed campaign goes on where it stopped; rows of
another version of the generator or of another compiler do not count. `--seed 123` runs that one alone, on more
inputs, and shows what differs. A failing graph is kept as ONNX in build/campaign/failed. Exit code 1 where one cell
differs or a graph could not be compiled or run.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from libsedge.errors import SedgeError

from libsedge_native import joined, toolchain, verify
from libsedge_native.generate import GeneratedModel, generate
from libsedge_native.ir import Graph
from libsedge_native.lowered import Optimise
from libsedge_native.onnx_export import to_onnx
from libsedge_native.onnx_import import read_onnx
from libsedge_native.passes import matrix_tiles
from libsedge_native.random_graph import random_graph, small_graph
from libsedge_native.resume import Pieces, generator_digest

#: every memory plan that users can ask for
PLANS: tuple[Optimise, ...] = ("speed", "size")
#: seeds of one translation unit
UNIT = 20

Row = dict[str, Any]


def graph_of(seed: int, name: str = "net") -> Graph:
    """The graph of a seed."""
    return random_graph(seed, name) if seed % 10 == 0 else small_graph(seed, name)


def flags_of(seed: int) -> tuple[str, ...]:
    """Compiler flags of a seed's unit; the last -O wins."""
    return ("-O3",) if seed // UNIT % 8 == 7 else ("-O2",)


@dataclass(frozen=True)
class Case:
    """A seed's graph generated under one memory plan."""

    seed: int
    plan: Optimise
    graph: Graph
    generated: GeneratedModel


def cases(seed: int, graph: Graph | None = None) -> Iterator[Case]:
    """What is compiled for a seed, or for another graph in its place."""
    plans = PLANS if graph or seed % 10 == 0 else (PLANS[seed // 2 % len(PLANS)],)
    for plan in plans:
        made = graph or graph_of(seed, f"net{seed}_{plan}")
        with mock.patch.object(matrix_tiles, "gain", return_value=1e9) if seed % 2 else nullcontext():
            yield Case(seed, plan, made, generate(made, optimise=plan))


def _failed(why: object) -> Row:
    return {"failed": f"{type(why).__name__}: {why}"}


def _compare(unit: Sequence[Case], flags: Sequence[str], inputs: int) -> Iterator[tuple[Case, Row]]:
    """Each case with its counts, or with why it has none."""
    try:
        so = toolchain.compile_shared(joined.join([case.generated for case in unit]), extra_flags=flags)
    except SedgeError as why:
        if len(unit) == 1:
            yield unit[0], _failed(why)
        else:  # each alone, to see whose fault it is
            for case in unit:
                yield from _compare([case], flags, inputs)
        return
    for number, case in enumerate(unit):
        try:
            found = verify.verify_kernel(joined.picked(so, number), case.graph, count=inputs, seed=case.seed)
        except SedgeError as why:
            yield case, _failed(why)
        else:
            yield case, asdict(found)


def check(
    seeds: Iterable[int], flags: Sequence[str] = (), inputs: int = 8, graph: Graph | None = None
) -> dict[int, Row]:
    """Cells compared and different by seed; `plans` has the counts of each plan. flags : instead of `flags_of`.

    graph : compared in place of the graph of the only seed.
    """
    rows: dict[int, Row] = {}
    unit: list[Case] = []
    for seed in seeds:
        rows[seed] = {"flags": " ".join(flags or flags_of(seed)), "plans": {}}
        try:
            unit += cases(seed, graph)
        except SedgeError as why:
            rows[seed]["plans"]["generate"] = _failed(why)
    if unit:
        for case, found in _compare(unit, flags or flags_of(unit[0].seed), inputs):
            rows[case.seed]["plans"][case.plan] = found
    for row in rows.values():
        plans = row["plans"].values()
        for key in ("cells", "different"):
            row[key] = sum(plan.get(key, 0) + plan.get(f"layer_{key}", 0) for plan in plans)
        row["failed"] = sum("failed" in plan for plan in plans)
    return rows


def key() -> dict[str, str]:
    """What the rows of a campaign depend on."""
    command = [*toolchain.host_compiler(), "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {"generator": generator_digest(), "compiler": said.splitlines()[0], "plans": str(PLANS)}


def _begin(parent: int) -> None:
    """A worker ends with its campaign instead of waiting for ever (Linux: PR_SET_PDEATHSIG), and dies quietly of a
    kernel that kills it, even where pytest has set faulthandler: the row says it."""
    faulthandler.disable()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _pool(jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, initializer=_begin, initargs=(os.getpid(),))


def _alone(seed: int) -> dict[int, Row]:
    """One seed in a process of its own, which a broken kernel may kill."""
    with _pool(1) as pool:
        try:
            return pool.submit(check, [seed]).result()
        except BrokenProcessPool as why:
            return {seed: {"cells": 0, "different": 0, "failed": 1, "plans": {"process": _failed(why)}}}


def _checked(units: Sequence[Sequence[int]], jobs: int) -> Iterator[dict[int, Row]]:
    """Rows of every unit, as they come. The seeds of units that ended with their process are run one by one."""
    left, waiting, died = iter(units), dict[Future[dict[int, Row]], Sequence[int]](), list[int]()
    with _pool(jobs) as pool:
        while True:
            with suppress(BrokenProcessPool):
                while len(waiting) < 2 * jobs and (unit := next(left, None)) is not None:
                    died += unit  # unless it is taken
                    waiting[pool.submit(check, unit)] = unit
                    del died[-len(unit) :]
            if not waiting:
                break
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                unit = waiting.pop(future)
                try:
                    yield future.result()
                except BrokenProcessPool:
                    died += unit
    for seed in died:
        yield _alone(seed)


def keep(seed: int, folder: Path) -> str:
    """Write a failing graph into a folder; the command that repeats it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{seed}.onnx"
    path.write_bytes(to_onnx(graph_of(seed)))
    return f"python -m libsedge_native.campaign --seed {seed} --onnx {path}"


def run(graphs: int, out: Path, jobs: int) -> int:
    """Every seed below `graphs` that `out` does not hold yet; returns how many failed, of all of them."""
    pieces = Pieces(out, key())
    left = [seed for seed in range(graphs) if str(seed) not in pieces.done]
    print(f"{graphs - len(left):,} of {graphs:,} graphs were done; {out}", flush=True)
    units = [[seed for seed in left if seed // UNIT == unit] for unit in sorted({s // UNIT for s in left})]
    begin, done = time.monotonic(), 0
    for rows in _checked(units, jobs):
        for seed, row in rows.items():
            pieces.add(str(seed), row)
            done += 1
            if row["different"] or row["failed"]:
                print(f"seed {seed} FAILED: {keep(seed, out.parent / 'failed')}", flush=True)
        rest = (time.monotonic() - begin) / done * (len(left) - done)
        print(f"{graphs - len(left) + done:,} of {graphs:,}, {rest / 60:.0f} min left", flush=True)
    total = [pieces.done[str(seed)] for seed in range(graphs)]
    failed = sum(bool(row["different"] or row["failed"]) for row in total)
    cells, different = sum(row["cells"] for row in total), sum(row["different"] for row in total)
    print(f"{len(total):,} graphs, {cells:,} cells compared, {different:,} differ, {failed} graphs failed")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--graphs", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("build/campaign/graphs.jsonl"))
    parser.add_argument("--seed", type=int, help="this one alone, in full")
    parser.add_argument("--onnx", type=Path, help="a kept graph in place of the seed's")
    arguments = parser.parse_args()
    if arguments.seed is None and arguments.onnx is None:
        return 1 if run(arguments.graphs, arguments.out, arguments.jobs) else 0
    seed = arguments.seed or 0
    graph = read_onnx(arguments.onnx.read_bytes()).graph if arguments.onnx else None
    (row,) = check([seed], inputs=64, graph=graph).values()
    print(graph or graph_of(seed))
    print(json.dumps(row, indent=1))
    return 1 if row["different"] or row["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
