"""Cycles that the inner loops of the NEON kernels are estimated to take on real cores, by LLVM's machine-code analyser.

    python benchmarks/mca.py [--json FILE]          needs llvm-19 (Debian: llvm-19); about 10 s

An estimate, nothing was run: LLVM's scheduling model of a core, every load a cache hit, every branch predicted. For
each convolution of the net M it takes the straight run of instructions with the most multiplies (a tile, or what is
repeated of one) out of the compiler's assembly, and puts it beside its own multiply instructions:

    limit      cycles of the multiply instructions alone: what the core's vector units could do at best
    bound      cycles of all its instructions, throughput alone (llvm-mca's "Block RThroughput")
    cycles     the same with latencies, in the model's order of issue, a repetition of 100

    of limit = limit / bound        simulated = limit / cycles

An in-order core (A53) lies between the two. "net" adds the layers up, each repeated until its multiplies are done:
sum(limit * repetitions) / sum(bound * repetitions). What lies between the runs (ends of tiles whose loop is
the run, calls, the dense layer) is not in it; the instruction counts of arm_peers.py have it.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nets
from libsedge.errors import ToolchainError
from libsedge_native import counting, toolchain
from libsedge_native.generate import generate
from libsedge_native.passes import lower
from libsedge_native.targets import TARGETS, compiler

ANALYSER = "llvm-mca-19"
#: kernel -> the cores it would run on that LLVM 19 has a model of (the A76 has none; the Neoverse N1 is its sibling)
CORES = {"neon": ("cortex-a53", "cortex-a72", "neoverse-n1"), "neondot": ("neoverse-n1",)}
MULTIPLIES = {"neon": ("smull", "smlal2", "sadalp", "saddlp"), "neondot": ("sdot",)}
#: keeps every layer a function of its own; the tiles inside stay as they are shipped
APART = ("-fno-inline-small-functions", "-fno-inline-functions-called-once", "-fno-inline-functions")
REPEATS = 100


@dataclass(frozen=True)
class Estimate:
    """Cycles of one run of instructions on one core, per repetition."""

    isa: str
    layer: str
    core: str
    instructions: int
    multiplies: int
    limit: float
    bound: float
    cycles: float
    #: of the run in one inference
    repetitions: float

    @property
    def fraction(self) -> float:
        return self.limit / self.bound

    @property
    def simulated(self) -> float:
        return self.limit / self.cycles


def multiplies(isa: str) -> dict[str, float]:
    """Layer -> multiply instructions of one inference."""
    steps = (step for step in lower(nets.build("M"), (isa,)).kernels[0].steps if step.kind == "conv1d")
    shapes = {step.name: dict(step.shape) for step in steps}
    macs = {
        name: s["out_length"] * s["pool"] * s["channels"] * s["runs"] * s["run_steps"] * 4
        for name, s in shapes.items()
    }
    return {name: count / counting.MACS_AN_INSTRUCTION[isa] for name, count in macs.items()}


def assembly(isa: str) -> str:
    """What the cross compiler makes of the kernel of net M."""
    target = TARGETS["aarch64-linux"]
    with tempfile.TemporaryDirectory(prefix="sedge-") as name:
        folder = Path(name)
        toolchain.write_sources(generate(nets.build("M"), isas=(isa,)), folder)
        command = [*compiler(target), *target.flags, *toolchain.COMPILE_FLAGS, *APART]
        toolchain.run([*command, "-S", "model.cpp", "-o", "model.s"], folder)
        return (folder / "model.s").read_text(encoding="utf-8")


def runs(text: str) -> Iterator[tuple[str, list[str]]]:
    """(function, instructions) of every straight run between labels and branches."""
    function, found = "", list[str]()
    for line in text.splitlines():
        label = re.match(r"^([A-Za-z_.$][\w.$]*):", line)
        word = line.split("//")[0].strip()
        if label:
            yield function, found
            found = []
            function = function if label[1].startswith(".L") else label[1]
        elif line.startswith("\t") and word and not word.startswith((".", "#")):
            found.append(word)
            if re.match(r"(b|b\.?\w\w|cbn?z|tbn?z|ret|br|bl|blr)\s", word + " "):
                yield function, found
                found = []
    yield function, found


def busiest(text: str, isa: str) -> dict[str, list[str]]:
    """Layer -> its run of instructions with the most multiplies."""
    best: dict[str, list[str]] = {}
    for function, found in runs(text):
        layer = re.search(r"shape_([a-z0-9]+?)(?=E)", function)
        count = sum(word.split()[0] in MULTIPLIES[isa] for word in found)
        if layer is None or f"net_{isa}" not in function or count < 24:
            continue
        held = best.get(layer[1], [])
        if count > sum(word.split()[0] in MULTIPLIES[isa] for word in held):
            best[layer[1]] = found
    return best


def analyse(instructions: list[str], core: str) -> tuple[float, float]:
    """(throughput bound, simulated cycles) of one repetition."""
    command = [ANALYSER, "-mtriple=aarch64", f"-mcpu={core}", "-mattr=+dotprod", f"-iterations={REPEATS}"]
    text = "\n".join(instructions).replace("0xffffffffffffff", "0x") + "\n"  # gcc writes bytes as 64 bits
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolchainError(done.stderr.strip().splitlines()[0], field=ANALYSER)
    bound = re.search(r"Block RThroughput: +([\d.]+)", done.stdout)
    cycles = re.search(r"Total Cycles: +(\d+)", done.stdout)
    assert bound is not None
    assert cycles is not None
    return float(bound[1]), int(cycles[1]) / REPEATS


def estimates() -> Iterator[Estimate]:
    """Every layer of every kernel on every core; raises ToolchainError where a tool is missing."""
    if not shutil.which(ANALYSER):
        raise ToolchainError(f"{ANALYSER} is not installed (Debian: llvm-19)")
    for isa, cores in CORES.items():
        needed = multiplies(isa)
        for layer, found in busiest(assembly(isa), isa).items():
            straight = [word for word in found if not re.match(r"(b|cbn?z|tbn?z)", word)]
            alone = [word for word in found if word.split()[0] in MULTIPLIES[isa]]
            for core in cores:
                bound, cycles = analyse(straight, core)
                limit, _ = analyse(alone, core)
                yield Estimate(
                    isa,
                    layer,
                    core,
                    len(straight),
                    len(alone),
                    limit,
                    bound,
                    cycles,
                    needed[layer] / len(alone),
                )


def table() -> list[dict[str, Any]]:
    """Every estimate, then "net" for each kernel and core."""
    found = list(estimates())
    rows: list[dict[str, Any]] = [
        asdict(e) | {"fraction": round(e.fraction, 3), "simulated": round(e.simulated, 3)} for e in found
    ]
    for isa, core in dict.fromkeys((e.isa, e.core) for e in found):
        mine = [e for e in found if (e.isa, e.core) == (isa, core)]
        limit, bound, cycles = (
            sum(getattr(e, key) * e.repetitions for e in mine) for key in ("limit", "bound", "cycles")
        )
        net = {"isa": isa, "layer": "net", "core": core, "instructions": 0, "multiplies": 0}
        net |= {"limit": round(limit), "bound": round(bound), "cycles": round(cycles)}
        rows.append(net | {"fraction": round(limit / bound, 3), "simulated": round(limit / cycles, 3)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="the same as JSON")
    arguments = parser.parse_args()
    print("kernel   layer   core          instr  mult    limit    bound   cycles  of limit  simulated")
    rows = table()
    for row in rows:
        print(
            f"{row['isa']:9}{row['layer']:8}{row['core']:13}{row['instructions']:6}{row['multiplies']:6}"
            f"{row['limit']:9.0f}{row['bound']:9.0f}{row['cycles']:9.0f}{row['fraction']:9.0%}{row['simulated']:10.0%}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
