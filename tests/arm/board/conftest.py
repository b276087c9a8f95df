"""The aarch64 wheel in an arm64 Debian: only with LIBSEDGE_ARM=required (`make test-arm`), for it takes minutes."""

# ruff: noqa: E402
from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[3] / "deploy")]

import arm64_root
import board_model
from guest import Guest, installed
from libsedge_native.ir import Graph


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("LIBSEDGE_ARM") != "required":
        skip = pytest.mark.skip(reason="takes minutes and Debian packages: make test-arm")
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Guest:
    """Debian 12, which has Python 3.11."""
    made = installed(arm64_root.make(), tmp_path_factory.mktemp("guest") / "site", "3.11")
    arm64_root.byte_code(made.site)
    return made


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory, net: Graph) -> Path:
    """model.sedge (aarch64-linux and x86_64-linux), its trusted.keys, spectra.h5, and damaged.sedge."""
    folder = tmp_path_factory.mktemp("board")
    kernels = board_model.compile_net(net, ("aarch64-linux", "x86_64-linux"))
    board_model.write_model(folder / "model.sedge", net, kernels)
    board_model.write_model(folder / "wrong.sedge", net, kernels, golden_error=1)
    board_model.write_spectra(folder / "spectra.h5")
    data = bytearray((folder / "model.sedge").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "damaged.sedge").write_bytes(data)
    return folder
