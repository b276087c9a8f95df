"""pytest-benchmark: one spectrum through the kernel, per net and instruction set."""

from __future__ import annotations

from functools import cache

import nets
import numpy as np
import pytest
from libsedge import _core
from libsedge_native import reference, toolchain
from libsedge_native.generate import generate


@cache
def _compiled(net: str) -> tuple[bytes, np.ndarray, np.ndarray]:
    graph = nets.build(net)
    x = np.random.default_rng(1).integers(-128, 128, graph.input.length).astype(np.int8)
    return toolchain.compile_shared(generate(graph)), x, reference.run(graph, x)


@pytest.mark.parametrize("isa", ["amx", "avx512vnni", "avxvnni", "avx2", "scalar"])
@pytest.mark.parametrize("net", list(nets.NETS))
def test_run(benchmark, net: str, isa: str) -> None:
    so, x, want = _compiled(net)
    if not dict(_core.Model(so, "scalar").isas).get(isa, False):
        pytest.skip(f"{isa} is not built, or this machine lacks it")
    model = _core.Model(so, isa)
    assert (benchmark(model.run, x) == want).all()


@pytest.mark.parametrize("what", ["scrub", "self_test"])
def test_checks(benchmark, what: str) -> None:
    """CRC-32C of the weights; the embedded golden vectors."""
    benchmark(getattr(_core.Model(_compiled("M")[0]), what))
