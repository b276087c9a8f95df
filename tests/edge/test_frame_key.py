"""The shared key of signed frames: its file, and two terminals that use it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from libsedge.cli import main
from libsedge.errors import ConfigError
from libsedge.frame_key import FrameKey
from libsedge.journal import Journal
from libsedge.store import write_store


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "frames.key"
    result = CliRunner().invoke(main, ["keygen", "--hmac", str(path)])
    assert result.exit_code == 0, result.output
    return path


def test_keygen_makes_a_key_that_nobody_else_reads(key_file: Path) -> None:
    assert key_file.stat().st_mode & 0o777 == 0o600
    key = FrameKey.read(key_file)
    secret = key_file.read_text().split()[1]
    assert len(bytes.fromhex(secret)) == 32
    assert key.sign(b"x") == FrameKey(bytes.fromhex(secret)).sign(b"x")
    assert secret not in repr(key)
    again = CliRunner().invoke(main, ["keygen", "--hmac", str(key_file)])
    assert (again.exit_code, "exists" in again.output) == (2, True)
    assert CliRunner().invoke(main, ["keygen", "--hmac", str(key_file), "--force"]).exit_code == 0
    assert secret not in key_file.read_text()
    assert CliRunner().invoke(main, ["keygen", "--hmac", str(key_file), "--cold"]).exit_code == 2


def test_bad_key_files_are_named_and_never_shown(key_file: Path, tmp_path: Path) -> None:
    line = key_file.read_text()
    for mode in (0o640, 0o604, 0o620):
        key_file.chmod(mode)
        with pytest.raises(ConfigError, match="chmod 600") as error:
            FrameKey.read(key_file)
        assert (error.value.file, error.value.field) == (str(key_file), "hmac-key")
    key_file.chmod(0o600)
    for text in ("", line[:-2], line + line, line.upper(), "rubbish " + line):
        key_file.write_text(text)
        with pytest.raises(ConfigError, match="one line") as error:
            FrameKey.read(key_file)
        assert line.split()[1] not in str(error.value)
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            FrameKey.read(path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigError, match="regular file"):
        FrameKey.read(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="must be 32 bytes"):
        FrameKey(b"short")


def test_two_terminals_with_a_configuration_file(key_file: Path, tmp_path: Path) -> None:
    """`libsedge run --config` whose file names the key, fed by `stream-test`; a second sender is of a later epoch."""
    axis = np.linspace(240.0, 800.0, 50)
    counts = np.random.default_rng(0).integers(0, 900, (6, 50)).astype(np.uint16)
    write_store(tmp_path / "set.h5", counts=counts, wavelength=axis, specimen=["a"] * 6)
    config = tmp_path / "run.toml"
    config.write_text(
        f'source = "udp:0"\nsafe-mode = true\ncount = 14\njournal = "{tmp_path}/run.db"\nhmac-key = "{key_file}"\n'
        f'axis = "{tmp_path}/set.h5"\nidle-exit = 30.0\n'
    )
    command = [sys.executable, "-c", "from libsedge.cli import main; main()", "run", "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        listening = next(line for line in process.stderr if line.startswith("listening on "))
        to = "udp:" + listening.split()[-1]
        begin = [
            "stream-test",
            str(tmp_path / "set.h5"),
            "--to",
            to,
            "--hmac-key",
            str(key_file),
            "--rate",
            "500",
        ]
        for more in (["--epoch", "1"], ["--epoch", "1"], ["--count", "2"]):  # the second is a replay
            result = CliRunner().invoke(main, [*begin, *more])
            assert result.exit_code == 0, result.output
        assert process.wait(30) == 0
    journal = Journal(tmp_path / "run.db")
    epochs = [record.key.epoch for record in journal]
    journal.close()
    assert epochs[:6] == [1] * 6
    assert len(epochs) == 8
    assert epochs[-1] > 1_700_000_000  # seconds since 1970
    key_file.chmod(0o644)
    config.write_text(f'model = "m.sedge"\nsource = "udp:0"\njournal = "j.db"\nhmac-key = "{key_file}"\n')
    check = CliRunner().invoke(main, ["config", "--check", str(config)])
    assert (check.exit_code, "chmod 600" in check.output) == (2, True)
