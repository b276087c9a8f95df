"""Options that several commands have."""

from __future__ import annotations

import click

optimise = click.option(
    "--optimise",
    type=click.Choice(["speed", "size"]),
    default="speed",
    show_default=True,
    help="size: layers are streamed, for the smallest arena at nearly the same time (int8 only).",
)
