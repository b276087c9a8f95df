"""What the Python shell refuses beside tests/edge/test_core_model.py: misaligned and foreign-endian memory."""

from __future__ import annotations

import numpy as np
import pytest
from libsedge import _core


def test_misaligned_and_byte_swapped_arrays_are_refused() -> None:
    memory = bytearray(4 * 10 + 1)
    for start in (0, 1):
        values = np.frombuffer(memory, np.float32, 10, start)
        if values.flags.aligned:
            assert _core.quantise(values, 0.5, -3).tolist() == [-3] * 10
        else:
            with pytest.raises(ValueError, match="values: must be aligned to its items' size"):
                _core.quantise(values, 0.5, -3)
    assert not np.frombuffer(memory, np.float32, 10, 1).flags.aligned
    with pytest.raises(TypeError, match=r"values: dtype float32 is needed, not >f4"):
        _core.quantise(np.zeros(10, ">f4"), 0.5, -3)
