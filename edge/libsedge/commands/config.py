"""`libsedge config`: check the file of `libsedge run --config`, or print one to begin with."""

from __future__ import annotations

from typing import Any

import click

from libsedge.bundle import Bundle
from libsedge.classifier import Classifier
from libsedge.commands.run import check_together, run, source_certificates
from libsedge.config import load_config, template
from libsedge.errors import ConfigError, naming
from libsedge.health import parse_health
from libsedge.model_store import ModelStore
from libsedge.sinks import check_sink
from libsedge.sources import FILE_SOURCES, SourceOptions, check_source, open_source
from libsedge.sources.axis_reader import axis_of
from libsedge.sources.net import parse_address


def _check(file: str) -> None:
    """ConfigError, or another SedgeError, for what `libsedge run --config` would refuse before the first frame."""
    values = load_config(file, run)
    with naming(file):
        try:
            with run.make_context("run", ["--config", file]) as context:
                _check_values(context.params)
        except click.UsageError as error:
            raise ConfigError(error.format_message()) from error
    click.echo(f"{file}: {len(values)} keys, ok")


def _check_values(given: dict[str, Any]) -> None:
    names = ("bundle", "store_path", "safe_mode", "burst_spec", "burst_gap", "cosmic", "shadow")
    check_together(**{name: given[name] for name in names})
    key = tls = None
    if given["hmac_key"] is not None:
        from libsedge.frame_key import FrameKey

        key = FrameKey.read(given["hmac_key"])
    certificates = given["tls_cert"], given["tls_key"], given["tls_ca"]
    if certificates != (None, None, None):
        from libsedge.sources.tls import TlsFiles

        tls = TlsFiles.of(*certificates)
        assert tls is not None
        tls.server()
    if given["dashboard_address"] is not None:
        from libsedge.dashboard.publisher import check_installed

        check_installed()
        parse_address(given["dashboard_address"], authenticated=tls is not None)
    if given["health_address"] is not None:
        parse_health(given["health_address"])
    for spec in given["sink_specs"]:
        check_sink(spec)
    axis = axis_of(given["axis"], given["saturation"])
    source_tls = source_certificates(given["spec"], tls, given["dashboard_address"])
    options = SourceOptions(given["rate"], given["speed"], axis, tls=source_tls, key=key)
    if check_source(given["spec"], options)[0] in FILE_SOURCES:
        source = open_source(given["spec"], options)
        axis = source.axis
        source.close()
    if not given["safe_mode"]:
        bundle = given["bundle"]
        if bundle is None:
            store = ModelStore(given["store_path"])
            bundle = store.path(store.current(store.state()))
        classifier = Classifier(Bundle.open(bundle), given["isa"])
        classifier.bind(*(() if axis is None else (axis.wavelength_nm, axis.mask)))


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
