"""A compiled model on a machine that is not here: qemu-user runs the very bytes that a bundle carries.

QEMU checks what instructions do, not how long they take: bits and instruction counts hold, times mean nothing.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from libsedge.errors import (
    IsaNotBuiltError,
    IsaNotRunnableError,
    KernelError,
    SelfTestError,
    ToolchainError,
    UnknownIsaError,
)
from numpy.typing import NDArray

from libsedge_native import reference, toolchain
from libsedge_native.ir import Graph
from libsedge_native.random_graph import random_inputs
from libsedge_native.targets import Target, compiler, target_of
from libsedge_native.verify import KernelCheck

#: what src/emulated_main.cpp exits with, 16 + sedge_status
_REFUSALS = {
    16 + 5: UnknownIsaError,
    16 + 6: IsaNotBuiltError,
    16 + 7: IsaNotRunnableError,
    16 + 8: SelfTestError,
    16 + 9: SelfTestError,
}
TIMEOUT_S = 300


def available(target: Target) -> str | None:
    """None where the target can be compiled for and run here, else what is missing."""
    missing = []
    try:
        compiler(target)
    except ToolchainError as why:
        missing.append(str(why))
    if not target.native and not (target.emulator and shutil.which(target.emulator)):
        missing.append(f"{target.emulator or 'no emulator'} is not installed (Debian: {target.packages[-1]})")
    if target.sysroot and not Path(target.sysroot).is_dir():
        missing.append(f"no C library in {target.sysroot} (Debian: {target.packages[0]})")
    return "; ".join(missing) or None


class Machine:
    """The machine `target` with CPU model `cpu` (None: the emulator's default; not for the machine itself).

    A context manager; the runner is compiled once, into a folder of its own. Raises ToolchainError naming the
    package where the cross compiler or the emulator is not installed.
    """

    def __init__(self, target: str, cpu: str | None = None) -> None:
        self.target = target_of(target)
        if why := available(self.target):
            raise ToolchainError(why, field="target", value=target)
        self.cpu = cpu
        self._folder = tempfile.TemporaryDirectory(prefix="sedge-")
        self.folder = Path(self._folder.name)
        root = resources.files("libsedge_native")
        headers = ("include/libsedge/exports.h", "include/libsedge/libsedge.h")
        for path in (*headers, "src/emulated_main.cpp"):
            (self.folder / path.rsplit("/", 1)[1]).write_bytes((root / path).read_bytes())
        command = [*compiler(self.target), *self.target.flags, "-std=c++17", "-O2", "emulated_main.cpp"]
        toolchain.run([*command, "-o", "emulated_main", "-ldl"], self.folder)

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def command(self, cpu: str | None = None, plugin: str | None = None) -> list[str]:
        """What stands before the program's name; empty on the machine itself."""
        if self.target.native:
            return []
        chosen = cpu or self.cpu
        return [
            self.target.emulator,
            *(["-cpu", chosen] if chosen else []),
            *(["-plugin", plugin] if plugin else []),
            *("-L", self.target.sysroot),
        ]

    def call(
        self,
        so: bytes,
        arguments: Sequence[str],
        stdin: bytes = b"",
        cpu: str | None = None,
        plugin: str | None = None,
    ) -> bytes:
        """Output of the runner on a model; raises the errors of `_core.Model`, KernelError for a crash."""
        (self.folder / "model.so").write_bytes(so)
        command = [*self.command(cpu, plugin), "./emulated_main", "./model.so", *arguments]
        try:
            done = subprocess.run(
                command, cwd=self.folder, input=stdin, capture_output=True, check=False, timeout=TIMEOUT_S
            )
        except (OSError, subprocess.TimeoutExpired) as failed:
            raise ToolchainError(
                f"could not be run: {failed}", field="emulator", value=command[0]
            ) from failed
        if done.returncode:
            text = done.stderr.decode(errors="replace").strip()
            where = f"{self.target.name}, cpu {cpu or self.cpu or 'default'}"
            kind = _REFUSALS.get(done.returncode, KernelError)
            raise kind(f"{text or 'no message'} (exit status {done.returncode})", field=where)
        return done.stdout

    def isas(self, so: bytes, cpu: str | None = None) -> list[tuple[str, bool]]:
        """The kernels of a model and whether this machine runs them, fastest first."""
        lines = self.call(so, ["isas"], cpu=cpu).decode().splitlines()
        return [(name, flag == "1") for name, flag in (line.split() for line in lines)]

    def run(self, so: bytes, inputs: NDArray[Any], isa: str, cpu: str | None = None) -> NDArray[Any]:
        """Logits [n, classes] after self-test and scrub, int8 or float32 as the model and its inputs [n, input_len]
        are; canaries around the arena held.
        """
        order = inputs.dtype.newbyteorder("<")
        out = self.call(so, ["run", isa], np.ascontiguousarray(inputs, order).tobytes(), cpu)
        return np.frombuffer(out, order).reshape(len(inputs), -1).astype(inputs.dtype, copy=False)

    def trace(self, so: bytes, x: NDArray[np.int8], cpu: str | None = None) -> NDArray[np.int8]:
        """Every layer of the scalar kernel for one input, one behind the other."""
        return np.frombuffer(self.call(so, ["trace"], x.tobytes(), cpu), np.int8)


@dataclass(frozen=True)
class EmulatedCheck(KernelCheck):
    """A compiled model against the reference, on one emulated CPU."""

    cpu: str


def verify_emulated(
    machine: Machine,
    so: bytes,
    graph: Graph,
    inputs: NDArray[np.int8] | None = None,
    *,
    cpu: str | None = None,
    count: int = 8,
    seed: int = 0,
) -> EmulatedCheck:
    """Run a model.so on every instruction set of an emulated CPU and compare with `reference.run`.

    inputs : int8 [n, input_len]; `count` random ones with extremes by default.
    """
    x = random_inputs(graph, seed, count) if inputs is None else np.ascontiguousarray(inputs)
    want = reference.run(graph, x)
    built = machine.isas(so, cpu)
    isas = tuple(name for name, runnable in built if runnable)
    different = 0
    for isa in isas:
        different += int((machine.run(so, x, isa, cpu) != want).sum())
    layers = reference.layers(graph, x[-1])
    got = machine.trace(so, x[-1], cpu)
    shown = [layers[name].reshape(-1) for name in fused_names(graph)]
    flat = np.concatenate(shown)
    wrong = int((got != flat).sum()) if got.size == flat.size else flat.size
    skipped = tuple(name for name, runnable in built if not runnable)
    cells, chosen = want.size * len(isas), cpu or machine.cpu or "default"
    return EmulatedCheck(isas, skipped, len(x), cells, different, flat.size, wrong, chosen)


def fused_names(graph: Graph) -> list[str]:
    """Names of the layers that a trace of the scalar kernel shows, in order."""
    from libsedge_native.passes import lower

    kernel = lower(graph, ()).kernels[-1]
    return [step.name for step in kernel.steps if step.shown is not None]
