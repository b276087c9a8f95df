"""Files of a run: written under a temporary name, flushed to disk, renamed; never half there. One process a folder."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from libsedge.errors import RunError


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` under a temporary name beside `path`, flush it to disk, rename."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def dump_json(data: Mapping[str, Any]) -> bytes:
    """JSON text, keys in the order of `data`, one newline at the end; NaN and infinity are refused
    (ValueError).
    """
    return (json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """RunError where another process works on the folder; the system lets go of the lock of a killed one."""
    with open(folder / ".lock", "wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError("another process works on this folder", file=folder) from None
        yield
