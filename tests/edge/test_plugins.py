"""Sources and sinks of another package: the example of docs/operations.md, installed and run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tomllib
from libsedge.errors import ConfigError, SourceError
from libsedge.sinks import check_sink, open_sink
from libsedge.sources import check_source, open_source

DOCS = Path(__file__).parents[2] / "docs" / "operations.md"


def install(site: Path, project: str, module: str) -> None:
    """What pip leaves of a package with one module, read from its pyproject.toml."""
    table = tomllib.loads(project)["project"]
    about = site / f"{table['name'].replace('-', '_')}-{table['version']}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {table['name']}\nVersion: {table['version']}\n"
    )
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in table["entry-points"].items()
    ]
    (about / "entry_points.txt").write_text("\n".join(groups))
    (site / "my_instrument.py").write_text(module)


@pytest.fixture
def example() -> tuple[str, str, list[str]]:
    """pyproject.toml, the module, and the command, as documented."""
    section = DOCS.read_text(encoding="utf-8").split("## A source or sink of your own")[1].split("\n## ")[0]
    project, module = (
        str(re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)[0]) for language in ("toml", "python")
    )
    command = re.findall(r"`libsedge (run [^`]+)`", section)[0].split()
    return project, module, command


def test_the_documented_example(example: tuple[str, str, list[str]], tiny_model: Any, tmp_path: Path) -> None:
    project, module, command = example
    install(tmp_path / "site", project, module)
    shutil.copy(tiny_model.path, tmp_path / "model.sedge")
    ran = subprocess.run(
        [sys.executable, "-c", "from libsedge.cli import main; main()", *command, "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site"), "LIBSEDGE_HOME": str(tiny_model.home)},
    )
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert (report["ledger"]["journaled"], report["simulated"], report["sink_errors"]) == (20, True, 0)
    lines = [line.split() for line in (tmp_path / "lines.txt").read_text().splitlines()]
    assert [int(sequence) for sequence, _ in lines] == list(range(20))
    assert Counter(what for _, what in lines) == Counter(report["labels"]) + Counter(report["not_accepted"])


def test_without_it_the_names_are_unknown(example: tuple[str, str, list[str]]) -> None:
    with pytest.raises(SourceError, match="unknown"):
        check_source("ramp:20")
    with pytest.raises(ConfigError, match="unknown"):
        check_sink("lines:x")


def test_a_package_that_cannot_be_used(
    example: tuple[str, str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, _, _ = example
    install(tmp_path / "site", project, "raise RuntimeError('no such driver')")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    check_source("ramp:20")
    with pytest.raises(ConfigError, match="RuntimeError: no such driver"):
        open_source("ramp:20")
    with pytest.raises(ConfigError, match="RuntimeError: no such driver"):
        open_sink("lines:x")
    install(tmp_path / "second", project.replace("my-instrument", "other"), "")
    monkeypatch.syspath_prepend(str(tmp_path / "second"))
    with pytest.raises(ConfigError, match="2 installed packages"):
        open_source("ramp:20")


def test_a_plugin_does_not_replace_what_is_built_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = '[project]\nname = "bad"\nversion = "1"\n[project.entry-points."libsedge.sources"]\n'
    install(tmp_path / "site", project + 'simulated = "my_instrument:none"\n', "raise RuntimeError('taken')")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    open_source("simulated:count=1").close()
