"""The kernels are exact under another compiler's default flags: Debian's clang++, where it is installed."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from libsedge_native import toolchain, verify
from libsedge_native.generate import generate
from libsedge_native.random_graph import random_graph

CLANG = shutil.which("clang++")


@pytest.mark.skipif(CLANG is None, reason="clang++ is not installed (Debian: apt-get install clang)")
@pytest.mark.parametrize("optimise", ["speed", "size"])
def test_clang_gives_the_same_bits(optimise: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """clang contracts `a * b + c` by default where it can; the rounding has nothing to contract."""
    graph = random_graph(3)
    generated = generate(graph, optimise=optimise)  # type: ignore[arg-type]
    by_gcc = toolchain.compile_shared(generated, extra_flags=("-O1",))
    monkeypatch.setenv("CXX", str(CLANG))
    so = toolchain.compile_shared(generated)
    assert so != by_gcc, "the compiler was not changed"
    check = verify.verify_kernel(so, graph, count=24)
    assert check.equal, check
    gcc = verify.verify_kernel(by_gcc, graph, count=2)
    assert (check.isas, check.skipped) == (gcc.isas, gcc.skipped)


@pytest.mark.skipif(CLANG is None, reason="clang++ is not installed (Debian: apt-get install clang)")
def test_clang_warns_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", str(CLANG))
    said = subprocess.run([str(CLANG), "--version"], capture_output=True, text=True, check=True).stdout
    assert "clang" in said
    flags = (
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-unused-const-variable",
        "-O1",
    )  # shapes name more than is used
    assert toolchain.compile_shared(generate(random_graph(4)), extra_flags=flags)
