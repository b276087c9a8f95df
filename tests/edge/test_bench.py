"""`libsedge bench` measures what it says, and `libsedge compare-target` finds where two machines part."""

from __future__ import annotations

import json
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from libsedge import archive, energy
from libsedge.bundle import target
from libsedge.cli import main
from libsedge.commands.bench import made_up, measure, percentiles
from libsedge.commands.compare_target import compare
from libsedge.errors import FileFormatError
from libsedge.layers import LayerGoldens, read_layers, write_layers
from small_bundle import KEY, forge, relist


@pytest.fixture(autouse=True)
def home(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBSEDGE_HOME", str(tiny_model.home))


def call(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_percentiles_are_order_statistics() -> None:
    times = np.random.default_rng(0).permutation(np.arange(1, 1001)) * 1000
    assert percentiles(times) == {
        "p50_us": 500,
        "p90_us": 900,
        "p99_us": 990,
        "p99.9_us": 999,
        "max_us": 1000,
    }
    assert set(percentiles(np.array([7000])).values()) == {7.0}


def test_measure_sees_time_pass() -> None:
    """Negative control: work that takes 2 ms is not reported as less, and warm-up calls do not count."""
    calls = []
    times = measure(lambda: (calls.append(1), time.sleep(0.002)), 10, 3)
    assert len(calls) == 13
    assert len(times) == 10
    assert (times >= 2_000_000).all()


def test_bench_layers_are_those_of_the_net(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    result = call("bench", tiny_model.path, "--count", 10, "--isa", "scalar", "--layers", "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["layers"]
    assert [(row["isa"], row["macs"]) for row in rows if row["macs"]] == [
        ("scalar", 6 * 7 * 99),
        ("scalar", 4 * 6 * 24),
    ]


def test_bench_layers_of_the_bundles_own_kernel(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a compiler, and without the host part: every step of the kernel that the stages ran on."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    command = ("bench", tiny_model.path, "--count", 10, "--layers")
    assert re.search("without the core's limit: .*no-such-compiler", call(*command).output)
    monkeypatch.setattr("libsedge.commands.bench.entry_points", lambda group: [])
    result = call(*command, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert {row["isa"] for row in document["layers"]} == {document["isa"]}
    assert len(document["layers"]) > 2
    assert all(0 <= row["min_us"] <= row["median_us"] for row in document["layers"])
    assert sum(row["min_us"] for row in document["layers"]) < document["stages"]["infer"]["max_us"]
    assert "the host part is not installed" in document["layers_text"]


def test_bench_document(tiny_model: Any) -> None:
    result = call("bench", tiny_model.path, "--count", 50, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    opened = tiny_model.open()
    assert document["model"]["sha256"] == opened.digest
    assert document["refused_because"] is None
    assert (document["channels"], document["count"], document["spectrum"]) == (400, 50, "made up")
    assert set(document["stages"]) == {"decode", "preprocess", "infer", "decide", "classify"}
    assert set(document["infer_by_isa"]) == {name for name, runs in opened.model().isas if runs}
    for row in (*document["stages"].values(), *document["infer_by_isa"].values()):
        values = list(row.values())
        assert values == sorted(values)
        assert values[0] > 0
    assert document["stages"]["classify"]["p50_us"] > document["stages"]["infer"]["p50_us"]
    assert document["arena_bytes"] == opened.manifest["arena_bytes"]
    assert document["kernel_bytes"] == len(opened.kernel(target()))
    assert 10e6 < document["rss_bytes"] <= document["peak_rss_bytes"]
    assert ("why" in document["energy"]) == (document["energy"]["uj_per_call"] is None)
    text = call("bench", tiny_model.path, "--count", 10, "--isa", "scalar").stdout
    assert "energy: " in text
    assert "kernel scalar" in text
    assert "infer scalar" in text


def powercap(root: Path, start: int, name: str = "package-0", number: str = "0") -> Path:
    zone = root / f"intel-rapl:{number}"
    zone.mkdir(parents=True)
    for file, value in (("name", name), ("energy_uj", start), ("max_energy_range_uj", 1000)):
        (zone / file).write_text(f"{value}\n")
    return zone / "energy_uj"


@pytest.mark.parametrize(("start", "end", "expected"), [(100, 500, 40.0), (900, 300, 40.0), (5, 5, None)])
def test_energy_of_a_call(tmp_path: Path, start: int, end: int, expected: float | None) -> None:
    """A counter that goes round, one that stands still; the zones within and around the package do not count."""
    counter = powercap(tmp_path, start)
    powercap(tmp_path, 0, "core", "0:0")
    powercap(tmp_path, 0, "psys", "1")
    found = energy.measure(lambda: counter.write_text(str(end)), 10, tmp_path)
    assert found["uj_per_call"] == expected
    assert found.get("zones") == (["package-0"] if expected else None)


def test_energy_that_nobody_tells(tmp_path: Path) -> None:
    assert "no energy counter" in energy.measure(lambda: None, 10, tmp_path)["why"]
    powercap(tmp_path, 1).write_text("not a number")
    assert "cannot be read" in energy.measure(lambda: None, 10, tmp_path)["why"]


def test_bench_takes_a_file(tiny_model: Any, tmp_path: Path) -> None:
    from libsedge.store import write_store
    from runner_tools import AXIS_NM, plasma

    write_store(tmp_path / "set.h5", counts=plasma(2, 0), wavelength=AXIS_NM, specimen=["one"] * 2)
    document = json.loads(
        call("bench", tiny_model.path, "--count", 10, "--spectra", tmp_path / "set.h5", "--json").stdout
    )
    assert (document["channels"], document["spectrum"]) == (900, "from a file")
    dim = np.random.default_rng(0).normal(500, 10, (1, AXIS_NM.size)).astype(np.float32)
    write_store(tmp_path / "dim.h5", counts=dim, wavelength=AXIS_NM, specimen=["one"])
    text = call("bench", tiny_model.path, "--count", 10, "--spectra", tmp_path / "dim.h5").stdout
    assert "is refused (too_dim)" in text


def test_made_up_spectrum_is_the_same_everywhere() -> None:
    assert np.array_equal(made_up(400), made_up(400))
    assert made_up(5400).max() > 10_000


def test_compare_counts_and_names() -> None:
    wanted = np.arange(24, dtype=np.int8).reshape(2, 3, 4)
    axes = ("golden", "channel", "position")
    assert compare("x", wanted, wanted.copy(), axes).different == 0
    found = wanted.copy()
    found[1, 0, 2] = 99
    found[1, 2, 3] = 98
    result = compare("x", found, wanted, axes)
    assert (result.cells, result.different) == (24, 2)
    assert result.first == "golden 1, channel 0, position 2: 99, not 14"
    assert compare("x", found[:1], wanted, axes).different == 24


def test_this_machine_is_equal(tiny_model: Any, tmp_path: Path) -> None:
    file = tmp_path / "tiny.layers"
    written = call("layer-goldens", tiny_model.path, "-o", file)
    assert written.exit_code == 0, written.output
    document = json.loads(call("compare-target", tiny_model.path, "--layers", file, "--json").stdout)
    assert (document["different"], document["first_difference"]) == (0, None)
    names = [row["what"] for row in document["comparisons"]]
    runnable = [name for name, runs in tiny_model.open().model().isas if runs]
    assert names[: -2 * len(runnable) + 1] == ["layer pool1", "layer dense"]
    assert names[-2 * len(runnable) + 1 :] == [f"goldens, {isa}" for isa in runnable] + [
        f"{isa} against scalar" for isa in runnable if isa != "scalar"
    ]
    assert document["cells"] == sum(row["cells"] for row in document["comparisons"]) > 4 * 6 * 24
    text = call("compare-target", tiny_model.path)
    assert text.exit_code == 0
    assert "layers                      not compared" in text.stdout


@pytest.mark.parametrize(("layer", "first"), [("conv1", "layer pool1"), ("dense", "layer dense")])
def test_a_kernel_of_other_weights_is_found_where_it_begins(
    tiny_model: Any, tmp_path: Path, layer: str, first: str
) -> None:
    """Negative control: one weight of one layer changed in the compiled model, everything else as it was."""
    from libsedge_native import generate, toolchain

    def change(op: Any) -> Any:
        if op.name != layer:
            return op
        weights = op.weight.copy()
        weights.flat[weights.size // 2] += 40 if weights.flat[weights.size // 2] < 0 else -40
        return replace(op, weight=weights)

    graph = tiny_model.graph
    wrong = toolchain.compile_shared(
        generate.generate(replace(graph, ops=tuple(change(op) for op in graph.ops)))
    )
    file = tmp_path / "wrong.sedge"
    shutil.copy(tiny_model.path, file)

    def swap(members: dict, manifest: dict) -> None:
        members[f"kernel/{target()}/model.so"] = wrong
        relist(members, manifest)

    forge(file, KEY, swap)
    assert call("layer-goldens", tiny_model.path, "-o", tmp_path / "right.layers").exit_code == 0
    result = call("compare-target", file, "--layers", tmp_path / "right.layers", "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["different"] > 0
    assert document["first_difference"].startswith(first + ": golden ")
    rows = {row["what"]: row["different"] for row in document["comparisons"]}
    assert (rows["layer pool1"] > 0) == (layer == "conv1")
    assert rows["goldens, scalar"] > 0
    assert all(n == 0 for what, n in rows.items() if "against" in what)  # wrong alike everywhere
    text = call("compare-target", file, "--layers", tmp_path / "right.layers")
    assert f"first difference: {first}" in text.stdout


def test_files_of_layers_that_do_not_fit(tiny_model: Any, tmp_path: Path) -> None:
    good = LayerGoldens("0" * 64, {"a": np.zeros((2, 3, 4), np.int8), "b": np.ones((2, 1, 4), np.int8)})
    file = tmp_path / "x.layers"
    write_layers(good, file)
    back = read_layers(file)
    assert back.onnx == good.onnx
    assert all(np.array_equal(back.layers[name], good.layers[name]) for name in good.layers)
    assert list(back.layers) == ["a", "b"]
    other = call("compare-target", tiny_model.path, "--layers", file)
    assert (other.exit_code, other.stderr.count("\n")) == (2, 1)
    assert "belongs to another model" in other.stderr
    data = file.read_bytes()
    for at in range(0, len(data), 5):
        changed = bytearray(data)
        changed[at] ^= 1
        file.write_bytes(changed)
        try:
            again = read_layers(file)
        except FileFormatError:
            continue
        # a bit of the content, with the archive's own CRC-32 beside it, cannot pass; a digit of the digest neither
        raise AssertionError((at, again))
    members = archive.unpack(data)
    for broken in (
        {name: part for name, part in members.items() if name != "001.npy"},
        members | {"002.npy": members["001.npy"]},
        {"layers.json": b"[]"},
        {"layers.json": members["layers.json"].replace(b"libsedge-layers", b"other")},
    ):
        file.write_bytes(archive.pack(broken))
        with pytest.raises(FileFormatError, match="is not a file of layers"):
            read_layers(file)


def test_mistakes_are_one_line_and_exit_code_2(tiny_model: Any, tmp_path: Path) -> None:
    for arguments in (
        ("bench", tiny_model.path, "--count", 3),
        ("bench", tiny_model.path, "--isa", "abacus"),
        ("bench", tmp_path / "none.sedge"),
        ("bench", tiny_model.path, "--spectra", tmp_path / "none.h5"),
        ("compare-target", tiny_model.path, "--inputs", 0),
        ("compare-target", tiny_model.path, "--layers", tmp_path / "none.layers"),
        ("layer-goldens", tiny_model.path, "-o", tmp_path / "none" / "x.layers"),
    ):
        result = call(*arguments)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), (arguments, result.output)
