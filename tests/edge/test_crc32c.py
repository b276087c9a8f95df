"""CRC-32C: published check values, and every implementation this CPU runs against a bitwise oracle."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from libsedge import _core

CASTAGNOLI = 0x82F63B78
IMPLEMENTATIONS = _core.crc32c_implementations()


def bitwise(data: bytes, crc: int = 0, polynomial: int = CASTAGNOLI) -> int:
    """The definition, one bit at a time (reflected)."""
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (polynomial if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


# RFC 3720, appendix B.4, and the catalogue's check value.
KNOWN = [
    (b"", 0),
    (b"123456789", 0xE3069283),
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
]


@pytest.mark.parametrize("implementation", [None, *IMPLEMENTATIONS])
@pytest.mark.parametrize(("data", "crc"), KNOWN)
def test_published_values(implementation, data, crc):
    assert _core.crc32c(data, implementation=implementation) == crc
    assert bitwise(data) == crc


def test_slicing8_always_runs():
    assert IMPLEMENTATIONS[-1] == "slicing8"


@given(st.binary(max_size=200), st.binary(max_size=40), st.integers(0, 0xFFFFFFFF))
def test_all_implementations_agree_with_the_definition(data, more, crc):
    expected = bitwise(data, crc)
    for implementation in IMPLEMENTATIONS:
        assert _core.crc32c(data, crc, implementation) == expected
        assert _core.crc32c(more, expected, implementation) == bitwise(data + more, crc)


def test_oracle_sees_another_polynomial():
    """Negative control: against zip's polynomial every implementation fails the comparison."""
    assert all(
        _core.crc32c(b"123456789", implementation=name) != bitwise(b"123456789", polynomial=0xEDB88320)
        for name in IMPLEMENTATIONS
    )


def test_takes_any_contiguous_buffer_and_refuses_others():
    values = np.arange(10, dtype="<u2")
    assert (
        _core.crc32c(values)
        == _core.crc32c(memoryview(bytearray(values.tobytes())))
        == bitwise(values.tobytes())
    )
    with pytest.raises((ValueError, BufferError)):
        _core.crc32c(values[::2])
    with pytest.raises(TypeError):
        _core.crc32c("text")
    with pytest.raises(ValueError, match="crc32c_implementations"):
        _core.crc32c(b"", implementation="zip")
