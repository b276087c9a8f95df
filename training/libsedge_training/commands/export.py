"""`libsedge export`: a finished run becomes a signed bundle."""

from __future__ import annotations

from pathlib import Path

import click
from libsedge.manifest import Precision
from libsedge_native.commands import options
from libsedge_native.lowered import Optimise
from libsedge_native.zig import TOOLCHAINS
from libsedge_native.zig import toolchain as use_toolchain


@click.command()
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="NAME.sedge"
)
@click.option(
    "--data", type=click.Path(path_type=Path), help="The run's spectra; default: where run.json says."
)
@click.option("--name", help="Name of the model; default: the run folder's.")
@click.option("--version", default="0.1.0", show_default=True, help="Semantic version.")
@click.option(
    "--counter", default=1, show_default=True, help="Raise it with every bundle: older ones are blocked."
)
@click.option(
    "--key", type=click.Path(path_type=Path), help="Private key; default: LIBSEDGE_HOME/signing.key."
)
@click.option(
    "--goldens", default=8, show_default=True, help="Spectra whose outputs every board must reproduce."
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NAME",
    help="Machine to build for besides this one, such as aarch64-linux or armv7-linux; for cortex-m7 and so on the "
    "bundle carries a folder of sources; repeatable.",
)
@click.option(
    "--toolchain",
    type=click.Choice(TOOLCHAINS),
    default="gcc",
    show_default=True,
    help="Compilers: Debian's, or zig from libsedge[zig] (x86_64-linux and aarch64-linux).",
)
@options.precision
@options.optimise
@click.option(
    "--max-error",
    type=float,
    metavar="SHARE",
    help="Promise that at most this share of the accepted spectra is wrong, such as 0.05; refused where the validation "
    "specimens cannot prove it.",
)
def export(
    run: Path,
    output: Path,
    data: Path | None,
    name: str | None,
    version: str,
    counter: int,
    key: Path | None,
    goldens: int,
    targets: tuple[str, ...],
    toolchain: str,
    precision: Precision | None,
    optimise: Optimise,
    max_error: float | None,
) -> None:
    """Quantise RUN to int8 (or not: --precision float32), generate and compile its kernel, prove it, calibrate, and
    sign a bundle."""
    from rich.console import Console

    from libsedge_training.export import export_run

    options.check_optimise(optimise, precision or "int8")
    console = Console(stderr=True)
    with console.status("exporting"), use_toolchain(toolchain):
        export_run(
            run,
            output,
            data=data,
            name=name,
            version=version,
            counter=counter,
            key=key,
            goldens=goldens,
            targets=targets,
            optimise=optimise,
            precision=precision or "int8",
            max_error=max_error,
            say=lambda step, text: click.echo(f"{step:<10} {text}"),
        )
