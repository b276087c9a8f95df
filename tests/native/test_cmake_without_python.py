"""The C++ part configures, builds and passes its tests where Python is switched off."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
CMAKE, CTEST, NINJA = (shutil.which(name, path=PATH) for name in ("cmake", "ctest", "ninja"))


@pytest.mark.skipif(None in (CMAKE, CTEST, NINJA), reason="cmake, ctest and ninja are needed")
def test_build_and_ctest(tmp_path):
    environment = {**os.environ, "PATH": PATH}

    def run(*command: object) -> str:
        done = subprocess.run(
            [str(part) for part in command], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(CMAKE, "-S", ROOT, "-B", tmp_path, "-G", "Ninja", "-DSEDGE_PYTHON=OFF")
    run(CMAKE, "--build", tmp_path)
    cache = (tmp_path / "CMakeCache.txt").read_text()
    assert "Python_EXECUTABLE" not in cache
    assert "pybind11" not in cache
    assert not list(tmp_path.rglob("*_core*.so"))
    out = run(CTEST, "--test-dir", tmp_path, "--output-on-failure", "--no-tests=error")
    sources = sorted((ROOT / "tests" / "native" / "cpp").glob("*.cpp"))
    assert len(sources) >= 3
    for source in sources:
        assert source.stem in out
    assert f"100% tests passed out of {len(sources)}" in out.replace(", 0 tests failed", "")
