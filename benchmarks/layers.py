"""Every step of the benchmark's nets alone: `libsedge bench --layers` for nets S, M, L and M_fc.

python benchmarks/layers.py --net M    a table per instruction set, and `layers` of build/bench/bench.json

The share of a whole net: benchmarks/whole.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nets
import results
from libsedge_native import layer_bench, timing


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", action="append", choices=list(nets.NETS), help="default: M")
    parser.add_argument("--isa", action="append", help="default: amx, avx512vnni, avxvnni")
    parser.add_argument("--out", type=Path, default=results.BENCH)
    arguments = parser.parse_args()
    timing.pin_to_one_core()
    chosen, isas = arguments.net or ["M"], arguments.isa or ["amx", "avx512vnni", "avxvnni"]
    rows = []
    for net in chosen:
        found = layer_bench.measure(nets.build(net), isas)
        print(f"{net}\n{layer_bench.text_of(found)}")
        rows += [{"net": net} | row for row in found]
    results.add("layers", rows, arguments.out)


if __name__ == "__main__":
    main()
