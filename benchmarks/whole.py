"""A whole net's share of its core's limit: the kernel, called from C one spectrum at a time, and the register-only loop
that bounds it (`libsedge_native/peak.py`), in turn in one process.

    python benchmarks/whole.py --net M --isa avx512vnni --isa avxvnni --isa avx2

*round by round*, the median of the ratios of neighbouring calls, is the figure to quote: one spectrum a call, both
sides run at one clock. *medians* and *minima* also compare calls of different clocks, and so do eight calls in one
stretch: the longer the loop, which reads no memory, runs alone, the higher the clock that it is given.
"""

from __future__ import annotations

import argparse
import ctypes
import tempfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import nets
import numpy as np
from libsedge.errors import KernelError
from libsedge_native import peak, timing, toolchain

ROUNDS = 400


@dataclass(frozen=True)
class Share:
    """Times are microseconds a spectrum; shares are the limit's over the kernel's."""

    median_us: float
    min_us: float
    limit_median_us: float
    limit_min_us: float
    round_by_round: float

    @property
    def medians(self) -> float:
        return self.limit_median_us / self.median_us

    @property
    def minima(self) -> float:
        return self.limit_min_us / self.min_us


def share(net: str, isa: str, spectra: int = 1, calls: int = 1) -> Share:
    """Of `sedge_run` on `spectra` different inputs in turn, `calls` of them timed together after one that is not.

    KernelError where the machine does not run `isa`.
    """
    peak.rows(1)  # asks the system for AMX
    loop, _, macs, _ = peak.LOOPS[peak.BOUND[isa]]
    graph = nets.build(net)
    x = np.random.default_rng(0).integers(-128, 128, (spectra, graph.input.length)).astype(np.int8)
    us = np.zeros((ROUNDS, 2))
    package = resources.files("libsedge_native")
    with tempfile.TemporaryDirectory(prefix="sedge-") as name, resources.as_file(package) as native:
        folder = Path(name)
        sources = [str(Path(__file__).with_name("whole.cpp")), str(native / "src" / "peak.cpp")]
        include = f"-I{native / 'include' / 'libsedge'}"
        command = [*toolchain.host_compiler(), "-std=c++17", "-O2", "-shared", "-fPIC", include, *sources]
        toolchain.run([*command, "-o", "whole.so"], folder)
        (folder / "model.so").write_bytes(nets.compiled(net))
        library = ctypes.CDLL(str(folder / "whole.so"))
        status = library.in_turn(
            *(str(folder / "model.so").encode(), isa.encode(), getattr(library, loop)),
            *(ctypes.c_uint64(-(-graph.macs // macs)), x.ctypes.data_as(ctypes.c_void_p)),
            *(ctypes.c_size_t(n) for n in (spectra, calls, ROUNDS)),
            us.ctypes.data_as(ctypes.c_void_p),
        )
    if status:
        raise KernelError("could not be run here", field="isa", value=isa)
    us /= 1e3 * calls
    (limit, ours), (least_limit, least) = np.median(us, axis=0), us.min(axis=0)
    return Share(ours, least, limit, least_limit, float(np.median(us[:, 0] / us[:, 1])))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", action="append", choices=list(nets.NETS), help="default: M")
    parser.add_argument(
        "--isa", action="append", choices=list(peak.BOUND), help="default: avx512vnni, avxvnni, avx2"
    )
    arguments = parser.parse_args()
    timing.pin_to_one_core()
    print(f"{'':18}{'spectra':>8}{'calls':>6}{'us':>8}{'min':>8}{'limit':>8}{'min':>8}", end="")
    print(f"{'round by round':>16}{'medians':>9}{'minima':>8}")
    for net in arguments.net or ["M"]:
        for isa in arguments.isa or ["avx512vnni", "avxvnni", "avx2"]:
            for spectra, calls in ((1, 1), (8, 1), (8, 8)):
                s = share(net, isa, spectra, calls)
                print(
                    f"{net:6}{isa:12}{spectra:8}{calls:6}{s.median_us:8.1f}{s.min_us:8.1f}{s.limit_median_us:8.1f}"
                    f"{s.limit_min_us:8.1f}{s.round_by_round:16.1%}{s.medians:9.1%}{s.minima:8.1%}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
