"""The other end of every source, for trying and testing it: `libsedge stream-test --to NAME:ARGUMENT`.

`SENDERS` is the registry. A sender has a carrier (how frames become units) and `send`, which sends every
unit.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from libsedge.errors import ConfigError
from libsedge.senders.base import Sender
from libsedge.sources import SIGNED_SOURCES, TLS_SOURCES

if TYPE_CHECKING:
    from libsedge.frame_key import FrameKey
    from libsedge.sources.tls import TlsFiles

#: name -> "module:function"; the function takes the argument and returns a Sender; that of tcp takes `tls`, too, and
#: those of signed frames `key`
SENDERS: dict[str, str] = {
    "tcp": "libsedge.senders.base:open_tcp",
    "udp": "libsedge.senders.base:open_udp",
    "ccsds": "libsedge.senders.ccsds:open_ccsds",
    "serial": "libsedge.senders.serial:open_serial",
    "zmq": "libsedge.senders.zmq:open_zmq",
    "folder": "libsedge.senders.folder:open_folder",
}


def open_sender(spec: str, tls: TlsFiles | None = None, key: FrameKey | None = None) -> Sender:
    """The sender that `spec` names; `HOST:PORT` alone is `tcp:HOST:PORT`. ConfigError for anything else, for `tls` with
    another one than tcp, and for a `key` where the source takes none."""
    name, _, argument = spec.partition(":")
    if name not in SENDERS:
        if spec.count(":") >= 1 and spec.rpartition(":")[2].isdigit():
            name, argument = "tcp", spec
        else:
            known = ", ".join(SENDERS)
            raise ConfigError(
                f"must be HOST:PORT or one of {known} with its argument", field="to", value=spec
            )
    module, _, function = SENDERS[name].partition(":")
    opener: Callable[..., Sender] = getattr(importlib.import_module(module), function)
    if tls is not None and name not in TLS_SOURCES:
        raise ConfigError(f"TLS is for {', '.join(TLS_SOURCES)}", field="to", value=spec)
    if key is not None and name not in SIGNED_SOURCES:
        raise ConfigError(f"--hmac-key is for {', '.join(SIGNED_SOURCES)}", field="to", value=spec)
    return opener(argument, **({} if tls is None else {"tls": tls}), **({} if key is None else {"key": key}))


__all__ = ["SENDERS", "Sender", "open_sender"]
