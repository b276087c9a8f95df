"""What an error says: where, what, and never more than a person can read."""

from __future__ import annotations

import pytest
from libsedge.errors import LONGEST, DatasetError, FileFormatError, naming


def test_a_message_names_file_field_and_value() -> None:
    assert str(FileFormatError("is no number", file="a.csv", field="distance", value="x")) == (
        "a.csv: distance = 'x': is no number"
    )
    assert str(FileFormatError("is empty", file="a.csv")) == "a.csv: is empty"
    assert str(DatasetError("is unknown", value=3)) == "3: is unknown"


def test_a_long_value_is_cut_in_the_message_only() -> None:
    cell = "7" * 1_000_000
    error = FileFormatError("is no number", file="a.csv", field="cell", value=cell)
    assert len(str(error)) < LONGEST + 60
    assert "(1000002 characters): is no number" in str(error)
    assert error.value == cell
    just = "7" * (LONGEST - 2)  # with its quotes as long as may be
    assert repr(just) in str(FileFormatError("is no number", value=just))


def test_an_error_without_a_file_gets_the_one_that_is_read() -> None:
    with pytest.raises(DatasetError, match=r"^set\.h5: label = '': is empty$"), naming("set.h5"):
        raise DatasetError("is empty", field="label", value="")
    with pytest.raises(DatasetError, match=r"^own\.h5: "), naming("set.h5"):
        raise DatasetError("is empty", file="own.h5")
