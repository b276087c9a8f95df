"""`libsedge config`: check the file of `libsedge run --config`, or print one to begin with."""

from __future__ import annotations

import click

from libsedge.bundle import Bundle
from libsedge.bursts import BurstOptions
from libsedge.commands.run import run
from libsedge.config import load_config, template
from libsedge.errors import ConfigError
from libsedge.sinks import check_sink
from libsedge.sources import check_source


def _check(file: str) -> None:
    """ConfigError, or another SedgeError, for what `libsedge run --config` would refuse before the first frame."""
    values = load_config(file, run)
    try:
        with run.make_context("run", ["--config", file]) as context:
            params = context.params
    except click.UsageError as error:
        raise ConfigError(error.format_message(), file=file) from error
    if (params["bundle"] is None) == (params["store_path"] is None):
        raise ConfigError("exactly one of both is needed", file=file, field="model, store")
    check_source(params["spec"])
    for spec in params["sink_specs"]:
        check_sink(spec)
    if params["hmac_key"] is not None:
        from libsedge.frame_key import FrameKey

        FrameKey.read(params["hmac_key"])
    if params["burst_spec"] is not None:
        BurstOptions.parse(params["burst_spec"], params["burst_gap"])
    if params["bundle"] is not None:
        Bundle.open(params["bundle"])
    click.echo(f"{file}: {len(values)} keys, ok")


@click.command()
@click.option("--check", metavar="FILE", type=click.Path(), help="Would `libsedge run --config FILE` start?")
@click.option("--template", "as_template", is_flag=True, help="Print every key with its meaning and default.")
def config(check: str | None, as_template: bool) -> None:
    """Check the TOML file of `libsedge run --config`, or print a template of one.

    --check refuses unknown keys and values of a wrong type, verifies the model, and opens no port, device or journal.
    Exit code 2 for a mistake.
    """
    if (check is None) == (not as_template):
        raise ConfigError("give --check FILE or --template")
    if check is not None:
        _check(check)
    else:
        click.echo(template(run), nl=False)
