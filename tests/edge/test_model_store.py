"""The model store: two steps to a new model, one step back; test_model_store_crashes.py cuts them off."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from libsedge.cli import main
from libsedge.errors import BundleError, SedgeError, SelfTestError, SignatureError, UnknownIsaError
from libsedge.model_state import BUNDLE, MAX_STARTS, STORE, ModelStoreError, State
from libsedge.model_store import ModelStore
from small_bundle import forge
from stores import digest_of, on_trial

pytestmark = pytest.mark.usefixtures("tiny_home")


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
