"""The generated source: the same everywhere, pinned for one tiny net, printed by an emitter that decides nothing."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import libsedge_native
import numpy as np
import pytest
from libsedge import _core
from libsedge.errors import ModelError
from libsedge_native import reference, toolchain
from libsedge_native.constants import crc32c
from libsedge_native.generate import default_goldens, generate
from libsedge_native.ir import Conv1d, Dense, Flatten, GlobalAveragePool, Graph, MaxPool1d, Quant, Tensor
from libsedge_native.random_graph import random_graph

PACKAGE = Path(libsedge_native.__file__).parent
GOLDENS = Path(__file__).parent.parent / "goldens"


def tiny() -> Graph:
    """One of every op, small enough to read."""

    def parameters(*shape: int) -> tuple:
        weight = (np.arange(np.prod(shape)) * 37 % 255 - 127).astype(np.int8).reshape(shape)
        return weight, np.arange(shape[0], dtype=np.int32) * 100, np.full(shape[0], 0.01, np.float32)

    ops = (
        Conv1d("conv", *parameters(3, 1, 4), Quant(0.125, -128), 2, 1, (1, 1)),
        MaxPool1d("pool", 2, 2),
        GlobalAveragePool("average", Quant(0.0625, -128)),
        Flatten("flat"),
        Dense("fc", *parameters(2, 3), Quant(0.25, 3)),
    )
    return Graph("tiny", Tensor(1, 12, Quant(0.5, -100)), ops)


@pytest.mark.parametrize("name", ["model.h", "model.cpp"])
def test_the_source_of_the_tiny_net_is_pinned(name: str) -> None:
    """Rewritten only by `LIBSEDGE_REWRITE_GOLDENS=1 python -m pytest tests/native/test_emit.py`; review the diff."""
    text = generate(tiny()).files[name]
    path = GOLDENS / f"tiny_{name}.txt"
    if os.environ.get("LIBSEDGE_REWRITE_GOLDENS") == "1":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_the_source_says_what_it_is_and_nothing_about_this_machine() -> None:
    generated = generate(random_graph(5))
    for name in ("model.h", "model.cpp"):
        text = generated.files[name]
        assert generated.digest in text
        for secret in (str(PACKAGE), os.getcwd(), os.environ.get("HOME", "/root") + "/"):
            assert secret not in text
        assert "__DATE__" not in text
        assert "__TIME__" not in text


def _digests(hash_seed: str) -> bytes:
    code = (
        "import hashlib, json\n"
        "from libsedge_native.generate import generate\n"
        "from libsedge_native.random_graph import random_graph\n"
        "from libsedge_native.toolchain import compile_shared\n"
        "models = [generate(random_graph(seed)) for seed in range(8)]\n"
        "print([hashlib.sha256(json.dumps(m.files).encode() + m.onnx).hexdigest() for m in models])\n"
        "print(hashlib.sha256(compile_shared(models[1])).hexdigest())\n"
    )
    env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True).stdout


def test_two_processes_generate_and_compile_the_same_bytes() -> None:
    first = _digests("1")
    assert first.count(b"'") == 16
    assert first == _digests("2")


def test_goldens_of_the_caller_are_embedded_and_checked() -> None:
    graph = tiny()
    inputs = np.array([[-128] * 12, list(range(12))], np.int8)
    generated = generate(graph, goldens=inputs, isas=())
    assert "2,\n    net_scalar::trace" in generated.files["model.cpp"]
    _core.Model(toolchain.compile_shared(generated, extra_flags=("-O1",))).self_test()
    for wrong in (inputs.astype(np.int16), inputs[:, :5], inputs[:0]):
        with pytest.raises(ModelError, match="int8"):
            generate(graph, goldens=wrong)


def test_default_goldens_do_not_depend_on_a_generator_library() -> None:
    goldens = default_goldens(tiny())
    assert goldens.shape == (4, 12)
    assert goldens[0, :4].tolist() == [-117, 4, 76, -11]  # sha256sum of "libsedge golden 0"
    assert (
        len({row.tobytes() for row in reference.run(random_graph(4), default_goldens(random_graph(4)))}) > 1
    )


def test_crc32c_is_the_published_one() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720's check value
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(bytes(range(200))) == _core.crc32c(bytes(range(200)))


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def test_the_emitter_only_prints() -> None:
    path = PACKAGE / "emit.py"
    outside = {m for m in _imports(path) if m.split(".")[0] not in sys.stdlib_module_names}
    assert outside == {"jinja2", "libsedge_native.headers", "libsedge_native.lowered"}
    assert len(path.read_text(encoding="utf-8").splitlines()) < 200


def test_templates_do_no_arithmetic() -> None:
    for path in sorted((PACKAGE / "templates").glob("*.j2")):
        text = path.read_text(encoding="utf-8")
        inside = [part.split("}}")[0] for part in text.split("{{")[1:]]
        assert not [part for part in inside if any(sign in part for sign in "+*/%")], path.name


def test_the_oracle_shares_nothing_with_the_passes_and_the_emitter() -> None:
    assert {m for m in _imports(PACKAGE / "reference.py") if m.startswith("libsedge")} == {
        "libsedge.errors",
        "libsedge_native.ir",
    }


def test_passes_import_no_emitter_compiler_or_io() -> None:
    for path in sorted((PACKAGE / "passes").glob("*.py")):
        forbidden = {
            "os",
            "subprocess",
            "pathlib",
            "libsedge_native.emit",
            "libsedge_native.toolchain",
            "jinja2",
        }
        assert not _imports(path) & forbidden, path.name


def test_a_net_that_computes_nothing_is_refused() -> None:
    with pytest.raises(ModelError, match="nothing to compute"):
        generate(Graph("empty", Tensor(4, 1, Quant(1.0, 0)), (Flatten("flat"),)))
