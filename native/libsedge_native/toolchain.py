"""Compilers by target name: generated sources to the bytes of a shared object."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from libsedge.errors import ToolchainError

from libsedge_native.generate import GeneratedModel
from libsedge_native.targets import BareTarget, compiler, host_compiler, target_of

__all__ = ["HOST_TARGET", "compile_object", "compile_shared", "host_compiler", "run", "write_sources"]

HOST_TARGET = "x86_64-linux"

#: without contraction float32 layers that name no fused operation give the same bits on every machine
COMPILE_FLAGS = (
    *("-std=c++17", "-O3", "-ffp-contract=off", "-fPIC", "-fvisibility=hidden"),
    *("-fno-exceptions", "-fno-rtti", "-g0"),
)
OBJECT_FLAGS = ("-std=c++17", "-O2", "-fno-exceptions", "-fno-rtti", "-g0")
LINK_FLAGS = (
    "-shared",
    "-nostdlib",
    "-Wl,--build-id=none",
    "-Wl,-s",
    "-Wl,-z,defs",
    "-Wl,-soname,model.so",
)


def run(command: Sequence[str], folder: Path) -> str:
    """Run a compiler, or what it made, in a folder; returns its output, raises ToolchainError with its errors."""
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", check=False, timeout=600
        )
    except (OSError, subprocess.TimeoutExpired) as failed:
        raise ToolchainError(f"could not be run: {failed}", field="compiler", value=command[0]) from failed
    if done.returncode != 0:
        raise ToolchainError(f"{shlex.join(command)} failed:\n{done.stderr.strip()}", field="compiler")
    return done.stdout


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
    target : a name of targets.TARGETS; generate with its instruction sets (`targets.isas_of`).
    Raises ToolchainError with the compiler's message, or with the package to install where there is none.
    """
    machine = target_of(target)
    command = [*compiler(machine), *machine.flags]
    with tempfile.TemporaryDirectory(prefix="sedge-") as name:
        folder = Path(name)
        write_sources(generated, folder)
        objects = []
        for source in generated.sources:
            objects.append(source.removesuffix(".cpp") + ".o")
            run([*command, *COMPILE_FLAGS, *extra_flags, "-c", source, "-o", objects[-1]], folder)
        run([*command, *LINK_FLAGS, *objects, "-lc", *machine.link, "-o", "model.so"], folder)
        return (folder / "model.so").read_bytes()


def compile_object(generated: GeneratedModel, target: BareTarget, extra_flags: Sequence[str] = ()) -> bytes:
    """Bytes of one relocatable object for a machine without an operating system: what its firmware links.

    Generate with isas=target.isas, or () for the scalar kernel alone. Raises ToolchainError as `compile_shared` does.
    """
    command = [*compiler(target), *target.flags]
    with tempfile.TemporaryDirectory(prefix="sedge-") as name:
        folder = Path(name)
        write_sources(generated, folder)
        run(
            [*command, *OBJECT_FLAGS, *extra_flags, "-r", "-nostdlib", *generated.sources, "-o", "model.o"],
            folder,
        )
        return (folder / "model.o").read_bytes()
