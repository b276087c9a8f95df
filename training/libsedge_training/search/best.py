"""best.json, what a search leaves, as the name of a strategy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from libsedge.errors import RunError

FORMAT, VERSION = "libsedge-search", 1


def weighting_name(text: str) -> str:
    """`text`, or, where it ends in .json (`best.json`, `@best.json`), the best strategy of the search that left that
    file; else RunError.
    """
    return text if not text.endswith(".json") else str(best_of(text)["weighting"])


def best_of(text: str) -> dict[str, Any]:
    """What a search found: the contents of the best.json that `text` names; else RunError."""
    text = text.removeprefix("@")
    try:
        found = json.loads(Path(text).read_text("utf-8"))
    except (OSError, ValueError) as wrong:
        raise RunError(f"cannot be read: {wrong}", file=text) from wrong
    if not isinstance(found, dict) or found.get("format") != FORMAT or found.get("version") != VERSION:
        raise RunError(f"is not the best.json of a search (version {VERSION})", file=text, field="format")
    return found
