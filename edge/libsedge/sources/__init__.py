"""Where frames come from. One file a source; `SOURCES` is the registry, entry points `libsedge.sources` join
it.

A source is named on the command line as `name:argument`, such as `replay:set.h5` or `tcp:5600`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import entry_points

from libsedge import extras
from libsedge.errors import ConfigError, SourceError
from libsedge.sources.base import Axis, Source, SourceOptions

#: name -> "module:function"; the function takes (argument, SourceOptions) and returns a Source
SOURCES: dict[str, str] = {
    "replay": "libsedge.sources.replay:open_replay",
    "tcp": "libsedge.sources.tcp:open_tcp",
    "udp": "libsedge.sources.udp:open_udp",
    "ccsds": "libsedge.sources.ccsds:open_ccsds",
    "serial": "libsedge.sources.serial:open_serial",
    "zmq": "libsedge.sources.zmq:open_zmq",
    "folder": "libsedge.sources.folder:open_folder",
    "seabreeze": "libsedge.sources.seabreeze:open_seabreeze",
    "simulated": "libsedge.sources.simulated:open_simulated",
}

#: sources that can ask their peers for a certificate; every other one stays on this machine
TLS_SOURCES = ("tcp",)
#: sources of signed frames; a stream over tcp has mutual TLS instead
SIGNED_SOURCES = ("udp", "ccsds", "serial", "zmq")


#: sources that open files at most: what they would refuse is seen by opening them
FILE_SOURCES = ("replay", "folder", "simulated")


def check_source(spec: str, options: SourceOptions | None = None) -> tuple[str, str]:
    """(name, argument) of `name:argument`. SourceError for an unknown name or a missing argument; with `options` also
    what opening it would refuse before it binds or opens anything: ConfigError for TLS or a key where the source has
    none, for an address that is not loopback without them, for a malformed argument (`parse_NAME` of its module)."""
    name, colon, argument = spec.partition(":")
    known = {*SOURCES, *(point.name for point in entry_points(group="libsedge.sources"))}
    if name not in known:
        raise SourceError(
            f"unknown; known sources are {', '.join(sorted(known))}", field="source", value=name
        )
    if not colon or not argument:
        raise SourceError(f"needs an argument: {name}:...", field="source", value=spec)
    if options is None:
        return name, argument
    if options.tls is not None and name not in TLS_SOURCES:
        raise ConfigError(f"TLS is for {', '.join(TLS_SOURCES)}", field="source", value=spec)
    if options.key is not None and name not in SIGNED_SOURCES:
        raise ConfigError(f"--hmac-key is for {', '.join(SIGNED_SOURCES)}", field="source", value=spec)
    if name in SOURCES:
        module = importlib.import_module(SOURCES[name].partition(":")[0])
        if (parse := getattr(module, f"parse_{name}", None)) is not None:
            parse(argument, options)
    return name, argument


def open_source(spec: str, options: SourceOptions | None = None) -> Source:
    """The source that `spec` (`name:argument`) names; errors as `check_source`, and SourceError where it cannot be
    opened."""
    options = options or SourceOptions()
    name, argument = check_source(spec, options)
    opener: Callable[[str, SourceOptions], Source]
    if name in SOURCES:
        module, _, function = SOURCES[name].partition(":")
        opener = getattr(importlib.import_module(module), function)
    else:
        opener = extras.plugin("libsedge.sources", name)
    return opener(argument, options)


__all__ = [
    "FILE_SOURCES",
    "SIGNED_SOURCES",
    "SOURCES",
    "TLS_SOURCES",
    "Axis",
    "Source",
    "SourceOptions",
    "check_source",
    "open_source",
]
