"""Instructions per inference on aarch64, ours and those of other runtimes' aarch64 wheels, counted under qemu-user.

    python benchmarks/arm_peers.py          about 2 minutes; at first it fetches wheels and a Debian root (1 minute)

Emulated: QEMU counts what is executed, it knows no time. One net, one input, one thread. A peer runs in an arm64
Python (arm_guest.py), which marks the start and the end of its runs with a system call that the counting plugin sees;
the few thousand instructions of Python around each call count with the peer. Adds `aarch64` to build/bench/bench.json,
with the estimates of mca.py where its tool is installed.

`ratio` is ours over the best int8 peer on the same CPU; `over_floor` is ours over the multiply instructions that the
net's multiply-accumulates need at least: MACs / 16 for sdot, 3 MACs / 16 for smull, smlal2,
sadalp, MACs / 32 for smmla.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mca
import nets
import numpy as np
import results
from libsedge.errors import ToolchainError
from libsedge_native import counting, reference, toolchain
from libsedge_native.emulate import Machine, available
from libsedge_native.generate import generate
from libsedge_native.ir import Graph
from libsedge_native.onnx_export import to_onnx
from libsedge_native.random_graph import random_inputs
from libsedge_native.targets import TARGETS
from ncnn_model import to_ncnn
from numpy.typing import NDArray
from tflite_model import to_tflite

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "arm64"
GUEST = Path(__file__).with_name("arm_guest.py")
TARGET = TARGETS["aarch64-linux"]
PACKAGES = ("numpy", "onnxruntime", "ai-edge-litert", "ncnn")
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17", "manylinux2014")
#: umask's number on aarch64: what arm_guest.py calls around its runs, and nothing else does meanwhile
MARK = 166
TIMES = 4

#: our kernel, the CPU it is counted on (the first one with these instructions), what that CPU's /proc/cpuinfo says
CPUS: dict[str, tuple[str, str, str]] = {
    "neon": ("cortex-a53", "0xd03", "fp asimd crc32"),
    "neondot": ("cortex-a76", "0xd0b", "fp asimd crc32 atomics fphp asimdhp asimddp"),
    "i8mm": ("max", "0xd49", "fp asimd crc32 atomics fphp asimdhp asimddp sve i8mm svei8mm"),
}
#: what the headline is chosen from
HEADLINE = ("neon", "neondot")


@dataclass(frozen=True)
class Peer:
    """One runtime with one spelling of the net: files by name, the input, and which of the files is the model."""

    runtime: str
    dtype: str
    files: Callable[[Graph], dict[str, bytes]]
    input: Callable[[Graph, NDArray[np.int8]], NDArray[Any]]
    model: str


def _real(graph: Graph, x: NDArray[np.int8], shape: tuple[int, ...]) -> NDArray[np.float32]:
    q = graph.input.quant
    return ((x.astype(np.float32) - q.zero_point) * np.float32(q.scale)).astype(np.float32).reshape(shape)


def _ncnn(graph: Graph, quantised: bool) -> dict[str, bytes]:
    text, weights = to_ncnn(graph, quantised=quantised)
    return {"m.param": text.encode(), "m.bin": weights}


_HIGH = (1, 1, 1, -1)
PEERS: dict[str, Peer] = {
    "onnxruntime int8 (uint8 activations)": Peer(
        "onnxruntime", "int8", lambda g: {"m.onnx": to_onnx(g, unsigned=True)},
        lambda g, x: (x.view(np.uint8) ^ np.uint8(0x80)).reshape(1, 1, -1), "m.onnx",
    ),
    "onnxruntime int8 (int8 activations)": Peer(
        "onnxruntime", "int8", lambda g: {"m.onnx": to_onnx(g)}, lambda g, x: x.reshape(1, 1, -1), "m.onnx"
    ),
    "onnxruntime fp32 conv1d": Peer(
        "onnxruntime", "float32", lambda g: {"m.onnx": nets.float_onnx(g, two_d=False)},
        lambda g, x: _real(g, x, (1, 1, -1)), "m.onnx",
    ),
    "onnxruntime fp32 conv2d": Peer(
        "onnxruntime", "float32", lambda g: {"m.onnx": nets.float_onnx(g, two_d=True)},
        lambda g, x: _real(g, x, _HIGH), "m.onnx",
    ),
    "litert int8": Peer(
        "litert", "int8", lambda g: {"m.tflite": to_tflite(g, quantised=True)},
        lambda g, x: x.reshape(1, 1, -1, 1), "m.tflite",
    ),
    "litert fp32": Peer(
        "litert", "float32", lambda g: {"m.tflite": to_tflite(g, quantised=False)},
        lambda g, x: _real(g, x, (1, 1, -1, 1)), "m.tflite",
    ),
    "ncnn int8": Peer(
        "ncnn", "int8", lambda g: _ncnn(g, True), lambda g, x: _real(g, x, (1, 1, -1)), "m.param"
    ),
    "ncnn fp32 (fp16 where the CPU has it)": Peer(
        "ncnn", "float32", lambda g: _ncnn(g, False), lambda g, x: _real(g, x, (1, 1, -1)), "m.param"
    ),
}  # fmt: skip


class Guest:
    """An arm64 Debian's Python with the peers' wheels, in build/arm64; made once.

    Raises ToolchainError with what is missing.
    """

    def __init__(self) -> None:
        if why := available(TARGET):
            raise ToolchainError(why, field="target", value=TARGET.name)
        if not shutil.which("mmdebstrap"):
            raise ToolchainError("mmdebstrap is not installed (Debian: mmdebstrap)")
        sys.path.insert(0, str(ROOT / "deploy"))
        import arm64_root  # type: ignore[import-not-found]

        self.root: Path = arm64_root.make()
        self.site = self._wheels()
        counting.build_plugin(FOLDER)

    def _wheels(self) -> Path:
        site = FOLDER / "site"
        if site.is_dir():
            return site
        FOLDER.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=FOLDER) as name:
            folder = Path(name)
            platforms = [f"--platform={platform}_aarch64" for platform in PLATFORMS]
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
            command += ["--only-binary=:all:", "--python-version=3.11", "--implementation=cp", *platforms]
            command += ["--no-deps", "-c", str(ROOT / "constraints.txt"), "-d", str(folder), *PACKAGES]
            command += [
                "flatbuffers",
                "protobuf",
                "packaging",
                "typing_extensions",
                "backports.strenum",
                "tqdm",
            ]
            subprocess.run(command, check=True)
            for wheel in sorted(folder.glob("*.whl")):
                zipfile.ZipFile(wheel).extractall(folder / "site")
            (folder / "site").rename(site)
        return site

    def run(self, cpu: str, part: str, features: str, arguments: list[str]) -> tuple[int, dict[str, Any]]:
        """Instructions of one inference, and what the guest printed; raises ToolchainError with its last words."""
        text = f"processor\t: 0\nFeatures\t: {features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
        text += f"CPU variant\t: 0x0\nCPU part\t: {part}\nCPU revision\t: 1\n"
        (self.root / "proc").mkdir(exist_ok=True)
        (self.root / "proc" / "cpuinfo").write_text(text)
        plugin = f"{FOLDER / counting.PLUGIN},out=count.txt,mark={MARK}"
        command = [TARGET.emulator, "-cpu", cpu, "-seed", "1", "-plugin", plugin, "-L", str(self.root)]
        command += [str(self.root / "usr/bin/python3.11"), str(GUEST), *arguments, str(TIMES)]
        environment = {
            "PYTHONHOME": str(self.root / "usr"),
            "PYTHONPATH": str(self.site),
            "PYTHONHASHSEED": "0",
        }
        environment |= {"PATH": os.environ["PATH"]}
        done = subprocess.run(
            command, cwd=FOLDER, env=environment, capture_output=True, text=True, check=False, timeout=600
        )
        if done.returncode:
            words = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ToolchainError(f"{words} (exit status {done.returncode})", field=cpu)
        first, last = (int(line) for line in (FOLDER / "count.txt").read_text().split()[:2])
        return round((last - first) / TIMES), dict(json.loads(done.stdout.splitlines()[-1]))


def peer_rows(guest: Guest, graph: Graph, x: NDArray[np.int8], isa: str) -> Iterator[dict[str, Any]]:
    """Every peer on the CPU of one of our kernels."""
    cpu, part, features = CPUS[isa]
    want = reference.run(graph, x).astype(np.float64)
    q = graph.output.quant
    for name, peer in PEERS.items():
        row: dict[str, Any] = {"name": name, "dtype": peer.dtype, "cpu": cpu}
        with tempfile.TemporaryDirectory(prefix="sedge-") as folder:
            for file, data in peer.files(graph).items():
                (Path(folder) / file).write_bytes(data)
            np.save(Path(folder) / "x.npy", peer.input(graph, x))
            try:
                count, said = guest.run(
                    cpu, part, features, [peer.runtime, f"{folder}/{peer.model}", f"{folder}/x.npy"]
                )
            except (ToolchainError, subprocess.TimeoutExpired) as why:
                yield row | {"reason": str(why)}
                continue
        logits = np.array(said["logits"])
        if "uint8" in name:
            logits -= 128
        steps = (
            logits
            if name.startswith(("onnxruntime int8", "litert int8"))
            else logits / q.scale + q.zero_point
        )
        row |= {"version": said["version"], "instructions": count}
        yield row | {"largest_logit_difference": round(float(np.abs(steps - want).max()), 2)}


def own_rows(graph: Graph) -> dict[str, dict[str, Any]]:
    """Our kernels: instructions, the floor, and how far over it."""
    isas = TARGET.isas
    so = toolchain.compile_shared(generate(graph, isas=isas), TARGET.name)
    rows = {}
    with Machine(TARGET.name) as machine:
        counting.build_plugin(machine.folder)
        for isa, (cpu, *_) in CPUS.items():
            count, floor = counting.per_inference(machine, so, graph, isa, cpu), counting.floor(graph, isa)
            assert floor is not None
            rows[isa] = {"cpu": cpu, "ours": count, "floor": floor, "over_floor": round(count / floor, 3)}
    return rows


def measure(net: str) -> dict[str, Any]:
    """The `aarch64` part of bench.json; its headline is the kernel of HEADLINE with the worst ratio."""
    graph = nets.build(net)
    x = random_inputs(graph, 7, 5)[-1]
    by_isa = own_rows(graph)
    peers: list[dict[str, Any]] = []
    try:
        guest = Guest()
        for isa in CPUS:
            for row in peer_rows(guest, graph, x, isa):
                peers.append(row)
                print(
                    f"  {row['cpu']:12}{row['name']:40}{row.get('instructions', row.get('reason'))}",
                    flush=True,
                )
    except (ToolchainError, subprocess.CalledProcessError) as why:
        peers += [{"name": name, "reason": str(why)} for name in PEERS]
    for row in by_isa.values():
        ran = [
            p for p in peers if p.get("cpu") == row["cpu"] and p["dtype"] == "int8" and "instructions" in p
        ]
        best = min(ran, key=lambda p: p["instructions"], default=None)
        row["best_peer"] = best and best["instructions"]
        row["best_peer_name"] = best and best["name"]
        row["ratio"] = best and round(row["ours"] / best["instructions"], 3)
    worst = max(HEADLINE, key=lambda isa: (by_isa[isa]["ratio"] or 0.0, by_isa[isa]["over_floor"]))
    head = {key: by_isa[worst][key] for key in ("ours", "best_peer", "ratio", "over_floor")}
    instructions = {**head, "isa": worst, "by_isa": by_isa, "peers": peers}
    return {"emulated": True, "net": net, "macs": graph.macs, "instructions": instructions}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", choices=list(nets.NETS), default="M")
    parser.add_argument("--out", type=Path, default=results.BENCH)
    arguments = parser.parse_args()
    print(f"instructions per inference of {arguments.net}, emulated aarch64", flush=True)
    try:
        found = measure(arguments.net)
    except ToolchainError as why:
        found = {"emulated": True, "instructions": None, "reason": str(why)}
        print(f"not counted: {why}")
    else:
        for isa, row in found["instructions"]["by_isa"].items():
            print(f"{isa}: {row}")
    try:
        found["estimated_cycles"] = mca.table()
    except ToolchainError as why:
        found["estimated_cycles"] = {"reason": str(why)}
    results.add("aarch64", found, arguments.out)
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
