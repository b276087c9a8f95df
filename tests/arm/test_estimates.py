"""The cycle estimates of benchmarks/mca.py: what it picks out of assembly, and that the NEON loops stay near the limit.

Estimates of LLVM's models, no times. Where llvm-19 is missing, or outside `make test-arm`, only the first test runs.
"""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from types import ModuleType

import pytest
from libsedge_native import emulate
from libsedge_native.targets import TARGETS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
#: of the multiply instructions' own throughput, over the convolutions of the net
LEAST = 0.7


@pytest.fixture
def mca(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("mca")


def test_the_run_with_the_most_multiplies_is_taken(mca: ModuleType) -> None:
    loop = [
        "\tldr\tq0, [x1]",
        *["\tsdot\tv1.4s, v0.16b, v2.4b[0]"] * 30,
        "\tbne\t.L2",
        "\tsdot\tv1.4s, v0.16b, v2.4b[1]",
    ]
    text = "\n".join(
        ["_ZN11net_neondot11shape_pool2EhE:", "\tmov\tx0, x1", ".L2:", "// comment", *loop, "\tret"]
    )
    found = mca.busiest(text, "neondot")
    assert list(found) == ["pool2"]
    assert len(found["pool2"]) == 32
    assert found["pool2"][-1].startswith("bne")
    assert mca.busiest(text.replace("sdot", "add"), "neondot") == {}


@pytest.mark.usefixtures("long_run")
def test_the_loops_are_near_the_issue_limit(mca: ModuleType) -> None:
    if not shutil.which(mca.ANALYSER):
        pytest.skip(f"{mca.ANALYSER} is not installed (Debian: llvm-19)")
    if why := emulate.available(TARGETS["aarch64-linux"]):
        pytest.fail(why)
    found = list(mca.estimates())
    for isa, cores in mca.CORES.items():
        for core in cores:
            mine = [e for e in found if (e.isa, e.core) == (isa, core)]
            assert len(mine) == 4, "one a convolution"
            limit = sum(e.limit * e.repetitions for e in mine)
            assert LEAST < limit / sum(e.bound * e.repetitions for e in mine) <= 1.0, (isa, core)
    # Negative control: every multiply with a load of its own.
    loop = ["sdot v1.4s, v0.16b, v2.4b[0]", "sdot v3.4s, v0.16b, v2.4b[0]"]
    loads = ["ldr q0, [x1]", "ldr q2, [x2]", "ldr q0, [x3]"]
    alone, _ = mca.analyse(loop, "neoverse-n1")
    with_loads, _ = mca.analyse(loop + loads, "neoverse-n1")
    assert alone / with_loads < LEAST
