"""What one core can do at most: register-only loops (src/peak.cpp), compiled and timed where they are asked for.

There are none for machines other than x86-64 yet: `rows` is empty there.
"""

from __future__ import annotations

import ctypes
import platform
import tempfile
from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path

import numpy as np

from libsedge_native.toolchain import host_compiler, run


def _flags() -> set[str]:
    if platform.machine() != "x86_64":
        return set()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return set(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))


#: row -> (function, CPU flag, multiply-accumulates a round, data type)
LOOPS: dict[str, tuple[str, str, int, str]] = {
    "peak amx": ("peak_amx", "amx_int8", 4 * 16 * 16 * 64, "int8"),
    "peak vnni zmm": ("peak_vnni_zmm", "avx512_vnni", 640, "int8"),
    "peak vnni ymm": ("peak_vnni_ymm", "avx_vnni", 320, "int8"),
    "peak madd ymm": ("peak_madd_ymm", "avx2", 160, "int8"),
    "peak fma zmm": ("peak_fma_zmm", "avx512f", 160, "float32"),
    "peak fma ymm": ("peak_fma_ymm", "fma", 80, "float32"),
}

#: the loop that bounds each instruction set of ours
BOUND = {
    "amx": "peak amx",
    "avx512vnni": "peak vnni zmm",
    "avxvnni": "peak vnni ymm",
    "avx2": "peak madd ymm",
    "float_avx512": "peak fma zmm",
    "float_avx2": "peak fma ymm",
}


def _library() -> ctypes.CDLL:
    source = resources.files("libsedge_native") / "src" / "peak.cpp"
    with tempfile.TemporaryDirectory(prefix="sedge-") as name:
        folder = Path(name)
        (folder / "peak.cpp").write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
        run([*host_compiler(), "-O2", "-shared", "-fPIC", "peak.cpp", "-o", "peak.so"], folder)
        return ctypes.CDLL(str(folder / "peak.so"))


def read(size: int) -> Callable[[], object] | None:
    """A call that reads `size` bytes of a buffer of its own, or None without AVX-512."""
    if "avx512f" not in _flags():
        return None
    library, data = _library(), np.ones(size, np.uint8)
    library.peak_read.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
    return lambda: library.peak_read(data.ctypes.data, size // 512 * 512)


def rows(macs: int) -> dict[str, tuple[str, Callable[[], object]]]:
    """Row name -> (data type, a call that runs `macs` multiply-accumulates); only what this machine can run."""
    flags = _flags()
    if not flags:
        return {}
    library = _library()
    found: dict[str, tuple[str, Callable[[], object]]] = {}
    for row, (name, flag, per_round, dtype) in LOOPS.items():
        if flag not in flags or (name == "peak_amx" and not library.allow_amx()):
            continue
        function = getattr(library, name)
        function.argtypes = [ctypes.c_uint64]
        count = -(-macs // per_round)
        found[row] = (dtype, partial(function, count))
    return found
