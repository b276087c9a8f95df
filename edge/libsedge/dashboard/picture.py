"""What crosses over to the page: the model in use, and the pipeline at one moment."""

from __future__ import annotations

import time
from typing import Any

from libsedge.bundle import Bundle
from libsedge.classifier import Classifier
from libsedge.dashboard import message
from libsedge.dashboard.tap import Tap
from libsedge.health import resident_bytes
from libsedge.journal import Record
from libsedge.journal_rows import BurstRecord
from libsedge.pipeline import Pipeline

#: what the page says about the model in safe mode
NO_MODEL: dict[str, Any] = {
    **{"name": "no model", "version": "", "counter": 0, "sha256": "", "isa": "none", "labels": []},
    **{"min_confidence": 0.0, "signer": None, "key": None},
}


def about_model(bundle: Bundle, classifier: Classifier) -> dict[str, Any]:
    """What the page says about the model in use."""
    signer = bundle.signer
    return {
        **{key: bundle.manifest[key] for key in ("name", "version", "counter")},
        "sha256": bundle.digest,
        "isa": classifier.model.isa,
        "labels": bundle.labels,
        "min_confidence": float(bundle.calibration["min_confidence"]),
        "signer": None if signer is None else signer.name,
        "key": None if signer is None else signer.raw.hex(),
    }


def _row(record: Record) -> list[Any]:
    """A decision for the chart over distance: metres, confidence, label, accepted."""
    distance = None if record.distance_mm is None else record.distance_mm / 1000
    return [distance, record.confidence, record.label, bool(record.accepted)]


def _burst(burst: BurstRecord | None) -> dict[str, Any] | None:
    """What the page says about the last burst."""
    if burst is None:
        return None
    names = ("mode", "shots", "used", "label", "confidence", "accepted", "reason")
    return {"first": str(burst.first), "last": str(burst.last)} | {
        name: getattr(burst, name) for name in names
    }


def picture(pipeline: Pipeline, tap: Tap) -> bytes:
    """What the page shows, at this moment."""
    ledger = pipeline.ledger
    latest, recent = tap.take()
    with ledger.lock:  # one moment: the counts add up
        counts = ledger.summary()
        del counts["forgotten_epochs"]
        counts["gaps"] = sum(stream["gaps"] for stream in counts.pop("streams"))
        queued = len(pipeline.queue)
    head: dict[str, Any] = {
        "kind": "picture",
        "time": time.time(),
        "counts": counts,
        "queue": [queued, pipeline.queue.capacity],
        "latency": pipeline.latency.buckets(),
        "latency_max_s": pipeline.latency.max_s,
        "deadline_s": pipeline.deadline_s,
        "deadline_missed": pipeline.deadline_missed,
        "turns": [pipeline.reader_turns, pipeline.worker_turns, pipeline.reader_done],
        "journal_error": pipeline.commits.journal_error,
        "sink_errors": pipeline.commits.sink_errors,
        "rss": resident_bytes(),
        "recent": [_row(record) for record in recent if record.role == "light"],
        "burst": _burst(pipeline.last_burst),
    }
    if latest is None:
        return message.pack(head)
    frame, record = latest
    head["frame"] = {
        **{
            key: str(value) for key, value in record.key._asdict().items()
        },  # 64 bits are too many for a browser
        **{
            name: getattr(record, name)
            for name in ("distance_mm", "role", "label", "confidence", "accepted", "reason", "model")
        },
        "time_ns": str(record.time_ns),
        "probabilities": None
        if record.probabilities is None
        else [round(p, 6) for p in record.probabilities],
    }
    return message.pack(head, message.thin_values(frame.values))
