"""Instructions an inference takes on each kernel (libsedge_native/counting.py) stay within a budget.

The budget is for one compiler version; `LIBSEDGE_REWRITE_BUDGET=1 python -m pytest tests/arm/test_instructions.py`
writes a new one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from libsedge_native import toolchain
from libsedge_native.counting import build_plugin, executed, per_inference
from libsedge_native.emulate import Machine
from libsedge_native.generate import generate
from libsedge_native.ir import Graph
from libsedge_native.passes import tile
from libsedge_native.random_graph import random_graph
from libsedge_native.targets import compiler, isas_of

HERE = Path(__file__).parent
BUDGET = HERE / "instruction_budget.json"
GROWTH = 1.01
REWRITE = os.environ.get("LIBSEDGE_REWRITE_BUDGET") == "1"


def compiler_version(machine: Machine) -> str:
    """First line of --version without Debian's package revision: what the counts depend on."""
    command = [*compiler(machine.target), "-dumpfullversion"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return f"{machine.target.compiler} {out.strip()}"


@pytest.fixture(scope="module")
def counting(machine: Machine) -> Machine:
    """The machine with the counting plugin in its folder."""
    if (
        os.environ.get("LIBSEDGE_ARM") != "required"
        and not REWRITE
        and machine.target.name != "aarch64-linux"
    ):
        pytest.skip("counted by `make test-arm` only, to keep `make test` short")
    if machine.target.native or not shutil.which("cc"):
        pytest.skip("needs an emulated machine and a C compiler (cc)")
    build_plugin(machine.folder)
    return machine


def over_budget(counts: dict[str, int], budget: dict[str, int]) -> dict[str, str]:
    """The kernels that grew by more than 1 %, or have no budget."""
    return {
        isa: f"{count:,}, budget {budget.get(isa, 0):,}"
        for isa, count in counts.items()
        if count > GROWTH * budget.get(isa, 0)
    }


def measured(machine: Machine, graph: Graph) -> dict[str, int]:
    isas = isas_of([machine.target.name])
    so = toolchain.compile_shared(generate(graph, isas=isas), machine.target.name)
    return {isa: per_inference(machine, so, graph, isa) for isa in (*isas, "scalar")}


def test_the_m_net_stays_within_its_instruction_budget(counting: Machine, net: Graph) -> None:
    name, version = counting.target.name, compiler_version(counting)
    book = json.loads(BUDGET.read_text(encoding="utf-8"))
    if not REWRITE and book["compilers"].get(name) != version:
        pytest.skip(f"the budget is for {book['compilers'].get(name)}, this is {version}")
    counts = measured(counting, net)
    if REWRITE:
        book["compilers"][name], book["instructions"][name] = version, counts
        BUDGET.write_text(json.dumps(book, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    assert over_budget(counts, book["instructions"][name]) == {}


def test_counts_repeat_and_grow_with_the_work(counting: Machine) -> None:
    graph, target = random_graph(2), counting.target.name
    so = toolchain.compile_shared(generate(graph, isas=()), target, ("-O1",))
    counts = [per_inference(counting, so, graph, "scalar") for _ in range(2)]
    assert counts[0] == pytest.approx(counts[1], rel=1e-4)
    assert executed(counting, so, graph, "scalar", 5) > executed(counting, so, graph, "scalar", 2)
    assert counts[0] > graph.macs / 4, "a plain loop cannot take fewer"


def test_a_worse_tile_is_over_budget(counting: Machine, net: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: half the rows a tile."""
    name = counting.target.name
    book = json.loads(BUDGET.read_text(encoding="utf-8"))
    if not counting.target.isas or book["compilers"].get(name) != compiler_version(counting):
        pytest.skip("no vector kernel, or no budget for this compiler")
    isa = counting.target.isas[0]
    rows = {vectors: max(1, count // 2) for vectors, count in tile.VECTOR_ISAS[isa].rows.items()}
    monkeypatch.setitem(tile.VECTOR_ISAS, isa, replace(tile.VECTOR_ISAS[isa], rows=rows))
    so = toolchain.compile_shared(generate(net, isas=(isa,)), name)
    assert over_budget({isa: per_inference(counting, so, net, isa)}, book["instructions"][name])
