"""Preprocessing beside inference: one 5,400-channel frame to the network's input, and the net M, timed in turn.

python benchmarks/preprocess.py            a table of medians and ratios, and build/bench/preprocess.json

The preprocessing includes the report (contrast, saturation) that decides whether a frame can be used. Both sides are
called through their Python binding, on one pinned core; the spectrum is random, the time does not depend on it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nets
import numpy as np
from libsedge import _core
from libsedge.preprocess import PreprocessConfig, Preprocessor, Smooth, Snip
from libsedge_native import timing

CHANNELS = 5400
OUT = Path("build/bench/preprocess.json")


def main() -> None:
    timing.pin_to_one_core()
    rng = np.random.default_rng(0)
    pre = Preprocessor(PreprocessConfig(scale=0.02, zero_point=-128), np.linspace(239.0, 851.0, CHANNELS))
    counts = rng.gamma(2.0, 400.0, CHANNELS).astype(np.uint16)
    dark = rng.normal(100.0, 5.0, CHANNELS).astype(np.float32)
    sides = {"preprocessing": lambda: pre.input_and_report(counts, 65535.0, dark)}
    for name, steps in (("+ smooth 11:2", {"smooth": Smooth(11, 2)}), ("+ SNIP 40", {"continuum": Snip(40)})):
        other = Preprocessor(replace(pre.config, **steps), np.linspace(239.0, 851.0, CHANNELS))
        sides[name] = lambda other=other: other.input_and_report(counts, 65535.0, dark)
    x = pre.int8(counts, dark)
    shared = nets.compiled("M")
    for isa in [name for name, runs in _core.Model(shared).isas if runs and name != "scalar"]:
        model = _core.Model(shared, isa)
        sides[f"M on {isa}"] = lambda model=model: model.run(x)
    found = timing.interleaved(sides, rounds=40)
    base = found["preprocessing"]
    rows = []
    for name, side in found.items():
        rows.append(
            {
                "side": name,
                "median_us": round(side.median_us, 2),
                "min_us": round(side.min_us, 2),
                "preprocessing_over_it_median": round(base.median_us / side.median_us, 3),
                "preprocessing_over_it_min": round(base.min_us / side.min_us, 3),
            }
        )
        print(
            f"{name:<18} median {side.median_us:8.2f} us, min {side.min_us:8.2f} us; preprocessing / it "
            f"{base.median_us / side.median_us:.2f} by median, {base.min_us / side.min_us:.2f} by minimum"
        )
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
