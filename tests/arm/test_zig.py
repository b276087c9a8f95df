"""zig in place of Debian's cross compilers: the same bits, or a refusal that says what to do."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest
from libsedge.errors import ToolchainError
from libsedge_native import emulate, toolchain, zig
from libsedge_native.generate import generate
from libsedge_native.random_graph import random_graph
from libsedge_native.targets import TARGETS, compiler, isas_of


def test_what_zig_builds_is_exact_on_every_cpu(aarch64: emulate.Machine) -> None:
    if find_spec("ziglang") is None:
        reason = "zig is not installed: pip install libsedge[zig]"
        (pytest.fail if os.environ.get("LIBSEDGE_ARM") == "required" else pytest.skip)(reason)
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
