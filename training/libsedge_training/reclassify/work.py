"""One block of a shard in, one Parquet part out. Runs in any process that can read shard and bundle."""

from __future__ import annotations

import io
import math
from collections import Counter
from functools import lru_cache
from typing import Any

import numpy as np
from libsedge import extras
from libsedge.bundle import Bundle
from libsedge.classifier import Classifier, Decision
from libsedge.errors import FileFormatError, RunError, SedgeError
from libsedge.sources.files import SpectraFile, open_spectra

from .archive import Block, error

#: reason of a row whose spectrum could not be read; the classifier's own are `libsedge.classifier.REASONS`
UNREADABLE = "unreadable"
_ROWS = 256  # spectra classified at a time
_NOTHING = Decision(None, None, None, None, False, UNREADABLE)


def schema(labels: list[str], model: str) -> Any:
    """The columns of a part; probabilities are in the order of `labels`, which the metadata holds."""
    arrow: Any = extras.load("pyarrow", "parquet")
    text, number = arrow.string(), arrow.float64()
    columns = [
        arrow.field("shard", text, nullable=False),
        arrow.field("row", arrow.int64(), nullable=False),
        arrow.field("specimen", text),
        arrow.field("distance_m", arrow.float32()),
        arrow.field("label", text),
        arrow.field("confidence", number),
        arrow.field("accepted", arrow.bool_(), nullable=False),
        arrow.field("reason", text),
        arrow.field("probabilities", arrow.list_(number)),
        arrow.field("model", text, nullable=False),
    ]
    return arrow.schema(columns, metadata={"labels": "\n".join(labels), "model": model})


@lru_cache(maxsize=1)
def classifier(path: str, model: str) -> Classifier:
    """The bundle's classifier, opened and verified once a process; RunError where it is another bundle."""
    found = Classifier(Bundle.open(path))
    if found.digest != model:
        raise RunError(
            "is not the bundle that the work began with", file=path, field="digest", value=found.digest
        )
    return found


@lru_cache(maxsize=1)
def _shard(path: str, sha256: str) -> SpectraFile:
    """The open shard, once a process while its blocks follow each other."""
    return open_spectra(path)


def perform(block: Block, bundle: str, model: str) -> dict[str, Any]:
    """{parquet: bytes, reasons: how many rows have each (None = accepted), error: of the first unreadable row}."""
    judge = classifier(bundle, model)
    spectra = _shard(block.shard.path, block.sha256)
    if len(spectra) < block.stop:
        raise RunError(
            "has changed since the work began", file=block.shard.path, field="spectra", value=len(spectra)
        )
    wrong: dict[str, Any] | None = None
    decisions: list[Decision] = []
    try:
        judge.bind(spectra.axis.wavelength_nm, spectra.axis.mask)
        for start in range(block.start, block.stop, _ROWS):
            found, damage = _decide(judge, spectra, slice(start, min(start + _ROWS, block.stop)))
            decisions += found
            wrong = wrong or damage
    except RunError:
        raise
    except SedgeError as unusable:  # an axis that the model cannot take: no row of this shard can be decided
        wrong = error(unusable)
        decisions = [_NOTHING] * (block.stop - block.start)
    reasons = Counter(decision.reason for decision in decisions)
    return {
        "parquet": _parquet(block, spectra, decisions, judge),
        "reasons": {
            reason or "accepted": n for reason, n in sorted(reasons.items(), key=lambda r: r[0] or "")
        },
        "error": wrong,
    }


def _decide(
    judge: Classifier, spectra: SpectraFile, rows: slice
) -> tuple[list[Decision], dict[str, Any] | None]:
    """Decisions of `rows`; where they cannot be read together, one by one, so that damage costs only its own row."""
    try:
        counts = spectra.rows(rows)
    except FileFormatError as damage:
        if rows.stop - rows.start == 1:
            return [_NOTHING], error(damage)
        found: list[Decision] = []
        first: dict[str, Any] | None = None
        for row in range(rows.start, rows.stop):
            one, wrong = _decide(judge, spectra, slice(row, row + 1))
            found += one
            first = first or wrong
        return found, first
    return judge.classify_many(counts, spectra.dark, saturation=spectra.axis.saturation), None


def _parquet(block: Block, spectra: SpectraFile, decisions: list[Decision], judge: Classifier) -> bytes:
    arrow: Any = extras.load("pyarrow", "parquet")
    parquet: Any = extras.load("pyarrow.parquet", "parquet")
    rows = slice(block.start, block.stop)
    distances = [None if math.isnan(d) else d for d in spectra.distance_m[rows].tolist()]
    columns = {
        "shard": [block.shard.name] * len(decisions),
        "row": np.arange(block.start, block.stop),
        "specimen": [name or None for name in spectra.specimen[rows].tolist()],
        "distance_m": distances,
        "label": [d.label for d in decisions],
        "confidence": [d.confidence for d in decisions],
        "accepted": [d.accepted for d in decisions],
        "reason": [d.reason for d in decisions],
        "probabilities": [d.probabilities for d in decisions],
        "model": [judge.digest] * len(decisions),
    }
    table = arrow.Table.from_pydict(columns, schema(judge.labels, judge.digest))
    file = io.BytesIO()
    parquet.write_table(table, file, compression="zstd", row_group_size=len(decisions), version="2.6")
    return file.getvalue()
