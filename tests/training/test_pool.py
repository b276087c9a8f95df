"""Workers that are killed: what their tasks and the tasks beside them come to."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from libsedge.errors import SedgeError
from libsedge_training import pool


@dataclass(frozen=True)
class Task:
    number: int

    @property
    def key(self) -> str:
        return f"task-{self.number}"


TASKS = [Task(number) for number in range(4)]


#: kills of a worker that a task may be near, in these tests
ALLOWED = 1


def die(task: Task, killer: int, times: int, folder: str) -> dict[str, Any]:
    """The task of number ``killer`` kills its worker at the first ``times`` calls; every call leaves a file."""
    calls = len(list(Path(folder).glob(f"{task.number}-*")))
    Path(folder, f"{task.number}-{calls}").touch()
    if task.number == killer and calls < times:
        time.sleep(1)  # Dask has to have seen the worker start
        os.kill(os.getpid(), signal.SIGKILL)
    return {"calls": calls + 1}


@pytest.fixture(scope="module")
def worker() -> Iterator[pool.Dask]:
    """One worker that has been given every task: Dask blames those that wait behind the killer, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "ALLOWED_KILLS", ALLOWED)
        workers = pool.Dask(1)
        yield workers
        workers.__exit__()


def where(task: Task, folder: str) -> dict[str, Any]:
    time.sleep(1)  # both runs are at the scheduler
    return {"folder": folder}


def test_two_runs_at_one_scheduler_keep_their_rows_apart(worker: pool.Dask) -> None:
    """The same tasks, as two studies of other spectra have them."""
    with pool.open_pool(None, worker._client.scheduler_info()["address"]) as other:
        runs = [one.run(where, TASKS[:2], name) for one, name in ((worker, "a"), (other, "b"))]
        rows = [row["folder"] for pair in zip(*runs, strict=True) for _, row in pair]
    assert rows == ["a", "b"] * 2


def test_what_dask_gives_up_is_run_alone(worker: pool.Dask, tmp_path: Path) -> None:
    rows = {task.number: row for task, row in worker.run(die, TASKS, 0, ALLOWED + 1, str(tmp_path))}
    assert rows[0] == {"calls": ALLOWED + 2}
    assert sorted(rows) == [0, 1, 2, 3]


def test_who_kills_every_worker_is_named(worker: pool.Dask, tmp_path: Path) -> None:
    """Negative control: given up with its name, not for ever, and nobody else in its place."""
    with pytest.raises(SedgeError, match=r"task = 'task-1'.*killed 2 times while it ran alone"):
        list(worker.run(die, TASKS, 1, 1000, str(tmp_path)))
    assert len(list(tmp_path.glob("1-*"))) == 2 * (ALLOWED + 1)


def test_nobody_waits_for_workers_that_are_gone(
    worker: pool.Dask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last test of the worker: it takes it away."""
    monkeypatch.setattr(pool, "PATIENCE_S", 0.5)
    assert worker._cluster is not None
    worker._cluster.scale(0)
    with pytest.raises(SedgeError, match="no worker is left"):
        list(worker.run(die, TASKS, 9, 0, str(tmp_path)))
