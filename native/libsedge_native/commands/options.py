"""Options that several commands have."""

from __future__ import annotations

import click
from libsedge.errors import ConfigError

optimise = click.option(
    "--optimise",
    type=click.Choice(["speed", "size"]),
    default="speed",
    show_default=True,
    help="size: layers are streamed, for the smallest arena at nearly the same time (int8 only).",
)

precision = click.option(
    "--precision",
    type=click.Choice(["int8", "float32"]),
    help="float32: nothing is quantised; logits within 1e-5 of the largest one, and not the same bits everywhere.",
)


def check_optimise(optimise: str, precision: str) -> None:
    """Raises ConfigError for `size` and float32, whose layers are whole."""
    if optimise != "speed" and precision != "int8":
        raise ConfigError("is for int8 kernels only", field="--optimise", value=optimise)
