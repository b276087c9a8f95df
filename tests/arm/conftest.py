"""The emulated machines of these tests: skipped with the reason where compiler or emulator is missing.

`make test-arm` sets LIBSEDGE_ARM=required (a missing machine is then a failure) and LIBSEDGE_ARM_GRAPHS (more
random graphs a machine than `make test` takes).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
from libsedge_native import emulate
from libsedge_native.ir import Conv1d, Dense, Flatten, GlobalAveragePool, Graph, MaxPool1d, Quant, Tensor
from libsedge_native.targets import TARGETS

EMULATED = tuple(name for name, target in TARGETS.items() if target.emulator)


@pytest.fixture(scope="session")
def graphs() -> int:
    """Random graphs a machine."""
    return int(os.environ.get("LIBSEDGE_ARM_GRAPHS", "2"))


def machine_or_skip(name: str) -> emulate.Machine:
    if why := emulate.available(TARGETS[name]):
        if os.environ.get("LIBSEDGE_ARM") == "required":
            pytest.fail(why)
        pytest.skip(why)
    return emulate.Machine(name)


@pytest.fixture(scope="session", params=EMULATED)
def machine(request: pytest.FixtureRequest) -> Iterator[emulate.Machine]:
    with machine_or_skip(request.param) as made:
        yield made


@pytest.fixture(scope="session")
def aarch64() -> Iterator[emulate.Machine]:
    with machine_or_skip("aarch64-linux") as made:
        yield made


def m_net(length: int = 5400, classes: int = 12) -> Graph:
    """The shapes of the product's network (architecture.md) with random weights."""
    rng = np.random.default_rng(11)

    def parameters(*shape: int) -> tuple:
        weight = rng.integers(-60, 61, shape).astype(np.int8)
        bias = rng.integers(-2000, 2000, shape[0]).astype(np.int32)
        return weight, bias, (rng.uniform(0.5, 1.5, shape[0]) * 0.002).astype(np.float32)

    ops = (
        Conv1d("conv1", *parameters(16, 1, 11), Quant(0.05, -128), stride=2),
        MaxPool1d("pool1", 2, 2),
        Conv1d("conv2", *parameters(32, 16, 7), Quant(0.06, -128)),
        MaxPool1d("pool2", 2, 2),
        Conv1d("conv3", *parameters(64, 32, 5), Quant(0.05, -128)),
        MaxPool1d("pool3", 2, 2),
        Conv1d("conv4", *parameters(64, 64, 3), Quant(0.04, -128)),
        GlobalAveragePool("gap", Quant(0.01, -128)),
        Flatten("flat"),
        Dense("fc", *parameters(classes, 64), Quant(0.02, 3)),
    )
    return Graph("m", Tensor(1, length, Quant(0.02, -128)), ops)


@pytest.fixture(scope="session")
def net() -> Graph:
    return m_net()


@pytest.fixture(scope="session")
def short_net() -> Graph:
    """The same layers over 1,000 inputs, for boards with little memory."""
    return m_net(1000)
