"""`libsedge keygen`: make a signing key and pin it."""

from __future__ import annotations

import click

from libsedge import keys


@click.command()
@click.option("--cold", is_flag=True, help="Make the second key (cold.key), kept off-line for rotation.")
@click.option("--force", is_flag=True, help="Replace an existing key; bundles it signed are then refused.")
def keygen(cold: bool, force: bool) -> None:
    """Make an Ed25519 signing key in LIBSEDGE_HOME and pin its public half in trusted.keys."""
    private, pins, key = keys.generate(cold=cold, force=force)
    click.echo(f"private key  {private}  (keep it secret{', off-line' if cold else ''})")
    click.echo(f"public key   {key.raw.hex()}")
    click.echo(f"pinned in    {pins}  (copy this file, and only this one, to the board)")
