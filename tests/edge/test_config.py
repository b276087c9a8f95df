"""The configuration file: the command line is its schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomllib
from click.testing import CliRunner, Result
from libsedge.cli import main
from libsedge.commands.run import run
from libsedge.config import load_config, schema, template
from libsedge.errors import ConfigError
from libsedge.store import write_store


def call(*args: str | Path) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "field", "why"),
    [
        ("sorce = 'tcp:1'", "sorce", "did you mean 'source'"),
        ("frobnicate = 1", "frobnicate", "known:"),
        ("capacity = 'many'", "capacity", "a whole number"),
        ("capacity = true", "capacity", "a whole number"),
        ("capacity = 1.5", "capacity", "a whole number"),
        ("deadline = 'soon'", "deadline", "a number"),
        ("policy = 'drop-all'", "policy", "one of block, drop-oldest, drop-newest"),
        ("sink = 'jsonl:x'", "sink", "a list of texts"),
        ("sink = [1]", "sink", "a list of texts"),
        ("json = 1", "json", "true or false"),
        ("source = 5600", "source", "a text"),
        ("config = 'other.toml'", "config", "unknown key"),
        ("[run]\nsource = 'tcp:1'", "run", "unknown key"),
    ],
)
def test_bad_keys_and_values_are_named(tmp_path: Path, text: str, field: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as error:
        load_config(written(tmp_path / "c.toml", text), run)
    assert (error.value.file, error.value.field) == (str(tmp_path / "c.toml"), field)


@pytest.mark.parametrize("data", [b"source = ", b"\xff\xfe", b"a = 1\na = 2"])
def test_files_that_are_no_toml(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "c.toml").write_bytes(data)
    with pytest.raises(ConfigError, match=r"is not TOML|cannot be read"):
        load_config(tmp_path / "c.toml", run)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.toml", run)


def test_every_option_of_run_can_be_in_a_file() -> None:
    options = {opt.lstrip("-") for param in run.params for opt in param.opts if opt.startswith("--")}
    assert set(schema(run)) == (options - {"config"}) | {"model"}


def test_the_template_is_a_file_that_changes_nothing(tmp_path: Path) -> None:
    text = template(run)
    assert load_config(written(tmp_path / "c.toml", text), run) == {}
    for line in text.splitlines():
        if line.startswith("# ") and " = " in line and line[2:].split(" = ")[0] in schema(run):
            assert list(tomllib.loads(line[2:])) == [line[2:].split(" = ")[0]]


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def replayed(tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """(bundle, file of 12 spectra)"""
    monkeypatch.setenv("LIBSEDGE_HOME", str(tiny_model.home))
    rng = np.random.default_rng(0)
    axis = np.linspace(235.0, 860.0, 900)
    counts = (500 + rng.exponential(2000, (12, axis.size))).astype(np.uint16)
    write_store(tmp_path / "set.h5", counts=counts, wavelength=axis, specimen=["s"] * 12, distance_m=2.0)
    return tiny_model.path, tmp_path / "set.h5"


def test_a_run_by_file_and_what_overrides_it(tmp_path: Path, replayed: tuple[Path, Path]) -> None:
    bundle, spectra = replayed
    config = written(
        tmp_path / "c.toml",
        f"model = '{bundle}'\nsource = 'replay:{spectra}'\njournal = '{tmp_path / 'run.db'}'\n"
        f"sink = ['jsonl:{tmp_path / 'a.jsonl'}']\ncount = 9\nburst = 'vote:4'\njson = true\n",
    )
    assert call("config", "--check", config).output.endswith("7 keys, ok\n")
    first = call("run", "--config", config)
    assert first.exit_code == 0, first.output
    assert json.loads(first.stdout)["ledger"]["journaled"] == 9
    frames = [row for row in lines(tmp_path / "a.jsonl") if "burst" not in row]
    assert len(frames) == 9
    second = call("run", "--config", config, "--count", "5", "--journal", tmp_path / "other.db")
    assert json.loads(second.stdout)["ledger"]["journaled"] == 5


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("source = 'telepathy:1'", "known sources"),
        ("source = 'tcp'", "needs an argument"),
        ("sink = ['fax:1']", "known sinks"),
        ("burst = 'vote'", "vote:SHOTS"),
        ("model = 'none.sedge'", "none.sedge"),
        ("store = 'models/x'", "exactly one"),
        ("journal = 'other.db'", ""),
        ("count = -1", "count = -1: must be above 0"),
        ("capacity = 99999999999999999999", "capacity = 99999999999999999999: must be 1 to 100000"),
        ("burst-gap = nan", "burst-gap = nan: must be above 0 and at most 3600"),
        ("deadline = -5", "deadline = -5.0: must be above 0"),
        ("shadow = 3", "shadow = 3: needs --store"),
        ("cosmic = true", "cosmic: needs --burst average:N"),
        ("rate = inf", "rate = inf: must be above 0"),
        ("isa = 'sse9'", "isa = 'sse9'"),
        ("health = '0.0.0.0:9400'", "loopback"),
        ("dashboard = '192.0.2.1:80'", "loopback"),
        ("axis = 'none.h5'", "none.h5"),
        ("hmac-key = 'none.key'", "none.key"),
        ("tls-cert = 'a.pem'", "needed together"),
        ("source = 'replay:none.h5'", "none.h5"),
        ("source = 'tcp:0.0.0.0:5600'", "loopback"),
        ("source = 'udp:70000'", "port = 70000"),
        ("source = 'ccsds:tcp:192.0.2.1:5603'", "loopback"),
        ("source = 'zmq:push:tcp://127.0.0.1:1'", "zmq:pull:ENDPOINT"),
        ("source = 'serial:/dev/none,parity=x'", "baud=N"),
        ("source = 'simulated:seed=x'", "simulated: seed"),
        ("source = 'tcp:5600'", ""),
        ("sink = ['zmq:tcp://192.0.2.1:1']", "loopback"),
        ("sink = ['mqtt:127.0.0.1:1883/a+b']", "mqtt topic"),
        ("sink = ['ccsds:udp:127.0.0.1:5620,apid=9999']", "apid"),
    ],
)
def test_check_says_what_run_would(
    tmp_path: Path, replayed: tuple[Path, Path], change: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle, spectra = replayed
    table = {"model": f"'{bundle}'", "source": f"'replay:{spectra}'", "journal": "'run.db'"}
    key, _, value = change.partition(" = ")
    table[key] = value
    text = "\n".join(f"{key} = {value}" for key, value in table.items())
    result = call("config", "--check", written(tmp_path / "c.toml", text))
    assert len(result.output.splitlines()) == 1
    if why:
        assert result.exit_code == 2
        assert why in result.output
        assert (got := call("run", "--config", tmp_path / "c.toml")).exit_code == 2
        assert why in got.output
    else:
        assert result.exit_code == 0


def test_a_file_that_never_ends_is_no_configuration() -> None:
    with pytest.raises(ConfigError, match="/dev/zero: is not a regular file"):
        load_config("/dev/zero", run)


def test_a_file_of_another_kind_is_not_read_whole(tmp_path: Path) -> None:
    with open(tmp_path / "c.toml", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError, match="is larger than"):
        load_config(tmp_path / "c.toml", run)


def test_check_looks_into_the_store(tmp_path: Path, replayed: tuple[Path, Path]) -> None:
    bundle, spectra = replayed
    text = f"store = '{tmp_path / 'models' / 'tiny'}'\nsource = 'replay:{spectra}'\njournal = 'run.db'"
    config = written(tmp_path / "c.toml", text)
    assert "no model was installed here" in call("config", "--check", config).output
    installed = call("model", "install", bundle, "--store", tmp_path / "models").output
    folder = Path(installed.split()[1])
    config = written(tmp_path / "c.toml", text.replace(str(tmp_path / "models" / "tiny"), str(folder.parent)))
    assert "no version was activated" in (refused := call("config", "--check", config)).output
    assert refused.exit_code == 2
    call("model", "activate", folder.parent, folder.name)
    assert call("config", "--check", config).exit_code == 0


def test_check_needs_what_run_needs(tmp_path: Path, replayed: tuple[Path, Path]) -> None:
    result = call("config", "--check", written(tmp_path / "c.toml", f"model = '{replayed[0]}'"))
    assert result.exit_code == 2
    assert "--source" in result.output
    assert call("config").exit_code == 2
