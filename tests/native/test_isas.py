"""What each instruction set's kernel may use, and which ones a machine gets."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from libsedge import _core
from libsedge_native import toolchain, verify
from libsedge_native.generate import generate
from libsedge_native.random_graph import random_graph

x86_only = pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86-64 machine")


def disassembly(isas: tuple[str, ...], folder: Path) -> str:
    (folder / "model.so").write_bytes(toolchain.compile_shared(generate(random_graph(3), isas=isas)))
    command = ["objdump", "-d", "--no-show-raw-insn", folder / "model.so"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@x86_only
@pytest.mark.skipif(not shutil.which("objdump"), reason="needs objdump (binutils)")
def test_the_sse41_kernel_uses_no_avx(tmp_path: Path) -> None:
    text = disassembly(("sse41",), tmp_path)
    assert "pmaddwd" in text
    assert not re.search(r"\tv[a-z]", text), "a VEX-encoded instruction"
    assert re.search(r"\tv[a-z]", disassembly(("avx2",), tmp_path)), "negative control"


@x86_only
def test_every_x86_64_machine_of_today_runs_sse41() -> None:
    graph = random_graph(6)
    so = toolchain.compile_shared(generate(graph, isas=("sse41",)), extra_flags=("-O1",))
    assert dict(_core.Model(so).isas) == {"sse41": True, "scalar": True}
    assert _core.Model(so).isa == "sse41"
    check = verify.verify_kernel(so, graph, count=16)
    assert check.equal, check
    assert check.isas == ("sse41", "scalar")
