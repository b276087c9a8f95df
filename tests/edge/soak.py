"""A long run: `libsedge run` in a process of its own, fed over TCP at three degrees of damage, every count held
against the sender's truth.

    python tests/edge/soak.py --frames 1000000 --out build/soak

The frames are spectra of 5,400 channels drawn at random, the model a small net with random weights: what is
tested is that every frame is accounted for, not what is decided. A third of the frames goes to each damage. Every
`SWAP_EVERY` frames or so another version of the model is activated and SIGHUP sent: all of them must have decided.
`soak.json` has the counts of every part and of all; the exit code is 1 when one differs from the truth.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from conftest import build_tiny_model
from libsedge import __version__
from libsedge.frame import Frame
from libsedge.journal_reader import JournalReader
from libsedge.model_store import ModelStore
from libsedge.senders.tcp import send
from libsedge.senders.truth import Truth, damaged
from libsedge.store import write_store
from small_bundle import KEY, forge, relist

DAMAGE = (0.001, 0.1, 0.5)
CHANNELS = 5400
#: another model comes about every so many frames of a part, at most so often
SWAP_EVERY, MOST_SWAPS = 20_000, 5
#: resident memory may grow by so much between the first tenth of a part and its end, bytes
MAX_GROWTH = 8 << 20


def spectra(n: int, seed: int) -> Iterator[Frame]:
    """Frames of one stream; 64 different spectra in turn."""
    rng = np.random.default_rng(seed)
    pool = [rng.integers(100, 4000, CHANNELS).astype(np.uint16) for _ in range(64)]
    for row in pool:
        row[rng.integers(0, CHANNELS, 40)] = 30000
    for i in range(n):
        yield Frame(0x50AC, 0, i, 10**18 + i * 10**7, 100, 2500, 0, pool[i % 64])


def installed(bundle: Path, folder: Path, count: int) -> ModelStore:
    """A store with `count` versions of one model, the first of them current."""
    folder.mkdir()
    for counter in range(1, count + 1):
        file = folder.parent / f"{folder.name}-{counter}.sedge"
        shutil.copy(bundle, file)

        def change(members: dict[str, bytes], manifest: dict[str, Any], counter: int = counter) -> None:
            manifest.update(version=f"1.{counter}.0", counter=counter)
            relist(members, manifest)

        forge(file, KEY, change)
        store, _ = ModelStore.install(file, folder)
    store.activate("1.1.0")
    return store


class Server:
    """`libsedge run` on a free port; its memory is looked at every fifth of a second."""

    def __init__(
        self, store: ModelStore, swaps: int, frames: int, axis: Path, journal: Path, home: Path
    ) -> None:
        self._store, self._swaps, self._frames = store, swaps, frames
        #: versions that the run said it changed to
        self.swapped = 0
        command = [
            sys.executable,
            "-c",
            "from libsedge.cli import main; main()",
            "run",
            "--store",
            str(store.folder),
        ]
        command += ["--source", "tcp:0", "--axis", str(axis), "--journal", str(journal), "--json"]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"LIBSEDGE_HOME": str(home)},
        )
        assert self.process.stderr is not None
        self.port = 0
        for line in self.process.stderr:
            if match := re.match(r"listening on 127\.0\.0\.1:(\d+)", line):
                self.port = int(match[1])
                break
        self.rss: list[int] = []
        self.received = 0
        self._drain_thread = threading.Thread(target=self._drain)
        self._drain_thread.start()
        threading.Thread(target=self._watch, daemon=True).start()

    def _drain(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            asked = 0
            for line in lines:
                print("  " + line.rstrip(), flush=True)
                self.swapped += "decides from now on" in line
                if match := re.match(r"received (\d+)", line):
                    due = int(match[1]) >= self._frames * (asked + 1) / (self._swaps + 1)
                    if asked < self._swaps and asked == self.swapped and due:
                        asked += 1
                        self._store.activate(f"1.{asked + 1}.0")
                        self.process.send_signal(signal.SIGHUP)

    def _watch(self) -> None:
        process = psutil.Process(self.process.pid)
        try:
            while True:
                self.rss.append(process.memory_info().rss)
                time.sleep(0.2)
        except psutil.Error:
            return

    def finish(self) -> dict[str, Any]:
        """Stop it as an operator does; its report."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stdout is not None
        report: dict[str, Any] = json.loads(self.process.stdout.read())
        self._drain_thread.join()
        self.process.stdout.close()
        if self.process.wait() != 0:
            raise SystemExit(f"the run ended with {self.process.returncode}")
        return report


def part(folder: Path, bundle: Path, home: Path, axis: Path, frames: int, damage: float) -> dict[str, Any]:
    """One degree of damage: what was sent, what the run says, and where they differ."""
    journal, truth = folder / f"soak-{damage}.db", Truth()
    swaps = min(MOST_SWAPS, frames // SWAP_EVERY)
    store = installed(bundle, folder / f"models-{damage}", swaps + 1)
    server = Server(store, swaps, frames, axis, journal, home)
    pieces = damaged(spectra(frames, 1), damage, round(damage * 1000), truth)
    acknowledged, _, seconds = send("127.0.0.1", server.port, pieces, truth, rate_hz=None, wait_s=60)
    report = server.finish()
    ledger, table = report["ledger"], truth.table()
    with JournalReader(journal) as reader:
        verdict = reader.verify()
        decided_by = len({record.model for record in reader.records()})
    stream = ledger["streams"][0]
    expected = {
        "journaled": table["intact"],
        "acknowledged": table["intact"],
        "rows": table["intact"],
        "duplicate": table["repeat"],
        "rejected": table["flip"] + table["cut"] - table["no_magic"],
        "gaps": table["gaps"],
        "shed": 0,
        "unjournaled": 0,
        "in_flight": 0,
        "unaccounted": 0,
        "damaged_rows": 0,
        "swaps": swaps,
        "models": swaps + 1,
    }
    found = {
        "journaled": ledger["journaled"],
        "acknowledged": acknowledged,
        "rows": verdict.rows,
        "duplicate": ledger["duplicate"],
        "rejected": sum(ledger["rejected"].values()),
        "gaps": stream["gaps"],
        "shed": sum(ledger["shed"].values()),
        "unjournaled": ledger["unjournaled"],
        "in_flight": ledger["in_flight"],
        "unaccounted": ledger["unaccounted"],
        "damaged_rows": verdict.damaged_rows + len(verdict.problems),
        "swaps": server.swapped,
        "models": decided_by,
    }
    tenth = max(1, len(server.rss) // 10)
    start, end = server.rss[min(tenth, len(server.rss) - 1)], server.rss[-2 if len(server.rss) > 1 else -1]
    differences = {
        name: {"truth": value, "found": found[name]}
        for name, value in expected.items()
        if found[name] != value
    }
    if end - start > MAX_GROWTH:
        differences["rss"] = {"truth": f"at most {MAX_GROWTH} more", "found": end - start}
    journal.unlink()
    return {
        "damage": damage,
        "sent": table["frames"],
        "received": ledger["received"],
        "journaled": ledger["journaled"],
        "duplicate": ledger["duplicate"],
        "rejected": ledger["rejected"],
        "shed": sum(ledger["shed"].values()),
        "gaps": stream["gaps"],
        "unaccounted": ledger["unaccounted"],
        "swaps": server.swapped,
        "frames_per_s": round(table["frames"] / seconds, 1),
        "seconds": round(seconds, 1),
        "latency": report["latency"],
        "rss_start": start,
        "rss_end": end,
        "truth": {name: value for name, value in table.items() if name != "bytes"},
        "differences": differences,
    }


def soak(frames: int, out: Path) -> dict[str, Any]:
    """All parts; writes `soak.json` and returns it."""
    parts = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = build_tiny_model(folder)
        os.environ["LIBSEDGE_HOME"] = str(model.home)  # who signs is asked here too, by the store
        axis = folder / "axis.h5"
        write_store(
            axis,
            counts=np.zeros((1, CHANNELS), np.uint16),
            wavelength=np.linspace(240.0, 850.0, CHANNELS),
            specimen=["none"],
            saturation=65535.0,
            simulated=True,
        )
        for index, damage in enumerate(DAMAGE):
            share = frames // len(DAMAGE) + (index < frames % len(DAMAGE))
            print(f"damage {damage:.1%}: {share} frames", flush=True)
            parts.append(part(folder, model.path, model.home, axis, share, damage))
            print(
                f"  {parts[-1]['frames_per_s']} frames/s, differences: {parts[-1]['differences']}", flush=True
            )
    rejected: dict[str, int] = {}
    for one in parts:
        for reason, count in one["rejected"].items():
            rejected[reason] = rejected.get(reason, 0) + count
    names = ("sent", "received", "journaled", "duplicate", "shed", "gaps", "unaccounted", "swaps")
    result = {
        **{name: sum(one[name] for one in parts) for name in names},
        "rejected": dict(sorted(rejected.items())),
        "frames_per_s": round(frames / sum(one["seconds"] for one in parts), 1),
        "latency": parts[0]["latency"],
        "rss_start": parts[-1]["rss_start"],
        "rss_end": parts[-1]["rss_end"],
        "ok": not any(one["differences"] for one in parts),
        "channels": CHANNELS,
        "machine": f"{os.cpu_count()} x {platform.machine()}, Python {platform.python_version()}",
        "version": __version__,
        "parts": parts,
    }
    out.mkdir(parents=True, exist_ok=True)
    part_name = out / ".soak.json.part"
    part_name.write_text(json.dumps(result, indent=1) + "\n")
    part_name.replace(out / "soak.json")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="A long run against the sender's truth.")
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=Path("build/soak"))
    options = parser.parse_args()
    result = soak(options.frames, options.out)
    print(json.dumps({name: value for name, value in result.items() if name != "parts"}, indent=1))
    sys.exit(0 if result["ok"] else 1)


if __name__ == "__main__":
    main()
