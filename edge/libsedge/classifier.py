"""One spectrum in, one decision out: quality checks, preprocessing, the compiled model, calibrated
probabilities.

    logits  l_i = (q_i - zero_point) * scale              (int8 logits q_i; calibration.json)
    p_i = exp((l_i - max l) / T) / sum_j exp((l_j - max l) / T)      (temperature scaling, Guo et al., ICML 2017)

An int8 logit is at most 255 steps below the largest, so the exponentials come from a table of 256 values. The
table is computed in decimal arithmetic and rounded once, and sums run in the order of the classes: the
probabilities are the same bits on every machine. So are those of the same float32 logits, by an exponential of our own
(native/src/softmax.h); but a float32 network's logits differ in their last bits from one instruction set to another.
"""

from __future__ import annotations

import decimal
import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import numpy as np

from libsedge import _core
from libsedge.errors import AxisError, SpectrumError
from libsedge.preprocess import Preprocessor

if TYPE_CHECKING:
    from libsedge.bundle import Bundle

#: why a decision is not accepted, in the order in which the checks run
REASONS = ("wrong_length", "non_finite", "all_masked", "saturated", "too_dim", "low_confidence")


class Decision(NamedTuple):
    """What was decided about one spectrum.

    Attributes
    ----------
    label, index : the class with the largest logit (the first of equals); None where the model did not run.
    confidence : its probability; None where the model did not run.
    probabilities : one a class, in the order of the bundle's labels, sum 1; None where the model did not run.
    accepted : True when the label may be used.
    reason : one of `REASONS` where not accepted, else None.
    """

    label: str | None
    index: int | None  # type: ignore[assignment]  # hides tuple.index, which a decision has no use for
    confidence: float | None
    probabilities: tuple[float, ...] | None
    accepted: bool
    reason: str | None
    distance_m: float = math.nan


def exp_table(scale: float, temperature: float) -> np.ndarray:
    """exp(-d * scale / temperature) for d = 0 ... 255; float64 [256], correctly rounded on every machine."""
    with decimal.localcontext(decimal.Context(prec=40, Emin=-99999, Emax=99999)):
        step = decimal.Decimal(scale) / decimal.Decimal(temperature)
        return np.array([float((-d * step).exp()) for d in range(256)])


def softmax(logits: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Probabilities float64 [n, classes] of int8 logits [n, classes] by `exp_table`, summed in their order."""
    return _core.softmax(np.ascontiguousarray(logits), table)


def real_softmax(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities float64 [n, classes] of float32 logits [n, classes]."""
    return _core.real_softmax(np.ascontiguousarray(logits), temperature)


def probabilities_of(bundle: Bundle) -> Callable[[np.ndarray], np.ndarray]:
    """What makes calibrated probabilities float64 [n, classes] of the logits of this bundle's network."""
    calibration = bundle.calibration
    temperature = float(calibration["temperature"])
    if bundle.precision == "float32":
        return functools.partial(real_softmax, temperature=temperature)
    return functools.partial(softmax, table=exp_table(calibration["logit_scale"], temperature))


def _not_bound(*_: object) -> NoReturn:
    raise AxisError("bind the classifier to a wavelength axis first", field="wavelength")


def _spectra(counts: np.ndarray, dimensions: int) -> np.ndarray:
    """`counts` as an array of numbers, [channels] or [n, channels]; SpectrumError where it is none."""
    counts = np.asarray(counts)
    if counts.ndim != dimensions or counts.dtype.kind not in "uif":
        shape = "[channels]" if dimensions == 1 else "[n, channels]"
        raise SpectrumError(
            f"must be numbers, {shape}", field="counts", value=(str(counts.dtype), counts.shape)
        )
    return counts


def _taken(
    preprocessor: Preprocessor, counts: np.ndarray, dark: np.ndarray | None, shift_nm: float
) -> tuple[np.ndarray, np.ndarray | None] | None:
    """One spectrum and its dark as the compiled part takes them; None where the spectrum is of another length."""
    counts = _spectra(counts, 1)
    if counts.size != preprocessor.channels:
        return None
    rows, dark = preprocessor.taken(counts[None], dark, shift_nm)
    return rows[0], dark


class Classifier:
    """A bundle's model on this machine.

    Parameters
    ----------
    bundle : an opened, verified bundle; its goldens are re-run here.
    isa : the name of an instruction set is a demand; None takes the fastest proven one.

    Raises SelfTestError, UnknownIsaError, IsaNotBuiltError, IsaNotRunnableError as `Bundle.model`.
    """

    def __init__(self, bundle: Bundle, isa: str | None = None) -> None:
        self.bundle = bundle
        self.labels = list(bundle.labels)
        self.digest = bundle.digest
        self.model = bundle.model(isa)
        self.channels: int | None = None
        #: of the model's logits
        self.probabilities = probabilities_of(bundle)
        self._preprocessor: Preprocessor | None = None
        self._core: _core.Classifier | _core.FloatClassifier | None = None
        #: `classify` compiled: (counts, dark, shift_nm, saturation, distance_m)
        self.decide: Callable[..., Decision] = _not_bound

    @property
    def spent_s(self) -> tuple[float, float]:
        """Seconds of the last spectrum's preprocessing and inference."""
        return (0.0, 0.0) if self._core is None else self._core.spent_s

    def logits(self, outputs: np.ndarray) -> np.ndarray:
        """Real logits, float64, of what the model gives."""
        if self.bundle.precision == "float32":
            return outputs.astype(np.float64)
        calibration = self.bundle.calibration
        scale, zero_point = float(calibration["logit_scale"]), int(calibration["logit_zero_point"])
        return np.asarray((outputs.astype(np.float64) - zero_point) * scale)

    def bind(self, wavelength_nm: np.ndarray | None = None, mask: np.ndarray | None = None) -> Classifier:
        """Take spectra on this axis from now on: [channels], nm in vacuum; mask True = valid.

        None: the spectra are already on the model's grid. Raises AxisError for an unusable axis.
        """
        axis = self.bundle.preprocess.grid_nm if wavelength_nm is None else wavelength_nm
        self._preprocessor = Preprocessor(self.bundle.preprocess, axis, mask)
        self.channels = self._preprocessor.channels
        self._core = self._compiled(
            self._preprocessor, self.channels if mask is None else max(1, int(np.count_nonzero(mask)))
        )
        self.decide = self._core.decide
        return self

    def _compiled(self, preprocessor: Preprocessor, pixels: int) -> _core.Classifier | _core.FloatClassifier:
        calibration, config = self.bundle.calibration, self.bundle.preprocess
        temperature, labels = float(calibration["temperature"]), tuple(self.labels)
        taken = functools.partial(_taken, preprocessor)
        limits = {
            "min_contrast": float(calibration["min_contrast"]),
            "max_saturated": float(calibration["max_saturated_fraction"]) * pixels,
            "min_confidence": float(calibration["min_confidence"]),
        }
        if isinstance(self.model, _core.FloatModel):
            return _core.FloatClassifier(
                self.model, preprocessor.core, taken, Decision, labels, temperature, **limits
            )
        assert config.scale is not None
        assert config.zero_point is not None
        table = exp_table(calibration["logit_scale"], temperature)
        quantisation = (config.scale, config.zero_point)
        return _core.Classifier(
            self.model, preprocessor.core, taken, Decision, labels, quantisation, table, **limits
        )

    def leave_out(self, bad: np.ndarray) -> None:
        """Take these pixels, bool [channels], for masked from now on; AxisError where none would be left."""
        if self._preprocessor is None:
            _not_bound()
        self._preprocessor.leave_out(bad)

    def classify(
        self,
        counts: np.ndarray,
        dark: np.ndarray | None = None,
        shift_nm: float = 0.0,
        saturation: float | None = None,
        distance_m: float = math.nan,
    ) -> Decision:
        """Decide about one spectrum; see `classify_many`. `distance_m` is noted, not used."""
        return self.decide(counts, dark, shift_nm, saturation, distance_m)

    def classify_many(
        self,
        counts: np.ndarray,
        dark: np.ndarray | None = None,
        shift_nm: float = 0.0,
        saturation: float | None = None,
        distance_m: np.ndarray | list[float] | None = None,
    ) -> list[Decision]:
        """Decide about every spectrum of counts [n, channels], uint16 or float32.

        Parameters
        ----------
        dark : [channels], in counts, subtracted; shift_nm : added to the wavelength axis.
        saturation : counts at and above which a pixel is clipped; None or NaN = unknown, then nothing is
        saturated.
        distance_m : [n], noted in the decisions.

        A spectrum that cannot be used is a decision that is not accepted, never an exception. Raises
        AxisError before `bind`, SpectrumError for an array that is not [n, channels] of numbers or a dark of
        another shape.
        """
        if self._preprocessor is None:
            _not_bound()
        counts = _spectra(counts, 2)
        distances = [math.nan] * len(counts) if distance_m is None else [float(d) for d in distance_m]
        if len(counts) and counts.shape[1] != self.channels:
            return [Decision(None, None, None, None, False, "wrong_length", d) for d in distances]
        rows, dark = self._preprocessor.taken(counts, dark, shift_nm) if len(counts) else (counts, dark)
        return [
            self.decide(row, dark, shift_nm, saturation, distance)
            for row, distance in zip(rows, distances, strict=True)
        ]
