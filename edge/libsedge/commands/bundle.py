"""`libsedge verify` and `libsedge inspect`: is this bundle to be trusted, and what is in it?"""

from __future__ import annotations

import hashlib
from importlib.metadata import entry_points
from pathlib import Path

import click

from libsedge import keys
from libsedge.bundle import Bundle, read_once, target
from libsedge.errors import ConfigError, SedgeError, naming
from libsedge.manifest import MANIFEST, SIGNATURE

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("file", type=_FILE)
@click.option(
    "--no-run", is_flag=True, help="Check signature and digests only; needs no model for this machine."
)
def verify(file: Path, no_run: bool) -> None:
    """Check a bundle as the board does; exit code 2 and one line of error where anything is wrong."""
    bundle = Bundle.open(file)
    assert bundle.signer is not None
    digests = len(bundle.members) - 2
    click.echo(
        f"archive    canonical, {bundle.size:,} bytes, {len(bundle.members)} members, sha256 {bundle.digest}"
    )
    click.echo(f"signature  holds, key {bundle.signer.name!r} {bundle.signer.raw.hex()}")
    click.echo(f"digests    {digests} of {digests} members as signed")
    if no_run:
        click.echo("goldens    not run (--no-run)")
        return
    count = len(bundle.goldens[0])
    fastest = bundle.model()
    for name, runnable in fastest.isas:
        if runnable:
            bundle.model(name)
            default = ", the default" if name == fastest.isa else ""
            click.echo(f"goldens    {count} of {count} {bundle.exactness} on {target()} with {name}{default}")
        else:
            click.echo(f"goldens    not run with {name}: this machine lacks it")
    version, counter = bundle.manifest["version"], bundle.manifest["counter"]
    click.echo(f"accepted   {bundle.manifest['name']} {version}, counter {counter}")


def _memory(file: Path, optimise: str | None) -> str:
    """The plan of a bundle's memory, or of an ONNX file's on this machine, by the host part."""
    data, targets, precision = read_once(file), [target()], "int8"
    if data.startswith(b"PK"):
        bundle = Bundle.open(file, verify=False)
        data, targets, precision = bundle.members["model.onnx"], bundle.targets, bundle.precision
        if optimise == "size":
            bundle.must_be_int8("--optimise size")
        optimise = optimise or str(bundle.manifest["training"].get("optimise", "speed"))
    for point in entry_points(group="libsedge.memory_chart"):
        try:
            chart = point.load()
        except ImportError:  # the host part is not installed on this machine
            continue
        with naming(file):
            return str(chart(data, optimise or "speed", targets, precision))
    raise ConfigError("is planned by the host part: pip install 'libsedge[native]'", field="--memory")


@click.command()
@click.argument("file", type=_FILE)
@click.option("--memory", is_flag=True, help="Draw the plan of the net's memory; of an int8 ONNX file too.")
@click.option(
    "--optimise",
    type=click.Choice(["speed", "size"]),
    help="With --memory: plan for this instead of what the bundle was made for.",
)
def inspect(file: Path, memory: bool, optimise: str | None) -> None:
    """Show what a bundle holds; runs nothing of it, and reads bundles of untrusted keys too."""
    if memory:
        click.echo("\n".join(map(_printable, _memory(file, optimise).splitlines())))
        return
    if optimise is not None:
        raise ConfigError("needs --memory", field="--optimise", value=optimise)
    bundle = Bundle.open(file, verify=False)
    table = bundle.manifest
    lines = [
        ("bundle", f"{table['name']} {table['version']}, counter {table['counter']}, {bundle.size:,} bytes"),
        ("sha256", bundle.digest),
        ("signature", _signature_state(bundle)),
        ("needs", f"libsedge {table['minimum_runtime']} or later"),
        ("instrument", table["instrument"] or "(not said)"),
        (
            "input",
            f"{bundle.precision} [{table['input_length']}], grid sha256 {table['wavelength_grid_sha256'][:16]}",
        ),
        ("labels", f"{len(bundle.labels)}: {', '.join(bundle.labels)}"),
        *(("layer", layer) for layer in table["layers"]),
        ("arena", f"{table['arena_bytes']:,} bytes"),
        ("targets", ", ".join(bundle.targets)),
        *(("sources for", name) for name in bundle.source_targets),
        *((f"training.{key}", str(table["training"][key])) for key in sorted(table["training"])),
        *((key, str(value)) for key, value in sorted(bundle.calibration.items())),
    ]
    width = max(len(name) for name, _ in lines) + 2
    for name, value in lines:
        click.echo(f"{_printable(name):<{width}}{_printable(value)}")
    click.echo("members")
    for name, data in sorted(bundle.members.items()):
        state = _digest_state(bundle, name)
        click.echo(f"  {len(data):>10,}  {hashlib.sha256(data).hexdigest()[:16]}  {name}{state}")


def _signature_state(bundle: Bundle) -> str:
    try:
        raw = keys.signer_of(bundle.members[SIGNATURE])
    except SedgeError as error:
        return f"MALFORMED: {error}"
    if not keys.signature_holds(bundle.members[SIGNATURE], bundle.members[MANIFEST]):
        return f"DOES NOT HOLD (names key {raw.hex()})"
    try:
        name = next((key.name for key in keys.read_trusted() if key.raw == raw), None)
    except ConfigError:
        name = None
    return f"holds, by {f'pinned key {name!r}' if name else 'an UNTRUSTED key'} {raw.hex()}"


def _digest_state(bundle: Bundle, name: str) -> str:
    if name in (MANIFEST, SIGNATURE):
        return ""
    data = bundle.members[name]
    found = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return "" if bundle.manifest["members"].get(name) == found else "  DIGEST DIFFERS FROM THE MANIFEST"


def _printable(text: str) -> str:
    """Text of an unverified file without control characters, which could drive the terminal."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
