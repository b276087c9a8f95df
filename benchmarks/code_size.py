"""Machine code of one net by kernel, without constants, as a bundle compiles it: Markdown on standard output.

    python benchmarks/code_size.py --target x86_64-linux --target aarch64-linux

Bytes of the functions in the objects (nm -S); `whole` is all their code sections (size -A) with the C API, as linked.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import nets
from libsedge_native import toolchain
from libsedge_native.generate import generate
from libsedge_native.ir import Graph
from libsedge_native.lowered import Optimise
from libsedge_native.targets import TARGETS, Target, compiler, isas_of
from tables import markdown


def said(command: Sequence[str], folder: Path) -> list[str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def code_bytes(graph: Graph, target: Target, optimise: Optimise) -> dict[str, int]:
    """Bytes by kernel, fastest first, and of the whole; `arena` too."""
    generated = generate(graph, isas=isas_of([target.name]), optimise=optimise)
    command = [*compiler(target), *target.flags, *toolchain.COMPILE_FLAGS]
    prefix = "" if target.native else target.compiler.removesuffix("g++")
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="sedge-") as name:
        folder = Path(name)
        toolchain.write_sources(generated, folder)
        for source in generated.sources:
            toolchain.run([*command, "-c", source, "-o", "part.o"], folder)
            for line in said([f"{prefix}nm", "-SC", "part.o"], folder):
                kernel = re.search(r" [tTW] .*?\b(?:net_|sedge::)(\w+)::", line)
                if kernel:
                    found[kernel[1]] += int(line.split()[1], 16)
            for line in said([f"{prefix}size", "-A", "part.o"], folder):
                if line.startswith(".text"):
                    found["whole"] += int(line.split()[1])
    return {isa: found[isa] for isa in generated.isas} | {
        "whole": found["whole"],
        "arena": generated.arena_bytes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", choices=list(nets.NETS), default="M")
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="default: this machine")
    arguments = parser.parse_args()
    graph = nets.build(arguments.net)
    for target in arguments.target or [toolchain.HOST_TARGET]:
        rows = [
            (plan, code_bytes(graph, TARGETS[target], plan))
            for plan in get_args(Optimise)
            if plan != "layers"
        ]
        version = said([*compiler(TARGETS[target]), "--version"], Path())[0]
        head = [f"{arguments.net}, {target}, bytes", *rows[0][1]]
        print(
            f"{version}\n\n{markdown(head, [[plan, *(f'{n:,}' for n in row.values())] for plan, row in rows])}\n"
        )


if __name__ == "__main__":
    main()
