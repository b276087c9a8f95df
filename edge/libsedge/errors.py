"""Every error a user can cause, one class per kind of mistake.

A message names the file, the field and the value, and says what would have been right. The command line turns any
of them into one line on standard error and exit code 2; nothing half-written stays behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike

#: most characters of a value in a message: a cell of a damaged table can hold megabytes
LONGEST = 200


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text)} characters)"


class SedgeError(Exception):
    """Base of all typed errors.

    Parameters
    ----------
    why : what is wrong and what would be right.
    file, field, value : where it is wrong; left out of the message when not given. A long value is cut in the message.
    """

    exit_code = 2

    def __init__(
        self,
        why: str,
        *,
        file: str | PathLike[str] | None = None,
        field: str | None = None,
        value: object = None,
    ) -> None:
        self.why = why
        self.file = None if file is None else str(file)
        self.field = field
        self.value = value
        where = [str(file)] if file is not None else []
        if field is not None:
            where.append(field if value is None else f"{field} = {_shown(value)}")
        elif value is not None:
            where.append(_shown(value))
        super().__init__(": ".join([*where, why]))


@contextmanager
def naming(file: str | PathLike[str]) -> Iterator[None]:
    """An error from inside that names no file names this one."""
    try:
        yield
    except SedgeError as error:
        if error.file is not None:
            raise
        raise type(error)(error.why, file=file, field=error.field, value=error.value) from error


class FileFormatError(SedgeError):
    """A file is of no known format, truncated, or contradicts itself."""


class AxisError(SedgeError):
    """A wavelength axis is missing, not increasing, in the wrong medium or outside the model's grid."""


class SpectrumError(SedgeError):
    """A spectrum cannot be used: non-finite, all-masked, wrong length."""


class DatasetError(SedgeError):
    """A data set cannot be trained on or split: empty class, one specimen in a class, unlabelled rows."""


class RunError(SedgeError):
    """A training run is missing, incomplete or was made from other data."""


class ModelError(SedgeError):
    """An ONNX model or graph holds an op or a quantisation that the generator cannot prove."""


class ToolchainError(SedgeError):
    """The compiler is missing or refused the generated source."""


class KernelError(SedgeError):
    """A compiled model cannot be used here. Three different subclasses, never a silent fallback."""


class UnknownIsaError(KernelError):
    """The instruction set named by the user does not exist."""


class IsaNotBuiltError(KernelError):
    """The instruction set exists but this model was built without it."""


class IsaNotRunnableError(KernelError):
    """The instruction set was built but this machine lacks it."""


class SelfTestError(KernelError):
    """Golden vectors or the weights' CRC did not hold on this machine."""


class BundleError(SedgeError):
    """A bundle is malformed, incomplete or not canonical."""


class SignatureError(BundleError):
    """A bundle's signature or a digest does not hold, or its key is not pinned."""


class FrameError(SedgeError):
    """A frame cannot be encoded or decoded."""


class JournalError(SedgeError):
    """A journal is damaged or belongs to another stream or model."""


class SourceError(SedgeError):
    """A source cannot be opened: a port in use, a missing file, an unknown name."""


class ConfigError(SedgeError):
    """An option or configuration value is out of its range."""
