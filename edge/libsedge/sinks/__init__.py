"""Where decisions go. One file a sink; `SINKS` is the registry, entry points `libsedge.sinks` join it.

The journal (`libsedge.journal`) is not in this table: a pipeline has exactly one, and its commit is what
makes a frame count as journaled. Sinks come after it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import entry_points

from libsedge.errors import ConfigError
from libsedge.sinks.base import Sink

#: name -> "module:function"; the function takes the argument and returns a Sink
SINKS: dict[str, str] = {
    "jsonl": "libsedge.sinks.jsonl:JsonLines",
    "zmq": "libsedge.sinks.zmq:ZmqPub",
}


def open_sink(spec: str) -> Sink:
    """The sink that `spec` (`name:argument`) names; ConfigError for an unknown name or a missing argument."""
    name, colon, argument = spec.partition(":")
    plug_ins = {point.name: point for point in entry_points(group="libsedge.sinks")}
    if name not in SINKS and name not in plug_ins:
        known = ", ".join(sorted({*SINKS, *plug_ins}))
        raise ConfigError(f"unknown; known sinks are {known}", field="sink", value=name)
    if not colon or not argument:
        raise ConfigError(f"needs an argument: {name}:...", field="sink", value=spec)
    opener: Callable[[str], Sink]
    if name in SINKS:
        module, _, function = SINKS[name].partition(":")
        opener = getattr(importlib.import_module(module), function)
    else:
        opener = plug_ins[name].load()
    return opener(argument)


__all__ = ["SINKS", "Sink", "open_sink"]
