"""docs/raspberry_pi.md, tried: its blocks for the board run on an emulated one, as they stand and in order.

    python tests/arm/board/walkthrough.py          # make board

Exits with 1, and what the board said, where a command fails.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE, ROOT = Path(__file__).resolve().parent, Path(__file__).resolve().parents[3]
sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT / "deploy")]

import arm64_root  # noqa: E402
import board_model  # noqa: E402
import guest  # noqa: E402
import machine  # noqa: E402

DOCUMENT = ROOT / "docs" / "raspberry_pi.md"
UNIT = ROOT / "deploy" / "libsedge.service"
PROLOGUE = """export PATH=/usr/local/bin:/bin:/usr/bin:/sbin HOME=/root
/bin/busybox mkdir -p /usr/local/bin && /bin/busybox --install -s /usr/local/bin
cd /root
set -e
"""


def board_blocks(text: str) -> list[str]:
    """The shell blocks whose first line is `# board`."""
    return re.findall(r"^```sh\n# board\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def job(text: str) -> str:
    """One script of all blocks, each command printed before it runs."""
    blocks = board_blocks(text)
    return PROLOGUE + "".join(
        f'echo "--- block {i}"\nset -x\n{block}set +x\n' for i, block in enumerate(blocks, 1)
    )


def check_unit(folder: Path) -> None:
    """`systemd-analyze` on the unit that the document installs; a unit of mistakes has to fail both."""
    if not shutil.which("systemd-analyze"):
        print("not checked: systemd-analyze is not here")
        return
    root = folder / "root"
    shutil.copytree("/usr/lib/systemd/system", root / "usr/lib/systemd/system", symlinks=True)
    for program in ("opt/libsedge/bin/libsedge", "bin/kill"):
        (root / program).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("/bin/true", root / program)
    unit = root / "etc/systemd/system/libsedge.service"
    unit.parent.mkdir(parents=True)
    text = UNIT.read_text().replace("MODEL", "board")
    for wrong in (False, True):
        unit.write_text(text.replace("ExecStart=/opt", "ExecStart=/nowhere") if wrong else text)
        command = ["systemd-analyze", "verify", f"--root={root}", "--man=no", "libsedge.service"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if (done.returncode != 0) is not wrong:
            raise SystemExit(f"systemd-analyze verify ended with {done.returncode}: {done.stderr}")
    print("systemd-analyze verify: the unit holds; with a program that does not exist it is refused")
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=20", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"systemd-analyze security: exposure above 2.0\n{done.stdout}")
    print(done.stdout.strip().splitlines()[-1])


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="sedge-walk-") as name:
        folder = Path(name)
        check_unit(folder)
        files = folder / "files"
        board_model.main(files, ["aarch64-linux"])
        root = arm64_root.make()
        shutil.copytree(guest.dependencies(root.parent), files / "wheels")
        shutil.copy(guest.wheel(root.parent), files / "wheels")
        shutil.copy(UNIT, files)
        (files / "job.sh").write_text(job(DOCUMENT.read_text()))
        said = machine.run(root, files, memory_mb=512, timeout_s=1800)
    print(said)
    wanted = (
        "BOARD job 0 ",
        "goldens bit for bit with neon, scalar",
        'libsedge_frames_total{end="journaled"} 8',
        "16 rows, 0 damaged",  # eight, then eight more around a kill -9
    )
    missing = [text for text in wanted if text not in said]
    if missing:
        print(f"FAILED: the board did not say {missing}")
        return 1
    print(f"{len(board_blocks(DOCUMENT.read_text()))} blocks of {DOCUMENT.name} ran on the emulated board")
    return 0


if __name__ == "__main__":
    sys.exit(main())
