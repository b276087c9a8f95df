"""The `libsedge` command line: the board's commands, and the host's where the host part is installed.

Commands load when they are called, so that `libsedge run` on the board never imports what it does not use.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points

import click

from libsedge import __version__
from libsedge.errors import SedgeError

#: command name -> "module:attribute" of a click command
COMMANDS: dict[str, str] = {
    "keygen": "libsedge.commands.keys:keygen",
    "verify": "libsedge.commands.bundle:verify",
    "inspect": "libsedge.commands.bundle:inspect",
    "classify": "libsedge.commands.classify:classify",
    "run": "libsedge.commands.run:run",
    "stream-test": "libsedge.commands.stream_test:stream_test",
}


class LazyGroup(click.Group):
    """A group whose commands are imported on use; plug-ins join through `libsedge.commands`."""

    def _table(self) -> dict[str, str]:
        table = dict(COMMANDS)
        for point in entry_points(group="libsedge.commands"):
            try:
                more = point.load()
            except ImportError:  # the host part's own dependencies are not installed on this machine
                continue
            if not isinstance(more, Mapping):
                raise TypeError(f"entry point {point.name} of libsedge.commands is not a mapping")
            table.update(more)
        return table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._table())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = self._table().get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        try:
            command: click.Command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as missing:
            raise click.ClickException(
                f"`libsedge {cmd_name}` needs the Python package {missing.name!r}; "
                "install libsedge[training] for the host's commands, libsedge[edge] for the board's"
            ) from missing
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except SedgeError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(error.exit_code)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="libsedge")
def main() -> None:
    """Train, quantise and run classifiers for LIBS spectra taken at varying stand-off distances."""
