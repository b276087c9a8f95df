"""Our kernels and ONNX Runtime's int8 run on the same spectra: every logit and every layer, cell by cell.

    python benchmarks/exact.py --spectra 10000        about 15 minutes; killed, it goes on where it stopped
    python benchmarks/exact.py --net S --spectra 500

Nets S, M, L and M_fc (nets.py). ONNX Runtime runs with uint8 and with int8 activations and is refused if its
optimised model holds a float op. Compared with it: the logits of every instruction set of this machine, every layer
that the scalar kernel shows (the end of each fused group), and on every tenth spectrum every op's output by
`reference.py`. Half the spectra are lines on a noisy background, half are noise over all of int8, with extremes.
Writes build/bench/exact.json; exit code 1 where one cell differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

import nets
import numpy as np
import results
from libsedge import _core
from libsedge_native import reference
from libsedge_native.ir import Graph
from libsedge_native.random_graph import random_inputs
from libsedge_native.resume import Pieces, generator_digest
from libsedge_native.verify import OrtLayers
from numpy.typing import NDArray

OUT = results.BENCH.with_name("exact.json")
#: spectra of one piece: what a killed run loses at most
PIECE = 250


def spectra(graph: Graph, seed: int, count: int) -> NDArray[np.int8]:
    """int8 [count, input_len]; even rows lines on a background, odd rows noise, the first ones extremes."""
    rows = random_inputs(graph, seed, count)
    rng = np.random.default_rng((seed, 1))
    size, quant = graph.input.length, graph.input.quant
    for row in rows[4::2]:
        real = rng.normal(0.3, 0.05, size)
        at = rng.integers(0, size, int(rng.integers(20, 200)))
        real[at] += rng.gamma(1.0, 1.5, at.size)
        row[:] = np.clip(np.rint(real / quant.scale) + quant.zero_point, -128, 127)
    return rows


class Net:
    """One net on both sides."""

    def __init__(self, name: str, so: bytes | None = None) -> None:
        self.graph = nets.build(name)
        so = so or nets.compiled(name)
        scalar = _core.Model(so, "scalar")
        self.models = {isa: _core.Model(so, isa) for isa, runnable in scalar.isas if runnable}
        self.sides = {
            f"{kind} activations": OrtLayers(self.graph, unsigned=kind == "uint8")
            for kind in ("uint8", "int8")
        }

    def compare(self, seed: int, count: int) -> dict[str, int]:
        """Cells compared and cells different: `logits`, `layers` (scalar kernel), `ops` (reference)."""
        x = spectra(self.graph, seed, count)
        ours = {isa: model.run_batch(x) for isa, model in self.models.items()}
        found: Counter[str] = Counter(spectra=count)
        found["distinct_logits"] = len(np.unique(ours["scalar"], axis=0))
        for n, row in enumerate(x):
            layers = dict(self.models["scalar"].trace(row))
            ops = reference.layers(self.graph, row) if n % 10 == 0 else {}
            for side in self.sides.values():
                theirs = side.run(row)
                logits = theirs[self.graph.ops[-1].name]
                for kind, values in (("layers", layers), ("ops", ops)):
                    found[kind] += sum(value.size for value in values.values())
                    found[f"{kind}_different"] += sum(
                        int((value.reshape(-1) != theirs[name]).sum()) for name, value in values.items()
                    )
                for out in ours.values():
                    found["logits"] += logits.size
                    found["logits_different"] += int((out[n] != logits).sum())
        return dict(found)


def compare(
    names: list[str], count: int, pieces: Pieces | None = None, progress: bool = False
) -> dict[str, Any]:
    """The table of every net: `spectra`, `cells`, `different` and what they consist of."""
    table: dict[str, Any] = {}
    for name in names:
        seeds = range(-(-count // PIECE))
        total: Counter[str] = Counter()
        net: Net | None = None
        for seed in seeds:
            piece, size = f"{name} {seed}", min(PIECE, count - seed * PIECE)
            row = pieces.done.get(piece) if pieces else None
            if row is None or row["spectra"] != size:
                net = net or Net(name)
                row = net.compare(seed, size)
                if pieces:
                    pieces.add(piece, row)
            total.update({key: value for key, value in row.items() if isinstance(value, int)})
            if progress:
                wrong = sum(v for k, v in total.items() if k.endswith("different"))
                print(f"\r{name}: {total['spectra']:,} of {count:,} spectra, {wrong} cells differ", end="")
        if progress:
            print()
        kinds = ("logits", "layers", "ops")
        table[name] = dict(total) | {
            "cells": sum(total[kind] for kind in kinds),
            "different": sum(total[f"{kind}_different"] for kind in kinds),
        }
    return table


def pieces_of(out: Path) -> Pieces:
    """What is finished for this version of the generator and of ONNX Runtime; kept beside `out`."""
    key = {"generator": generator_digest(), "onnxruntime": metadata.version("onnxruntime")}
    return Pieces(out.with_suffix(".jsonl"), key)


def finished(pieces: Pieces, net: str) -> int:
    """Spectra of a net that are done, from the first one on."""
    total = 0
    while pieces.done.get(f"{net} {total // PIECE}", {}).get("spectra") == PIECE:
        total += PIECE
    return total


def summary(table: dict[str, Any]) -> dict[str, Any]:
    """What bench.json says under `exact.onnxruntime`; {} where it was compared on no net."""
    if not table:
        return {}
    return {
        "version": metadata.version("onnxruntime"),
        "spectra": min(row["spectra"] for row in table.values()),
        "cells": sum(row["cells"] for row in table.values()),
        "different": sum(row["different"] for row in table.values()),
        "by_net": table,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", action="append", choices=list(nets.NETS), help="default: all")
    parser.add_argument("--spectra", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    pieces = pieces_of(arguments.out)
    table = compare(arguments.net or list(nets.NETS), arguments.spectra, pieces, progress=True)
    document = {"generator": generator_digest()} | summary(table)
    arguments.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for name, row in table.items():
        print(
            f"{name:5} {row['spectra']:,} spectra ({row['distinct_logits']:,} different outputs), cells: "
            f"logits {row['logits']:,}, layers {row['layers']:,}, ops {row['ops']:,}; {row['different']} differ"
        )
    return 0 if document["cells"] > 0 and document["different"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
