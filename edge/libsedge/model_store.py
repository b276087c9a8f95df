"""Models on the board's disk: which one runs, which one ran before, and which may never run again.

    DIR/NAME/store.json                 the one file that says what is current; replaced by a rename
    DIR/NAME/<version>/model.sedge      installed bundles
    DIR/NAME/.lock                      held while something changes

A version is *staged* by `install`, in *self-test* while `activate` proves it, *shadow* while it decides unheard beside
the one before (`libsedge run --shadow`), *active* while it is on trial, and *good* once it has worked (`mark_good`);
*bad* is a version that failed. `install` and `activate` are two commands on purpose: no single action, and nothing that
comes over a wire, puts a model in place.

Current, previous, states and the counter stand in one file, so that a crash at any moment leaves the old or the new
state and nothing between; two links could not be switched in one rename. The file is written under another name,
synchronised, renamed, and its folder synchronised; it carries a CRC-32C of its content.

A version on trial that was started three times and never came to a clean end, killed by a crash or by the watchdog,
is left for the one before it at the next start.

Anti-rollback: once a version is good, nothing with a smaller counter is installed, activated or returned to, and
nothing else with the same counter. Until then the version before is one step away: `rollback`, or by itself where the
current one fails its signature, digest or self-test when it is opened (`open_current`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from libsedge.bundle import Bundle, read_once
from libsedge.errors import IsaNotBuiltError, IsaNotRunnableError, SedgeError, UnknownIsaError
from libsedge.keys import TrustedKey
from libsedge.manifest import parse_version
from libsedge.model_state import BUNDLE, MAX_STARTS, STORE, TRIAL, Disk, Entry, ModelStoreError, State

_ISA_ERRORS = (UnknownIsaError, IsaNotBuiltError, IsaNotRunnableError)


class _NeverEndedWellError(ModelStoreError):
    """A version on trial has used up its starts."""


class ModelStore:
    """The store of one model's versions, in a folder named as the model.

    Parameters
    ----------
    folder : DIR/NAME. trusted : as for `Bundle.open`. disk : for tests.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        trusted: Iterable[TrustedKey] | str | os.PathLike[str] | None = None,
        disk: Disk | None = None,
    ) -> None:
        self.folder = Path(folder)
        self._trusted = (
            trusted if trusted is None or isinstance(trusted, (str, os.PathLike)) else tuple(trusted)
        )
        self._disk = disk or Disk()

    # --- looking
    def state(self) -> State:
        """What is installed. Raises ModelStoreError for a folder that is no store, or a damaged one."""
        path = self.folder / STORE
        try:
            return State.from_bytes(read_once(path))
        except (SedgeError, ValueError, KeyError, TypeError, AttributeError) as why:
            if not path.exists():
                raise ModelStoreError("no model was installed here", file=self.folder) from None
            raise ModelStoreError(f"is damaged: {why}", file=path) from why

    def current(self, state: State) -> str:
        """The version that was activated; ModelStoreError where none was."""
        if state.current is None:
            raise ModelStoreError("no version was activated; run `libsedge model activate`", file=self.folder)
        return state.current

    def path(self, version: str) -> Path:
        """The bundle of a version; ModelStoreError where its folder is a link or none."""
        folder = self.folder / version
        try:
            if not stat.S_ISDIR(folder.lstat().st_mode):
                raise ModelStoreError("is not a folder", file=folder)
        except OSError as why:
            raise ModelStoreError(f"is missing: {why.strerror}", file=folder) from why
        return folder / BUNDLE

    def _open(self, state: State, version: str) -> Bundle:
        """A version's bundle: signed, of this model, the one that was installed, not below the floor."""
        entry = state.versions[version]
        bundle = Bundle.open(self.path(version), self._trusted)
        self._check_identity(bundle, state)
        if bundle.digest != entry.digest:
            raise ModelStoreError(
                f"is not what was installed: {entry.digest}",
                file=bundle.path,
                field="sha256",
                value=bundle.digest,
            )
        return bundle

    def _check_identity(self, bundle: Bundle, state: State) -> None:
        name, counter = bundle.manifest["name"], bundle.manifest["counter"]
        if name != self.folder.name:
            raise ModelStoreError(
                f"this is the store of {self.folder.name}", file=bundle.path, field="name", value=name
            )
        if counter < state.floor:
            raise ModelStoreError(
                f"is older than a version that was good, of counter {state.floor}",
                file=bundle.path,
                field="counter",
                value=counter,
            )

    # --- changing
    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """One process at a time; what the operating system refuses becomes a ModelStoreError."""
        try:
            with open(self.folder / ".lock", "a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as why:
            raise ModelStoreError(f"cannot be changed: {why.strerror or why}", file=self.folder) from why

    def _save(self, state: State) -> None:
        temporary = self.folder / f".{STORE}.new"
        self._disk.remove(temporary)
        self._disk.write(temporary, state.to_bytes())
        self._disk.sync(temporary)
        self._disk.rename(temporary, self.folder / STORE)
        self._disk.sync(self.folder)

    @classmethod
    def install(
        cls,
        file: str | os.PathLike[str],
        root: str | os.PathLike[str],
        trusted: Iterable[TrustedKey] | str | os.PathLike[str] | None = None,
        disk: Disk | None = None,
    ) -> tuple[ModelStore, str]:
        """Copy a verified bundle into `root`/NAME as *staged*; returns the store and the version. Folders are made.

        The same bundle again repairs a damaged copy and changes nothing else. Raises the errors of `Bundle.open`;
        ModelStoreError where the counter is too small, or this version or counter exists with other bytes.
        """
        store = cls(Path(root) / Bundle.open(file, trusted).manifest["name"], trusted, disk)
        try:
            missing = [path for path in (store.folder, *store.folder.parents) if not path.exists()]
            for path in reversed(missing):
                store._disk.make_folder(path)
                store._disk.sync(path.parent)
        except OSError as why:
            raise ModelStoreError(f"cannot be made: {why.strerror}", file=store.folder) from why
        with store._changing():
            return store, store._install(Path(file))

    def _install(self, file: Path) -> str:
        incoming = self.folder / ".incoming"
        self._disk.remove(incoming)
        self._disk.make_folder(incoming)
        self._disk.write(incoming / BUNDLE, read_once(file))
        self._disk.sync(incoming / BUNDLE)
        self._disk.sync(incoming)
        try:
            bundle = Bundle.open(
                incoming / BUNDLE, self._trusted
            )  # the copy, not the file that may change meanwhile
            version, counter = bundle.manifest["version"], bundle.manifest["counter"]
            state = self.state() if (self.folder / STORE).exists() else State()
            self._check_identity(bundle, state)
            for other, entry in state.versions.items():
                if (other == version or entry.counter == counter) and entry.digest != bundle.digest:
                    raise ModelStoreError(
                        f"version {other}, counter {entry.counter}, is installed with other bytes",
                        file=file,
                        field="version, counter",
                        value=(version, counter),
                    )
        except SedgeError:
            self._disk.remove(incoming)
            raise
        target = self.folder / version
        if target.is_dir() and not target.is_symlink():  # maybe damaged, or left behind by a crash
            self._disk.rename(incoming / BUNDLE, target / BUNDLE)
            self._disk.sync(target)
            self._disk.remove(incoming)
        else:
            self._disk.remove(target)
            self._disk.rename(incoming, target)
        self._disk.sync(self.folder)
        if version not in state.versions:
            self._save(state.with_entry(version, Entry(bundle.digest, counter, "staged")))
        return version

    def activate(self, version: str) -> State:
        """Prove a version on this machine and make it current; the one before becomes previous.

        Where it fails, it is *bad* and current stays what it was: raises what failed.
        """
        with self._changing():
            state = self.state()
            if version not in state.versions:
                raise ModelStoreError(
                    f"is not installed; installed are {', '.join(sorted(state.versions))}",
                    file=self.folder,
                    field="version",
                    value=version,
                )
            if version == state.current:
                return state
            before = state.versions[version].state
            self._save(state := state.with_state(version, "self-test"))
            try:
                self._open(state, version).model()
            except SedgeError:
                self._save(state.with_state(version, "bad"))
                raise
            active = "good" if before == "good" else "active"
            state = replace(state.with_state(version, active), current=version, previous=state.current)
            self._save(state)
            return state

    def remove(self, version: str) -> None:
        """Forget a version and delete its files; the floor stays. Given again after a crash it goes on.

        Raises ModelStoreError for the current one, the previous one, the last that was good (while it is here, nothing
        else is installed with its counter), and one that is not installed.
        """
        with self._changing():
            state = self.state()
            folder = self.folder / version
            try:
                parse_version(version)
                known = version in state.versions or folder.exists()
            except ValueError:
                known = False
            if not known:
                raise ModelStoreError("is not installed", file=self.folder, field="version", value=version)
            entry = state.versions.get(version)
            last_good = entry is not None and entry.counter == state.floor
            for kept, what in (
                (version == state.current, "the current one"),
                (version == state.previous, "the previous one, the way back"),
                (last_good, "the last that was good"),
            ):
                if kept:
                    raise ModelStoreError(f"is {what}", file=self.folder, field="version", value=version)
            if entry is not None:  # no longer listed before the first file goes
                self._save(state.without(version))
            self._disk.remove(folder)
            self._disk.sync(self.folder)

    def note_shadow(self, version: str, *, begins: bool) -> None:
        """The current version, on trial, begins to decide in the shadow of the one before, or has come out of it.

        Nothing for any other version.
        """
        with self._changing():
            state = self.state()
            if version == state.current and state.versions[version].state in TRIAL:
                entry = replace(state.versions[version], state="shadow" if begins else "active")
                self._save(state.with_entry(version, entry))

    def mark_good(self, version: str) -> None:
        """The current version has worked: its counter is the floor from now on. Nothing for any other version."""
        with self._changing():
            state = self.state()
            if version == state.current and state.versions[version].state in TRIAL:
                floor = max(state.floor, state.versions[version].counter)
                self._save(replace(state.with_state(version, "good"), floor=floor))

    def rollback(self) -> State:
        """Go back to the previous version, which is proven again first; the current one is *bad* from now on."""
        with self._changing():
            return self._roll_back(self.state())

    def _roll_back(self, state: State) -> State:
        if state.current is None or state.previous is None:
            raise ModelStoreError("there is no previous version to go back to", file=self.folder)
        self._open(state, state.previous).model()
        state = replace(state.with_state(state.current, "bad"), current=state.previous, previous=None)
        self._save(state)
        return state

    def open_current(self, isa: str | None = None) -> tuple[Bundle, str | None]:
        """The current bundle, proven on this machine, and None; or the previous one, and why the current failed.

        An instruction set that cannot be had is the caller's mistake and no failure of the model. Raises what failed
        where there is no previous version, or it failed, too.
        """
        with self._changing():
            state = self.state()
            current = self.current(state)
            entry = state.versions[current]
            try:
                if entry.state in TRIAL and entry.starts >= MAX_STARTS and state.previous is not None:
                    raise _NeverEndedWellError(
                        f"was started {entry.starts} times and never ended well",
                        file=self.path(current),
                    )
                return self._start(state, isa), None
            except _ISA_ERRORS:
                raise
            except SedgeError as failed:
                try:
                    state = self._roll_back(state)
                except SedgeError as worse:
                    if isinstance(failed, _NeverEndedWellError):  # the one before is worse
                        return self._start(state, isa), None
                    raise failed from worse
                assert state.current is not None
                return self._open(state, state.current), str(failed)

    def _start(self, state: State, isa: str | None) -> Bundle:
        """Prove the current version; on trial, its start is counted."""
        assert state.current is not None
        bundle = self._open(state, state.current)
        bundle.model(isa)
        entry = state.versions[state.current]
        if entry.state in TRIAL and entry.starts < MAX_STARTS:
            self._save(state.with_starts(state.current, entry.starts + 1))
        return bundle

    def ended_well(self, version: str) -> None:
        """A run with the current version came to a clean end: its starts count from 0 again."""
        with self._changing():
            state = self.state()
            if version == state.current and state.versions[version].starts:
                self._save(state.with_starts(version, 0))


def stores_in(root: Path) -> list[ModelStore]:
    """The stores of a folder of models, or the one that the folder itself is; ModelStoreError where there is none."""
    found = [root] if (root / STORE).exists() else sorted(path.parent for path in root.glob(f"*/{STORE}"))
    if not found:
        raise ModelStoreError("no model was installed here", file=root)
    return [ModelStore(folder) for folder in found]


def describe(store: ModelStore) -> dict[str, Any]:
    """The store's state as plain data, versions in their order; `bytes` of a bundle None where its file is missing."""
    state = store.state()
    rows = []
    for version in sorted(state.versions, key=parse_version):
        file = store.folder / version / BUNDLE
        size = file.stat().st_size if file.is_file() else None
        rows.append({"version": version, **asdict(state.versions[version]), "bytes": size})
    return asdict(state) | {"folder": str(store.folder), "versions": rows}
