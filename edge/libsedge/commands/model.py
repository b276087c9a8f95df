"""`libsedge model`: install, activate, status, list, rollback and remove; local commands, one step each."""

from __future__ import annotations

import json
from pathlib import Path

import click

from libsedge.model_store import ModelStore, describe, stores_in

_STORE = click.argument("store", type=click.Path(path_type=Path), metavar="DIR/NAME")


@click.group()
def model() -> None:
    """The board's store of models: install, then activate; two steps on purpose."""


@model.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="MODEL.sedge")
@click.option(
    "--store",
    "root",
    required=True,
    type=click.Path(path_type=Path),
    help="The folder of all models' stores; made where absent.",
)
def install(file: Path, root: Path) -> None:
    """Verify a bundle and copy it into DIR/NAME/VERSION. It does not run yet."""
    store, version = ModelStore.install(file, root)
    entry = store.state().versions[version]
    click.echo(f"{entry.state}  {store.folder / version}  counter {entry.counter}  sha256 {entry.digest}")


@model.command()
@_STORE
@click.argument("version")
def activate(store: Path, version: str) -> None:
    """Prove an installed VERSION on this machine and make it the current one."""
    state = ModelStore(store).activate(version)
    click.echo(
        f"current {state.current} ({state.versions[version].state}), previous {state.previous or 'none'}"
    )


@model.command()
@_STORE
def rollback(store: Path) -> None:
    """Go back to the previous version; the current one is bad from now on."""
    state = ModelStore(store).rollback()
    click.echo(f"current {state.current}, previous none")


@model.command()
@_STORE
@click.argument("version")
def remove(store: Path, version: str) -> None:
    """Delete an installed VERSION; never the current one, the previous one, or the last that was good."""
    ModelStore(store).remove(version)
    click.echo(f"removed {version}")


@model.command("list")
@click.argument("root", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_models(root: Path, as_json: bool) -> None:
    """Every version of every model in DIR, with its state and size; DIR/NAME: of that model only."""
    tables = [describe(store) for store in stores_in(root)]
    if as_json:
        click.echo(json.dumps(tables, indent=1))
        return
    total = 0
    for table in tables:
        marks = {table["previous"]: "previous", table["current"]: "current"}
        for row in table["versions"]:
            total += row["bytes"] or 0
            size = "missing" if row["bytes"] is None else f"{row['bytes']:,} bytes"
            name = Path(table["folder"]).name
            mark = marks.get(row["version"], "")
            click.echo(f"{name:<16} {row['version']:<12} {row['state']:<10} {mark:<9} {size:>18}")
    click.echo(f"{total:,} bytes")


@model.command()
@_STORE
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(store: Path, as_json: bool) -> None:
    """What is installed, what is current, and the counter below which nothing runs."""
    table = describe(ModelStore(store))
    if as_json:
        click.echo(json.dumps(table, indent=1))
        return
    click.echo(
        f"current {table['current'] or 'none'}, previous {table['previous'] or 'none'}, floor {table['floor']}"
    )
    for row in table["versions"]:
        click.echo(
            f"  {row['version']:<12} {row['state']:<10} counter {row['counter']:<6} sha256 {row['digest']}"
        )
