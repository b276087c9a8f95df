"""The live page's picture in the README: a run of the demo's model over the demo's spectra, in headless Chromium.

python tests/edge/dashboard_picture.py build/demo docs/images/dashboard.png
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from browser import Browser

FRAMES, RATE_HZ = 160, 8


def main(demo: Path, out: Path) -> None:
    environment = {**os.environ, "LIBSEDGE_HOME": str(demo / "home")}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        command = [
            sys.executable,
            "-c",
            "from libsedge.cli import main; main()",
            "run",
            str(demo / "model.sedge"),
        ]
        command += ["--source", f"replay:{demo / 'test.h5'}", "--rate", str(RATE_HZ), "--count", str(FRAMES)]
        command += ["--journal", str(folder / "run.db"), "--deadline", "20", "--dashboard", "127.0.0.1:0"]
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as run:
            assert run.stderr is not None
            line = next(line for line in run.stderr if line.startswith("dashboard on "))
            with Browser(folder) as browser:
                browser.prefer(prefers_color_scheme="light")
                browser.open(line.split()[-1])
                browser.wait("Number(document.getElementById('received')?.textContent) >= 100")
                time.sleep(1.0)
                out.parent.mkdir(parents=True, exist_ok=True)
                browser.screenshot(out)
                assert browser.problems == []
            run.terminate()
            run.stderr.read()
    print(f"{out}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
