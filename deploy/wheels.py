"""Wheels for Linux boards and hosts, built on one x86-64 machine: `make wheels`.

    python deploy/wheels.py [--out dist] [--arch x86_64] [--arch aarch64]

Compiled by zig (PyPI's ziglang), which brings the symbol versions of glibc 2.28, so that the wheels install on every
Linux since 2018, as those of numpy do; auditwheel proves it and refuses a wheel that needs more. Built from a copy
of the tracked and new files, so that nothing left in build/ gets in. The same sources, tools and commit give the
same bytes.
The aarch64 wheel takes the Python headers of arm64 Debian (arm64_root.py), so it is for that Python: 3.11.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import arm64_root
from libsedge_native.zig import GLIBC, zig

ROOT = Path(__file__).resolve().parents[1]
ARCHES = ("x86_64", "aarch64")
TAG = f"cp{sys.version_info.major}{sys.version_info.minor}"
ABI = f"cpython-{sys.version_info.major}{sys.version_info.minor}"


def copy_sources(folder: Path) -> Path:
    """Every file that git tracks or does not ignore, as it is in the working tree."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
    )
    for name in sorted(set(listed.stdout.decode().split("\0")) - {""}):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    return folder


def toolchain(folder: Path, arch: str) -> Path:
    """A CMake toolchain file for zig, beside the wrappers that it names."""
    folder.mkdir()
    for name in ("cc", "c++", "ar", "ranlib"):
        command = zig(f"{arch}-linux", name)
        if name in ("ar", "ranlib"):  # they know no targets
            command = command[: command.index("-target")]
        program = folder / f"zig-{name}"
        program.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        program.chmod(0o755)
    lines = [
        *("set(CMAKE_SYSTEM_NAME Linux)", f"set(CMAKE_SYSTEM_PROCESSOR {arch})"),
        *(f"set(CMAKE_C_COMPILER {folder}/zig-cc)", f"set(CMAKE_CXX_COMPILER {folder}/zig-c++)"),
        *(f"set(CMAKE_AR {folder}/zig-ar)", f"set(CMAKE_RANLIB {folder}/zig-ranlib)"),
        # No strip: the linker leaves the symbols out. No link in the checks: a program of another machine cannot run.
        *("set(CMAKE_STRIP true)", "set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)"),
        *('set(CMAKE_MODULE_LINKER_FLAGS_INIT "-s")', "set(CMAKE_INTERPROCEDURAL_OPTIMIZATION OFF)"),
    ]
    file = folder / "toolchain.cmake"
    file.write_text("\n".join(lines) + "\n")
    return file


def arm64_headers(folder: Path) -> Path:
    """arm64 Debian's Python headers alone: beside its other headers they would hide those of zig."""
    if sys.version_info[:2] != (3, 11):
        raise SystemExit("the aarch64 wheel has Debian 12's Python headers: build it with Python 3.11")
    source = arm64_root.make() / "usr" / "include"
    shutil.copytree(source / "python3.11", folder / "python3.11")
    shutil.copytree(source / "aarch64-linux-gnu", folder / "aarch64-linux-gnu", ignore=_all_but_python)
    return folder


def _all_but_python(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if folder.endswith("aarch64-linux-gnu") and name != "python3.11"]


def build(arch: str, work: Path, out: Path) -> Path:
    """One wheel in `out`, its tag proven by auditwheel."""
    source = copy_sources(work / "source")
    flags = f"-g0 -ffile-prefix-map={work}=."
    cmake = [f"-DCMAKE_TOOLCHAIN_FILE={toolchain(work / 'zig', arch)}"]
    if arch != "x86_64":
        headers = arm64_headers(work / "include")
        flags += f" -I{headers}"
        cmake.append(f"-DPython_INCLUDE_DIR={headers / 'python3.11'}")
    stamp = subprocess.run(
        ["git", "-C", ROOT, "log", "-1", "--format=%ct"], capture_output=True, text=True, check=True
    )
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "SOURCE_DATE_EPOCH": stamp.stdout.strip(),
        "CMAKE_ARGS": " ".join([*cmake, f'-DCMAKE_CXX_FLAGS="{flags}"']),
        "_PYTHON_HOST_PLATFORM": f"linux-{arch}",
        "SETUPTOOLS_EXT_SUFFIX": f".{ABI}-{arch}-linux-gnu.so",
    }
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
    ]
    subprocess.run([*pip, "-w", work, source], check=True, env=environment)
    (raw,) = work.glob("libsedge-*.whl")
    audit = [sys.executable, "-m", "auditwheel", "repair", "--plat", "auto", "-w"]
    subprocess.run([*audit, work / "repaired", raw], check=True, env=environment, stdout=subprocess.DEVNULL)
    (repaired,) = (work / "repaired").glob("libsedge-*.whl")
    glibc = [int(minor) for minor in re.findall(rf"manylinux_2_(\d+)_{arch}", repaired.name)]
    if not glibc or max(glibc) > int(GLIBC.partition(".")[2]):
        raise SystemExit(f"{repaired.name}: auditwheel found it to need more than glibc {GLIBC}")
    out.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(repaired, out / repaired.name))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--arch", action="append", choices=ARCHES, help="default: all")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sedge-wheels-") as name:
        for arch in arguments.arch or ARCHES:
            wheel = build(arch, Path(name) / arch, arguments.out)
            digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
            print(f"{wheel}  {wheel.stat().st_size:,} bytes  sha256 {digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
