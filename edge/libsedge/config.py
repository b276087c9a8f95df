"""A run's options in one TOML file. The command's own options are the schema: same names, types and meaning.

    model = "model.sedge"        # the argument MODEL.sedge
    source = "tcp:5600"          # --source
    journal = "run.db"           # --journal
    sink = ["zmq:ipc:///run/libsedge.sock"]
    idle-exit = 5.0

A key that no option has, a value of another type, and a table are refused by name. An option on the command line
overrides the file's. Paths are relative to the working directory, as on the command line.
"""

from __future__ import annotations

import difflib
import importlib
import stat
import sys
from os import PathLike
from pathlib import Path
from typing import Any

import click

from libsedge.errors import ConfigError

MAX_BYTES = 1 << 20
#: options of `run` that a file cannot hold
_NOT_IN_A_FILE = ("config", "help")
#: the file's name of the argument
_ARGUMENTS = {"bundle": "model"}


def schema(command: click.Command) -> dict[str, click.Parameter]:
    """Key -> option of `command` that a file may set, in the command's order."""
    keys = {}
    for param in command.params:
        key = max(param.opts, key=len).lstrip("-")
        key = _ARGUMENTS.get(key, key)
        if key not in _NOT_IN_A_FILE:
            keys[key] = param
    return keys


def load_config(path: str | PathLike[str], command: click.Command) -> dict[str, Any]:
    """The file's values by the names of the command's parameters, as click's default map takes them.

    Raises ConfigError: the file cannot be read, is no TOML, or has a key or value that the command does not take.
    """
    toml: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        text = _read(path).decode("utf-8")
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=path) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot be read: {error}", file=path) from error
    try:
        table = toml.loads(text)
    except toml.TOMLDecodeError as error:
        raise ConfigError(f"is not TOML: {error}", file=path) from error
    keys = schema(command)
    values = {}
    for key, value in table.items():
        if key not in keys:
            near = difflib.get_close_matches(key, keys, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(keys)}"
            raise ConfigError(f"unknown key{hint}", file=path, field=key)
        wanted = _check(keys[key], value)
        if wanted is not None:
            raise ConfigError(f"must be {wanted}", file=path, field=key, value=value)
        values[str(keys[key].name)] = value
    return values


def _read(path: str | PathLike[str]) -> bytes:
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise ConfigError("is not a regular file", file=path)
    with open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ConfigError(f"is larger than {MAX_BYTES} bytes", file=path)
    return data


def _check(param: click.Parameter, value: object) -> str | None:
    """What the value should have been, or None where it is right."""
    if isinstance(param, click.Option) and param.multiple:
        return (
            None if isinstance(value, list) and all(isinstance(x, str) for x in value) else "a list of texts"
        )
    kind = param.type
    if isinstance(kind, click.types.BoolParamType):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(kind, click.types.IntParamType):
        return None if isinstance(value, int) and not isinstance(value, bool) else "a whole number"
    if isinstance(kind, click.types.FloatParamType):
        return None if isinstance(value, (int, float)) and not isinstance(value, bool) else "a number"
    if isinstance(kind, click.Choice):
        return None if value in kind.choices else f"one of {', '.join(map(str, kind.choices))}"
    return None if isinstance(value, str) else "a text"


def template(command: click.Command) -> str:
    """A file with every key, its meaning and its default, all commented out."""
    lines = [f"# Every key is an option of `libsedge {command.name}`; take the '# ' away to set one."]
    for key, param in schema(command).items():
        about = getattr(param, "help", None) or f"The argument {param.make_metavar(click.Context(command))}."
        lines += ["", "# " + " ".join(about.split()), f"# {key} = {_example(param)}"]
    return "\n".join(lines) + "\n"


def _example(param: click.Parameter) -> str:
    if isinstance(param, click.Option) and param.multiple:
        return "[]"
    if isinstance(param.type, click.types.BoolParamType):
        return "false"
    default = param.default
    if isinstance(default, (int, float)):
        return str(default)
    if isinstance(param.type, (click.types.IntParamType, click.types.FloatParamType)):
        return "1" if isinstance(param.type, click.types.IntParamType) else "1.0"
    return f'"{default}"' if isinstance(default, str) else '""'


def config_option(command: click.Command) -> click.Command:
    """Add `--config FILE` to a command: the file's values are its defaults from then on."""

    def use(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
        if value is not None:
            ctx.default_map = {**(ctx.default_map or {}), **load_config(value, command)}

    command.params.insert(
        0,
        click.Option(
            ["--config"],
            type=click.Path(),
            is_eager=True,
            expose_value=False,
            callback=use,
            help="Options from this TOML file; those given here override it.",
        ),
    )
    return command
