"""Many generated nets in one translation unit: the compiler starts once and reads the headers once.

For campaigns of thousands of nets; a bundle holds one net. Every model.cpp is compiled as it was generated, in a
namespace of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from libsedge_native.generate import GeneratedModel

#: the words in the shared object whose digits say which net it is
_PICK = b"sedge joined net 0000"

_ENTRY = """
namespace {
const volatile char pick[] = "%s";
const sedge_net* (*const nets[])(void) = {%s};
} // namespace

const sedge_net* sedge_net_entry(void) {
    unsigned number = 0;
    for (unsigned at = sizeof pick - 5; at < sizeof pick - 1; ++at)
        number = number * 10 + static_cast<unsigned>(pick[at] - '0');
    return nets[number]();
}
"""


def join(models: Sequence[GeneratedModel]) -> GeneratedModel:
    """One model to compile, of at most 10,000 with names of their own; `picked` gives each of them back."""
    files: dict[str, str] = {}
    for model in models:
        files |= {name: text for name, text in model.files.items() if name not in ("model.cpp", "model.h")}
        files[f"{model.name}.h"] = model.files["model.h"]
        files[f"{model.name}.inc"] = model.files["model.cpp"].replace('"model.h"', f'"{model.name}.h"')
    names = [model.name for model in models]
    headers = sorted(name for name in files if name.endswith(".h") and name[:-2] not in names)
    lines = [f'#include "{header}"' for header in headers]
    for name in names:
        lines += [
            f"#define sedge_net_entry entry_{name}",
            f"namespace {name} {{",
            f'#include "{name}.inc"',
            "}",
        ]
        lines += ["#undef sedge_net_entry"]
    entries = ", ".join(f"{name}::entry_{name}" for name in names)
    files["joined.cpp"] = "\n".join(lines) + "\n" + _ENTRY % (_PICK.decode(), entries)
    return replace(models[0], files=files)


def picked(so: bytes, number: int) -> bytes:
    """The bytes of a joined shared object as those of its net `number`, in the order of `join`."""
    assert so.count(_PICK) == 1
    return so.replace(_PICK, _PICK[:-4] + b"%04d" % number)
