"""Where decisions go. One file a sink; `SINKS` is the registry, entry points `libsedge.sinks` join it.

The journal (`libsedge.journal`) is not in this table: a pipeline has exactly one, and its commit is what
makes a frame count as journaled. Sinks come after it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import entry_points

from libsedge import extras
from libsedge.errors import ConfigError
from libsedge.sinks.base import Sink

#: name -> "module:function"; the function takes the argument and returns a Sink
SINKS: dict[str, str] = {
    "jsonl": "libsedge.sinks.jsonl:JsonLines",
    "zmq": "libsedge.sinks.zmq:ZmqPub",
    "ccsds": "libsedge.sinks.ccsds:CcsdsSink",
    "mqtt": "libsedge.sinks.mqtt:MqttSink",
    "record": "libsedge.sinks.record:Recorder",
}


def check_sink(spec: str) -> tuple[str, str]:
    """(name, argument) of `name:argument`; ConfigError for an unknown name, a missing argument, and one that the sink
    cannot take (`parse_NAME` of its module)."""
    name, colon, argument = spec.partition(":")
    known = {*SINKS, *(point.name for point in entry_points(group="libsedge.sinks"))}
    if name not in known:
        raise ConfigError(f"unknown; known sinks are {', '.join(sorted(known))}", field="sink", value=name)
    if not colon or not argument:
        raise ConfigError(f"needs an argument: {name}:...", field="sink", value=spec)
    if name in SINKS:
        module = importlib.import_module(SINKS[name].partition(":")[0])
        if (parse := getattr(module, f"parse_{name}", None)) is not None:
            parse(argument)
    return name, argument


def open_sink(spec: str) -> Sink:
    """The sink that `spec` (`name:argument`) names; ConfigError as `check_sink`."""
    name, argument = check_sink(spec)
    opener: Callable[[str], Sink]
    if name in SINKS:
        module, _, function = SINKS[name].partition(":")
        opener = getattr(importlib.import_module(module), function)
    else:
        opener = extras.plugin("libsedge.sinks", name)
    return opener(argument)


__all__ = ["SINKS", "Sink", "check_sink", "open_sink"]
