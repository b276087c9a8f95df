"""More frames than can be decided: what is shed is counted exactly. The long run is `make overload`."""

from __future__ import annotations

from pathlib import Path

import overload
import pytest

#: what depends on how busy the machine is
LOAD = {"memory grew", "slow recovery"}


def test_what_is_shed_is_counted(tmp_path: Path) -> None:
    result = overload.run(1.5, 0.5, tmp_path)
    assert set(result["faults"]) <= LOAD
    assert result["sent"] == result["received"] == result["journaled"] + result["shed"]["drop-oldest"]
    assert result["sent"] > 1000


def test_a_queue_that_waits_sheds_nothing_and_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: with the other policy there is no overload to see."""
    monkeypatch.setattr(overload, "POLICY", "block")
    monkeypatch.setattr(overload, "RATE_HZ", 200.0)
    result = overload.run(0.5, 0.2, tmp_path)
    assert "nothing was shed" in result["faults"]
    assert result["sent"] == result["journaled"]
