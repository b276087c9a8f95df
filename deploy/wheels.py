"""Wheels for Linux boards and hosts, built on one x86-64 machine: `make wheels`.

    python deploy/wheels.py [--out dist] [--arch x86_64] [--arch aarch64] [--python 3.11] [--python 3.13]

Compiled by zig (PyPI's ziglang), which brings the symbol versions of glibc 2.28, so that the wheels install on every
Linux since 2018, as those of numpy do; auditwheel proves it and refuses a wheel that needs more. Built from a copy
of the tracked and new files, so that nothing left in build/ gets in. The same sources, tools and commit give the
same bytes.

The Python that builds is 3.11. Headers of another one, and of another machine, are those of the Debian release that
has it, unpacked in build/debian; no Debian release has 3.12.
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
import sysconfig
import tempfile
from pathlib import Path

import arm64_root
from libsedge_native.zig import GLIBC, zig

ROOT = Path(__file__).resolve().parents[1]
ARCHES = ("x86_64", "aarch64")
#: Python -> the Debian release whose headers the wheel is built with
PYTHONS = {"3.11": "bookworm", "3.13": "trixie"}
DEBIAN = {"x86_64": "amd64", "aarch64": "arm64"}
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


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


def debian(arch: str, python: str) -> Path:
    """A Python of a Debian release, with its headers, in a folder."""
    if (DEBIAN[arch], PYTHONS[python]) == ("arm64", arm64_root.SUITE):
        return arm64_root.make()
    folder = ROOT / "build" / "debian" / f"python{python}-{arch}"
    packages = (f"python{python}", f"libpython{python}-dev", "python3-pip", "libstdc++6", "base-files")
    return arm64_root.unpack(folder, packages, suite=PYTHONS[python], arch=DEBIAN[arch])


def headers(folder: Path, arch: str, python: str) -> Path:
    """Debian's Python headers alone: beside its other headers they would hide those of zig."""
    source, name = debian(arch, python) / "usr" / "include", f"python{python}"
    shutil.copytree(source / name, folder / name)
    shutil.copytree(source / f"{arch}-linux-gnu" / name, folder / f"{arch}-linux-gnu" / name)
    return folder


def interpreter(folder: Path, python: str) -> Path:
    """A program that runs x86-64 Debian's Python with the packages of this one: CMake asks for one of that version."""
    root, program = debian("x86_64", python), folder / f"python{python}"
    libraries = root / "usr" / "lib" / "x86_64-linux-gnu"
    loader = [
        libraries / "ld-linux-x86-64.so.2",
        "--library-path",
        libraries,
        root / f"usr/bin/python{python}",
    ]
    environment = f"PYTHONHOME={root}/usr PYTHONPATH={sysconfig.get_path('purelib')}"
    program.write_text(f'#!/bin/sh\n{environment} exec {shlex.join(map(str, loader))} "$@"\n')
    program.chmod(0o755)
    return program


def build(arch: str, python: str, work: Path, out: Path) -> Path:
    """One wheel in `out`, its tag proven by auditwheel."""
    source = copy_sources(work / "source")
    digits = python.replace(".", "")
    flags = f"-g0 -ffile-prefix-map={work}=."
    cmake = [f"-DCMAKE_TOOLCHAIN_FILE={toolchain(work / 'zig', arch)}"]
    if (arch, python) != ("x86_64", HERE):
        folder = headers(work / "include", arch, python)
        flags += f" -I{folder}"
        cmake.append(f"-DPython_INCLUDE_DIR={folder / f'python{python}'}")
    if python != HERE:
        cmake.append(f"-DPython_EXECUTABLE={interpreter(work, python)}")
    stamp = subprocess.run(
        ["git", "-C", ROOT, "log", "-1", "--format=%ct"], capture_output=True, text=True, check=True
    )
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "SOURCE_DATE_EPOCH": stamp.stdout.strip(),
        "CMAKE_ARGS": " ".join([*cmake, f'-DCMAKE_CXX_FLAGS="{flags}"']),
        "_PYTHON_HOST_PLATFORM": f"linux-{arch}",
        "SETUPTOOLS_EXT_SUFFIX": f".cpython-{digits}-{arch}-linux-gnu.so",
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
    tags = ["--remove", "--python-tag", f"cp{digits}", "--abi-tag", f"cp{digits}"]
    subprocess.run([sys.executable, "-m", "wheel", "tags", *tags, raw], check=True, stdout=subprocess.DEVNULL)
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
    parser.add_argument("--python", action="append", choices=list(PYTHONS), help="default: all")
    arguments = parser.parse_args()
    if HERE not in PYTHONS:
        raise SystemExit(f"build the wheels with one of Python {', '.join(PYTHONS)}, not {HERE}")
    with tempfile.TemporaryDirectory(prefix="sedge-wheels-") as name:
        for arch in arguments.arch or ARCHES:
            for python in arguments.python or PYTHONS:
                wheel = build(arch, python, Path(name) / arch / python, arguments.out)
                digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
                print(f"{wheel}  {wheel.stat().st_size:,} bytes  sha256 {digest}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
