"""What the worker makes of one frame: a dark reference, a passive row, or a decision; and its row for the journal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from libsedge.classifier import Decision
from libsedge.errors import SedgeError
from libsedge.frame import Frame, encode
from libsedge.journal import Record
from libsedge.ledger import Key
from libsedge.shadow import ERROR, Shadow


class FrameClassifier(Protocol):
    """What the pipeline needs of `libsedge.classifier.Classifier`, bound to the source's axis."""

    #: of every spectrum; None = any
    channels: int | None
    #: seconds of the last call's preprocessing and inference
    spent_s: tuple[float, float]

    @property
    def digest(self) -> str | None:
        """The bundle's; None where there is none."""

    def classify(
        self, counts: np.ndarray, dark: np.ndarray | None, *, saturation: float | None, distance_m: float
    ) -> Decision: ...


def _failed(decision: Decision) -> bool:
    return decision.reason is not None and decision.reason.startswith(ERROR)


class Decider:
    """Decides with `classifier`, which may be exchanged between two frames; keeps the dark of every stream.

    saturation : counts at which a pixel is clipped; None = unknown. Never raises for what a frame holds.
    """

    def __init__(self, classifier: FrameClassifier, saturation: float | None) -> None:
        self.classifier = classifier
        #: errors instead of a decision, of this classifier, one after another
        self.failures = 0
        #: another classifier that decides unheard, and its account
        self.shadow: tuple[FrameClassifier, Shadow] | None = None
        self._saturation = saturation
        self._darks: dict[int, np.ndarray] = {}

    def note_dark(self, frame: Frame) -> None:
        """Take a usable dark frame as its stream's reference from now on."""
        if frame.dark and self.takes(frame) and np.isfinite(frame.values).all():
            self._darks[frame.stream_id] = np.asarray(frame.values, np.float32)

    def takes(self, frame: Frame) -> bool:
        """True when the frame is as long as the classifier's spectra."""
        return self.classifier.channels in (None, frame.values.size)

    def decide(self, frame: Frame) -> tuple[str, Decision | None]:
        """(role, decision): None where none is made, of a dark or passive frame."""
        if frame.dark:
            finite = bool(np.isfinite(frame.values).all())
            return "dark", None if finite else Decision(None, None, None, None, False, "non_finite")
        if frame.passive:
            return "passive", None
        decision = self._classify(self.classifier, frame, frame.values)
        self.failures = self.failures + 1 if _failed(decision) else 0
        if self.shadow is not None:
            other, shadow = self.shadow
            shadow.look(decision, lambda: self._classify(other, frame, frame.values))
        return "light", decision

    def decide_average(self, frames: Sequence[Frame]) -> Decision:
        """The decision about the mean of several frames of one stream and length."""
        total = np.zeros(frames[0].values.size)
        for frame in frames:
            total += frame.values
        return self._classify(self.classifier, frames[0], (total / len(frames)).astype(np.float32))

    def _classify(self, classifier: FrameClassifier, frame: Frame, values: np.ndarray) -> Decision:
        try:
            return classifier.classify(
                values,
                self._darks.get(frame.stream_id),
                saturation=self._saturation,
                distance_m=frame.distance_mm / 1000 if frame.distance_mm else math.nan,
            )
        except SedgeError as error:  # the frame keeps its place in the journal, with what went wrong
            return Decision(None, None, None, None, False, f"{ERROR}{type(error).__name__}")

    def record(self, key: Key, frame: Frame, role: str, decision: Decision | None) -> Record:
        """The frame's row; `decision` None leaves its columns empty."""
        return Record(
            key=key,
            time_ns=frame.time_ns,
            distance_mm=frame.distance_mm or None,
            role=role,
            label=decision.label if decision else None,
            confidence=decision.confidence if decision else None,
            accepted=decision.accepted if decision else None,
            reason=decision.reason if decision else None,
            probabilities=decision.probabilities if decision else None,
            model=self.classifier.digest,
            frame_crc=int.from_bytes(encode(frame)[52:56], "little"),
        )
