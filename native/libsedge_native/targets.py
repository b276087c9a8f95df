"""Machines a model is compiled for: compiler, instruction sets, and how to emulate them."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
from collections.abc import Iterable
from dataclasses import dataclass

from libsedge.errors import ToolchainError

from libsedge_native import zig
from libsedge_native.passes import VECTOR_ISAS


@dataclass(frozen=True)
class Target:
    """One machine. `packages` are Debian's names of what brings `compiler` and `emulator`."""

    name: str
    #: as platform.machine() says on it
    machines: tuple[str, ...]
    compiler: str
    packages: tuple[str, ...]
    #: instruction sets besides "scalar", fastest first
    isas: tuple[str, ...] = ()
    #: the same for float32 models
    float_isas: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    #: libraries behind the C library
    link: tuple[str, ...] = ("-lgcc", "-lc")
    #: qemu-user's program, the C library it needs, and CPU models worth testing with the kernel each must take
    emulator: str = ""
    sysroot: str = ""
    cpus: tuple[tuple[str, str], ...] = ()

    def kernels(self, precision: str) -> tuple[str, ...]:
        """The instruction sets besides "scalar" of int8 or of float32 models."""
        return self.float_isas if precision == "float32" else self.isas

    @property
    def native(self) -> bool:
        """Whether this machine is one."""
        return platform.system() == "Linux" and platform.machine().lower() in self.machines

    @property
    def variable(self) -> str:
        """The environment's variable that names another compiler."""
        return f"CXX_{self.name.upper().replace('-', '_')}"


TARGETS: dict[str, Target] = {
    t.name: t
    for t in (
        Target(
            "x86_64-linux",
            ("x86_64", "amd64"),
            "x86_64-linux-gnu-g++",
            ("g++-x86-64-linux-gnu",),
            VECTOR_ISAS,
            ("avx512", "avx2"),
            link=(),
        ),
        Target(
            "aarch64-linux",
            ("aarch64", "arm64"),
            "aarch64-linux-gnu-g++",
            ("g++-aarch64-linux-gnu", "qemu-user"),
            ("i8mm", "neondot", "neon"),
            ("neon",),
            emulator="qemu-aarch64",
            sysroot="/usr/aarch64-linux-gnu",
            cpus=(
                ("cortex-a53", "neon"),
                ("cortex-a72", "neon"),
                ("cortex-a76", "neondot"),
                ("max", "i8mm"),
            ),
        ),
        Target(
            "armv7-linux",
            ("armv7l",),
            "arm-linux-gnueabihf-g++",
            ("g++-arm-linux-gnueabihf", "qemu-user"),
            ("armv7neon",),
            flags=("-march=armv7-a+fp",),
            emulator="qemu-arm",
            sysroot="/usr/arm-linux-gnueabihf",
            cpus=(("cortex-a9,neon=off", "scalar"), ("cortex-a7", "armv7neon"), ("cortex-a9", "armv7neon")),
        ),
        Target(
            "ppc64-linux",
            ("ppc64",),
            "powerpc64-linux-gnu-g++",
            ("g++-powerpc64-linux-gnu", "qemu-user"),
            emulator="qemu-ppc64",
            sysroot="/usr/powerpc64-linux-gnu",
            # not its 970fx: there glibc's memset clears too much or too little (dcbz), libsedge or not
            cpus=(("power8", "scalar"),),
        ),
        Target(
            "s390x-linux",
            ("s390x",),
            "s390x-linux-gnu-g++",
            ("g++-s390x-linux-gnu", "qemu-user"),
            emulator="qemu-s390x",
            sysroot="/usr/s390x-linux-gnu",
            cpus=(("max", "scalar"),),
        ),
    )
}


@dataclass(frozen=True)
class BareTarget:
    """A machine without an operating system: sources and a relocatable object, no shared object."""

    name: str
    flags: tuple[str, ...]
    #: qemu-system-arm's board with that core
    board: str
    #: instruction sets besides "scalar", fastest first
    isas: tuple[str, ...] = ()
    compiler: str = "arm-none-eabi-g++"
    emulator: str = "qemu-system-arm"
    packages: tuple[str, ...] = (
        "gcc-arm-none-eabi",
        "libnewlib-arm-none-eabi",
        "libstdc++-arm-none-eabi-newlib",
        "qemu-system-arm",
    )

    def kernels(self, precision: str) -> tuple[str, ...]:
        """The instruction sets besides "scalar" of int8 or of float32 models."""
        return self.isas if precision == "int8" else ()

    @property
    def variable(self) -> str:
        return f"CXX_{self.name.upper().replace('-', '_')}"


_M4 = ("-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard")
_M7 = ("-mcpu=cortex-m7", "-mthumb", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard")
_M55 = ("-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard")
BARE: dict[str, BareTarget] = {
    t.name: t
    for t in (
        BareTarget("cortex-m3", ("-mcpu=cortex-m3", "-mthumb", "-mfloat-abi=soft"), "mps2-an385"),
        BareTarget("cortex-m4", _M4, "mps2-an386", ("smlad",)),
        BareTarget("cortex-m7", _M7, "mps2-an500", ("smlad",)),
        BareTarget("cortex-m55", _M55, "mps3-an547", ("mve",)),
    )
}

#: the compilers of the machine itself, in order; CXX comes first where set
HOST_COMPILERS = ("c++", "g++", "clang++")


def target_of(name: str) -> Target:
    """The target of that name; raises ToolchainError."""
    if name in BARE:
        raise ToolchainError("loads no shared object: it has a source folder", field="target", value=name)
    machine = machine_of(name)
    assert isinstance(machine, Target)
    return machine


def machine_of(name: str) -> Target | BareTarget:
    """The target of that name, with or without Linux; raises ToolchainError."""
    machine = TARGETS.get(name) or BARE.get(name)
    if machine is None:
        raise ToolchainError(f"must be one of {', '.join((*TARGETS, *BARE))}", field="target", value=name)
    return machine


def isas_of(names: Iterable[str], precision: str = "int8") -> tuple[str, ...]:
    """The instruction sets, besides "scalar", of all these targets, each once."""
    return tuple(dict.fromkeys(isa for name in names for isa in target_of(name).kernels(precision)))


def _from_environment(variable: str) -> list[str] | None:
    chosen = os.environ.get(variable)
    if not chosen:
        return None
    command = shlex.split(chosen)
    if command and shutil.which(command[0]):
        return command
    raise ToolchainError("no such program", field=variable, value=chosen)


def host_compiler() -> list[str]:
    """Command of this machine's C++ compiler: the environment's CXX, else c++, g++ or clang++."""
    if (command := _from_environment("CXX")) is not None:
        return command
    for name in HOST_COMPILERS:
        if shutil.which(name):
            return [name]
    raise ToolchainError(f"no C++ compiler found; install one of {', '.join(HOST_COMPILERS)} or set CXX")


def compiler(target: Target | BareTarget) -> list[str]:
    """The command that compiles C++ for a target.

    The environment's CXX_<TARGET> (CXX_AARCH64_LINUX and so on), else zig's where `zig.toolchain("zig")` holds,
    else for this machine `host_compiler()`, for another Debian's cross compiler. Raises ToolchainError that names
    the package to install.
    """
    if (command := _from_environment(target.variable)) is not None:
        return command
    if zig.chosen():
        return zig.zig(target.name)
    if isinstance(target, Target) and target.native:
        return host_compiler()
    if shutil.which(target.compiler):
        return [target.compiler]
    raise ToolchainError(
        f"{target.compiler} is not installed; Debian's package {target.packages[0]} has it, "
        f"or set {target.variable}",
        field="target",
        value=target.name,
    )
