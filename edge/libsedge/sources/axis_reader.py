"""The axis of a file, read by a process of its own: h5py, which a run needs for nothing else, costs 14 MiB.

    python -m libsedge.sources.axis_reader FILE

writes the axis to standard output as a NumPy archive (`wavelength_nm`, `mask`, `saturation`), or one line of JSON that
says what is wrong with the file.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys

import numpy as np

from libsedge import errors
from libsedge.errors import ConfigError, FileFormatError, SedgeError
from libsedge.sources.base import Axis
from libsedge.sources.files import open_spectra

_ARCHIVE = b"PK"


def read_axis(path: str) -> Axis:
    """The axis of a file of spectra; raises what `open_spectra` raises."""
    command = [sys.executable, "-m", __name__, path]
    try:
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FileFormatError(f"its axis cannot be read: {error}", file=path) from error
    if done.stdout.startswith(_ARCHIVE):
        with np.load(io.BytesIO(done.stdout), allow_pickle=False) as archive:
            mask = archive["mask"] if archive["mask"].size else None
            return Axis(archive["wavelength_nm"], mask, float(archive["saturation"]))
    try:
        kind, why, file, field, value = json.loads(done.stdout)
        raise getattr(errors, kind)(why, file=file, field=field, value=value)
    except (ValueError, AttributeError):
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise FileFormatError(f"its axis cannot be read: {' '.join(last)}", file=path) from None


def axis_of(path: str | None, saturation: float | None) -> Axis | None:
    """The axis of a file (--axis), with the saturation that was given; None without a file.

    ConfigError for a saturation alone.
    """
    if path is None:
        if saturation is not None:
            raise ConfigError(
                "needs --axis: it belongs to an instrument", field="saturation", value=saturation
            )
        return None
    axis = read_axis(path)
    return Axis(axis.wavelength_nm, axis.mask, axis.saturation if saturation is None else saturation)


def main() -> None:
    """See the module."""
    try:
        spectra = open_spectra(sys.argv[1])
        axis = spectra.axis
        spectra.close()
    except SedgeError as error:
        value = error.value if isinstance(error.value, (str, int, float, type(None))) else repr(error.value)
        kind = type(error).__name__ if hasattr(errors, type(error).__name__) else "SedgeError"
        print(json.dumps([kind, error.why, error.file, error.field, value]))
        return
    mask = np.zeros(0, bool) if axis.mask is None else axis.mask
    np.savez(sys.stdout.buffer, wavelength_nm=axis.wavelength_nm, mask=mask, saturation=axis.saturation)


if __name__ == "__main__":
    main()
