"""`libsedge import`: anyone's files and a table of labels as one set of spectra."""

from __future__ import annotations

import contextlib
import sys
import warnings
from pathlib import Path

import click
from libsedge.errors import ConfigError


@click.command(name="import")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--labels",
    "table",
    type=click.Path(path_type=Path),
    required=True,
    help="CSV: file, label, specimen, distance_m (or distance_mm); optional spectra, medium.",
)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Store (.h5)."
)
@click.option("--quiet", is_flag=True, help="No progress bar.")
def import_(folder: Path, table: Path, output: Path, quiet: bool) -> None:
    """Bring the files of FOLDER that a table names into one set of spectra on one axis.

    Formats are known by content. Different axes are resampled onto the first row's; what a file does not
    cover is masked. A wrong row is refused with its line.
    """
    from libsedge_training.readers.importing import import_folder

    if output.exists():
        raise ConfigError("exists already: remove it or choose another output", file=output, field="output")
    with contextlib.ExitStack() as stack:
        advance = lambda: None  # noqa: E731
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            bar = stack.enter_context(Progress(console=Console(stderr=True)))
            task = bar.add_task("reading files", total=None)
            advance = lambda: bar.advance(task)  # noqa: E731
        said = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always")
        spectra, left = import_folder(folder, table, advance=advance)
    for text in dict.fromkeys(str(warning.message) for warning in said):
        click.echo(f"warning: {text}", err=True)
    spectra.save(output)
    unlabelled = int((spectra.label == "").sum())
    click.echo(
        f"{output}: {len(spectra)} spectra of {len(spectra.specimens)} specimens in {len(spectra.classes)} classes, "
        f"{int(spectra.mask.sum())} of {spectra.channels} channels valid, {unlabelled} unlabelled"
    )
    for name in left:
        click.echo(f"not in the table: {name}")
