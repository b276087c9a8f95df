"""zig in place of Debian's cross compilers: the same bits, or a refusal that says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from libsedge import _core
from libsedge.errors import ToolchainError
from libsedge_native import emulate, toolchain, zig
from libsedge_native.generate import generate
from libsedge_native.random_graph import random_graph
from libsedge_native.targets import TARGETS, compiler, isas_of

ROOT = Path(__file__).parents[2]


@pytest.fixture
def zig_installed() -> None:
    if find_spec("ziglang") is None:
        reason = "zig is not installed: pip install libsedge[zig]"
        (pytest.fail if os.environ.get("LIBSEDGE_ARM") == "required" else pytest.skip)(reason)


@pytest.mark.usefixtures("zig_installed")
def test_preprocessing_built_by_zig_finds_the_cpu_too(tmp_path: Path) -> None:
    """The x86-64 wheel is zig's, whose __builtin_cpu_supports says no to everything: its loops were the slowest."""
    program = tmp_path / "names.cpp"
    program.write_text(
        '#include "pixel_loops.h"\n#include <cstdio>\n'
        "int main() { for (auto n = sedge::pixel_loop_names(); *n; ++n) std::puts(*n); }\n"
    )
    folders = [f"-I{ROOT / 'native' / folder}" for folder in ("src", "libsedge_native/include/libsedge")]
    sources = [program, ROOT / "native" / "src" / "pixel_loops.cpp"]
    command = [
        sys.executable,
        "-m",
        "ziglang",
        "c++",
        "-std=c++17",
        "-O1",
        *folders,
        *sources,
        "-o",
        tmp_path / "names",
    ]
    subprocess.run([str(part) for part in command], check=True)
    said = subprocess.run([str(tmp_path / "names")], capture_output=True, text=True, check=True).stdout
    assert said.split() == _core.pixel_loops()


@pytest.mark.usefixtures("zig_installed")
def test_what_zig_builds_is_exact_on_every_cpu(aarch64: emulate.Machine) -> None:
    graph = random_graph(3)
    generated = generate(graph, isas=isas_of(["aarch64-linux"]))
    with zig.toolchain("zig"):
        so = toolchain.compile_shared(generated, "aarch64-linux", ("-O1",))
    assert so != toolchain.compile_shared(generated, "aarch64-linux", ("-O1",))
    for cpu, fastest in aarch64.target.cpus:
        check = emulate.verify_emulated(aarch64, so, graph, cpu=cpu)
        assert check.equal, check
        assert check.isas[0] == fastest


def test_zig_is_chosen_within_the_block_only(monkeypatch: pytest.MonkeyPatch) -> None:
    target = TARGETS["aarch64-linux"]
    monkeypatch.delenv(target.variable, raising=False)
    monkeypatch.setattr(zig, "find_spec", lambda name: True)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    with zig.toolchain("zig"):
        assert compiler(target)[1:4] == ["-m", "ziglang", "c++"]
    assert compiler(target) == [target.compiler]


def test_a_target_that_zig_is_not_tried_for_is_refused() -> None:
    with zig.toolchain("zig"), pytest.raises(ToolchainError, match="take the gcc toolchain"):
        compiler(TARGETS["armv7-linux"])


def test_missing_zig_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zig, "find_spec", lambda name: None)
    with pytest.raises(ToolchainError, match=r"pip install libsedge\[zig\]"):
        zig.zig("aarch64-linux")
