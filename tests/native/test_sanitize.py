"""`make sanitize`: a sample of it, and seeded faults that it reports."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from libsedge_native import toolchain
from libsedge_native.random_graph import random_graph

sys.path.insert(0, str(Path(__file__).parent))
import sanitize


@pytest.fixture(scope="module", autouse=True)
def _sanitizers(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("probe")
    (folder / "probe.cpp").write_text("int main() { return 0; }\n")
    command = [*toolchain.host_compiler(), *sanitize.FLAGS, "probe.cpp", "-o", "probe"]
    if subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode != 0:
        pytest.skip("this compiler has no AddressSanitizer (Debian: libasan of gcc)")


def test_kernels_are_clean() -> None:
    isas = sanitize.check_graph(random_graph(3, max_length=120), 3, tiles=True)
    assert isas[-1] == "scalar"


def test_a_write_behind_the_arena_is_reported() -> None:
    """Negative control: the last line of the arena is not there."""
    with pytest.raises(sanitize.Reported, match=r"AddressSanitizer: (heap-buffer-overflow|SEGV)"):
        sanitize.check_graph(random_graph(4), 4, ("-DSEDGE_TEST_STOLEN_BYTES=64",), isas=())


def test_a_read_behind_the_goldens_and_an_overflow_are_reported() -> None:
    """Negative controls: one input too many is read from the net's constants; an int runs over."""
    with pytest.raises(sanitize.Reported, match="AddressSanitizer: global-buffer-overflow"):
        sanitize.check_graph(random_graph(4), 4, ("-DSEDGE_TEST_EXTRA_GOLDENS=1",), isas=())
    with pytest.raises(sanitize.Reported, match="runtime error: signed integer overflow"):
        sanitize.check_graph(random_graph(4), 4, ("-DSEDGE_TEST_OVERFLOW",), isas=())


@pytest.mark.skipif(
    shutil.which("ninja", path=str(Path(sys.executable).parent)) is None, reason="needs ninja"
)
def test_decoder_and_preprocessing_are_clean_on_hostile_bytes(tmp_path: Path) -> None:
    assert sanitize.check_core(tmp_path).startswith("100% tests passed")
