"""build/bench/bench.json: what `make bench` leaves, written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parents[1] / "build" / "bench" / "bench.json"


def write(document: dict[str, Any], out: Path = BENCH) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(".part")
    partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    partial.replace(out)


def add(part: str, value: Any, out: Path = BENCH) -> None:
    """Put one part into the document, in place of what it had before."""
    document = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    write(document | {part: value}, out)
