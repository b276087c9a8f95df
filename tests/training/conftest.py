"""One trained run for the tests of the export: net "s", a few epochs on synthetic lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from libsedge import keys


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with set.h5 and run/ of the lines of line_run, evaluated."""
    from libsedge_training import fit
    from libsedge_training.evaluate import evaluate_run

    from .line_run import lines_set

    folder = tmp_path_factory.mktemp("trained")
    data = lines_set()
    data.save(folder / "set.h5")
    config = fit.TrainConfig(net="s", epochs=4, batch=8, lr=3e-3, test_specimens=3, validation_specimens=3)
    fit.train(data, folder / "run", config, threads=1, data_file="../set.h5")
    (folder / "run" / "evaluation.json").write_text(json.dumps(evaluate_run(folder / "run", data)))
    return folder


@pytest.fixture(scope="session")
def keys_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LIBSEDGE_HOME with a signing key that it trusts."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIBSEDGE_HOME", str(folder))
        keys.generate()
    return folder


@pytest.fixture
def signing_home(keys_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LIBSEDGE_HOME is `keys_folder`."""
    monkeypatch.setenv("LIBSEDGE_HOME", str(keys_folder))
