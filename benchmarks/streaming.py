"""What streamed layers cost in time: each kernel as `speed` and as `size` plan it, beside whole layers.

    python benchmarks/streaming.py --net M --net S --net L

Median of the ratios of neighbouring calls, one spectrum each; whether a plan streams at all says
`libsedge inspect --memory`. passes/stream.py takes its constants from here.
"""

from __future__ import annotations

import argparse
import time
from typing import get_args

import nets
import numpy as np
from libsedge import _core
from libsedge_native import timing, toolchain
from libsedge_native.generate import generate
from libsedge_native.lowered import Optimise

ROUNDS = 300
WHOLE: Optimise = "layers"


def ratios(net: str, isa: str) -> dict[str, float]:
    """Plan -> its time over that of whole layers."""
    graph = nets.build(net)
    plans: tuple[Optimise, ...] = (WHOLE, *(plan for plan in get_args(Optimise) if plan != WHOLE))
    models = [
        _core.Model(toolchain.compile_shared(generate(graph, isas=(isa,), optimise=plan)), isa)
        for plan in plans
    ]
    x = np.random.default_rng(0).integers(-128, 128, graph.input.length).astype(np.int8)
    ns = np.zeros((ROUNDS, len(models)))
    for row in ns:
        for i, model in enumerate(models):
            model.run(x)
            start = time.perf_counter_ns()
            model.run(x)
            row[i] = time.perf_counter_ns() - start
    middle = np.median(ns / ns[:, :1], axis=0)
    return dict(zip(plans[1:], middle.tolist()[1:], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", action="append", choices=list(nets.NETS), help="default: M")
    parser.add_argument("--isa", action="append", help="default: amx, avx512vnni, avxvnni, avx2, sse41")
    arguments = parser.parse_args()
    timing.pin_to_one_core()
    for net in arguments.net or ["M"]:
        for isa in arguments.isa or ["amx", "avx512vnni", "avxvnni", "avx2", "sse41"]:
            found = ", ".join(f"{plan} {ratio:.3f}" for plan, ratio in ratios(net, isa).items())
            print(f"{net:6}{isa:12}{found}", flush=True)


if __name__ == "__main__":
    main()
