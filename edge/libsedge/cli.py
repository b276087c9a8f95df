"""The `libsedge` command line: the board's commands, and the host's where the host part is installed.

A command's module is imported when the command is called, so that `libsedge run` on the board never imports what it
does not use and `libsedge --help` is instant everywhere.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

import click

from libsedge import __version__
from libsedge.errors import SedgeError

#: command name -> ("module:attribute" of a click command, one line of help)
COMMANDS: dict[str, tuple[str, str]] = {
    "keygen": ("libsedge.commands.keys:keygen", "Make a signing key and pin its public half."),
    "verify": ("libsedge.commands.bundle:verify", "Check a bundle's archive, digests and signature."),
    "inspect": ("libsedge.commands.bundle:inspect", "Show what a bundle holds; runs nothing."),
    "classify": (
        "libsedge.commands.classify:classify",
        "Classify files of spectra, shot by shot and by vote.",
    ),
    "run": ("libsedge.commands.run:run", "Classify a stream of frames into a journal."),
    "config": ("libsedge.commands.config:config", "Check or begin a configuration file of `libsedge run`."),
    "record": ("libsedge.commands.record:record", "Record frames of any source, to be replayed."),
    "monitor": ("libsedge.commands.monitor:monitor", "Show a running `libsedge run` in the terminal."),
    "bench": ("libsedge.commands.bench:bench", "Measure one decision on this machine, stage by stage."),
    "compare-target": (
        "libsedge.commands.compare_target:command",
        "Compare this machine's layers and kernels with the host's, bit for bit.",
    ),
    "model": ("libsedge.commands.model:model", "Install, activate and roll back models on the board."),
    "journal": ("libsedge.commands.journal:journal", "Ask a journal of decisions, export it, verify it."),
    "xtce": ("libsedge.commands.xtce:xtce", "Write the XTCE file of the packets of `run --sink ccsds:`."),
    "stream-test": (
        "libsedge.commands.stream_test:stream_test",
        "Send the spectra of a file as frames to a server here.",
    ),
}


class LazyGroup(click.Group):
    """A group whose commands are imported on use; plug-ins join through the entry point `libsedge.commands`."""

    def _table(self) -> dict[str, tuple[str, str]]:
        table = dict(COMMANDS)
        for point in entry_points(group="libsedge.commands"):
            more = point.load()
            if not isinstance(more, Mapping):
                raise TypeError(f"entry point {point.name} of libsedge.commands is not a mapping")
            table.update(more)
        return table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._table())

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in sorted(self._table().items())])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in (table := self._table()):
            return None
        module, _, attribute = table[cmd_name][0].partition(":")
        try:
            command: click.Command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as missing:
            raise click.ClickException(
                f"`libsedge {cmd_name}` needs the Python package {missing.name!r}; "
                "install libsedge[training] for the host's commands, libsedge[edge] for the board's"
            ) from missing
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SedgeError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(error.exit_code)


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="libsedge")
def main() -> None:
    """Train, quantise and run classifiers for LIBS spectra taken at varying stand-off distances."""
