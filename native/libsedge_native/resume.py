"""Long work in pieces: every finished piece is one line of a file, so a killed run goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any


class Pieces:
    """A JSON-lines file: the first line says what the work is (`key`), each other line is one finished piece.

    done : name -> row. A file whose key differs was made by other work and is started anew; a last line that a killed
    process did not finish is cut off.
    """

    def __init__(self, path: Path, key: dict[str, Any]) -> None:
        self.path, self.done = path, dict[str, dict[str, Any]]()
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        kept = lines[:-1]  # behind the last line feed there is nothing, or half a line
        path.parent.mkdir(parents=True, exist_ok=True)
        if not kept or json.loads(kept[0]) != key:
            kept = [json.dumps(key).encode()]
        path.write_bytes(b"".join(line + b"\n" for line in kept))
        for line in kept[1:]:
            row = json.loads(line)
            self.done[row.pop("piece")] = row

    def add(self, piece: str, row: dict[str, Any]) -> None:
        """Record a finished piece."""
        self.done[piece] = row
        with self.path.open("ab") as file:
            file.write(json.dumps({"piece": piece, **row}).encode() + b"\n")


def generator_digest() -> str:
    """sha256, hex, of every file of this package: rows of one digest were made by one generator."""
    digest = hashlib.sha256()
    root = Path(str(resources.files("libsedge_native")))
    for path in sorted(root.rglob("*")):
        if path.suffix in (".py", ".j2", ".h", ".inc", ".cpp"):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
