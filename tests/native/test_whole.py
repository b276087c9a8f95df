"""benchmarks/whole.py: a net and the loop that bounds it in turn, called from C."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import pytest
from libsedge.errors import KernelError
from libsedge_native import peak, toolchain
from libsedge_native.generate import generate
from libsedge_native.random_graph import random_graph

GRAPH = random_graph(12)


@cache
def compiled() -> bytes:
    return toolchain.compile_shared(generate(GRAPH, isas=("avx2",)), extra_flags=("-O1",))


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch):
    """On a small net in the place of S, with AVX2 and no other x86 kernel."""
    if "peak madd ymm" not in peak.rows(1):
        pytest.skip("this machine has no AVX2")
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    import whole

    monkeypatch.setattr(whole.nets, "build", lambda _: GRAPH)
    monkeypatch.setattr(whole.nets, "compiled", lambda _: compiled())
    monkeypatch.setattr(whole, "ROUNDS", 30)
    yield whole
    for name in ("whole", "nets"):
        sys.modules.pop(name, None)


def test_both_sides_are_timed_a_spectrum(whole) -> None:
    one, eight = whole.share("S", "avx2"), whole.share("S", "avx2", spectra=8, calls=8)
    for share in (one, eight):
        assert 0 < share.limit_min_us <= share.limit_median_us
        assert share.limit_min_us < share.min_us <= share.median_us, "no net reaches the limit"
        assert 0 < share.round_by_round < 1
    assert eight.min_us < 4 * one.min_us, "the time of eight calls is divided by eight"


def test_a_kernel_that_was_not_built_has_no_share(whole) -> None:
    with pytest.raises(KernelError, match="avxvnni"):
        whole.share("S", "avxvnni")
