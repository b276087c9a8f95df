"""The wavelength axis followed while it drifts, by strong lines of magnesium, calcium and sodium.

Positions are vacuum wavelengths of the NIST Atomic Spectra Database. In every light frame each line is looked for
around where it was last (`libsedge._core.line_offsets`); a frame that shows at least `LEAST` of them gives one offset,
their median. The shift is the median of the last `MEMORY` such offsets, in steps of `STEP_NM`, so that one odd spectrum
moves nothing; MarSCoDe's team corrects its axis by such lines too.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from libsedge import _core
from libsedge.errors import AxisError

#: Mg II, Mg I, Ca II, Ca II, Ca I, Na I; nm in vacuum
LINES_NM = np.array([279.6352, 285.2963, 393.4777, 396.9591, 422.7918, 589.1583])
HALF_WINDOW_NM = 0.45
RISE = 5.0
LEAST = 3
MEMORY = 25
STEP_NM = 0.01
#: a larger one is no drift but another axis
LARGEST_NM = 1.0


class DriftTracker:
    """Follows the axis wavelength_nm, float64 [channels]; `shift_nm` is to be added to it.

    Raises AxisError where fewer than `LEAST` lines lie on the axis.
    """

    def __init__(self, wavelength_nm: np.ndarray, lines_nm: np.ndarray = LINES_NM) -> None:
        self._axis = np.ascontiguousarray(wavelength_nm, np.float64)
        on_it = (lines_nm > self._axis[0] + 1.0) & (lines_nm < self._axis[-1] - 1.0)
        if np.count_nonzero(on_it) < LEAST:
            raise AxisError(
                f"needs {LEAST} of the lines at {', '.join(f'{nm:.1f}' for nm in lines_nm)} nm to follow a drift",
                field="wavelength",
                value=(float(self._axis[0]), float(self._axis[-1])),
            )
        self._lines = np.ascontiguousarray(lines_nm[on_it], np.float64)
        self._offsets: deque[float] = deque(maxlen=MEMORY)
        self.shift_nm = 0.0

    def look(self, values: np.ndarray) -> float:
        """Take one spectrum, [channels], dark or not; returns the shift from now on."""
        spectrum = np.ascontiguousarray(values, np.float32)
        if spectrum.shape == self._axis.shape and np.isfinite(spectrum).all():
            expected = self._lines - self.shift_nm
            found = _core.line_offsets(spectrum, self._axis, expected, HALF_WINDOW_NM, RISE)
            seen = found[np.isfinite(found)]
            if seen.size >= LEAST:
                self._offsets.append(self.shift_nm - float(np.median(seen)))
                shift = float(np.median(self._offsets))
                if abs(shift) <= LARGEST_NM:
                    self.shift_nm = round(shift / STEP_NM) * STEP_NM
        return self.shift_nm
