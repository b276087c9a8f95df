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

if TYPE_CHECKING:
    from libsedge.sources.tls import TlsFiles

#: name -> "module:function"; the function takes the argument and returns a Sender
SENDERS: dict[str, str] = {
    "tcp": "libsedge.senders.base:open_tcp",
    "udp": "libsedge.senders.base:open_udp",
    "ccsds": "libsedge.senders.ccsds:open_ccsds",
    "serial": "libsedge.senders.serial:open_serial",
    "zmq": "libsedge.senders.zmq:open_zmq",
    "folder": "libsedge.senders.folder:open_folder",
}


def open_sender(spec: str, tls: TlsFiles | None = None) -> Sender:
    """The sender that `spec` names; `HOST:PORT` alone is `tcp:HOST:PORT`. ConfigError for anything else, and for
    `tls` with another one than tcp."""
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
    if tls is None:
        return opener(argument)
    if name != "tcp":
        raise ConfigError("TLS is for tcp", field="to", value=spec)
    return opener(argument, tls)


__all__ = ["SENDERS", "Sender", "open_sender"]
