"""Long work in parts: one part a material, finished parts wait on disk, so that an interrupted run goes on.

The folder ``OUT.parts/`` holds counts and a JSON note with their SHA-256 for every finished part, and the digest of the
plan that they are of.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from libsedge.errors import ConfigError, FileFormatError, SedgeError


class Work(Protocol):
    """What `finish` carries out: named materials, one part of counts each; `generate.Plan` or `chemistry.Plan`."""

    @property
    def materials(self) -> tuple[Any, ...]: ...
    def digest(self) -> str: ...
    def simulate(self, material: Any) -> np.ndarray: ...


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


class Parts:
    """The folder of finished parts beside the output; every file in it is named by this class."""

    def __init__(self, out: Path, plan: Work) -> None:
        self.folder = out.with_name(out.name + ".parts")
        self.plan, self.digest = plan, plan.digest()

    def open(self) -> None:
        """Make the folder or take over an earlier one of the same plan; `ConfigError` for another plan's."""
        note = self.folder / "plan.json"
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot be made: {error}", file=self.folder, field="output") from error
        if note.exists():
            found = self._json(note).get("digest")
            if found != self.digest:
                raise ConfigError(
                    "holds parts of another configuration: remove it or choose another output",
                    file=self.folder,
                    field="digest",
                    value=found,
                )
        elif any(self.folder.iterdir()):
            raise ConfigError(
                "exists and is no folder of parts: remove it or choose another output", file=self.folder
            )
        else:
            _write(note, json.dumps({"digest": self.digest}).encode())

    @staticmethod
    def _json(path: Path) -> dict[str, object]:
        try:
            content = json.loads(path.read_bytes())
        except ValueError as error:
            raise FileFormatError(f"not JSON: {error}; remove it to start again", file=path) from error
        if not isinstance(content, dict):
            raise FileFormatError("not a JSON object; remove it to start again", file=path)
        return content

    def _paths(self, material: Any) -> tuple[Path, Path]:
        name = f"{self.plan.materials.index(material):03d}"
        return self.folder / f"{name}.npy", self.folder / f"{name}.json"

    def done(self, material: Any) -> bool:
        return self._paths(material)[1].exists()

    def save(self, material: Any, counts: np.ndarray) -> None:
        data, note = self._paths(material)
        buffer = io.BytesIO()
        np.save(buffer, counts, allow_pickle=False)
        _write(data, buffer.getvalue())
        content = {"material": material.name, "sha256": hashlib.sha256(buffer.getvalue()).hexdigest()}
        _write(note, json.dumps(content).encode())  # last: a part counts from here on

    def load(self, material: Any) -> np.ndarray:
        """The counts of a finished part; `FileFormatError` where it is missing, damaged or another
        material's.
        """
        data, note = self._paths(material)
        content = self._json(note)
        if content.get("material") != material.name:
            raise FileFormatError(
                f"is not {material.name!r}", file=note, field="material", value=content.get("material")
            )
        try:
            raw = data.read_bytes()
        except OSError as error:
            raise FileFormatError(
                f"cannot be read ({error}); remove {note.name} to compute it again", file=data
            ) from error
        found = hashlib.sha256(raw).hexdigest()
        if found != content.get("sha256"):
            raise FileFormatError(
                f"is damaged; remove {note.name} to compute it again", file=data, field="sha256", value=found
            )
        counts: np.ndarray = np.load(io.BytesIO(raw), allow_pickle=False)
        return counts

    def remove(self) -> None:
        shutil.rmtree(self.folder)


def _work(plan: Work, out: Path, material: Any) -> str:
    Parts(out, plan).save(material, plan.simulate(material))
    return str(material.name)


def _compute(plan: Work, out: Path, missing: Sequence[Any], jobs: int) -> Iterator[str]:
    """Names of the materials whose parts get finished, in the order of finishing."""
    if jobs == 1 or len(missing) <= 1:
        for material in missing:
            yield _work(plan, out, material)
        return
    # spawn: the same start on every platform, and no copy of this process's threads and locks
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(missing)), mp_context=context) as pool:
        futures = [pool.submit(_work, plan, out, material) for material in missing]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise SedgeError(
                "a worker process was ended from outside (out of memory?); finished parts are kept, call again",
                file=out,
            ) from error
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


@contextlib.contextmanager
def progress_bar(
    show: bool, total: int, done: int = 0, what: str = "simulating materials"
) -> Iterator[Callable[[], None]]:
    if not show:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total, completed=done)
        yield lambda: bar.advance(task)


def open_parts(plan: Work, path: Path) -> Parts:
    """The folder of parts beside ``path``; `ConfigError` where ``path`` exists or cannot be."""
    if path.exists():
        raise ConfigError("exists already: remove it or choose another output", file=path, field="output")
    if not path.parent.is_dir():
        raise ConfigError("the folder does not exist", file=path, field="output")
    parts = Parts(path, plan)
    parts.open()
    return parts


def finish(plan: Work, path: Path, *, jobs: int | None = None, progress: bool = False) -> Parts:
    """All parts of ``plan`` beside ``path``, taking over the finished ones of an interrupted run; see `run`."""
    workers = processes(jobs)
    parts = open_parts(plan, path)
    missing = [material for material in plan.materials if not parts.done(material)]
    for material in plan.materials:
        if material not in missing:
            parts.load(material)  # proves earlier parts before hours of work are added to them
    total = len(plan.materials)
    with progress_bar(progress, total, total - len(missing)) as advance:
        for _ in _compute(plan, path, missing, workers):
            advance()
    return parts


def processes(jobs: int | None) -> int:
    """``jobs``, None = CPUs this process may use; `ConfigError` beyond 1 ... 1024."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = available if jobs is None else jobs
    if not 1 <= workers <= 1024:
        raise ConfigError("must be 1 ... 1024", field="jobs", value=workers)
    return workers
