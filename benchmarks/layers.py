"""Every step of the benchmark's nets alone: `libsedge bench --layers` for nets S, M, L and M_fc.

python benchmarks/layers.py --net M            a table per instruction set, and `layers` of build/bench/bench.json
python benchmarks/layers.py --net M --whole    the whole net's share of its limit, nothing written
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import nets
import numpy as np
import results
from libsedge import _core
from libsedge_native import layer_bench, peak, timing

ROUNDS, BATCH = 400, 8


def share(net: str, isa: str) -> str:
    """The limit's time over the whole net's, BATCH spectra a call, in turn, each after a call that is not timed.

    Of minima, of medians, and the median of the ratios within a round: both sides then ran at nearly one clock.
    """
    graph = nets.build(net)
    model = _core.Model(nets.compiled(net), isa)
    _, limit = peak.rows(graph.macs * BATCH)[peak.BOUND[isa]]
    x = np.random.default_rng(0).integers(-128, 128, (BATCH, graph.input.length)).astype(np.int8)
    out = model.run_batch(x)
    sides: tuple[Callable[[], object], ...] = (limit, lambda: model.run_batch(x, out))
    times = np.zeros((ROUNDS, 2))
    for row in times:
        for i, call in enumerate(sides):
            call()
            start = time.perf_counter_ns()
            call()
            row[i] = (time.perf_counter_ns() - start) / 1e3 / BATCH
    least, middle = times.min(axis=0), np.median(times, axis=0)
    paired = np.median(times[:, 0] / times[:, 1])
    return (
        f"{net:6}{isa:12}{middle[1]:8.1f} us, limit {middle[0]:6.1f}: "
        f"{least[0] / least[1]:.1%} of minima, {middle[0] / middle[1]:.1%} of medians, {paired:.1%} round by round"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", action="append", choices=list(nets.NETS), help="default: M")
    parser.add_argument("--isa", action="append", help="default: amx, avx512vnni, avxvnni")
    parser.add_argument("--whole", action="store_true", help="share of the limit over the whole net")
    parser.add_argument("--out", type=Path, default=results.BENCH)
    arguments = parser.parse_args()
    timing.pin_to_one_core()
    chosen, isas = arguments.net or ["M"], arguments.isa or ["amx", "avx512vnni", "avxvnni"]
    if arguments.whole:
        for net in chosen:
            for isa in isas:
                print(share(net, isa), flush=True)
        return
    rows = []
    for net in chosen:
        found = layer_bench.measure(nets.build(net), isas)
        print(f"{net}\n{layer_bench.text_of(found)}")
        rows += [{"net": net} | row for row in found]
    results.add("layers", rows, arguments.out)


if __name__ == "__main__":
    main()
