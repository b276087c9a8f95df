"""The tables of docs/performance.md from what was measured, so that no figure is typed: Markdown on standard output.

    python benchmarks/tables.py [build/bench/bench.json]

`make bench` ends with it. A cell that was not measured is a dash.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import results

Row = dict[str, Any]


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def us(value: float) -> str:
    return f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def times(row: Row | None) -> str:
    return f"{us(row['median_us'])} / {us(row['min_us'])}" if row and "median_us" in row else "–"


def nets_of(bench: Row) -> list[str]:
    return list(dict.fromkeys(row["model"] for row in bench["ours"]))


def find(rows: list[Row], name: str, net: str) -> Row | None:
    return next((row for row in rows if row["name"] == name and row["model"] == net), None)


def by_net(bench: Row, rows: list[Row], value: Callable[[Row | None], str]) -> list[list[str]]:
    """A line for each name and a column for each net; names that ran on no net are left out."""
    names = dict.fromkeys(row["name"] for row in rows if "median_us" in row)
    return [[name, *(value(find(rows, name, net)) for net in nets_of(bench))] for name in names]


def peers(bench: Row) -> str:
    """Median / minimum in microseconds, ours first, and the ratios."""
    nets, ratio = nets_of(bench), bench["ratio"]["by_net"]
    ours = [[f"**{name}**", *cells] for name, *cells in by_net(bench, bench["ours"], times)]
    lines = ours + by_net(bench, bench["peers"], times)

    def fastest(net: str, dtype: str) -> Row | None:
        found = [r for r in bench["peers"] if r["model"] == net and r.get("dtype") == dtype]
        return min(found, key=lambda r: r["median_us"], default=None)

    def over(name: str, dtype: str) -> list[str]:
        pairs = [(fastest(net, dtype), find(bench["ours"], name, net)) for net in nets]
        return [f"{p['median_us'] / o['median_us']:.2f}" if p and o else "–" for p, o in pairs]

    for kind, text in (("int8", "int8"), ("fp32", "fp32")):
        for stat in ("median", "min"):
            cells = [f"**{ratio[net].get(f'fastest_peer_{kind}_{stat}') or '–'}**" for net in nets]
            lines.append([f"fastest {text} peer / ours, {stat}", *cells])
    lines.append(
        ["fastest int8 peer / our AVX-512 VNNI kernel, median", *over("libsedge avx512vnni", "int8")]
    )
    absent = {row["name"]: row["reason"] for row in bench["peers"] if "reason" in row}
    reasons = "\n".join(f"* {name} did not run: {reason}" for name, reason in absent.items())
    return markdown(["median / min, µs", *nets], lines) + (f"\n\n{reasons}" if reasons else "")


def limits(bench: Row) -> str:
    """Share of its limit that each kernel reaches, and the limits themselves, in the same run."""
    nets = nets_of(bench)
    kernels = [row for row in bench["ours"] if row["model"] == nets[0]]

    def share(row: Row | None) -> str:
        return f"{row['peak_fraction']:.0%}" if row and row.get("peak_fraction") else "–"

    lines = [
        [row["name"], row["bound"], *(share(find(bench["ours"], row["name"], net)) for net in nets)]
        for row in kernels
        if "bound" in row
    ]
    rates = [
        [f"{name}, GMAC/s", "", *cells]
        for name, *cells in by_net(bench, bench["peaks"], lambda row: f"{row['gmac_s']:,}" if row else "–")
    ]
    return markdown(["share of its limit (benchmarks/whole.py)", "limit", *nets], lines + rates)


def memory(bench: Row) -> str:
    """A process of its own each: load time, resident memory, and sizes."""
    net = "M" if "M" in nets_of(bench) else nets_of(bench)[0]
    rows = [row for row in [*bench["ours"], *bench["peers"]] if row["model"] == net and "median_us" in row]
    keys = ("load_ms", "rss_mib", "rss_over_start_mib", "installed_mib", "model_bytes", "arena_bytes")
    lines = [
        [row["name"], *(f"{row[key]:,}" if row.get(key) is not None else "–" for key in keys)] for row in rows
    ]
    return markdown(
        [
            f"net {net}",
            "load, ms",
            "resident, MiB",
            "of these its own",
            "installed, MiB",
            "model, bytes",
            "arena, bytes",
        ],
        lines,
    )


def roofline(bench: Row) -> str:
    """Every step of the nets alone (benchmarks/layers.py)."""
    lines = []
    for row in bench["layers"]:
        share = (
            [f"{row['gmac_s']:,}", f"{row['limit_gmac_s']:,}", f"{row['fraction']:.0%}"]
            if "fraction" in row
            else ["–"] * 3
        )
        lines.append(
            [
                row["net"],
                row["isa"],
                row["step"],
                row["kind"],
                f"{row['macs']:,}",
                f"{row['bytes']:,}",
                row["min_us"],
                *share,
            ]
        )
    return markdown(
        ["net", "kernel", "step", "kind", "MACs", "bytes", "min µs", "GMAC/s", "limit", "share"], lines
    )


def arm(bench: Row) -> str:
    """Instructions of one inference, emulated, and the estimated cycles."""
    found = bench["aarch64"]["instructions"]
    isas = found["by_isa"]
    cpus = [row["cpu"] for row in isas.values()]

    def count(name: str, cpu: str) -> str:
        row = next((r for r in found["peers"] if r["name"] == name and r.get("cpu") == cpu), {})
        return f"{row['instructions']:,}" if "instructions" in row else "–"

    lines: list[list[object]] = [
        ["**libsedge**", *(f"**{row['ours']:,}** ({isa})" for isa, row in isas.items())]
    ]
    lines += [
        [name, *(count(name, cpu) for cpu in cpus)]
        for name in dict.fromkeys(r["name"] for r in found["peers"])
    ]
    for text, key in (
        ("ours / best int8 peer", "ratio"),
        ("multiply instructions at least", "floor"),
        ("ours over that floor", "over_floor"),
    ):
        lines.append([text, *(f"{row[key]:,}" if row[key] is not None else "–" for row in isas.values())])
    parts = [markdown(["emulated, instructions an inference", *cpus], lines)]
    cycles = bench["aarch64"]["estimated_cycles"]
    if isinstance(cycles, list):
        whole = [row for row in cycles if row["layer"] == "net"]
        shown = [
            [
                f"{r['isa']}, {r['core']}",
                f"{r['limit']:,}",
                f"{r['bound']:,}",
                f"{r['fraction']:.0%}",
                f"{r['simulated']:.0%}",
            ]
            for r in whole
        ]
        parts.append(markdown(["estimated", "limit", "bound", "limit / bound", "limit / simulated"], shown))
    return "\n\n".join(parts)


def exactness(bench: Row) -> str:
    """Cells of our kernels beside the reference, and beside ONNX Runtime."""
    lines = [["reference.py", "", f"{bench['exact']['cells']:,}", f"{bench['exact']['different']:,}"]]
    theirs = bench["exact"].get("onnxruntime") or {}
    for net, row in theirs.get("by_net", {}).items():
        lines.append(
            [
                f"ONNX Runtime {theirs['version']}, {net}",
                f"{row['spectra']:,}",
                f"{row['cells']:,}",
                f"{row['different']:,}",
            ]
        )
    return markdown(["compared with", "spectra", "cells", "different"], lines)


PARTS: dict[str, tuple[str, Callable[[Row], str]]] = {
    "ours": ("Beside other runtimes", peers),
    "peaks": ("The limits of the core", limits),
    "peers": ("Memory and load time", memory),
    "layers": ("Where the time goes", roofline),
    "aarch64": ("ARM (emulated)", arm),
    "exact": ("Exactness", exactness),
}


def origin(bench: Row) -> str:
    machine, versions = bench["machine"], bench["versions"]
    cpu = f"{machine['model name']} (family {machine['cpu family']}, model {machine['model']}; {machine['flags']})"
    packages = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    system = f"{machine['cpus']} CPUs, load {machine['load_average']:.1f}; {machine['compiler']}"
    return f"{bench['mode']} mode; {cpu}, {system}; {packages}"


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else results.BENCH
    bench = json.loads(path.read_text(encoding="utf-8"))
    print(origin(bench))
    for part, (title, table) in PARTS.items():
        if part in bench and not (part == "aarch64" and bench[part]["instructions"] is None):
            print(f"\n### {title}\n\n{table(bench)}")


if __name__ == "__main__":
    main()
