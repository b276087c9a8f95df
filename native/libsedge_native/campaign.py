"""Random graphs by the thousand, each compiled, run on every instruction set of this machine and held against the
reference, bit for bit: `python -m libsedge_native.campaign --graphs 10000`.

A graph is its seed (`random_graph.py`). Every finished one is a line of build/campaign/graphs.jsonl, so a killed
campaign goes on where it stopped; rows of another version of the generator or of another compiler do not count.
`--seed 123` runs that one alone and shows what differs. Every second graph is compiled with its convolutions on matrix
tiles wherever they fit, paying or not. Exit code 1 where one cell differs or a graph could not be compiled.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

from libsedge.errors import SedgeError

from libsedge_native import toolchain, verify
from libsedge_native.generate import GeneratedModel, generate
from libsedge_native.lowered import Optimise
from libsedge_native.passes import matrix_tiles
from libsedge_native.random_graph import random_graph
from libsedge_native.resume import Pieces, generator_digest

#: the last -O wins: the slower optimiser passes are left to the tests of the nets
FLAGS = ("-O1",)
#: every memory plan that users can ask for
PLANS: tuple[Optimise, ...] = ("speed", "size")


def models(seed: int) -> Iterator[tuple[str, GeneratedModel]]:
    """The graph of a seed, generated under every plan, with the plan's name."""
    graph = random_graph(seed)
    for plan in PLANS:
        with mock.patch.object(matrix_tiles, "gain", return_value=1e9) if seed % 2 else nullcontext():
            yield plan, generate(graph, optimise=plan)


def check(seed: int, flags: Sequence[str] = FLAGS, inputs: int = 8) -> dict[str, Any]:
    """Cells compared and different, of one seed; `plans` has the counts of each plan."""
    graph = random_graph(seed)
    plans: dict[str, Any] = {}
    for name, generated in models(seed):
        try:
            so = toolchain.compile_shared(generated, extra_flags=flags)
            plans[name] = asdict(verify.verify_kernel(so, graph, count=inputs, seed=seed))
        except SedgeError as why:
            plans[name] = {"failed": f"{type(why).__name__}: {why}"}
    counts = {
        key: sum(plan.get(key, 0) + plan.get(f"layer_{key}", 0) for plan in plans.values())
        for key in ("cells", "different")
    }
    return counts | {"failed": sum("failed" in plan for plan in plans.values()), "plans": plans}


def precompiled(folder: Path) -> tuple[str, ...]:
    """Compiler flags that spare every graph the parsing of the same headers: about half of its time."""
    generated = generate(random_graph(0))
    toolchain.write_sources(generated, folder)
    headers = [name for name in generated.files if name.endswith(".h") and name != "model.h"]
    (folder / "all.h").write_text("".join(f'#include "{name}"\n' for name in headers), encoding="utf-8")
    command = [*toolchain.host_compiler(), *toolchain.COMPILE_FLAGS, *FLAGS, "-x", "c++-header", "all.h"]
    subprocess.run(command, cwd=folder, check=True)
    return (*FLAGS, "-include", str(folder / "all.h"))


def key() -> dict[str, str]:
    """What the rows of a campaign depend on."""
    command = [*toolchain.host_compiler(), "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {"generator": generator_digest(), "compiler": said.splitlines()[0], "plans": str(PLANS)}


def _end_with(parent: int) -> None:
    """A worker of a campaign that is killed ends too, instead of waiting for ever (Linux: PR_SET_PDEATHSIG)."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def run(graphs: int, out: Path, jobs: int) -> int:
    """Every seed below `graphs` that `out` does not hold yet; returns how many failed, of all of them."""
    pieces = Pieces(out, key())
    left = [seed for seed in range(graphs) if str(seed) not in pieces.done]
    print(f"{graphs - len(left):,} of {graphs:,} graphs were done; {out}", flush=True)
    begin, waiting = time.monotonic(), dict[Future[dict[str, Any]], int]()
    pool = ProcessPoolExecutor(jobs, initializer=_end_with, initargs=(os.getpid(),))
    with tempfile.TemporaryDirectory(prefix="sedge-") as folder, pool:
        flags, seeds, done = precompiled(Path(folder)), iter(left), 0
        while True:
            while len(waiting) < 2 * jobs and (seed := next(seeds, None)) is not None:
                waiting[pool.submit(check, seed, flags)] = seed
            if not waiting:
                break
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                seed, row = waiting.pop(future), future.result()
                pieces.add(str(seed), row)
                done += 1
                if row["different"] or row["failed"]:
                    print(f"seed {seed} FAILED: python -m libsedge_native.campaign --seed {seed}", flush=True)
                if done % 50 == 0 or done == len(left):
                    rest = (time.monotonic() - begin) / done * (len(left) - done)
                    print(
                        f"{graphs - len(left) + done:,} of {graphs:,}, {rest / 60:.0f} min left", flush=True
                    )
    rows = [pieces.done[str(seed)] for seed in range(graphs)]
    failed = sum(bool(row["different"] or row["failed"]) for row in rows)
    cells, different = sum(row["cells"] for row in rows), sum(row["different"] for row in rows)
    print(f"{len(rows):,} graphs, {cells:,} cells compared, {different:,} differ, {failed} graphs failed")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--graphs", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("build/campaign/graphs.jsonl"))
    parser.add_argument("--seed", type=int, help="this one alone, in full")
    arguments = parser.parse_args()
    if arguments.seed is None:
        return 1 if run(arguments.graphs, arguments.out, arguments.jobs) else 0
    row = check(arguments.seed, inputs=64)
    print(random_graph(arguments.seed))
    for plan, counts in row["plans"].items():
        print(plan, counts)
    return 1 if row["different"] or row["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
