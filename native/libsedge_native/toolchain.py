"""Compilers by target name: generated sources to the bytes of a shared object."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from libsedge.errors import ToolchainError

from libsedge_native.generate import GeneratedModel

HOST_TARGET = "x86_64-linux"

#: candidates in order; CXX comes first where set
_HOST_COMPILERS = ("c++", "g++", "clang++")

COMPILE_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti", "-g0")
LINK_FLAGS = (
    "-shared",
    "-nostdlib",
    "-Wl,--build-id=none",
    "-Wl,-s",
    "-Wl,-z,defs",
    "-Wl,-soname,model.so",
)


def host_compiler() -> list[str]:
    """Command of the host's C++ compiler: the environment's CXX, else c++, g++ or clang++."""
    chosen = os.environ.get("CXX")
    if chosen:
        command = shlex.split(chosen)
        if command and shutil.which(command[0]):
            return command
        raise ToolchainError("no such program", field="CXX", value=chosen)
    for name in _HOST_COMPILERS:
        if shutil.which(name):
            return [name]
    raise ToolchainError(f"no C++ compiler found; install one of {', '.join(_HOST_COMPILERS)} or set CXX")


def _run(command: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", check=False, timeout=600
        )
    except (OSError, subprocess.TimeoutExpired) as failed:
        raise ToolchainError(f"could not be run: {failed}", field="compiler", value=command[0]) from failed
    if done.returncode != 0:
        raise ToolchainError(f"{shlex.join(command)} failed:\n{done.stderr.strip()}", field="compiler")


def write_sources(generated: GeneratedModel, folder: Path) -> None:
    """Write the files of a generated model into an existing folder."""
    for name, text in generated.files.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def compile_shared(
    generated: GeneratedModel, target: str = HOST_TARGET, extra_flags: Sequence[str] = ()
) -> bytes:
    """Bytes of a shared object that exports the C API of libsedge.h and nothing else.

    The same sources and compiler give the same bytes: no path, time or build id is in them. No -m flag is
    used; every instruction set's functions carry their own target. extra_flags go behind ours.
    Raises ToolchainError with the compiler's message.
    """
    if target != HOST_TARGET:
        raise ToolchainError(f"only {HOST_TARGET} is built yet", field="target", value=target)
    compiler = host_compiler()
    with tempfile.TemporaryDirectory(prefix="sedge-") as name:
        folder = Path(name)
        write_sources(generated, folder)
        objects = []
        for source in generated.sources:
            objects.append(source.removesuffix(".cpp") + ".o")
            _run([*compiler, *COMPILE_FLAGS, *extra_flags, "-c", source, "-o", objects[-1]], folder)
        _run([*compiler, *LINK_FLAGS, *objects, "-lc", "-o", "model.so"], folder)
        return (folder / "model.so").read_bytes()
