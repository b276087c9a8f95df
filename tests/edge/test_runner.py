"""`libsedge-run` against the Python runtime on the same bytes, bit for bit; and what it refuses to run with."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from libsedge.bundle import Bundle
from libsedge.classifier import REASONS, Classifier, exp_table
from libsedge.frame import Frame, encode
from runner_tools import (
    AXIS_NM,
    MASK,
    STREAM,
    comparable,
    differences,
    frames,
    plasma,
    python_run,
    run_stdin,
    said,
    stream_bytes,
)

pytest.importorskip("libsedge_native.runner", reason="the generator is not installed")


@pytest.fixture(scope="module")
def opened(tiny_model: Any) -> Bundle:
    return tiny_model.open()


@pytest.fixture
def program(runner_program: Path) -> Path:
    return runner_program


@pytest.fixture
def classifier(opened: Bundle) -> Classifier:
    return Classifier(opened).bind(AXIS_NM, MASK)


def light(n: int) -> bytes:
    """n good frames."""
    rows = plasma(16, 5)
    return b"".join(encode(Frame(STREAM, 0, i, 0, 0, 0, 0, rows[i % 16])) for i in range(n))


@pytest.mark.parametrize(("damage", "seed"), [(0.0, 1), (0.1, 2), (0.5, 3)])
def test_decisions_and_counts_are_the_python_runtimes(
    program: Path, classifier: Classifier, tmp_path: Path, damage: float, seed: int
) -> None:
    data = stream_bytes(frames(200, seed), damage, seed)
    records, report = python_run(classifier, data, tmp_path)
    for isa in [isa for isa, runs in classifier.model.isas if runs]:
        ours = run_stdin(program, data, "--isa", isa)
        assert (ours.code, ours.stderr) == (0, "")
        assert differences(records, ours.rows) == []
        assert comparable(ours.account) == comparable(report.ledger)
    assert ours.account["unaccounted"] == 0
    if damage:
        assert {"crc", "wrong_length", "wrong_stream"} <= ours.account["rejected"].keys()
        assert ours.account["duplicate"] > 0
    else:
        missing = set(REASONS) - {"wrong_length", "all_masked", "low_confidence"}
        assert missing <= {row["reason"] for row in ours.rows}
        assert {row["role"] for row in ours.rows} == {"light", "dark", "passive"}
        assert len({row["label"] for row in ours.rows}) > 2


def test_comparison_can_fail(program: Path, opened: Bundle, tmp_path: Path) -> None:
    """Negative control: the smallest change of the temperature moves bits that the comparison sees."""
    data = light(10)
    warmer = np.nextafter(opened.calibration["temperature"], 9.0)
    changed = replace(opened, calibration=opened.calibration | {"temperature": warmer})
    records, _ = python_run(Classifier(changed).bind(AXIS_NM, MASK), data, tmp_path)
    ours = run_stdin(program, data).rows
    assert len(records) == len(ours) == 10
    assert any("confidence" in line for line in differences(records, ours))


def test_tcp_is_stdin(program: Path) -> None:
    """However the bytes are cut; two peers one after the other are one stream with duplicates."""
    data = stream_bytes(frames(60, 4), 0.2, 4)
    process, port = listening(program)
    rng = np.random.default_rng(0)
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", port)) as sock:
            at = 0
            while at < len(data):
                step = int(rng.integers(1, 30000))
                sock.sendall(data[at : at + step])
                at += step
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b""  # it acknowledges nothing: a pipe is not durable
    process.send_signal(signal.SIGTERM)
    ours = said(process.wait(30), *process.communicate())
    once = run_stdin(program, data)
    assert ours.rows == once.rows
    assert ours.account["received"] == 2 * once.account["received"]
    assert ours.account["duplicate"] == 2 * once.account["duplicate"] + once.account["reported"]
    assert ours.source["connections"] == 2


def listening(program: Path, *arguments: str) -> tuple[subprocess.Popen[bytes], int]:
    process = subprocess.Popen(
        [program, "--source", "tcp:0", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith(b"listening on 127.0.0.1:"), line
    return process, int(line.rpartition(b":")[2])


def test_stalled_peer_is_cut_off_and_a_ninth_is_refused(program: Path) -> None:
    process, port = listening(program, "--idle", "1.2")
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(7)]
    stalled = socket.create_connection(("127.0.0.1", port))
    stalled.sendall(light(1)[:-1])
    time.sleep(0.2)
    ninth = socket.create_connection(("127.0.0.1", port))
    assert ninth.recv(1) == b""
    assert stalled.recv(1) == b""
    process.send_signal(signal.SIGTERM)
    ours = said(process.wait(30), *process.communicate())
    for sock in (*silent, stalled, ninth):
        sock.close()
    assert ours.code == 0
    assert ours.account["rejected"] == {"truncated": 1}
    assert (ours.source["cut_off"], ours.source["connections_refused"], ours.source["connections"]) == (
        1,
        1,
        8,
    )


def test_times_say_when_and_how_long(program: Path) -> None:
    data, dim = light(20), encode(Frame(STREAM, 0, 20, 0, 0, 0, 0, np.full(AXIS_NM.size, 500, np.uint16)))
    before = time.monotonic_ns()
    rows = run_stdin(program, data + dim, "--times").rows
    after = time.monotonic_ns()
    assert len(rows) == 21
    for row in rows:
        times = row["times_ns"]
        assert before < times["readable"] <= times["arrived"] < times["decided"] < after
        assert times["preprocess"] > 0
        assert (times["inference"] > 0) == (row["label"] is not None)
        assert times["preprocess"] + times["inference"] <= times["decided"] - times["arrived"]
    assert rows[-1]["reason"] == "too_dim"
    plain = run_stdin(program, data + dim).rows
    assert plain == [{name: row[name] for name in row if name != "times_ns"} for row in rows]


def test_what_the_end_cuts_off_is_counted(program: Path) -> None:
    process, port = listening(program)
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(light(3)[:-1])
        assert process.stdout is not None
        rows = [process.stdout.readline() for _ in range(2)]
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    ours = said(process.returncode, b"".join(rows) + out, err)
    assert (ours.code, len(ours.rows)) == (0, 2)
    assert (ours.account["received"], ours.account["rejected"]) == (3, {"truncated": 1})


def test_count_and_idleness_stop(program: Path) -> None:
    ours = run_stdin(program, light(9), "--count", 5)
    assert (ours.code, len(ours.rows), ours.account["received"]) == (0, 5, 5)
    process, _ = listening(program, "--idle-exit", "0.2")
    assert process.wait(30) == 0
    process.communicate()


@pytest.mark.parametrize("what", ["weights", "axis", "table", "threshold", "label", "goldens"])
def test_a_flipped_bit_in_the_program_is_refused_at_the_start(
    program: Path, opened: Bundle, tmp_path: Path, what: str
) -> None:
    """Negative control of the start checks: the lowest bit of something that is linked in, in the file."""
    image = bytearray(program.read_bytes())
    calibration = opened.calibration
    held = {
        "weights": weight_images(opened),
        "axis": [np.asarray(AXIS_NM, "<f8").tobytes()],
        "table": [exp_table(calibration["logit_scale"], calibration["temperature"]).astype("<f8").tobytes()],
        "threshold": [
            np.array([calibration[name] for name in ("min_confidence", "min_contrast")], "<f8").tobytes()
        ],
        "label": [b'"gypsum"'],
        "goldens": [opened.goldens[1].tobytes()],
    }[what]
    places = {at for part in held for at in all_places(bytes(image), part)}
    assert places
    for place in places:
        image[place + 2] ^= 0x01
    broken = tmp_path / "broken"
    broken.write_bytes(image)
    broken.chmod(0o755)
    ours = run_stdin(broken, light(1))
    assert ours.code == 2
    assert ours.rows == []
    assert ours.stderr.startswith("error: start check: ")
    assert ours.stderr.count("\n") == 1


def all_places(held: bytes, part: bytes) -> list[int]:
    places, at = [], held.find(part)
    while at >= 0:
        places.append(at)
        at = held.find(part, at + 1)
    return places


def weight_images(opened: Bundle) -> list[bytes]:
    """The constants of every kernel as they lie in memory."""
    from libsedge_native import constants
    from libsedge_native.onnx_import import from_onnx
    from libsedge_native.passes import lower

    program = lower(from_onnx(opened.members["model.onnx"]), None)
    return [constants.image(kernel, "<") for kernel in program.kernels]


def test_weights_that_decay_while_it_runs_stop_it(program: Path, opened: Bundle) -> None:
    process = subprocess.Popen(
        [program, "--check-every", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(light(3))
    process.stdin.flush()
    for _ in range(3):
        assert b'"role": "light"' in process.stdout.readline()
    try:
        flipped = flip_in_memory(process.pid, weight_images(opened))
    except PermissionError:
        process.kill()
        process.communicate()
        pytest.skip("this machine does not let a test write another process' memory")
    assert flipped >= 1
    ours = said(*_finish(process, light(9)))
    assert ours.code == 3
    assert ours.rows == []  # no decision of decayed memory left
    assert ours.account["unreported"] == 1
    assert "CRC-32C of the weights" in ours.stderr


def _finish(process: subprocess.Popen[bytes], data: bytes) -> tuple[int, bytes, bytes]:
    out, err = process.communicate(data, timeout=30)
    return process.returncode, out, err


def flip_in_memory(pid: int, images: list[bytes]) -> int:
    flipped = 0
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        for line in maps:
            span, _, rest = line.partition(" ")
            if "libsedge-run" not in rest:
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            memory.seek(start)
            held = memory.read(end - start) or b""
            for at in sorted({at for image in images for at in all_places(held, image)}):
                memory.seek(start + at)
                memory.write(bytes([held[at] ^ 1]))
                flipped += 1
    return flipped


def test_nothing_is_allocated_after_the_start(program: Path, tmp_path: Path) -> None:
    """malloc and its kin, counted by a library loaded before libc: 2,000 frames cost no more than 20."""
    source, library = tmp_path / "count.c", tmp_path / "count.so"
    source.write_text(
        """#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
static unsigned long calls;
void* malloc(size_t n) {
    static void* (*real)(size_t);
    if (!real) real = (void* (*)(size_t))dlsym(RTLD_NEXT, "malloc");
    ++calls;
    return real(n);
}
void* realloc(void* p, size_t n) {
    static void* (*real)(void*, size_t);
    if (!real) real = (void* (*)(void*, size_t))dlsym(RTLD_NEXT, "realloc");
    ++calls;
    return real(p, n);
}
__attribute__((destructor)) static void tell(void) { fprintf(stderr, "calls %lu\\n", calls); }
"""
    )
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", source, "-o", library, "-ldl"], check=True)
    prefix = ["env", f"LD_PRELOAD={library}"]
    few, many = (run_stdin(program, light(n), prefix=prefix) for n in (20, 2000))
    assert len(many.rows) == 2000
    assert int(few.stderr.split()[1]) > 5  # it does count
    assert few.stderr == many.stderr


def test_start_and_memory(program: Path) -> None:
    """First decision within 20 ms of the start (the best of ten: the machine may be busy), 4 MiB at most."""
    data, best = light(1), 1.0
    for _ in range(10):
        begin = time.perf_counter()
        process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(data)
        process.stdin.flush()
        assert process.stdout.readline()
        best = min(best, time.perf_counter() - begin)
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = int(status.partition("VmHWM:")[2].split()[0])
        process.communicate()
    assert best < 0.020
    assert peak <= 4096


def test_output_that_nobody_takes(program: Path) -> None:
    with open("/dev/full", "wb") as full:
        process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=full, stderr=subprocess.PIPE)
        _, err = process.communicate(light(7), timeout=30)
    told = said(process.returncode, err, b"")
    assert told.code == 3
    assert (told.account["reported"], told.account["unreported"], told.account["unaccounted"]) == (0, 7, 0)
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    _, err = process.communicate(light(7), timeout=30)
    assert process.returncode == 3
    assert err.startswith(b"error: nobody takes the output\n")


def test_mistakes_are_one_line_and_exit_code_2(program: Path) -> None:
    busy = socket.create_server(("127.0.0.1", 0))
    for arguments in (
        ("--source", "pigeon:1"),
        ("--source", "tcp:0.0.0.0:0"),
        ("--source", "tcp:[::]:0"),
        ("--source", "tcp:192.168.1.1:0"),
        ("--source", "tcp:70000"),
        ("--source", "tcp::1"),
        ("--source", f"tcp:{busy.getsockname()[1]}"),
        ("--isa", "abacus"),
        ("--count", "0"),
        ("--count", "-1"),
        ("--idle", "nan"),
        ("--max-channels", "65537"),
        ("--source",),
    ):
        ours = run_stdin(program, b"", *arguments)
        assert (ours.code, ours.stderr.count("\n")) == (2, 1), (arguments, ours.stderr)
        assert ours.stderr.startswith("error: ")
    assert "no such option" in run_stdin(program, b"", "--help-me").stderr
    assert "--count = '0'" in run_stdin(program, b"", "--count", "0").stderr
    busy.close()


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_is_no_mistake(program: Path, option: str) -> None:
    done = subprocess.run([program, option], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: libsedge-run")


def test_an_output_at_its_size_limit_is_a_full_disk(program: Path, tmp_path: Path) -> None:
    """The kernel's signal for it would end the program without an account."""
    with open(tmp_path / "lines.jsonl", "wb") as out:
        done = subprocess.run(
            ["prlimit", "--fsize=2000", program],
            input=light(40),
            stdout=out,
            stderr=subprocess.PIPE,
            check=False,
            timeout=30,
        )
    told = said(done.returncode, done.stderr.strip(), b"")  # behind the end of the torn line
    assert told.code == 3
    assert told.account["reported"] > 0
    assert told.account["unreported"] > 0
    assert told.account["reported"] + told.account["unreported"] == 40


def test_an_input_that_cannot_be_read_is_no_end(program: Path, tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    done = subprocess.run([program], stdin=folder, capture_output=True, text=True, check=False, timeout=30)
    os.close(folder)
    assert done.returncode == 3
    assert done.stderr.startswith("error: standard input cannot be read: Is a directory")


def test_the_environment_demands_an_instruction_set(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(*arguments: str) -> tuple[int, str]:
        command = [str(program), "--check", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stdout + done.stderr

    monkeypatch.setenv("LIBSEDGE_ISA", "scalar")
    assert "isa      scalar\n" in check()[1]
    monkeypatch.setenv("LIBSEDGE_ISA", "abacus")
    code, said = check()
    assert (code, "abacus" in said) == (2, True)
    assert "isa      scalar\n" in check("--isa", "scalar")[1]  # the option wins
