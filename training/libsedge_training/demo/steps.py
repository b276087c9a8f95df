"""The steps of the demo. Each runs a `libsedge` command, shown as typed, and reads back what the command wrote."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from libsedge.errors import SedgeError

from ..spectra import SpectraSet

#: what the demo compares; the second is our reconstruction of the paper's weighting, not its formula
WEIGHTINGS = {"equal": "equal", "weighted": "cc-bcd:w3:r1:a=8:b=8", "virtual": "virtual:n=16"}
#: net and recipe of the study (docs/weighting.md)
RECIPE = ("--net", "medium", "--lr", "0.002", "--weight-decay", "0.01")


class Shell:
    """Runs `libsedge` commands in the demo's folder and prints each one as a person would type it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = str(Path(sys.executable).with_name("libsedge"))
        self.environment = {**os.environ, "LIBSEDGE_HOME": str(folder / "home")}

    def start(
        self, *arguments: str, output: Path | None = None, log: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a command; `output` and `log` take its standard output and error, the demo's own where None."""
        print(f"\n$ libsedge {' '.join(arguments)}", flush=True)
        with ExitStack() as files:
            sinks = [None if path is None else files.enter_context(path.open("wb")) for path in (output, log)]
            return subprocess.Popen(
                [self.program, *arguments],
                cwd=self.folder,
                env=self.environment,
                stdout=sinks[0],
                stderr=sinks[1],
            )

    def run(self, *arguments: str) -> None:
        """Run a command to its end; SedgeError when it fails."""
        if code := self.start(*arguments).wait():
            raise SedgeError(f"ended with exit code {code}", field="libsedge " + " ".join(arguments))


def fresh_folder(out: Path) -> Path:
    """An empty folder for the demo; refuses to clear one that holds something else."""
    marker = out / ".libsedge-demo"
    if out.exists() and any(out.iterdir()) and not marker.exists():
        raise SedgeError("holds something other than an earlier demo; name another folder", file=out)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    marker.touch()
    return out.resolve()


def simulate(shell: Shell, preset: str, seed: int) -> None:
    shell.run("simulate", "-o", "set.h5", "--preset", preset, "--seed", str(seed))


def train(shell: Shell, epochs: int, test_specimens: int, seed: int) -> dict[str, dict[str, Any]]:
    """Train and evaluate every weighting on the same split; the test figures of each."""
    results = {}
    for run, weighting in WEIGHTINGS.items():
        shell.run(
            *("train", "set.h5", "-o", run, *RECIPE, "--weighting", weighting),
            *(
                "--epochs",
                str(epochs),
                "--patience",
                str(epochs),
                "--test-specimens",
                str(test_specimens),
                "--seed",
                str(seed),
            ),
        )
        shell.run("evaluate", run)
        results[run] = read_json(shell.folder / run / "evaluation.json")
    return results


def export(shell: Shell, run: str) -> dict[str, Any]:
    """Quantise, generate, verify, sign; evaluate the int8 kernel on the same test spectra."""
    shell.run("keygen")
    shell.run("export", run, "-o", "model.sedge", "--name", "demo")
    shell.run("verify", "model.sedge")
    shell.run("inspect", "model.sedge")
    shell.run("evaluate", run, "--model", "model.sedge")
    return read_json(shell.folder / run / "evaluation-int8.json")


def better_on_validation(shell: Shell) -> str:
    """The run with the higher balanced accuracy on its validation specimens. The test spectra have no say."""
    best = {run: read_json(shell.folder / run / "run.json")["best"] for run in WEIGHTINGS}
    return max(best, key=lambda run: (best[run]["accuracy"], -best[run]["loss"]))


def test_spectra(shell: Shell, run: str) -> SpectraSet:
    """The test part of the set, as the run split it."""
    data = SpectraSet.load(shell.folder / "set.h5")
    held = set(read_json(shell.folder / run / "run.json")["specimens"]["test"])
    return data.select([i for i, specimen in enumerate(data.specimen) if specimen in held])


def stream(shell: Shell, spectra: SpectraSet) -> dict[str, Any]:
    """Send the test spectra as frames over TCP on loopback into the runtime; the runtime's final account."""
    spectra.save(shell.folder / "test.h5")
    frames = len(spectra) + (spectra.dark is not None)
    account, log = shell.folder / "run.json", shell.folder / "run.log"
    runtime = shell.start(
        *("run", "model.sedge", "--source", "tcp:0", "--axis", "test.h5", "--journal", "journal.db"),
        # a busy machine may take long to start the sender: it ends by the count
        *("--jsonl", "decisions.jsonl", "--count", str(frames), "--idle-exit", "60", "--json"),
        output=account,
        log=log,
    )
    try:
        shell.run("stream-test", "--to", listening_address(runtime, log), "test.h5")
        code = runtime.wait(timeout=180)
    finally:
        runtime.kill()
    print(log.read_text(), end="")
    if code:
        raise SedgeError(f"ended with exit code {code}", field="libsedge run")
    return read_json(account)


def listening_address(process: subprocess.Popen[bytes], log: Path, seconds: float = 120.0) -> str:
    """ADDRESS:PORT as the runtime says it: no connection is opened to find out, so none is counted."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if said := re.search(r"listening on (\S+:\d+)", log.read_text()):
            return said.group(1)
        if process.poll() is not None:
            raise SedgeError(f"ended before it listened: {log.read_text()}", field="libsedge run")
        time.sleep(0.05)
    raise SedgeError(f"did not listen within {seconds:.0f} s", field="libsedge run")


def read_json(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data
