"""The model store: two steps to a new model, one step back, and no crash that leaves neither."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from libsedge import archive
from libsedge.bundle import Bundle
from libsedge.cli import main
from libsedge.errors import BundleError, SedgeError, SelfTestError, SignatureError, UnknownIsaError
from libsedge.model_state import BUNDLE, MAX_STARTS, STORE, Disk, ModelStoreError, State
from libsedge.model_store import ModelStore
from small_bundle import KEY, forge, relist


@pytest.fixture
def release(tiny_model: Any, tmp_path: Path) -> Callable[..., Path]:
    """A signed bundle of the tiny model with another version and counter; `broken`: its goldens cannot hold."""

    def make(version: str, counter: int, *, broken: bool = False, **changes: object) -> Path:
        file = tmp_path / f"{version}-{counter}-{broken}-{len(changes)}.sedge"
        shutil.copy(tiny_model.path, file)

        def change(members: dict, manifest: dict) -> None:
            manifest.update(version=version, counter=counter, **changes)
            if broken:
                outputs = np.zeros((4, 4), np.int8)
                members["goldens/outputs.npy"] = archive.pack_array(outputs)
            relist(members, manifest)

        forge(file, KEY, change)
        return file

    return make


@pytest.fixture(autouse=True)
def home(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBSEDGE_HOME", str(tiny_model.home))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def digest_of(store: ModelStore, version: str) -> str:
    return store.state().versions[version].digest


def test_install_activate_good(release: Callable[..., Path], root: Path) -> None:
    store, version = ModelStore.install(release("1.0.0", 1), root)
    assert (store.folder, version) == (root / "tiny", "1.0.0")
    with pytest.raises(ModelStoreError, match="no version was activated"):
        store.open_current()
    state = store.activate("1.0.0")
    assert (state.current, state.previous, state.versions["1.0.0"].state) == ("1.0.0", None, "active")
    bundle, failed = store.open_current()
    assert (bundle.digest, failed) == (digest_of(store, "1.0.0"), None)
    assert store.state().floor == 0
    store.mark_good("1.0.0")
    assert (store.state().floor, store.state().versions["1.0.0"].state) == (1, "good")
    ModelStore.install(release("1.1.0", 2), root)
    assert store.state().current == "1.0.0"  # installing activates nothing
    state = store.activate("1.1.0")
    assert (state.current, state.previous) == ("1.1.0", "1.0.0")
    store.mark_good("1.0.0")  # not the current one: nothing
    assert store.state().versions["1.1.0"].state == "active"
    assert store.activate("1.1.0") == store.state()  # again: nothing


def test_counter_blocks_and_rollback_ends_when_good(release: Callable[..., Path], root: Path) -> None:
    store, _ = ModelStore.install(release("1.0.0", 5), root)
    ModelStore.install(release("0.9.0", 4), root)  # nothing was good yet
    store.activate("1.0.0")
    ModelStore.install(release("1.1.0", 6), root)
    store.activate("1.1.0")
    state = store.rollback()
    assert (state.current, state.previous, state.versions["1.1.0"].state) == ("1.0.0", None, "bad")
    with pytest.raises(ModelStoreError, match="no previous"):
        store.rollback()
    store.activate("1.1.0")
    store.mark_good("1.1.0")
    for refused in (
        store.rollback,
        lambda: store.activate("1.0.0"),
        lambda: store.activate("0.9.0"),
        lambda: ModelStore.install(release("2.0.0", 5, training={"simulated": True}), root),
        lambda: ModelStore.install(release("0.1.0", 1), root),
    ):
        with pytest.raises(ModelStoreError, match="counter"):
            refused()
        assert store.state().current == "1.1.0"
    for version, counter in (("1.1.0", 9), ("2.0.0", 6)):
        with pytest.raises(ModelStoreError, match="other bytes"):
            ModelStore.install(release(version, counter), root)
    assert sorted(p.name for p in store.folder.iterdir()) == [".lock", "0.9.0", "1.0.0", "1.1.0", STORE]


def test_failed_self_test_leaves_current(release: Callable[..., Path], root: Path) -> None:
    store, _ = ModelStore.install(release("1.0.0", 1), root)
    store.activate("1.0.0")
    ModelStore.install(release("1.1.0", 2, broken=True), root)
    with pytest.raises(SelfTestError):
        store.activate("1.1.0")
    state = store.state()
    assert (state.current, state.versions["1.1.0"].state) == ("1.0.0", "bad")
    assert store.open_current()[0].digest == digest_of(store, "1.0.0")


def test_current_that_fails_at_start_is_rolled_back(release: Callable[..., Path], root: Path) -> None:
    store, _ = ModelStore.install(release("1.0.0", 1), root)
    store.activate("1.0.0")
    ModelStore.install(good := release("1.1.0", 2), root)
    store.activate("1.1.0")
    with pytest.raises(UnknownIsaError):  # the caller's mistake
        store.open_current("abacus")
    assert store.state().current == "1.1.0"
    file = store.folder / "1.1.0" / BUNDLE
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    bundle, failed = store.open_current()
    assert bundle.digest == digest_of(store, "1.0.0")
    assert failed is not None
    assert "1.1.0" in failed
    state = store.state()
    assert (state.current, state.previous, state.versions["1.1.0"].state) == ("1.0.0", None, "bad")
    ModelStore.install(good, root)  # the same bundle again repairs the copy
    assert store.activate("1.1.0").current == "1.1.0"
    shutil.rmtree(store.folder / "1.0.0")
    file.unlink()
    with pytest.raises(BundleError):  # neither is left: what failed first is what is said
        store.open_current()
    assert store.state().current == "1.1.0"


def on_trial(release: Callable[..., Path], root: Path) -> ModelStore:
    """1.0.0 before, 1.1.0 current and on trial."""
    store, _ = ModelStore.install(release("1.0.0", 1), root)
    store.activate("1.0.0")
    ModelStore.install(release("1.1.0", 2), root)
    store.activate("1.1.0")
    return store


def test_three_starts_without_a_clean_end_roll_back(release: Callable[..., Path], root: Path) -> None:
    store = on_trial(release, root)
    for _ in range(2 * MAX_STARTS):  # every run ends well: nothing happens
        assert store.open_current()[1] is None
        store.ended_well("1.1.0")
    for start in range(MAX_STARTS):
        bundle, failed = store.open_current()
        assert (bundle.manifest["version"], failed) == ("1.1.0", None)
        assert store.state().versions["1.1.0"].starts == start + 1
    bundle, failed = store.open_current()
    assert bundle.manifest["version"] == "1.0.0"
    assert failed is not None
    assert "started 3 times and never ended well" in failed
    state = store.state()
    assert (state.current, state.previous, state.versions["1.1.0"].state) == ("1.0.0", None, "bad")
    for _ in range(2 * MAX_STARTS):  # nothing to go back to: it goes on
        assert store.open_current()[0].manifest["version"] == "1.0.0"


def test_good_versions_and_those_without_a_way_back_are_not_counted_out(
    release: Callable[..., Path], root: Path
) -> None:
    store = on_trial(release, root)
    store.mark_good("1.1.0")
    for _ in range(2 * MAX_STARTS):
        assert store.open_current()[0].manifest["version"] == "1.1.0"
    assert store.state().versions["1.1.0"].starts == 0
    ModelStore.install(release("1.2.0", 3), root)
    store.activate("1.2.0")
    shutil.rmtree(store.folder / "1.1.0")  # the one before cannot run
    for _ in range(2 * MAX_STARTS):
        assert store.open_current()[0].manifest["version"] == "1.2.0"


@pytest.mark.parametrize("used", [0, MAX_STARTS])
def test_opening_that_is_cut_off_anywhere_leaves_one_that_opens(
    release: Callable[..., Path], root: Path, used: int
) -> None:
    store = on_trial(release, root)
    for _ in range(used):
        store.open_current()
    seen = set()
    for _, _ in attempts(
        store.folder, lambda disk: ModelStore(store.folder, None, disk).open_current(), Crash
    ):
        state = store.state()
        seen.add((state.current, state.versions["1.1.0"].starts))
        assert store.open_current()[0].manifest["version"] in ("1.0.0", "1.1.0")
    assert seen == ({("1.1.0", 0), ("1.1.0", 1)} if used == 0 else {("1.1.0", 3), ("1.0.0", 0)})


def test_what_is_not_trusted_is_not_installed(
    release: Callable[..., Path], root: Path, tiny_model: Any, tmp_path: Path
) -> None:
    data = bytearray(tiny_model.path.read_bytes())
    data[-2000] ^= 1
    (tmp_path / "changed.sedge").write_bytes(data)
    with pytest.raises(SedgeError):
        ModelStore.install(tmp_path / "changed.sedge", root)
    from small_bundle import STRANGER

    foreign = release("1.0.0", 1)
    forge(foreign, STRANGER, lambda members, manifest: None)
    with pytest.raises(SignatureError):
        ModelStore.install(foreign, root)
    assert list(root.iterdir()) == []
    store, _ = ModelStore.install(release("1.0.0", 1), root)
    # a signed bundle of another name, put in place by hand
    other = release("1.0.0", 1, name="other")
    shutil.copy(other, store.folder / "1.0.0" / BUNDLE)
    with pytest.raises(ModelStoreError, match="store of tiny"):
        store.activate("1.0.0")
    # a link instead of a folder
    shutil.rmtree(store.folder / "1.0.0")
    os.symlink(tmp_path, store.folder / "1.0.0")
    with pytest.raises(ModelStoreError, match="not a folder"):
        store.activate("1.0.0")


def test_every_flipped_bit_of_the_state_is_seen(release: Callable[..., Path], root: Path) -> None:
    store, _ = ModelStore.install(release("1.0.0", 1), root)
    store.activate("1.0.0")
    file = store.folder / STORE
    whole = file.read_bytes()
    for bit in range(8 * len(whole)):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises((SedgeError, ValueError, KeyError, TypeError, AttributeError)):
            State.from_bytes(bytes(data))
    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        with pytest.raises(ModelStoreError, match="is damaged"):
            store.state()


class Crash(BaseException):
    """The power goes."""


class FailingDisk(Disk):
    """The call of number `at` fails, before or after it has worked; knows what a power cut would take."""

    def __init__(self, at: int, when: str, error: Callable[[], BaseException], *, sync: bool = True) -> None:
        self.at, self.when, self.error, self.syncs = at, when, error, sync
        self.calls = 0
        self.unsynced_files: set[Path] = set()
        self.unsynced_renames: list[tuple[Path, Path, bytes | None]] = []

    def _call(self, work: Callable[[], None]) -> None:
        self.calls += 1
        if self.calls == self.at and self.when == "before":
            raise self.error()
        work()
        if self.calls == self.at:
            raise self.error()

    def make_folder(self, path: Path) -> None:
        self._call(lambda: super(FailingDisk, self).make_folder(path))

    def write(self, path: Path, data: bytes) -> None:
        def work() -> None:
            super(FailingDisk, self).write(path, data)
            self.unsynced_files.add(path)

        self._call(work)

    def sync(self, path: Path) -> None:
        def work() -> None:
            if self.syncs:
                super(FailingDisk, self).sync(path)
                self.unsynced_files.discard(path)
                self.unsynced_renames = [it for it in self.unsynced_renames if it[1].parent != path]

        self._call(work)

    def rename(self, old: Path, new: Path) -> None:
        def work() -> None:
            backup = new.read_bytes() if new.is_file() else None
            super(FailingDisk, self).rename(old, new)
            moved = {
                new / p.relative_to(old) if p != old else new
                for p in self.unsynced_files
                if p.is_relative_to(old)
            }
            self.unsynced_files = {p for p in self.unsynced_files if not p.is_relative_to(old)} | moved
            self.unsynced_renames.append((old, new, backup))

        self._call(work)

    def remove(self, path: Path) -> None:
        self._call(lambda: super(FailingDisk, self).remove(path))

    def cut_power(self, *, keep_names: bool) -> None:
        """Content that was not synchronised is torn; names, too, are as before unless the disk kept them."""
        for path in self.unsynced_files:
            if path.exists():
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        for old, new, backup in [] if keep_names else reversed(self.unsynced_renames):
            if old.parent.exists() and new.exists():
                os.rename(new, old)
            if backup is not None:
                new.write_bytes(backup)


def prepared(release: Callable[..., Path], root: Path) -> tuple[ModelStore, Path]:
    """1.0.0 is good and current; 1.1.0 waits to be installed."""
    store, _ = ModelStore.install(release("1.0.0", 1), root)
    store.activate("1.0.0")
    store.mark_good("1.0.0")
    return store, release("1.1.0", 2)


def attempts(
    folder: Path, action: Callable[[Disk], object], error: Callable[[], BaseException], *, sync: bool = True
) -> Iterator[tuple[FailingDisk, bool]]:
    """Run `action` with its first, second, ... call failing, each time from the same files."""
    saved = folder.with_name("saved")
    shutil.copytree(folder, saved)
    for when in ("before", "after"):
        for keep_names in (False, True) if error is Crash else (True,):
            at, done = 0, False
            while not done:
                at += 1
                shutil.rmtree(folder)
                shutil.copytree(saved, folder)
                disk = FailingDisk(at, when, error, sync=sync)
                try:
                    action(disk)
                    done = disk.calls < at
                except (Crash, SedgeError):
                    pass
                if error is Crash:
                    disk.cut_power(keep_names=keep_names)
                yield disk, done
            assert at >= 5
    shutil.rmtree(saved)


def io_error() -> OSError:
    return OSError(28, "No space left on device")


@pytest.mark.parametrize("error", [Crash, io_error])
def test_install_that_is_cut_off_anywhere_changes_nothing_that_runs(
    release: Callable[..., Path], root: Path, error: Callable[[], BaseException]
) -> None:
    store, new = prepared(release, root)
    old = store.open_current()[0].digest
    for disk, done in attempts(store.folder, lambda disk: ModelStore.install(new, root, None, disk), error):
        bundle, failed = store.open_current()
        assert (bundle.digest, failed, store.state().floor) == (old, None, 1)
        assert not done or "1.1.0" in store.state().versions, disk.calls
        ModelStore.install(new, root)  # again, and it works
        assert digest_of(store, "1.1.0") == Bundle.open(store.path("1.1.0")).digest


@pytest.mark.parametrize("error", [Crash, io_error])
def test_repair_that_is_cut_off_anywhere_keeps_an_intact_current(
    release: Callable[..., Path], root: Path, error: Callable[[], BaseException]
) -> None:
    store, _ = prepared(release, root)
    same = release("1.0.0", 1)
    for _, _ in attempts(store.folder, lambda disk: ModelStore.install(same, root, None, disk), error):
        assert store.open_current()[1] is None


@pytest.mark.parametrize("error", [Crash, io_error])
def test_activate_that_is_cut_off_anywhere_leaves_the_old_or_the_new(
    release: Callable[..., Path], root: Path, error: Callable[[], BaseException]
) -> None:
    store, new = prepared(release, root)
    ModelStore.install(new, root)
    both = {digest_of(store, version) for version in ("1.0.0", "1.1.0")}
    seen = set()
    for disk, done in attempts(
        store.folder, lambda disk: ModelStore(store.folder, None, disk).activate("1.1.0"), error
    ):
        bundle, failed = store.open_current()
        assert failed is None
        assert bundle.digest in both
        assert store.state().floor == 1
        seen.add(bundle.manifest["version"])
        assert not done or bundle.manifest["version"] == "1.1.0", disk.calls
        assert store.activate("1.1.0").current == "1.1.0"
    assert seen == {"1.0.0", "1.1.0"}


def test_marking_good_that_is_cut_off_never_lowers_the_floor(
    release: Callable[..., Path], root: Path
) -> None:
    store, new = prepared(release, root)
    ModelStore.install(new, root)
    store.activate("1.1.0")
    floors = set()
    for _, done in attempts(
        store.folder, lambda disk: ModelStore(store.folder, None, disk).mark_good("1.1.0"), Crash
    ):
        state = store.state()
        floors.add(state.floor)
        assert (state.floor, state.versions["1.1.0"].state) in {(1, "active"), (2, "good")}
        assert not done or state.floor == 2
    assert floors == {1, 2}


def test_without_synchronising_a_crash_does_destroy(release: Callable[..., Path], root: Path) -> None:
    """Negative control: the same crashes on a disk that never synchronises leave a torn store or an old 'done'."""
    store, new = prepared(release, root)
    ModelStore.install(new, root)
    torn = forgotten = 0
    activate = lambda disk: ModelStore(store.folder, None, disk).activate("1.1.0")  # noqa: E731
    for _, done in attempts(store.folder, activate, Crash, sync=False):
        try:
            forgotten += done and store.state().current != "1.1.0"
        except ModelStoreError:
            torn += 1
    assert torn > 0
    assert forgotten > 0


def call(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_commands_and_run(release: Callable[..., Path], root: Path, tmp_path: Path) -> None:
    from libsedge.store import write_store
    from runner_tools import AXIS_NM, plasma

    spectra = tmp_path / "set.h5"
    write_store(spectra, counts=plasma(120, 0), wavelength=AXIS_NM, specimen=["one"] * 120)
    first, second = release("1.0.0", 1), release("1.1.0", 2)
    assert call("model", "install", first, "--store", root).stdout.startswith("staged")
    store = root / "tiny"
    arguments = ("run", "--store", store, "--source", f"replay:{spectra}")
    early = call(*arguments, "--journal", tmp_path / "0.db")
    assert early.exit_code == 2
    assert "no version was activated" in early.stderr
    assert "current 1.0.0 (active)" in call("model", "activate", store, "1.0.0").stdout
    short = call(*arguments, "--journal", tmp_path / "1.db", "--count", 50, "--json")
    assert short.exit_code == 0, short.output
    trial = json.loads(call("model", "status", store, "--json").stdout)
    assert (trial["floor"], trial["versions"][0]["starts"]) == (
        0,
        0,
    )  # 50 frames prove nothing, but it ended well
    long = call(*arguments, "--journal", tmp_path / "2.db", "--json")
    assert long.exit_code == 0, long.output
    status = json.loads(call("model", "status", store, "--json").stdout)
    assert (status["current"], status["floor"], status["versions"][0]["state"]) == ("1.0.0", 1, "good")
    call("model", "install", second, "--store", root)
    assert call("model", "activate", store, "1.1.0").exit_code == 0
    file = store / "1.1.0" / BUNDLE
    file.write_bytes(file.read_bytes()[:-1])
    fallback = call(*arguments, "--journal", tmp_path / "3.db")
    assert fallback.exit_code == 0, fallback.output
    assert "warning: rolled back to 1.0.0: " in fallback.stderr
    assert "1.1.0        bad" in call("model", "status", store).stdout
    for mistake in (
        ("run", "--source", f"replay:{spectra}", "--journal", tmp_path / "4.db"),
        ("run", first, "--store", store, "--source", f"replay:{spectra}", "--journal", tmp_path / "4.db"),
        ("model", "activate", store, "3.0.0"),
        ("model", "rollback", store),
        ("model", "status", root / "none"),
        ("model", "install", tmp_path / "none.sedge", "--store", root),
        ("model", "install", first, "--store", first),
    ):
        result = call(*mistake)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), (mistake, result.output)
