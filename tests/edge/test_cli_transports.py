"""The two terminals of docs/operations.md, as two processes: `libsedge run` and `libsedge stream-test` on every
transport; what was decided is what `classify` says about the file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from libsedge.cli import main
from libsedge.journal import Journal
from libsedge.store import write_store

AXIS = np.linspace(235.0, 860.0, 900)
#: source, target; {} is the address that the run prints, or the folder of the test
WAYS = {
    "tcp": ("tcp:0", "tcp:{address}"),
    "udp": ("udp:0", "udp:{address}"),
    "ccsds-udp": ("ccsds:udp:0", "ccsds:udp:{address}"),
    "ccsds-tcp": ("ccsds:tcp:0,apid=77", "ccsds:tcp:{address},apid=77,bytes=400"),
    "zmq-pull": ("zmq:pull:ipc://{folder}/s", "zmq:push:ipc://{folder}/s"),
    "zmq-sub": ("zmq:sub:ipc://{folder}/s", "zmq:pub:ipc://{folder}/s"),
    "folder": ("folder:{folder}/in", "folder:{folder}/in"),
    "serial": ("serial:{folder}/line", "serial:pty:{folder}/line"),
}


def process(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from libsedge.cli import main; main()", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )


def line_with(running: subprocess.Popen[str], start: str) -> str:
    assert running.stderr is not None
    for line in running.stderr:
        if line.startswith(start):
            return line.removeprefix(start).strip()
    raise AssertionError(running.communicate())


@pytest.fixture
def spectra(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    counts = rng.normal(500.0, 10.0, (60, AXIS.size))
    for row in counts:
        for centre, height in zip(rng.uniform(250, 840, 40), rng.uniform(500, 20000, 40), strict=True):
            row += height * np.exp(-(((AXIS - centre) / 0.8) ** 2))
    path = tmp_path / "set.h5"
    write_store(path, counts=counts.astype(np.uint16), wavelength=AXIS, specimen=["one"] * 60)
    return path


def test_two_terminals(
    tiny_model: Any, spectra: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIBSEDGE_HOME", str(tiny_model.home))
    shots = CliRunner().invoke(main, ["classify", str(tiny_model.path), str(spectra), "--json"])
    wanted = json.loads(shots.stdout)["files"][0]["shots"]
    with ThreadPoolExecutor(4) as pool:  # the processes, not these threads, do the work
        checks = {
            way: pool.submit(two_terminals, way, tiny_model.path, spectra, tmp_path / way, wanted)
            for way in WAYS
        }
    for way, check in checks.items():
        error = check.exception()
        assert error is None, f"{way}: {error!r}"


def two_terminals(way: str, model: Path, spectra: Path, folder: Path, wanted: list[dict[str, Any]]) -> None:
    """One transport; AssertionError where a count or a decision differs."""
    (folder / "in").mkdir(parents=True)
    source, target = (text.replace("{folder}", str(folder)) for text in WAYS[way])
    serve = ("run", model, "--axis", spectra, "--journal", folder / "run.db", "--json")
    send = ("stream-test", spectra, "--json", "--wait", 2, "--rate", 200, "--damage", 0.2, "--seed", 3)
    running = []
    try:
        if way == "serial":  # the line has to be there first
            sender = process(*send, "--wait", 20, "--to", target)
            running.append(sender)
            line_with(sender, "waiting for a reader")
            server = process(*serve, "--source", source, "--idle-exit", 3)
            running.append(server)
        else:
            server = process(*serve, "--source", source)
            running.append(server)
            address = line_with(server, "listening on ")
            sender = process(*send, "--to", target.replace("{address}", address))
            running.append(sender)
        # the sender leaves when it is done; over ZeroMQ and a line it stays a while, so that nothing is cut off
        sent = json.loads(sender.communicate(timeout=60)[0])["sent"]
        if way != "serial":
            time.sleep(1.0)
            server.send_signal(signal.SIGTERM)
        report = json.loads(server.communicate(timeout=60)[0])
    finally:
        for one in running:
            one.kill()
            one.communicate()
    ledger = report["ledger"]
    assert 10 < sent["intact"] < 60
    assert ledger["journaled"] == sent["intact"]
    assert ledger["duplicate"] == sent["repeat"]
    assert ledger["streams"][0]["gaps"] == sent["gaps"]
    assert ledger["unaccounted"] == 0
    if way not in ("tcp", "folder"):  # streams of bytes may hold damage that is no frame at all
        assert sum(ledger["rejected"].values()) == sent["refused"]
    journal = Journal(folder / "run.db")
    for row in journal:
        assert (row.label, row.reason) == tuple(
            wanted[row.key.sequence][name] for name in ("label", "reason")
        )
    journal.close()
