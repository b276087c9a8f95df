"""`libsedge sources`: a model as one folder of C++ that any compiler builds, for machines without Linux too."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
from libsedge.bundle import Bundle, read_once
from libsedge.errors import ConfigError, naming
from libsedge.manifest import Precision
from numpy.typing import NDArray

from libsedge_native.commands import options
from libsedge_native.generate import GeneratedModel, generate
from libsedge_native.lowered import Optimise
from libsedge_native.targets import TARGETS, BareTarget, isas_of, machine_of
from libsedge_native.toolchain import compile_object, compile_shared, write_sources


def read_model(file: Path, precision: Precision | None) -> tuple[bytes, NDArray[Any] | None, Precision]:
    """ONNX bytes, golden inputs and precision of a verified bundle; or the bytes of an ONNX file, None, and the
    precision as asked, int8 by default. ConfigError where a bundle has another precision than the one asked for.
    """
    data = read_once(file)
    if not data.startswith(b"PK"):
        return data, None, precision or "int8"
    bundle = Bundle.open(file)
    if precision not in (None, bundle.precision):
        raise ConfigError(f"{file} is {bundle.precision}", field="--precision", value=precision)
    return bundle.members["model.onnx"], np.array(bundle.goldens[0]), bundle.precision


def write_folder(generated: GeneratedModel, folder: Path, more: dict[str, bytes]) -> None:
    """All files of a model, and `more`, into a new folder, whole or not at all; raises ConfigError."""
    if folder.exists():
        raise ConfigError("exists already", field="--output", value=os.fspath(folder))
    if not folder.resolve().parent.is_dir():
        raise ConfigError("its folder does not exist", field="--output", value=os.fspath(folder))
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.resolve().parent))
    try:
        write_sources(generated, temporary)
        for name, data in more.items():
            (temporary / name).write_bytes(data)
        temporary.chmod(0o755)
        os.rename(temporary, folder)
    except OSError as why:
        raise ConfigError(
            f"cannot be written: {why.strerror}", field="--output", value=os.fspath(folder)
        ) from why
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def only(isa: str | None, isas: tuple[str, ...]) -> tuple[str, ...]:
    """The kernels beside "scalar": all of them, or the one that a user names; raises ConfigError."""
    if isa is None:
        return isas
    if isa not in (*isas, "scalar"):
        raise ConfigError(f"must be one of {', '.join((*isas, 'scalar'))}", field="--isa", value=isa)
    return () if isa == "scalar" else (isa,)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True, help="A new folder."
)
@click.option(
    "--target",
    metavar="NAME",
    help="Only this machine's kernels, and the compiled model beside the sources; cortex-m4 and so on too.",
)
@click.option(
    "--isa", metavar="NAME", help="Only this kernel beside the scalar one; `scalar` alone takes least flash."
)
@options.precision
@options.optimise
def sources(
    file: Path,
    output: Path,
    target: str | None,
    isa: str | None,
    precision: Precision | None,
    optimise: Optimise,
) -> None:
    """Write the C++ of a bundle or of an ONNX file: `c++ -std=c++17 -O2 -c *.cpp` compiles the folder.

    The file is a bundle or int8 QDQ ONNX; with --precision float32 it is ONNX of the same ops in float32.

    Without --target it has the kernels of every machine; each compiler leaves out what its machine cannot have. No
    heap and no library but memcpy and memset; the sizes are macros of model.h.
    """
    onnx, goldens, precision = read_model(file, precision)
    options.check_optimise(optimise, precision)
    machine = None if target is None else machine_of(target)
    isas = isas_of(TARGETS, precision) if machine is None else machine.kernels(precision)
    kernels = only(isa, isas)
    with naming(file):
        generated = generate(onnx, goldens, kernels, optimise, precision)
    more = {}
    if isinstance(machine, BareTarget):
        more["model.o"] = compile_object(generated, machine)
    elif machine is not None:
        more["model.so"] = compile_shared(generated, machine.name)
    write_folder(generated, output, more)
    click.echo(f"{output}: {len(generated.files)} sources, kernels {', '.join(generated.isas)}")
    click.echo(
        f"arena {generated.arena_bytes:,} bytes, {generated.input_len} inputs, {generated.classes} classes"
    )
    for name, data in more.items():
        click.echo(f"{name}: {len(data):,} bytes for {target}")
