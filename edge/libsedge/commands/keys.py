"""`libsedge keygen`: make a signing key and pin it, or the shared key of signed frames."""

from __future__ import annotations

from pathlib import Path

import click

from libsedge import keys
from libsedge.errors import ConfigError


@click.command()
@click.option("--cold", is_flag=True, help="Make the second key (cold.key), kept off-line for rotation.")
@click.option(
    "--hmac",
    "frame_key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Make the key of signed frames instead: the instrument and the board share this file.",
)
@click.option("--force", is_flag=True, help="Replace an existing key; what it signed is then refused.")
def keygen(cold: bool, frame_key: Path | None, force: bool) -> None:
    """Make an Ed25519 signing key in LIBSEDGE_HOME and pin its public half in trusted.keys."""
    if frame_key is not None:
        if cold:
            raise ConfigError("is for signing keys", field="cold")
        keys.generate_frame_key(frame_key, force=force)
        click.echo(f"shared key   {frame_key}  (for --hmac-key on both sides; keep it secret)")
        return
    private, pins, key = keys.generate(cold=cold, force=force)
    click.echo(f"private key  {private}  (keep it secret{', off-line' if cold else ''})")
    click.echo(f"public key   {key.raw.hex()}")
    click.echo(f"pinned in    {pins}  (copy this file, and only this one, to the board)")
