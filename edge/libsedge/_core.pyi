from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

from libsedge.classifier import Decision

def crc32c(data: Buffer, crc: int = 0, implementation: str | None = None) -> int:
    """CRC-32C (RFC 3720) of contiguous bytes, continuing a run whose CRC is `crc`.

    `implementation` takes a name of `crc32c_implementations()`; None is the fastest that this CPU runs.
    """

def crc32c_implementations() -> list[str]:
    """The implementations this CPU runs, fastest first."""

_Value = TypeVar("_Value", np.int8, np.float32)

# what the two share; only in this stub
class _Model(Generic[_Value]):
    """A compiled model (`model.so`), loaded from bytes that were already verified.

    The bytes go to a sealed memory file and are loaded from there, so nothing can be swapped in between. The
    model runs in an arena of its own between 64-byte canaries, which are checked after every call. Calls may
    come from several threads; they run one after the other, without the GIL.

    Parameters
    ----------
    so : the shared object; it runs with the rights of this process.
    isa : the name of an instruction set is a demand; None takes the fastest proven one that runs here.

    Raises UnknownIsaError, IsaNotBuiltError, IsaNotRunnableError, SelfTestError or KernelError of
    libsedge.errors; TypeError and ValueError for arrays of another type, dtype, shape or layout (nothing is
    converted or copied).
    """

    def __init__(self, so: bytes, isa: str | None = None) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str:
        """sha256 of the ONNX file it was generated from, hex."""

    @property
    def input_len(self) -> int: ...
    @property
    def classes(self) -> int: ...
    @property
    def arena_bytes(self) -> int: ...
    @property
    def arena_align(self) -> int: ...
    @property
    def isa(self) -> str:
        """The instruction set in use."""

    @property
    def isas(self) -> list[tuple[str, bool]]:
        """Every instruction set it was built for, fastest first, and whether it runs here."""

    def run(self, input: NDArray[_Value]) -> NDArray[_Value]:
        """[input_len] -> logits [classes]."""

    def run_batch(self, inputs: NDArray[_Value], out: NDArray[_Value] | None = None) -> NDArray[_Value]:
        """[n, input_len] -> logits [n, classes], written to `out` where given."""

    def layer_times(self, input: NDArray[_Value]) -> list[tuple[str, int]]:
        """Name and nanoseconds of every step of one run on this model's own kernel, in order, less what reading the
        clock costs. Layers that are fused are one step, under the name of the last; those of a streamed one are the sum
        over its rounds. KernelError where the model was compiled by a libsedge whose kernels showed no steps."""

    def self_test(self) -> None:
        """Runs the embedded golden vectors; SelfTestError unless they come out bit for bit, of a float32 model within
        the tolerance that it names, 1e-5 of the largest logit."""

    def scrub(self) -> None:
        """Checks the CRC-32C of every constant of the kernel; SelfTestError when memory decayed."""

    def check_canaries(self) -> None:
        """KernelError when the kernel wrote outside its arena."""

class Model(_Model[np.int8]):
    """int8 in and out."""

    def trace(self, input: NDArray[np.int8]) -> list[tuple[str, NDArray[np.int8]]]:
        """Name and output, int8 [channels, length], of every layer of the scalar kernel; KernelError if it
        has none."""

class FloatModel(_Model[np.float32]):
    """float32 in and out."""

def softmax(logits: NDArray[np.int8], table: NDArray[np.float64]) -> NDArray[np.float64]:
    """The unchecked core of libsedge.classifier.softmax: [n, classes], [256] -> [n, classes]."""

def real_softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """The unchecked core of libsedge.classifier.real_softmax: [n, classes] -> [n, classes]."""

class Preprocessor:
    """The unchecked core of libsedge.preprocess.Preprocessor."""

    def __init__(
        self,
        wavelength: NDArray[np.float64],
        mask: NDArray[np.uint8],
        grid: NDArray[np.float64],
        segment_points: Sequence[int],
        compress_sqrt: bool,
        smooth_window: int,
        smooth_order: int,
        snip_half_window: int,
    ) -> None: ...
    def run(
        self,
        counts: NDArray[np.float32] | NDArray[np.uint16],
        dark: NDArray[np.float32] | None,
        shift_nm: float,
        want_float: bool,
        quantisation: tuple[float, int] | None,
        report_saturation: float | None,
    ) -> tuple[Any, Any, Any]: ...
    def set_mask(self, mask: NDArray[np.uint8]) -> None: ...
    def grid_mask(self, shift_nm: float) -> NDArray[np.bool_]: ...

# what the two share; only in this stub
class _Classifier:
    """The unchecked core of libsedge.classifier.Classifier: preprocessing, checks, network and probabilities of one
    spectrum in one call. Calls may come from several threads; they run one after the other, without the GIL.

    Parameters
    ----------
    model, preprocessor : which fit together, and one label a class; both are shared, not copied.
    taken : asked where they cannot be taken as they stand: (counts, dark, shift_nm) -> the first two as arrays that
        can, or None for a spectrum of another length.
    quantisation : scale and zero point of the network's input; table : `libsedge.classifier.exp_table`.
    min_contrast, min_confidence, max_saturated : limits; the last one in pixels.
    """

    def decide(
        self,
        counts: NDArray[np.float32] | NDArray[np.uint16],
        dark: NDArray[np.float32] | None,
        shift_nm: float,
        saturation: float | None,
        distance_m: float,
    ) -> Decision:
        """About one spectrum, [channels]; raises what `taken` raises."""

    @property
    def spent_s(self) -> tuple[float, float]:
        """Seconds of the last call's preprocessing and inference."""

class Classifier(_Classifier):
    def __init__(
        self,
        model: Model,
        preprocessor: Preprocessor,
        taken: Callable[..., tuple[Any, Any] | None],
        decision: type[Decision],
        labels: tuple[str, ...],
        quantisation: tuple[float, int],
        table: NDArray[np.float64],
        *,
        min_contrast: float,
        max_saturated: float,
        min_confidence: float,
    ) -> None: ...

class FloatClassifier(_Classifier):
    def __init__(
        self,
        model: FloatModel,
        preprocessor: Preprocessor,
        taken: Callable[..., tuple[Any, Any] | None],
        decision: type[Decision],
        labels: tuple[str, ...],
        temperature: float,
        *,
        min_contrast: float,
        max_saturated: float,
        min_confidence: float,
    ) -> None: ...

def combine_shots(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """float32 [shots, channels], finite -> (mean without cosmic rays float32 [channels], values left out)."""

def line_offsets(
    values: NDArray[np.float32],
    wavelength: NDArray[np.float64],
    lines: NDArray[np.float64],
    half_window_nm: float,
    rise: float,
) -> NDArray[np.float64]:
    """Position found minus position given of every line, nm; NaN where it is not seen."""

def pixel_loops() -> list[str]:
    """Instruction sets of the preprocessing that this machine runs."""

def use_pixel_loops(name: str) -> str:
    """For tests: use these from now on; the name of the former ones. ValueError where they do not run here."""

def quantise(values: NDArray[np.float32], scale: float, zero_point: int) -> NDArray[np.int8]:
    """clamp(round_half_even(values / scale) + zero_point) of float32 [n], the division in float32."""
