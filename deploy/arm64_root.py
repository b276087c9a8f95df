"""An arm64 Debian in a folder, unpacked from its signed packages: no maintainer script run, nothing emulated.

    python deploy/arm64_root.py [build/arm64/root]

Its headers build the aarch64 wheel (wheels.py); its Python runs under qemu-user and on the emulated board (tests/arm).
Needs mmdebstrap; about 20 s and 150 MB. It is made once and kept.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "arm64" / "root"
SUITE = "bookworm"
PACKAGES = (
    "python3",
    "python3-pip",
    "python3-venv",
    "libpython3.11-dev",
    "libstdc++6",
    "busybox-static",
    "dash",
)
#: what programs under qemu-user read as /proc/cpuinfo; the host's x86 text confuses some of them
CPUINFO = "processor\t: 0\nFeatures\t: fp asimd crc32\nCPU implementer\t: 0x41\nCPU architecture: 8\n"


def need(programs: dict[str, str]) -> None:
    """Programs and the Debian packages that bring them: installed where this is root, else said."""
    packages = sorted({package for program, package in programs.items() if not shutil.which(program)})
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    if not packages:
        return
    if os.geteuid() != 0:
        raise SystemExit(f"not installed: {', '.join(packages)}; as root: {' '.join(command)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=environment)
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def mirror() -> str:
    """The Debian mirror that apt uses here."""
    policy = subprocess.run(["apt-cache", "policy", "libc6"], capture_output=True, text=True, check=False)
    addresses = [word for word in policy.stdout.split() if word.startswith(("http://", "https://"))]
    found = [word for word in addresses if "security" not in word]
    return found[0] if found else "http://deb.debian.org/debian"


def unpack(
    folder: Path,
    packages: tuple[str, ...],
    finish: Callable[[Path], None] | None = None,
    *,
    suite: str = SUITE,
    arch: str = "arm64",
) -> Path:
    """Packages of Debian and what they depend on, in a folder; it is complete where it exists."""
    if folder.is_dir():
        return folder
    need({"mmdebstrap": "mmdebstrap"})
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        made = Path(name) / "root"
        command = ["mmdebstrap", "--quiet", f"--arch={arch}", "--variant=extract"]
        command += [f"--include={','.join(packages)}", suite, str(made), mirror()]
        subprocess.run(command, check=True)
        made.chmod(0o755)
        if finish is not None:
            finish(made)
        made.rename(folder)
    return folder


def byte_code(folder: Path) -> None:
    """Compile Python files here, where this Python writes the byte code of Debian 12's."""
    if sys.version_info[:2] == (3, 11):
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        compileall.compile_dir(folder, quiet=2, invalidation_mode=mode)


def _finish(root: Path) -> None:
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc" / "cpuinfo").write_text(CPUINFO)
    byte_code(root / "usr" / "lib" / "python3.11")


def make(folder: Path = FOLDER) -> Path:
    """The root of PACKAGES."""
    return unpack(folder, PACKAGES, _finish)


if __name__ == "__main__":
    print(make(*map(Path, sys.argv[1:])))
