"""Who does the work: this process, workers that Dask starts on this machine, or a Dask scheduler elsewhere.

One interface: `run(function, tasks)` yields (task, result) as tasks end, in any order. The workers write
nothing; whoever calls keeps the results, so that a scheduler's workers need no common output folder. They do
need to read the spectra under the same path.
"""

from __future__ import annotations

import os
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
#: a task whose worker was killed this often is given up
ALLOWED_KILLS = 3
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

    A worker that is killed is replaced and its task begins again, up to ALLOWED_KILLS times. ConfigError where
    the scheduler cannot be reached or has no worker.
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
        dask.config.set({"distributed.scheduler.allowed-failures": ALLOWED_KILLS})
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
        from distributed import KilledWorker, as_completed

        futures = {
            self._client.submit(function, task, *arguments, key=f"{task.key}-{number}", pure=False): task
            for number, task in enumerate(tasks)
        }
        try:
            for future in as_completed(list(futures)):
                task = futures.pop(future)
                try:
                    row = future.result()
                except KilledWorker as wrong:
                    raise SedgeError(
                        f"its worker was killed {ALLOWED_KILLS + 1} times (out of memory?); finished work is "
                        "kept, call again",
                        field="task",
                        value=task.key,
                    ) from wrong
                yield task, row
        finally:
            self._client.cancel(list(futures))

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
