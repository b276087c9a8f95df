"""A change of the model while the live page is open: the page says which version decides, and goes on showing."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the dashboard extra is not installed")
from libsedge.dashboard import message
from libsedge.model_store import ModelStore
from small_bundle import KEY, forge, relist
from websockets.sync.client import ClientConnection, connect


@pytest.fixture
def store(tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    """1.0.0 active, 1.1.0 installed."""
    monkeypatch.setenv("LIBSEDGE_HOME", str(tiny_model.home))
    for counter, version in enumerate(("1.0.0", "1.1.0"), 1):
        file = tmp_path / f"{version}.sedge"
        shutil.copy(tiny_model.path, file)

        def change(members: dict, manifest: dict, version: str = version, counter: int = counter) -> None:
            manifest.update(version=version, counter=counter)
            relist(members, manifest)

        forge(file, KEY, change)
        store = ModelStore.install(file, tmp_path / "models")[0]
    store.activate("1.0.0")
    return store


class Page:
    """A browser's part: takes a message, says that it is shown."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    def next(self, kind: str) -> dict[str, Any]:
        for _ in range(100):
            head, _ = message.unpack(bytes(self._socket.recv(timeout=30)))  # type: ignore[arg-type]
            self._socket.send(json.dumps({"shown": True}))
            if head["kind"] == kind:
                return head
        raise AssertionError(f"no {kind} in 100 messages")


def test_sighup_with_the_page_open(store: ModelStore, tmp_path: Path) -> None:
    arguments = ["run", "--store", store.folder, "--source", "simulated:seed=1,rate=100", "--json"]
    arguments += ["--journal", tmp_path / "run.db", "--dashboard", "127.0.0.1:0"]
    command = [sys.executable, "-c", "from libsedge.cli import main; main()", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = next(line for line in process.stderr if line.startswith("dashboard on "))
            host = said.split("//")[1].split("/")[0].strip()
            with connect(f"ws://{host}/feed", proxy=None) as socket:
                page = Page(socket)
                first = page.next("model")
                assert (first["version"], first["sha256"]) == (
                    "1.0.0",
                    store.state().versions["1.0.0"].digest,
                )
                before = page.next("picture")["counts"]["received"]
                store.activate("1.1.0")
                process.send_signal(signal.SIGHUP)
                second = page.next("model")
                assert (second["version"], second["sha256"]) == (
                    "1.1.0",
                    store.state().versions["1.1.0"].digest,
                )
                after = page.next("picture")["counts"]
                assert after["received"] > before
                assert after["unaccounted"] == 0
            process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    ledger = json.loads(out)["ledger"]
    assert ledger["journaled"] == ledger["received"] > after["received"] - 1
    assert ledger["unaccounted"] == 0
