"""An arm64 Debian with the aarch64 wheel, its programs run under qemu-user; and the wheels that pip puts there."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import wheels

ROOT = Path(__file__).resolve().parents[3]
REQUIREMENTS = ("numpy", "cryptography", "click", "h5py")
PLATFORMS = [f"manylinux_2_{minor}_aarch64" for minor in (34, 28, 27, 17)] + ["manylinux2014_aarch64"]


@dataclass(frozen=True)
class Guest:
    """An arm64 Debian with the wheel: `root`, and `site`, where pip put it; programs run under qemu-user."""

    root: Path
    site: Path
    version: str = "3.11"

    @property
    def interpreter(self) -> Path:
        return self.root / f"usr/bin/python{self.version}"

    def python(
        self, *arguments: object, cpu: str = "cortex-a53", **environment: str
    ) -> subprocess.CompletedProcess:
        """The root's Python on an emulated CPU; nothing of this process's environment reaches it."""
        command = ["qemu-aarch64", "-cpu", cpu, "-L", self.root, self.interpreter, *arguments]
        return subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONHOME": str(self.root / "usr"),
                "PYTHONPATH": str(self.site),
                "PYTHONDONTWRITEBYTECODE": "1",
                "OPENBLAS_NUM_THREADS": "1",
                **environment,
            },
        )

    def libsedge(
        self, *arguments: object, home: Path, cpu: str = "cortex-a53"
    ) -> subprocess.CompletedProcess:
        """The command that pip installed."""
        return self.python(self.site / "bin" / "libsedge", *arguments, cpu=cpu, LIBSEDGE_HOME=str(home))


def wheel(cache: Path, python: str = "3.11") -> Path:
    """The aarch64 wheel for a Python of exactly these sources: built where it is not in `cache` from the last time."""
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory(prefix="sedge-") as name:
        sources = wheels.copy_sources(Path(name))
        for file in sorted(path for path in sources.rglob("*") if path.is_file()):
            at = file.relative_to(sources)
            if at.parts[0] in ("edge", "native", "training", "deploy") or len(at.parts) == 1:
                digest.update(f"{at}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    folder = cache / f"wheel-{python}-{digest.hexdigest()[:16]}"
    if not folder.is_dir():
        command = [sys.executable, wheels.__file__, "--arch", "aarch64", "--python", python, "--out", folder]
        subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("libsedge-*.whl")
    return built


def dependencies(cache: Path, python: str = "3.11") -> Path:
    """A folder of aarch64 wheels of REQUIREMENTS, downloaded by this machine's pip once."""
    folder = cache / f"wheels-{python}"
    if not folder.is_dir():
        command = [sys.executable, "-m", "pip", "download", "-q", "-d", str(folder), "--only-binary=:all:"]
        command += ["-c", str(ROOT / "constraints.txt"), "--python-version", python, "--implementation", "cp"]
        for name in PLATFORMS:
            command += ["--platform", name]
        subprocess.run([*command, *REQUIREMENTS], check=True)
    return folder


def installed(root: Path, site: Path, python: str) -> Guest:
    """The arm64 Debian's own pip installs the wheel, from wheels that this machine's pip downloaded for it."""
    made, cache = Guest(root, site, python), ROOT / "build" / "arm64"
    pip = ["-m", "pip", "install", "-q", "--no-index", "--no-compile", "--target", made.site]
    links = ["--find-links", dependencies(cache, python)]
    done = made.python(*pip, *links, wheel(cache, python), *REQUIREMENTS, PYTHONPATH="")
    assert done.returncode == 0, done.stderr
    return made
