"""Files of a run: written under a temporary name, flushed to disk, renamed; never half there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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
