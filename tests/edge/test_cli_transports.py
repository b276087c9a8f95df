"""The two terminals of docs/operations.md, as two processes: the table's commands themselves, only on free ports; what
was decided is what `classify` says about the file."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from libsedge.cli import main
from libsedge.journal import Journal
from libsedge.store import write_store

AXIS = np.linspace(235.0, 860.0, 900)
DOCS = Path(__file__).parents[2] / "docs" / "operations.md"


@dataclass(frozen=True)
class Way:
    """One row of the table: what the first and the second terminal run, in a folder of their own."""

    name: str
    run: list[str]
    send: list[str]
    sender_first: bool
    #: a folder that the row says to make before
    make: str | None


def documented_ways() -> list[Way]:
    """The rows that need no hardware, on free ports and lines."""
    lines = DOCS.read_text(encoding="utf-8").splitlines()
    header = next(line for line in lines if line.startswith("| transport | first terminal"))
    run, send = (text.removesuffix(" …").split() for text in re.findall(r"`libsedge ([^`]+)`", header))
    ways = []
    for line in lines[lines.index(header) + 2 :]:
        if not line.startswith("|"):
            break
        name, first, second = (cell.strip() for cell in line.strip("|").split("|"))
        specs = [re.search(r"`([^`]+)`", cell) for cell in (first, second)]
        if specs[1] is None or "/dev/" in first:
            continue
        source, target = (shlex.split(_free(str(spec and spec[1]))) for spec in specs)
        make = re.search(r"`mkdir (\w+)`", first)
        ways.append(
            Way(name, [*run, *source], [*send, *target], "start it first" in second, make and make[1])
        )
        _PORTS.clear()
    return ways


_PORTS: dict[str, str] = {}


def _free(spec: str) -> str:
    """The same with a port that is free here for each of the documented ones, and a line in the folder."""

    def port(found: re.Match[str]) -> str:
        if found[0] not in _PORTS:
            with socket.socket() as sock:
                sock.bind(("127.0.0.1", 0))
                _PORTS[found[0]] = str(sock.getsockname()[1])
        return _PORTS[found[0]]

    return re.sub(r"\b56\d\d\b", port, spec).replace("/tmp/line", "line")


def process(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from libsedge.cli import main; main()", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
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
    ways = documented_ways()
    assert len(ways) == 8  # TCP, UDP, CCSDS over both, ZeroMQ both ways, a serial line, a folder
    with ThreadPoolExecutor(4) as pool:  # the processes, not these threads, do the work
        checks = {
            way.name: pool.submit(two_terminals, way, tiny_model.path, spectra, tmp_path / way.name, wanted)
            for way in ways
        }
    for name, check in checks.items():
        error = check.exception()
        assert error is None, f"{name}: {error!r}"


def two_terminals(way: Way, model: Path, spectra: Path, folder: Path, wanted: list[dict[str, Any]]) -> None:
    """One transport; AssertionError where a count or a decision differs."""
    (folder / (way.make or "")).mkdir(parents=True)
    shutil.copy(model, folder / "model.sedge")
    shutil.copy(spectra, folder / "test.h5")
    serve = (*way.run, "--json")
    send = (*way.send, "--json", "--rate", 200, "--damage", 0.2, "--seed", 3)
    running = []
    try:
        if way.sender_first:  # the line has to be there first
            sender = process(folder, *send)
            running.append(sender)
            line_with(sender, "waiting for a reader")
            server = process(folder, *serve, "--idle-exit", 3)
            running.append(server)
        else:
            server = process(folder, *serve)
            running.append(server)
            line_with(server, "listening on ")
            sender = process(folder, *send)
            running.append(sender)
        # the sender leaves when it is done; over ZeroMQ and a line it stays a while, so that nothing is cut off
        sent = json.loads(sender.communicate(timeout=60)[0])["sent"]
        if not way.sender_first:
            time.sleep(1.0)
            server.send_signal(signal.SIGINT)
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
    if way.name not in ("TCP", "watched folder"):  # streams of bytes may hold damage that is no frame at all
        assert sum(ledger["rejected"].values()) == sent["refused"]
    journal = Journal(folder / "run.db")
    for row in journal:
        assert (row.label, row.reason) == tuple(
            wanted[row.key.sequence][name] for name in ("label", "reason")
        )
    journal.close()
