"""Ten times more frames than can be decided, for a minute, then a normal rate again: what is shed is counted, memory
stays flat, and the queue is empty again within a second.

    python tests/edge/overload.py --seconds 60 --out build/overload

A pipeline on TCP with the policy `drop-oldest`; its classifier takes 3 ms a frame (a stand-in for a slow board), so
that about 300 frames a second can be decided, and 3,000 are sent, by a process of its own. `overload.json` has the
counts; the exit code is 1 where one differs from what was sent, memory grew, or the recovery took longer than a second.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from libsedge.frame import Frame, encode
from libsedge.journal import Journal
from libsedge.pipeline import Pipeline
from libsedge.sources.tcp import TcpSource
from mean_classifier import MeanClassifier

CHANNELS = 5400
DELAY_S = 0.003
RATE_HZ = 3000.0
NORMAL_HZ = 100.0
MAX_GROWTH = 8 << 20
POLICY = "drop-oldest"


def feed(port: int, seconds: float, calm_s: float, told: Any) -> None:
    """Send at the high rate, then at the normal one; tells (frames sent, of them in the calm)."""
    values = np.random.default_rng(0).integers(0, 4000, CHANNELS).astype(np.uint16)
    with socket.create_connection(("127.0.0.1", port)) as sock:

        def drain() -> None:
            with contextlib.suppress(OSError):
                while sock.recv(1 << 16):
                    pass

        reader = threading.Thread(target=drain)
        reader.start()
        sent = 0
        parts = []
        for rate, duration in ((RATE_HZ, seconds), (NORMAL_HZ, calm_s)):
            begin, first = time.monotonic(), sent
            while (now := time.monotonic()) < begin + duration:
                while sent - first < (now - begin) * rate:
                    sock.sendall(encode(Frame(1, 0, sent, 10**18 + sent, 0, 0, 0, values)))
                    sent += 1
                time.sleep(0.0005)
            parts.append(sent - first)
            told.put(("part", parts[-1], time.time()))
        sock.shutdown(socket.SHUT_WR)
        reader.join()
    told.put(("sent", sent, time.time()))


def run(seconds: float, calm_s: float, folder: Path) -> dict[str, Any]:
    """One overload; see the module."""
    source, journal = TcpSource(0), Journal(folder / "overload.db")
    classifier = MeanClassifier(DELAY_S)
    classifier.channels = CHANNELS
    pipeline = Pipeline(source, classifier, journal, policy=POLICY, capacity=64)
    told: Any = multiprocessing.Queue()
    sender = multiprocessing.Process(target=feed, args=(source.port, seconds, calm_s, told))
    memory: list[int] = []
    recovered: list[float] = []
    calm_at: list[float] = []
    ended = threading.Event()

    def watch() -> None:
        process = psutil.Process()
        while not ended.wait(0.05):
            memory.append(process.memory_info().rss)
            with contextlib.suppress(Exception):
                if not calm_at:
                    calm_at.append(told.get_nowait()[2])
            with pipeline.ledger.lock:
                waiting = len(pipeline.queue)
            if calm_at and not recovered and waiting <= 1:
                recovered.append(time.time() - calm_at[0])

    watcher = threading.Thread(target=watch)
    sender.start()
    watcher.start()

    def stop_after() -> None:
        sender.join()
        pipeline.stop()

    stopper = threading.Thread(target=stop_after)
    stopper.start()
    report = pipeline.run()
    ended.set()
    watcher.join()
    stopper.join()
    journal.close()
    total = 0
    while not told.empty():
        kind, count, _ = told.get()
        total = count if kind == "sent" else total
    ledger = report.ledger
    tenth = max(1, len(memory) // 10)
    result = {
        "sent": total,
        "received": ledger["received"],
        "journaled": ledger["journaled"],
        "shed": ledger["shed"],
        "unaccounted": ledger["unaccounted"],
        "overload": round(total / max(1, ledger["journaled"]), 1),
        "rss_start": max(memory[:tenth]),
        "rss_end": max(memory[-tenth:]),
        "recovery_s": round(recovered[0], 3) if recovered else None,
        "latency": report.latency,
    }
    lost = result["sent"] - result["journaled"] - sum(ledger["shed"].values())
    result["faults"] = [
        what
        for what, wrong in (
            ("frames without an end", lost != 0 or ledger["unaccounted"] != 0),
            ("nothing was shed", sum(ledger["shed"].values()) == 0),
            ("memory grew", result["rss_end"] - result["rss_start"] > MAX_GROWTH),
            ("slow recovery", not recovered or recovered[0] > 1.0),
        )
        if wrong
    ]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--calm", type=float, default=3.0, help="Seconds at the normal rate afterwards.")
    parser.add_argument("--out", type=Path, default=Path("build/overload"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = run(arguments.seconds, arguments.calm, Path(folder))
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "overload.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    sys.exit(1 if result["faults"] else 0)


if __name__ == "__main__":
    main()
