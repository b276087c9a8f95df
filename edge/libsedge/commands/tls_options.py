"""The three options of mutual TLS, the same for whoever listens and whoever connects."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click


def tls_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --tls-cert, --tls-key and --tls-ca, handed over as one `tls`: TlsFiles or None."""

    @click.option(
        "--tls-cert",
        type=click.Path(),
        metavar="PEM",
        help="Own certificate; with it tcp and the live page may leave this machine.",
    )
    @click.option("--tls-key", type=click.Path(), metavar="PEM", help="Its private key.")
    @click.option(
        "--tls-ca", type=click.Path(), metavar="PEM", help="The authority of the other side's certificates."
    )
    @functools.wraps(command)
    def wrapped(
        *args: Any, tls_cert: str | None, tls_key: str | None, tls_ca: str | None, **kwargs: Any
    ) -> Any:
        tls = None
        if (tls_cert, tls_key, tls_ca) != (None, None, None):
            from libsedge.sources.tls import TlsFiles  # OpenSSL only where it is used

            tls = TlsFiles.of(tls_cert, tls_key, tls_ca)
        return command(*args, tls=tls, **kwargs)

    return wrapped
