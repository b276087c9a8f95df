"""The model store cut off anywhere, by a full disk or a power cut: one of two states is left, and both open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from failing_disk import Crash, attempts, io_error
from libsedge.bundle import Bundle
from libsedge.model_state import MAX_STARTS, ModelStoreError
from libsedge.model_store import ModelStore
from stores import digest_of, on_trial

pytestmark = pytest.mark.usefixtures("tiny_home")


def prepared(release: Callable[..., Path], root: Path) -> tuple[ModelStore, Path]:
    """1.0.0 is good and current; 1.1.0 waits to be installed."""
    store, _ = ModelStore.install(release("1.0.0", 1), root)
    store.activate("1.0.0")
    store.mark_good("1.0.0")
    return store, release("1.1.0", 2)


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
