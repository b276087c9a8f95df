"""The host's commands, joined to the `libsedge` command line through the entry point `libsedge.commands`."""

from __future__ import annotations

#: command name -> "module:attribute" of a click command; a module is imported when its command is called
commands: dict[str, str] = {
    "simulate": "libsedge_training.commands.simulate:simulate",
    "train": "libsedge_training.commands.train:train",
    "weights": "libsedge_training.commands.weights:weights",
    "evaluate": "libsedge_training.commands.evaluate:evaluate",
    "export": "libsedge_training.commands.export:export",
    "demo": "libsedge_training.commands.demo:demo",
}
