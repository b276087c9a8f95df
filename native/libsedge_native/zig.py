"""zig as the C++ compiler: one PyPI package (ziglang) in place of Debian's cross compilers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec

from libsedge.errors import ToolchainError

TOOLCHAINS = ("gcc", "zig")
#: the oldest C library that what zig builds shall run with
GLIBC = "2.28"
#: target -> the machine in zig's names. Not armv7: zig refuses the -march that the target needs.
MACHINES = {"x86_64-linux": "x86_64", "aarch64-linux": "aarch64"}

_chosen: ContextVar[str] = ContextVar("toolchain", default="gcc")


@contextmanager
def toolchain(name: str) -> Iterator[None]:
    """Within it, `targets.compiler` gives that toolchain's compilers: "gcc" or "zig"."""
    token = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(token)


def chosen() -> bool:
    return _chosen.get() == "zig"


def zig(target: str, program: str = "c++") -> list[str]:
    """zig's command for a target; raises ToolchainError where zig is not installed or not tried for the target."""
    if target not in MACHINES:
        raise ToolchainError(
            f"zig builds for {', '.join(MACHINES)} here; take the gcc toolchain", field="target", value=target
        )
    if find_spec("ziglang") is None:
        raise ToolchainError("not installed: pip install libsedge[zig]", field="toolchain", value="zig")
    return [sys.executable, "-m", "ziglang", program, "-target", f"{MACHINES[target]}-linux-gnu.{GLIBC}"]
