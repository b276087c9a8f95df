"""A whole emulated board: Debian's arm64 kernel on QEMU's `virt` machine, with a disk made of the arm64 root.

Its memory is the board's own (an emulated process's is not: qemu-user's is in it). Its times mean nothing.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import arm64_root

KERNEL = arm64_root.FOLDER.with_name("kernel")
MODULES = ("virtio", "virtio_ring", "virtio_mmio", "virtio_blk")
PROGRAMS = {"qemu-system-aarch64": "qemu-system-arm", "cpio": "cpio", "mke2fs": "e2fsprogs"}
#: of the root, what no board needs
LEFT_OUT = ("usr/include", "usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache", "proc", "dev")


def _initrd(folder: Path, kernel: Path, busybox: Path) -> Path:
    """busybox, four kernel modules and `init`."""
    tree = folder / "initrd"
    for name in ("bin", "proc", "sys", "dev", "mnt", "modules"):
        (tree / name).mkdir(parents=True)
    shutil.copy(busybox, tree / "bin" / "busybox")
    for name in MODULES:
        (found,) = kernel.glob(f"lib/modules/*/kernel/drivers/*/{name}.ko")
        shutil.copy(found, tree / "modules")
    shutil.copy(Path(__file__).with_name("init"), tree / "init")
    (tree / "init").chmod(0o755)
    out = folder / "initrd.cpio"
    with open(out, "wb") as stream:
        subprocess.run("find . | cpio -o -H newc --quiet", cwd=tree, shell=True, check=True, stdout=stream)
    return out


def _disk(folder: Path, root: Path, files: Path, disk_mb: int = 600) -> Path:
    """An ext4 image of the root with `files` as /root."""
    tree = folder / "disk"
    shutil.copytree(root, tree, symlinks=True, copy_function=_link, ignore=_left_out(root))
    shutil.rmtree(tree / "root", ignore_errors=True)
    shutil.copytree(files, tree / "root", symlinks=True)
    for name in ("proc", "sys", "dev", "tmp"):
        (tree / name).mkdir(exist_ok=True)
    out = folder / "disk.ext4"
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, out, f"{disk_mb}M"], check=True)
    return out


def _link(source: str, target: str) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)


def _left_out(root: Path) -> Callable[[str, list[str]], list[str]]:
    def ignore(folder: str, names: list[str]) -> list[str]:
        inside = Path(folder).relative_to(root)
        return [name for name in names if (inside / name).as_posix() in LEFT_OUT]

    return ignore


def run(
    root: Path, files: Path, *, cpu: str = "cortex-a53", memory_mb: int = 128, timeout_s: int = 500
) -> str:
    """What the board says while it runs /root/job.sh, which is `files/job.sh`."""
    arm64_root.need(PROGRAMS)
    kernel = arm64_root.unpack(KERNEL, ("linux-image-cloud-arm64",))
    (image,) = kernel.glob("boot/vmlinuz-*")
    with tempfile.TemporaryDirectory(prefix="sedge-board-", dir=root.parent) as name:
        folder = Path(name)
        command = [
            *("qemu-system-aarch64", "-M", "virt", "-cpu", cpu, "-smp", "1", "-m", f"{memory_mb}M"),
            *("-net", "none", "-nographic", "-no-reboot", "-kernel", image),
            *("-initrd", _initrd(folder, kernel, root / "bin" / "busybox")),
            *("-append", "console=ttyAMA0 quiet panic=-1 cma=0"),
            *("-drive", f"file={_disk(folder, root, files)},format=raw,if=none,id=disk,cache=unsafe"),
            *("-device", "virtio-blk-device,drive=disk"),
        ]
        said = folder / "said"  # on the disk: what a board that hangs has said so far can be read
        with open(said, "wb") as stream:
            subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, timeout=timeout_s, check=False)
        return said.read_text(errors="replace").replace("\r", "")
