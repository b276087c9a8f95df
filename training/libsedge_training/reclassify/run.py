"""A re-classification from start to end: survey, blocks (kept one by one), proof, manifest.

The folder holds `plan.json` (the shards with their digests), `parts/`, one Parquet file a block, and
`manifest.json`. The parts are written by the process that was called, whole or not at all, under names that only
archive and block size decide: a block is either there or is done again, whoever was killed. The manifest comes last,
after the parts were read back and every row of every shard was found once.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from libsedge import extras
from libsedge.bundle import Bundle
from libsedge.classifier import Classifier
from libsedge.errors import ConfigError, RunError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..files import dump_json, locked, write_atomic
from ..pool import Pool, open_pool
from .archive import Block, Shard, shards, survey
from .work import UNREADABLE, perform

FORMAT, VERSION = "libsedge-reclassification", 1
BLOCK_ROWS = 8192
_FIGURES = "{task.completed:,.0f} of {task.total:,.0f} spectra, {task.fields[rate]:,.0f} a second"


def reclassify(
    archives: Sequence[str | os.PathLike[str]],
    bundle: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    jobs: int | None = None,
    scheduler: str | None = None,
    block_rows: int = BLOCK_ROWS,
    console: Console | None = None,
) -> dict[str, Any]:
    """Classify every spectrum of `archives` with `bundle`, fill the folder `out`, return manifest.json's contents.

    jobs : worker processes, None = one a CPU, 1 = this process. scheduler : address of a Dask scheduler whose workers
    see archives and bundle under the same paths. block_rows : spectra a part.
    Raises FileFormatError and ConfigError for what cannot begin, BundleError for the bundle, RunError where `out`
    holds other work, or archive or parts change meanwhile. A damaged shard is no error, it is in the manifest.
    """
    if not 1 <= block_rows <= 1 << 20:
        raise ConfigError("must be 1 ... 1048576", field="block-rows", value=block_rows)
    extras.check("pyarrow", "parquet")
    model = Classifier(
        Bundle.open(bundle)
    ).bundle  # runs its goldens here: nothing begins with a model that fails
    found, left_out = shards(archives)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder), open_pool(jobs, scheduler) as pool:
        stamps = [shard.stamp() for shard in found]
        surveyed = {shard.name: row for shard, row in pool.run(survey, found)}
        rows = [surveyed[shard.name] for shard in found]
        _begin(
            folder, {"model": model.digest, "block_rows": block_rows, "shards": rows, "left_out": left_out}
        )
        blocks = [block for n, shard in enumerate(found) for block in _blocks(n, shard, rows[n], block_rows)]
        damage = _work(pool, blocks, folder, os.path.abspath(bundle), model.digest, console)
        if [shard.stamp() for shard in found] != stamps:
            raise RunError(
                "has changed while it was read: remove the output and begin again", field="ARCHIVE"
            )
    manifest = _prove(folder, blocks, rows, damage, model, left_out, block_rows)
    write_atomic(folder / "manifest.json", dump_json(manifest))
    return manifest


def _blocks(number: int, shard: Shard, row: dict[str, Any], size: int) -> Iterator[Block]:
    for start in range(0, row["spectra"], size):
        yield Block(number, shard, row["sha256"], start, min(start + size, row["spectra"]))


def _begin(folder: Path, plan: dict[str, Any]) -> None:
    """Note the plan, or find the same one noted; RunError for another's folder."""
    note, parts = folder / "plan.json", folder / "parts"
    if note.exists():
        try:
            before = json.loads(note.read_text("utf-8"))
        except ValueError as wrong:
            raise RunError(f"cannot be read ({wrong}); begin again in an empty folder", file=note) from wrong
        other = next((name for name in plan if before.get(name) != plan[name]), None)
        if other is not None:
            raise RunError("holds the work of another archive, model or block size", file=folder, field=other)
    elif any(p.name != ".lock" for p in folder.iterdir()):
        raise RunError("the folder is not empty and holds no re-classification; name a new one", file=folder)
    else:
        write_atomic(note, dump_json(plan))
    parts.mkdir(exist_ok=True)


def _file(folder: Path, block: Block) -> Path:
    return folder / "parts" / f"{block.key}.parquet"


def _whole(path: Path, block: Block, model: str) -> Counter[str] | None:
    """Reasons (or "accepted") of a part's rows, None where the part is not this block's rows, each once."""
    arrow: Any = extras.load("pyarrow", "parquet")
    parquet: Any = extras.load("pyarrow.parquet", "parquet")
    try:
        table = parquet.read_table(path, columns=["shard", "row", "model", "accepted", "reason"])
    except (OSError, arrow.ArrowException):
        return None
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    rows = list(range(block.start, block.stop))
    right = (
        columns["row"] == rows
        and set(columns["shard"]) == {block.shard.name}
        and set(columns["model"]) == {model}
    )
    reasons = [
        "accepted" if a else str(r) for a, r in zip(columns["accepted"], columns["reason"], strict=True)
    ]
    return Counter(reasons) if right else None


def _work(
    pool: Pool, blocks: Sequence[Block], folder: Path, bundle: str, model: str, console: Console | None
) -> dict[int, dict[str, Any]]:
    """Do the blocks that are not there yet; {shard number: its first damage}, of earlier calls as well."""
    noted = folder / "damage"
    noted.mkdir(exist_ok=True)
    left = [b for b in blocks if _whole(_file(folder, b), b, model) is None]
    todo, begin = sum(b.stop - b.start for b in left), time.perf_counter()
    columns = (BarColumn(), TextColumn(_FIGURES), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=console is None, transient=True) as bar:
        shown = bar.add_task("", total=todo, rate=0.0)
        done = 0
        for block, result in pool.run(perform, left, bundle, model):
            if result["error"] is not None:  # before the part: a part that is there has its damage noted
                write_atomic(noted / f"{block.key}.json", dump_json(result["error"]))
            write_atomic(_file(folder, block), result["parquet"])
            done += block.stop - block.start
            bar.update(shown, completed=done, rate=done / (time.perf_counter() - begin))
    if console is not None:
        seconds = time.perf_counter() - begin
        console.print(
            f"{todo:,} spectra in {seconds:.1f} s, {todo / max(seconds, 1e-9):,.0f} a second on {pool.workers} "
            f"worker{'s' if pool.workers > 1 else ''}; {len(blocks) - len(left)} parts were there",
            highlight=False,
        )
    found: dict[int, dict[str, Any]] = {}
    for block in blocks:
        note = noted / f"{block.key}.json"
        if block.number not in found and note.exists():
            found[block.number] = json.loads(note.read_text("utf-8"))
    return found


def _prove(
    folder: Path,
    blocks: Sequence[Block],
    rows: Sequence[dict[str, Any]],
    damage: dict[int, dict[str, Any]],
    model: Bundle,
    left_out: list[str],
    block_rows: int,
) -> dict[str, Any]:
    """The manifest, from the parts as they are on disk; RunError where a row is missing or there twice."""
    expected = {_file(folder, block) for block in blocks}
    strange = sorted(p.name for p in (folder / "parts").glob("*.parquet") if p not in expected)
    if strange:
        raise RunError(
            "is no part of this work: its rows would count twice", file=folder / "parts" / strange[0]
        )
    parts: list[dict[str, Any]] = []
    counted = [Counter[str]() for _ in rows]
    for block in blocks:
        path = _file(folder, block)
        reasons = _whole(path, block, model.digest)
        if reasons is None:
            raise RunError("does not hold its rows once each: remove it and call again", file=path)
        counted[block.number] += reasons
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        parts.append({"file": f"parts/{path.name}", "rows": block.stop - block.start, "sha256": sha256})
    listed: list[dict[str, Any]] = []
    for number, row in enumerate(rows):
        reasons = counted[number]
        if reasons.total() != row["spectra"]:
            raise RunError("not every spectrum has one row", field=row["name"], value=reasons.total())
        broken = row["error"] is not None
        verdict = "not opened" if broken else "damaged" if number in damage else "whole"
        listed.append(
            {
                **row,
                "verdict": verdict,
                "error": row["error"] or damage.get(number),
                "rows": reasons.total(),
                "accepted": reasons["accepted"],
                "unreadable": reasons[UNREADABLE],
                "not_accepted": {
                    k: n for k, n in sorted(reasons.items()) if k not in ("accepted", UNREADABLE)
                },
            }
        )
    whole = hashlib.sha256("".join(part["sha256"] for part in parts).encode()).hexdigest()
    return {
        "format": FORMAT,
        "version": VERSION,
        "simulated": any(row["simulated"] for row in rows),
        "model": {"digest": model.digest, "labels": list(model.labels)},
        "block_rows": block_rows,
        "spectra": sum(row["rows"] for row in listed),
        "accepted": sum(row["accepted"] for row in listed),
        "unreadable": sum(row["unreadable"] for row in listed),
        "damaged_shards": sum(row["verdict"] != "whole" for row in listed),
        "digest": whole,
        "shards": listed,
        "left_out": left_out,
        "parts": parts,
    }
