"""The option of signed frames, the same for whoever listens and whoever sends."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click


def hmac_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --hmac-key, handed over as `key`: FrameKey or None."""

    @click.option(
        "--hmac-key",
        type=click.Path(),
        metavar="FILE",
        help="Every frame is signed with this key; with it udp, ccsds:udp and zmq may leave this machine.",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, hmac_key: str | None, **kwargs: Any) -> Any:
        key = None
        if hmac_key is not None:
            from libsedge.frame_key import FrameKey  # OpenSSL only where it is used

            key = FrameKey.read(hmac_key)
        return command(*args, key=key, **kwargs)

    return wrapped
