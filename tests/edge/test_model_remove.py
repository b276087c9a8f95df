"""Versions taken out of a model store, and what a store holds, in bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from libsedge.cli import main
from libsedge.model_state import BUNDLE, STORE, Disk, ModelStoreError
from libsedge.model_store import ModelStore
from small_bundle import KEY, forge, relist


@pytest.fixture
def store(tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    """1.0.0 good, 1.1.0 on trial before 1.2.0, which is on trial now; 1.3.0 staged."""
    monkeypatch.setenv("LIBSEDGE_HOME", str(tiny_model.home))
    for counter in range(1, 5):
        store, version = ModelStore.install(release(tiny_model, tmp_path, counter), tmp_path / "a" / "models")
        if counter < 4:
            store.activate(version)
        if counter == 1:
            store.mark_good(version)
    return store


def release(tiny_model: Any, folder: Path, counter: int, **changes: object) -> Path:
    file = folder / f"{counter}-{len(changes)}.sedge"
    shutil.copy(tiny_model.path, file)

    def change(members: dict, manifest: dict) -> None:
        manifest.update(version=f"1.{counter - 1}.0", counter=counter, **changes)
        relist(members, manifest)

    forge(file, KEY, change)
    return file


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["model", *map(str, arguments)])


def test_what_is_needed_stays(store: ModelStore) -> None:
    before = store.state()
    assert (before.current, before.previous, before.floor) == ("1.2.0", "1.1.0", 1)
    for version, why in (
        ("1.2.0", "current"),
        ("1.1.0", "previous"),
        ("1.0.0", "last that was good"),
        ("9.9.9", "not installed"),
        ("..", "not installed"),
        ("../../..", "not installed"),
        ("", "not installed"),
        (STORE, "not installed"),
    ):
        with pytest.raises(ModelStoreError, match=why) as error:
            store.remove(version)
        assert (error.value.field, error.value.value) == ("version", version)
        assert store.state() == before
    assert all(store.path(version).exists() for version in before.versions)


def test_removed_and_installed_again(store: ModelStore, tiny_model: Any, tmp_path: Path) -> None:
    store.remove("1.3.0")
    assert "1.3.0" not in store.state().versions
    assert not (store.folder / "1.3.0").exists()
    with pytest.raises(ModelStoreError, match="not installed"):
        store.remove("1.3.0")
    with pytest.raises(ModelStoreError, match="not installed"):
        store.activate("1.3.0")
    ModelStore.install(release(tiny_model, tmp_path, 4, training={"simulated": True}), store.folder.parent)
    store.mark_good("1.2.0")
    store.remove("1.0.0")  # 1.2.0 is the last good one now
    assert store.state().floor == 3
    with pytest.raises(ModelStoreError, match="counter"):
        ModelStore.install(release(tiny_model, tmp_path, 1), store.folder.parent)


def test_cut_off_anywhere_and_given_again(store: ModelStore, tmp_path: Path) -> None:
    """Power goes at every call that changes the disk, in turn: what runs still opens, and the next try removes it."""

    class Crash(BaseException):
        pass

    class Cut(Disk):
        calls = 0

        def __getattribute__(self, name: str) -> Any:
            if name in ("write", "sync", "rename", "remove"):
                Cut.calls += 1
                if Cut.calls == last:
                    raise Crash
            return super().__getattribute__(name)

    for last in range(1, 9):
        shutil.rmtree(tmp_path / "b", ignore_errors=True)
        copy = Path(shutil.copytree(store.folder, tmp_path / "b" / "tiny"))
        Cut.calls = 0
        if last < 8:
            with pytest.raises(Crash):
                ModelStore(copy, disk=Cut()).remove("1.3.0")
        else:
            ModelStore(copy, disk=Cut()).remove("1.3.0")
        again = ModelStore(copy)
        assert again.open_current()[0].manifest["version"] == "1.2.0"
        if (copy / "1.3.0").exists():
            again.remove("1.3.0")
        assert not (copy / "1.3.0").exists()
        assert "1.3.0" not in again.state().versions
    assert Cut.calls == 7


def test_commands(store: ModelStore) -> None:
    root = store.folder.parent
    listed = call("list", root)
    assert listed.exit_code == 0, listed.output
    lines = [line.split() for line in listed.output.splitlines()]
    size = store.path("1.0.0").stat().st_size
    assert [line[:3] for line in lines[:4]] == [
        ["tiny", "1.0.0", "good"],
        ["tiny", "1.1.0", "active"],
        ["tiny", "1.2.0", "active"],
        ["tiny", "1.3.0", "staged"],
    ]
    assert [line[3] for line in lines[1:3]] == ["previous", "current"]
    assert lines[0][-2:] == [f"{size:,}", "bytes"]
    total = sum(store.path(version).stat().st_size for version in store.state().versions)
    assert lines[4] == [f"{total:,}", "bytes"]
    assert call("remove", store.folder, "1.2.0").exit_code == 2
    assert call("remove", store.folder, "1.3.0").output == "removed 1.3.0\n"
    (store.folder / "1.0.0" / BUNDLE).unlink()
    (table,) = json.loads(call("list", store.folder, "--json").output)
    assert [row["bytes"] is None for row in table["versions"]] == [True, False, False]
    assert "missing" in call("list", root).output
    empty = call("list", store.folder / "1.1.0")
    assert (empty.exit_code, "no model was installed" in empty.output) == (2, True)
