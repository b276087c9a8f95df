"""Instructions that an inference takes on an emulated machine: exact counts of qemu-user, no time.

The count of a model is marginal, (runs of 4 minus runs of 1) / 3, so that start-up, self-test and scrub cancel.
"""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

from libsedge.errors import ToolchainError

from libsedge_native import toolchain
from libsedge_native.emulate import Machine
from libsedge_native.ir import Graph
from libsedge_native.random_graph import random_inputs

PLUGIN = "libcount.so"
SOURCE = "count_instructions.c"
#: products of int8 that one multiply instruction of a kernel adds up, by the number of instructions it takes
MACS_AN_INSTRUCTION: dict[str, float] = {"i8mm": 32.0, "neon": 16 / 3, "neondot": 16.0, "armv7neon": 16 / 3}


def build_plugin(folder: Path) -> str:
    """Compile the counting plugin into a folder; what qemu's -plugin takes, relative to that folder."""
    if not shutil.which("cc"):
        raise ToolchainError("no C compiler (cc) for the counting plugin; Debian's package gcc has it")
    text = (resources.files("libsedge_native") / "src" / SOURCE).read_text(encoding="utf-8")
    (folder / SOURCE).write_text(text, encoding="utf-8")
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
    toolchain.run(["cc", *flags, "-o", PLUGIN, SOURCE], folder)
    return f"./{PLUGIN}"


def executed(machine: Machine, so: bytes, graph: Graph, isa: str, times: int, cpu: str | None = None) -> int:
    """Instructions of a whole process that runs one input `times` times; `build_plugin(machine.folder)` first."""
    x = random_inputs(graph, 0, 5)[-1:]
    arguments = ["run", isa, str(times)]
    chosen = cpu or machine.target.cpus[-1][0]
    machine.call(so, arguments, x.tobytes(), chosen, plugin=f"./{PLUGIN},out=count.txt")
    return int((machine.folder / "count.txt").read_text().split()[-1])


def per_inference(machine: Machine, so: bytes, graph: Graph, isa: str, cpu: str | None = None) -> int:
    """Instructions of one inference on `cpu` (the last one of the target's table by default)."""
    return round((executed(machine, so, graph, isa, 4, cpu) - executed(machine, so, graph, isa, 1, cpu)) / 3)


def floor(graph: Graph, isa: str) -> int | None:
    """Multiply instructions that the graph's multiply-accumulates need at least; None for the plain C++ kernels."""
    rate = MACS_AN_INSTRUCTION.get(isa)
    return None if rate is None else round(graph.macs / rate)
