"""The loader of compiled models: results, every status, memory, threads; on a net written by hand
(tiny_net.cpp).
"""

import ctypes
import fcntl
import gc
import os
import shutil
import subprocess
import threading
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from libsedge import _core, errors

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "native" / "libsedge_native"
COMPILER = os.environ.get("CXX") or shutil.which("c++")
WEIGHTS = np.array([[1, 2, 3, 4], [-1, 0, 0, 1]], np.int8)

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")


@cache
def build_in(folder: Path, flags: tuple[str, ...], defines: tuple[tuple[str, object], ...]) -> bytes:
    out = folder / f"{len(list(folder.iterdir()))}.so"
    table = {"WEIGHTS_CRC": f"{_core.crc32c(WEIGHTS)}u", **dict(defines)}
    sources = [HERE / "tiny_net.cpp"]
    if "FORCED_STATUS" not in table:
        sources.append(NATIVE / "src" / "model_api.cpp")
    subprocess.run(
        [
            *(COMPILER, "-std=c++17", "-shared", "-fPIC", "-Wno-unused", f"-I{NATIVE}/include/libsedge"),
            *(f"-D{name}={value}" for name, value in table.items()),
            *(*flags, *sources, "-o", out),
        ],
        check=True,
    )
    return out.read_bytes()


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    return lambda *flags, **defines: build_in(folder, flags, tuple(sorted(defines.items())))


@pytest.fixture(scope="session")
def so(build):
    return build()


def expected(inputs: np.ndarray) -> np.ndarray:
    return np.clip(inputs.astype(np.int64) @ WEIGHTS.T.astype(np.int64), -128, 127).astype(np.int8)


def test_attributes(so):
    model = _core.Model(so)
    assert (model.name, model.digest, model.input_len, model.classes) == ("tiny", "0123abcd", 4, 2)
    assert (model.arena_bytes, model.arena_align) == (32, 64)
    assert model.isas == [("avx2", False), ("scalar", True)]
    assert model.isa == "scalar"


def test_runs_like_the_definition(so):
    model = _core.Model(so, isa="scalar")
    inputs = np.random.default_rng(0).integers(-128, 128, (500, 4)).astype(np.int8)
    np.testing.assert_array_equal(model.run_batch(inputs), expected(inputs))
    np.testing.assert_array_equal(model.run(inputs[7]), expected(inputs[7]))
    assert model.run_batch(inputs[:0]).shape == (0, 2)
    out = np.zeros((500, 2), np.int8)
    assert model.run_batch(inputs, out) is out
    np.testing.assert_array_equal(out, expected(inputs))
    model.self_test()
    model.scrub()
    model.check_canaries()


def test_trace(build, so):
    layers = _core.Model(so).trace(np.array([1, 2, 3, 4], np.int8))
    assert [name for name, _ in layers] == ["copy", "dense"]
    assert layers[0][1].tolist() == [[1, 2], [3, 4]]
    assert layers[1][1].tolist() == [[30], [3]]
    with pytest.raises(errors.KernelError, match="only the scalar one can"):
        _core.Model(build(NO_TRACE=1)).trace(np.zeros(4, np.int8))


def test_three_different_errors_for_an_instruction_set(build, so):
    with pytest.raises(errors.UnknownIsaError, match="isa = 'avx9': no instruction set of that name"):
        _core.Model(so, isa="avx9")
    with pytest.raises(errors.IsaNotBuiltError, match=r"isa = 'neon': .* built without it"):
        _core.Model(so, isa="neon")
    with pytest.raises(errors.IsaNotRunnableError, match=r"isa = 'avx2': .* this machine lacks it"):
        _core.Model(so, isa="avx2")
    assert _core.Model(build(AVX2_RUNS=1)).isa == "avx2"  # first runnable of the table
    with pytest.raises(errors.IsaNotRunnableError, match="tiny: init"):
        _core.Model(build(KERNELS=1))


STATUSES = {
    1: errors.KernelError,
    2: errors.KernelError,
    3: errors.KernelError,
    4: errors.KernelError,
    5: errors.UnknownIsaError,
    6: errors.IsaNotBuiltError,
    7: errors.IsaNotRunnableError,
    8: errors.SelfTestError,
    9: errors.SelfTestError,
    10: errors.KernelError,
    99: errors.KernelError,
}


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_becomes_its_error(build, status):
    forced = f"static_cast<sedge_status>({status})"
    with pytest.raises(errors.KernelError, match="tiny: init: forced") as caught:
        _core.Model(build(FORCED_STATUS=forced, FORCED_IN=0))
    assert type(caught.value) is STATUSES[status]


def test_every_call_reports_its_status(build):
    model = _core.Model(build(FORCED_STATUS="SEDGE_E_NULL", FORCED_IN=1))
    row = np.zeros(4, np.int8)
    for name, arguments in {"run": [row], "self_test": [], "scrub": [], "trace": [row]}.items():
        with pytest.raises(errors.KernelError, match="forced"):
            getattr(model, name)(*arguments)


def test_self_test_and_scrub_fail(build):
    model = _core.Model(build(GOLDEN_OFFSET=1))
    with pytest.raises(errors.SelfTestError, match=r"self-test: .*bit for bit"):
        model.self_test()
    model.scrub()
    decayed = _core.Model(build(WEIGHTS_CRC=f"{_core.crc32c(WEIGHTS) ^ 4}u"))
    decayed.self_test()
    with pytest.raises(errors.SelfTestError, match=r"scrub: .*CRC-32C"):
        decayed.scrub()


@pytest.mark.parametrize("at", [-64, -1, 32, 95])
def test_writing_outside_the_arena_is_seen(build, at):
    so = build(WRITE_AT=at)
    row = np.zeros(4, np.int8)
    for call in (
        lambda m: m.run(row),
        lambda m: m.run_batch(row[None]),
        lambda m: m.self_test(),
        lambda m: m.trace(row),
    ):
        model = _core.Model(so)
        with pytest.raises(errors.KernelError, match="tiny, kernel 'scalar' wrote outside its arena"):
            call(model)
        with pytest.raises(errors.KernelError, match="wrote outside"):
            model.check_canaries()


def test_writing_inside_the_arena_is_not(build):
    """Negative control of the canaries: the last byte of the arena belongs to the kernel."""
    _core.Model(build(WRITE_AT=31)).run(np.zeros(4, np.int8))


@pytest.mark.parametrize(
    ("defines", "match"),
    [
        ({"ABI": 1}, "ABI version 1; this libsedge has 2"),
        ({"NULL_ENTRY": 1}, "returned NULL"),
        ({"NO_ENTRY": 1}, "does not export sedge_net_entry"),
        ({"ALIGN": 48}, "does not hold together"),
        ({"ALIGN": 0}, "does not hold together"),
        ({"KERNELS": 0}, "does not hold together"),
    ],
)
def test_tables_refused(build, defines, match):
    with pytest.raises(errors.KernelError, match=match):
        _core.Model(build(**defines))


def test_bytes_refused(so):
    for bad in (b"", b"MZ", so[:100], b"\x7fELF" + bytes(200)):
        with pytest.raises(errors.KernelError, match="not a compiled model: the loader refused it"):
            _core.Model(bad)
    with pytest.raises(TypeError):
        _core.Model("model.so")


def test_alignment(build):
    for align in (1, 8, 4096):
        model = _core.Model(build(ALIGN=align))
        model.self_test()


def test_arrays_refused(so):
    model = _core.Model(so)
    good = np.zeros((3, 4), np.int8)
    for bad in ([0, 0, 0, 0], b"abcd", None, good[0].astype(np.uint8), good[0].astype(float)):
        with pytest.raises(TypeError, match="input: "):
            model.run(bad)
    with pytest.raises(ValueError, match=r"input: shape \(4,\) is needed, not \(1, 4\)"):
        model.run(good[:1])
    with pytest.raises(ValueError, match=r"inputs: shape \(n, 4\) is needed, not \(3, 3\)"):
        model.run_batch(np.zeros((3, 3), np.int8))
    with pytest.raises(ValueError, match="C-contiguous"):
        model.run(np.zeros(8, np.int8)[::2])
    with pytest.raises(ValueError, match=r"out: shape \(3, 2\)"):
        model.run_batch(good, np.zeros((2, 2), np.int8))
    frozen = np.zeros((3, 2), np.int8)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match=r"writeable|writable|read-only"):
        model.run_batch(good, frozen)


def memory_files() -> list[int]:
    links = {int(fd): Path("/proc/self/fd", fd) for fd in os.listdir("/proc/self/fd")}
    return sorted(
        fd for fd, link in links.items() if link.is_symlink() and "libsedge-model" in os.readlink(link)
    )


def test_memory_file_is_sealed_and_closed_again(so):
    gc.collect()
    before = set(memory_files())
    model = _core.Model(so)
    (fd,) = set(memory_files()) - before
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) == (
        fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    )
    with pytest.raises(OSError, match="not permitted"):
        os.pwrite(fd, b"x", 0)
    assert not os.get_inheritable(fd)
    del model
    gc.collect()
    assert set(memory_files()) == before
    with pytest.raises(errors.KernelError):
        _core.Model(b"junk")
    assert set(memory_files()) == before


def test_a_later_model_never_becomes_an_earlier_one(build, so):
    """The loader knows libraries by name, and descriptor numbers are used again."""
    other = build(NAME='"other"')
    sticky = build("-Wl,-z,nodelete", NAME='"sticky"')  # stays loaded after dlclose
    for _ in range(3):
        for data, name in ((so, "tiny"), (sticky, "sticky"), (other, "other")):
            assert _core.Model(data).name == name
    models = [_core.Model(data) for data in (so, other, so)]
    assert [model.name for model in models] == ["tiny", "other", "tiny"]


def test_bare_dlopen_does_fall_into_that_trap(build):
    """Negative control: without the care taken, the second model is the first one."""

    def name(data: bytes) -> bytes:
        fd = os.memfd_create("trap")
        os.write(fd, data)
        try:
            library = ctypes.CDLL(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
        library.sedge_net_entry.restype = ctypes.POINTER(ctypes.c_char_p)
        return library.sedge_net_entry()[1]

    first, second = build(NAME='"first"'), build(NAME='"second"')
    assert [name(first), name(second)] == [b"first", b"first"]


def test_name_in_use_is_stepped_over(build, so):
    """A foreign library loaded under /proc/self/fd/N, whose descriptor was closed, is not taken for the
    model.
    """
    foreign = build(NAME='"foreign"')
    fd = os.memfd_create("foreign")
    os.write(fd, foreign)
    library = ctypes.CDLL(f"/proc/self/fd/{fd}")
    os.close(fd)
    assert _core.Model(so).name == "tiny"
    del library


def test_threads_share_a_model(so):
    model = _core.Model(so)
    inputs = np.random.default_rng(1).integers(-128, 128, (8, 300, 4)).astype(np.int8)
    results: list[np.ndarray | None] = [None] * 8

    def work(index: int) -> None:
        results[index] = model.run_batch(inputs[index])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(8):
        np.testing.assert_array_equal(results[index], expected(inputs[index]))


def test_other_python_threads_run_meanwhile(build):
    model = _core.Model(build(SLEEP_MS=300))
    started, finished = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        model.run(np.zeros(4, np.int8))
        finished.set()

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    steps = 0
    while not finished.wait(0.01):
        steps += 1
    thread.join()
    assert steps >= 3  # a held GIL would have let this loop run once at most
