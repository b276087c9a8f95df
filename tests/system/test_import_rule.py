"""The import rule: `libsedge` imports neither of the others; `libsedge_native` may import `libsedge` only."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = {
    "libsedge": (ROOT / "edge" / "libsedge", {"libsedge_native", "libsedge_training"}),
    "libsedge_native": (ROOT / "native" / "libsedge_native", {"libsedge_training"}),
}
#: What a board has: the three dependencies, plus what its extras bring, imported on use.
BOARD_PACKAGES = {"numpy", "cryptography", "click", "h5py", "libsedge"}

#: The live page's process, which `libsedge run --dashboard` starts, and nobody else imports: what serves it.
PAGE_PROCESS = {
    f"edge/libsedge/dashboard/{name}.py": {"starlette", "uvicorn"} for name in ("feed", "guard", "server")
}


def imported_packages(source: str) -> set[str]:
    """Top-level names of every import in a module, those inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


def modules(folder: Path) -> list[Path]:
    found = sorted(folder.rglob("*.py")) + sorted(folder.rglob("*.pyx"))
    assert found, f"no modules below {folder}"
    return found


def python_part(path: Path) -> str:
    """A .pyx file's imports, without its cimports and extension syntax."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text
    return "\n".join(
        line
        for line in text.splitlines()
        if line.startswith(("import ", "from ")) and " cimport " not in line
    )


@pytest.mark.parametrize("part", sorted(PARTS))
def test_part_imports_no_forbidden_part(part: str) -> None:
    folder, forbidden = PARTS[part]
    offenders = {
        str(path.relative_to(ROOT)): sorted(found)
        for path in modules(folder)
        if (found := imported_packages(python_part(path)) & forbidden)
    }
    assert offenders == {}


def test_board_imports_only_what_a_board_has() -> None:
    allowed = BOARD_PACKAGES | set(sys.stdlib_module_names)
    offenders = {
        str(path.relative_to(ROOT)): sorted(found)
        for path in modules(PARTS["libsedge"][0])
        if (
            found := imported_packages(python_part(path))
            - allowed
            - PAGE_PROCESS.get(str(path.relative_to(ROOT)), set())
        )
    }
    assert offenders == {}


def test_the_check_can_fail() -> None:
    """Negative control: imports hidden in a function or behind an alias are seen."""
    source = "def f():\n    import libsedge_training.model as m\n    from torch import nn\n"
    assert imported_packages(source) == {"libsedge_training", "torch"}
