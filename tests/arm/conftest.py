"""The emulated machines of these tests: skipped with the reason where compiler or emulator is missing.

`make test-arm` sets LIBSEDGE_ARM=required (a missing machine is then a failure) and LIBSEDGE_ARM_GRAPHS (more
random graphs a machine than `make test` takes).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from libsedge_native import emulate
from libsedge_native.fixed_graphs import m_net
from libsedge_native.ir import Graph
from libsedge_native.targets import TARGETS

EMULATED = tuple(name for name, target in TARGETS.items() if target.emulator)


@pytest.fixture
def long_run() -> None:
    """For tests that `make test` leaves to `make test-arm`."""
    if os.environ.get("LIBSEDGE_ARM") != "required":
        pytest.skip("by `make test-arm` only, to keep `make test` short")


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


@pytest.fixture(scope="session")
def net() -> Graph:
    return m_net()


@pytest.fixture(scope="session")
def short_net() -> Graph:
    """The same layers over 1,000 inputs, for boards with little memory."""
    return m_net(1000)
