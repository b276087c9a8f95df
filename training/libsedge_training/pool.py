"""Who does the work: this process, workers that Dask starts on this machine, or a Dask scheduler elsewhere.

One interface: `run(function, tasks)` yields (task, result) as tasks end, in any order. The workers write
nothing; whoever calls keeps the results, so that a scheduler's workers need no common output folder. They do
need to read the spectra under the same path.
"""

from __future__ import annotations

import os
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from libsedge.errors import ConfigError, SedgeError


class Keyed(Protocol):
    """A task: picklable, with a name that is its own."""

    @property
    def key(self) -> str: ...


Task = TypeVar("Task", bound=Keyed)
Function = Callable[..., dict[str, Any]]
#: a task whose worker was killed more often than this is given up
ALLOWED_KILLS = 3
#: without a task that ended for this long it is asked whether there still is a worker; twice without one is the end
PATIENCE_S = 60.0
# One thread a worker: the work is parallel over runs.
_ENVIRONMENT = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


class Pool(ABC):
    """A context manager; see this module's text."""

    workers: int

    @abstractmethod
    def run(
        self, function: Function, tasks: Sequence[Task], *arguments: Any
    ) -> Iterator[tuple[Task, dict[str, Any]]]:
        """`function(task, *arguments)` of every task, in the order of finishing."""

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *wrong: object) -> None:
        return None


class Here(Pool):
    """One task after the other in this process."""

    workers = 1

    def run(
        self, function: Function, tasks: Sequence[Task], *arguments: Any
    ) -> Iterator[tuple[Task, dict[str, Any]]]:
        for task in tasks:
            yield task, function(task, *arguments)


class Dask(Pool):
    """Dask: `workers` processes of this machine on the loopback interface, or the scheduler at `address`.

    A worker that is killed is replaced and its tasks begin again, up to ALLOWED_KILLS times. Dask holds a kill against
    every task that the worker had been given, also those that only waited there, so what it gives up is run once more,
    alone, after all others: who is killed then has killed its worker. ConfigError where the scheduler cannot be reached
    or has no worker.
    """

    def __init__(self, workers: int, address: str | None = None) -> None:
        try:
            import dask
            from distributed import Client, LocalCluster
        except ImportError as missing:
            raise ConfigError(
                f"more than one worker needs {missing.name!r}: install libsedge[study], or use --jobs 1",
                field="jobs",
                value=workers,
            ) from missing

        self._cluster = None
        dask.config.set(
            {
                "distributed.scheduler.allowed-failures": ALLOWED_KILLS,
                # or a worker that is on its way back 15 s after a kill, on a busy machine, is sent away for good
                "distributed.deploy.lost-worker-timeout": "1 day",
            }
        )
        if address is None:
            dask.config.set({"distributed.nanny.pre-spawn-environ": _ENVIRONMENT})
            self._cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",  # None takes port 8787 and warns where it is not free
                memory_limit=0,
                silence_logs=50,
            )
        try:
            self._client = Client(self._cluster if address is None else address, timeout=20)
        except (OSError, ValueError, TimeoutError) as wrong:
            raise ConfigError(f"cannot be reached: {wrong}", field="scheduler", value=address) from wrong
        self.workers = len(self._client.scheduler_info(n_workers=-1)["workers"])
        if not self.workers:
            self.__exit__()
            raise ConfigError("has no worker", field="scheduler", value=address)

    def run(
        self, function: Function, tasks: Sequence[Task], *arguments: Any
    ) -> Iterator[tuple[Task, dict[str, Any]]]:
        from distributed import KilledWorker

        run = uuid.uuid4().hex  # a scheduler takes two tasks of one key for one task, whoever they are from

        def submit(task: Task, name: str) -> Any:
            return self._client.submit(function, task, *arguments, key=f"{task.key}-{name}-{run}", pure=False)

        futures = {submit(task, str(number)): task for number, task in enumerate(tasks)}
        suspects = []
        try:
            for task, future in self._ended(futures):
                try:
                    row = future.result()
                except KilledWorker:
                    suspects.append(task)
                    continue
                yield task, row
            for suspect in suspects:
                futures[submit(suspect, "alone")] = suspect
                ((task, future),) = self._ended(futures)
                try:
                    row = future.result()
                except KilledWorker as wrong:
                    raise SedgeError(
                        f"its worker was killed {ALLOWED_KILLS + 1} times while it ran alone (out of memory?); "
                        "finished work is kept, call again",
                        field="task",
                        value=task.key,
                    ) from wrong
                yield task, row
        finally:
            self._client.cancel(list(futures))

    def _ended(self, futures: dict[Any, Task]) -> Iterator[tuple[Task, Any]]:
        """Takes out every future as it ends. SedgeError where no worker of this machine is left: one that is killed
        while it starts is not replaced by Dask. (A scheduler elsewhere may get workers again: it is waited for.)"""
        from distributed import as_completed

        gone = False
        while futures:
            try:
                for future in as_completed(list(futures), timeout=PATIENCE_S):
                    gone = False
                    yield futures.pop(future), future
            except TimeoutError:
                was, gone = gone, not self._client.scheduler_info(n_workers=-1)["workers"]
                if self._cluster is not None and was and gone:
                    raise SedgeError(
                        "no worker is left; finished work is kept, call again",
                        field="jobs",
                        value=self.workers,
                    ) from None

    def __exit__(self, *wrong: object) -> None:
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def processors() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_pool(jobs: int | None, address: str | None) -> Pool:
    """`jobs` workers (None = one a CPU; 1 = this process, without Dask), or those of a scheduler."""
    if jobs is not None and not 1 <= jobs <= 1024:
        raise ConfigError("must be 1 ... 1024", field="jobs", value=jobs)
    count = processors() if jobs is None else jobs
    return Here() if address is None and count == 1 else Dask(count, address)
