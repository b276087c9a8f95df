"""What the worker makes of one frame: a dark reference, a passive row, or a decision; and its row for the journal."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from libsedge import _core
from libsedge.classifier import Decision
from libsedge.drift import DriftTracker
from libsedge.errors import AxisError, ConfigError, SedgeError
from libsedge.frame import FLAG_DARK, FLAG_PASSIVE, Frame, encode
from libsedge.journal import Record
from libsedge.ledger import Key
from libsedge.pixels import bad_pixels
from libsedge.shadow import ERROR, Shadow


class FrameClassifier(Protocol):
    """What the pipeline needs of `libsedge.classifier.Classifier`, bound to the source's axis."""

    #: of every spectrum; None = any
    channels: int | None

    @property
    def digest(self) -> str | None:
        """The bundle's; None where there is none."""

    @property
    def spent_s(self) -> tuple[float, float]:
        """Seconds of the last call's preprocessing and inference."""

    def decide(
        self,
        counts: np.ndarray,
        dark: np.ndarray | None,
        shift_nm: float,
        saturation: float | None,
        distance_m: float,
        /,
    ) -> Decision:
        """About one spectrum; SedgeError where it is nothing that a spectrum can be."""

    def leave_out(self, bad: np.ndarray) -> None:
        """Take these pixels, bool [channels], for masked from now on; AxisError where none would be left."""


def _failed(decision: Decision) -> bool:
    return decision.reason is not None and decision.reason.startswith(ERROR)


class Instrument:
    """What is put right about an instrument while it runs; all of it off by default.

    Parameters
    ----------
    drift : follows its axis; None = the axis is believed.
    bad_sigma : pixels of a dark frame that stand off by so much (`libsedge.pixels`) are left out; None = none.
    cosmic : leave pixels out of a burst's mean that a cosmic ray hit in one of its shots.
    """

    def __init__(
        self, drift: DriftTracker | None = None, bad_sigma: float | None = None, *, cosmic: bool = False
    ) -> None:
        if bad_sigma is not None and not 3 <= bad_sigma <= 1000:
            raise ConfigError("must be 3 to 1000", field="bad-pixels", value=bad_sigma)
        self.drift, self.bad_sigma, self.cosmic = drift, bad_sigma, cosmic
        #: counts for the account
        self.bad_pixels = self.cosmic_hits = 0

    def counters(self) -> dict[str, float]:
        """What it did, for the account; only what is on."""
        found: dict[str, float] = {}
        if self.drift is not None:
            found["shift_nm"] = round(self.drift.shift_nm, 3)
        if self.bad_sigma is not None:
            found["bad_pixels"] = self.bad_pixels
        if self.cosmic:
            found["cosmic_hits"] = self.cosmic_hits
        return found


class Decider:
    """Decides with `classifier`, which may be exchanged between two frames; keeps the dark of every stream.

    saturation : counts at which a pixel is clipped; None = unknown. Never raises for what a frame holds.
    """

    def __init__(
        self, classifier: FrameClassifier, saturation: float | None, instrument: Instrument | None = None
    ) -> None:
        self.classifier = classifier
        self.instrument = instrument or Instrument()
        #: errors instead of a decision, of this classifier, one after another
        self.failures = 0
        #: another classifier that decides unheard, and its account
        self.shadow: tuple[FrameClassifier, Shadow] | None = None
        self._saturation = saturation
        self._darks: dict[int, np.ndarray] = {}

    def note_dark(self, frame: Frame) -> None:
        """Take a dark frame, if it can be used, as its stream's reference from now on."""
        if self.classifier.channels in (None, frame.values.size) and np.isfinite(frame.values).all():
            self._darks[frame.stream_id] = np.asarray(frame.values, np.float32)
            self._leave_out(self.classifier)

    def exchange(self, classifier: FrameClassifier) -> None:
        """Decide with `classifier` from now on."""
        self.classifier, self.shadow, self.failures = classifier, None, 0
        self._leave_out(classifier)

    def _leave_out(self, classifier: FrameClassifier) -> None:
        sigma = self.instrument.bad_sigma
        if sigma is None or not self._darks or classifier.channels is None:
            return
        bad = np.any([bad_pixels(dark, sigma) for dark in self._darks.values()], axis=0)
        with contextlib.suppress(AxisError):  # it would leave nothing: then it is not believed
            classifier.leave_out(bad)
            self.instrument.bad_pixels = int(np.count_nonzero(bad))

    def decide(self, frame: Frame) -> tuple[str, Decision | None] | None:
        """(role, decision), without a decision of a dark or passive frame; None for a frame of another length."""
        classifier, values = self.classifier, frame.values
        if len(values) != classifier.channels and classifier.channels is not None:
            return None
        if frame.flags & (FLAG_DARK | FLAG_PASSIVE):
            if frame.passive and not frame.dark:
                return "passive", None
            finite = bool(np.isfinite(frame.values).all())
            return "dark", None if finite else Decision(None, None, None, None, False, "non_finite")
        if self.instrument.drift is not None:
            self.instrument.drift.look(values)
        decision = self._classify(classifier, frame, values)
        if decision.reason is not None or self.failures:
            self.failures = self.failures + 1 if _failed(decision) else 0
        if self.shadow is not None:
            other, shadow = self.shadow
            shadow.look(decision, lambda: self._classify(other, frame, frame.values))
        return "light", decision

    def decide_average(self, frames: Sequence[Frame]) -> Decision:
        """The decision about the mean of several frames of one stream and length."""
        if self.instrument.cosmic:
            shots = np.stack([np.asarray(frame.values, np.float32) for frame in frames])
            if np.isfinite(shots).all():
                mean, hits = _core.combine_shots(shots)
                self.instrument.cosmic_hits += hits
                return self._classify(self.classifier, frames[0], mean)
        total = np.zeros(frames[0].values.size)
        for frame in frames:
            total += frame.values
        return self._classify(self.classifier, frames[0], (total / len(frames)).astype(np.float32))

    def _classify(self, classifier: FrameClassifier, frame: Frame, values: np.ndarray) -> Decision:
        drift = self.instrument.drift
        try:
            return classifier.decide(
                values,
                self._darks.get(frame.stream_id),
                0.0 if drift is None else drift.shift_nm,
                self._saturation,
                frame.distance_mm / 1000 if frame.distance_mm else math.nan,
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
