"""The service: what systemd is told, and a unit file that leaves it no rights to spare."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from libsedge.health import Notifier
from watched import System, get, samples, until

UNIT = Path(__file__).parents[2] / "deploy" / "libsedge.service"


def test_notifier(tmp_path: Path) -> None:
    assert not Notifier({}).send("READY=1")
    assert not Notifier({"NOTIFY_SOCKET": str(tmp_path / "none")}).send("READY=1")
    assert not Notifier({"NOTIFY_SOCKET": "relative"}).send("READY=1")
    assert Notifier({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}).watchdog_s is None
    assert Notifier({"WATCHDOG_USEC": "20000000"}).watchdog_s == 20.0
    assert Notifier({"WATCHDOG_USEC": "soon"}).watchdog_s is None
    abstract = System(f"@libsedge-test-{tmp_path.name}-{id(tmp_path)}", 1.0)
    assert Notifier(abstract.environment).send("READY=1")
    assert abstract.messages() == ["READY=1"]
    abstract.sock.close()


def test_run_command_tells_systemd_and_serves(tiny_model: Any, tmp_path: Path, system: System) -> None:
    environment = dict(os.environ, LIBSEDGE_HOME=str(tiny_model.home), **system.environment)
    arguments = ["run", tiny_model.path, "--source", "tcp:0", "--journal", tmp_path / "run.db"]
    arguments += ["--health", "127.0.0.1:0", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-c", "from libsedge.cli import main; main()", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("health on 127.0.0.1:"), line
        address = line.split()[-1]
        told: list[str] = []
        until(lambda: told.extend(system.messages()) or "WATCHDOG=1" in told, 20)
        assert told[0] == "READY=1"
        assert get(address, "/v2/health/ready")[0] == 200
        page = samples(get(address, "/metrics")[1])
        assert any(tiny_model.open().digest in name for name in page)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    assert json.loads(out)["ledger"]["unaccounted"] == 0
    assert system.messages()[-1] == "STOPPING=1"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is needed")
def test_unit_file_is_hardened(tmp_path: Path) -> None:
    def exposure(unit: Path) -> float:
        done = subprocess.run(
            ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(unit)],
            capture_output=True,
            text=True,
            check=False,
        )
        score = re.search(r"Overall exposure level for \S+: (\d+\.\d)", done.stdout)
        if score is None:
            pytest.skip(f"this systemd-analyze cannot check offline: {done.stderr.strip()}")
        assert "Unknown" not in done.stderr, done.stderr
        return float(score[1])

    assert exposure(UNIT) <= 2.0
    softer = tmp_path / "softer.service"  # negative control
    kept = [
        line for line in UNIT.read_text().splitlines() if not re.match("Protect|Capability|SystemCall", line)
    ]
    softer.write_text("\n".join(kept))
    assert exposure(softer) > 2.0


def test_a_model_loads_where_memory_cannot_become_executable(tiny_model: Any) -> None:
    """What MemoryDenyWriteExecute=yes of the unit file forbids, forbidden here by the kernel's own switch."""
    code = f"""
import ctypes, mmap, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(65, 1, 0, 0, 0) != 0:  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN
    sys.exit(77)
try:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    sys.exit("the kernel allows it all the same")
except PermissionError:
    pass
from libsedge.bundle import Bundle
from libsedge.classifier import Classifier
Classifier(Bundle.open({str(tiny_model.path)!r}, {str(tiny_model.home / "trusted.keys")!r})).bind()
print("decides")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("this kernel has no PR_SET_MDWE (Linux 6.3)")
    assert (done.returncode, done.stdout) == (0, "decides\n"), done.stderr
