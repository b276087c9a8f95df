"""`libsedge selftest`: a bundle's goldens on the machines that it has compiled models for, emulated."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click
from libsedge.bundle import Bundle, wrong_goldens
from libsedge.errors import ConfigError, SelfTestError

from libsedge_native.targets import target_of

if TYPE_CHECKING:
    from libsedge_native.emulate import Machine


def check_cpu(machine: Machine, bundle: Bundle, cpu: str | None) -> str:
    """Every golden vector on every kernel that this CPU runs; one line of what held. Raises SelfTestError."""
    shared = bundle.kernel(machine.target.name)
    inputs, outputs = bundle.goldens
    built = machine.isas(shared, cpu)
    where = machine.target.name + (f", emulated {cpu}" if cpu else "")
    for isa, runnable in built:
        if runnable:
            wrong = wrong_goldens(machine.run(shared, inputs, isa, cpu), outputs)
            if len(wrong):
                raise SelfTestError(
                    f"golden vectors {wrong[:8].tolist()} of {len(inputs)} come out different on {where}",
                    file=bundle.path,
                    field=f"kernel/{machine.target.name}/model.so ({isa})",
                )
    return _held(where, bundle, built)


def check_here(bundle: Bundle, name: str) -> str:
    """The same through the board's own loader, without canaries: a board has no compiler for the small program."""
    built = bundle.model().isas
    for isa, runnable in built:
        if runnable:
            bundle.model(isa)
    return _held(f"{name}, this machine", bundle, built)


def _held(where: str, bundle: Bundle, built: list[tuple[str, bool]]) -> str:
    goldens = len(bundle.goldens[0])
    ran = ", ".join(isa for isa, runnable in built if runnable)
    lacking = ", ".join(isa for isa, runnable in built if not runnable)
    text = f"{where}: {goldens} of {goldens} goldens {bundle.exactness} with {ran}"
    return text + (f"; it lacks {lacking}" if lacking else "")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NAME",
    help="Machine to test, such as aarch64-linux; repeatable; default: all of the bundle.",
)
@click.option("--cpu", help="qemu's name of the CPU; default: each that this target is tested with.")
def selftest(file: Path, targets: tuple[str, ...], cpu: str | None) -> None:
    """Verify a bundle, then run its golden vectors on every kernel of the machines it is built for.

    Another machine is emulated with qemu-user, which checks bits and not speed; it needs that machine's cross
    compiler, for a small program that loads the model. CRC-32C scrub, embedded self-test and the canaries around
    the arena must hold as well. On a board, without libsedge[native], the board's own loader runs this machine's.
    """
    bundle = Bundle.open(file)
    for name in targets or bundle.targets:
        target = target_of(name)
        if cpu and target.native:
            raise ConfigError(f"{name} is this machine and is not emulated", field="--cpu", value=cpu)
        bundle.kernel(name)  # named, with those that exist, before anything is compiled
        if find_spec("jinja2") is None:
            if target.native:
                click.echo(check_here(bundle, name))
            elif targets:
                raise ConfigError(
                    "another machine is emulated by libsedge[native]", field="--target", value=name
                )
            else:
                click.echo(f"{name}: not run here; another machine is emulated by libsedge[native]")
            continue
        from libsedge_native.emulate import Machine

        with Machine(name) as machine:
            cpus = [None] if target.native else [cpu] if cpu else [model for model, _ in target.cpus]
            for each in cpus:
                click.echo(check_cpu(machine, bundle, each))
