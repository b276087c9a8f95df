"""`libsedge demo`: the whole path on a small simulated set, ending with a table and a report."""

from __future__ import annotations

import time
from pathlib import Path

import click
from libsedge import keys
from libsedge.bundle import Bundle

from ..checkpoint import dump_json, write_atomic


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/demo"), show_default=True)
@click.option(
    "--real-data", type=click.Path(path_type=Path), help="A folder of real instrument files to classify, too."
)
@click.option(
    "--preset", default="small", show_default=True, help="Simulated set; see `libsedge simulate --help`."
)
@click.option("--epochs", default=25, show_default=True, help="Of each of the three trainings.")
@click.option("--test-specimens", default=9, show_default=True, help="Specimens held out for the figures.")
@click.option("--seed", default=1, show_default=True)
def demo(out: Path, real_data: Path | None, preset: str, epochs: int, test_specimens: int, seed: int) -> None:
    """The whole path on a small simulated set: simulate, train, quantise, generate C++, stream, report.

    Trains with equal weights, with our reconstruction of the paper's weighting and with virtual specimens, exports the
    net that is best on the validation specimens, and runs the test spectra over TCP through the runtime. Every step is
    a command of its own, shown as it would be typed in OUT (with LIBSEDGE_HOME=OUT/home).
    """
    from ..demo import kernel, page, real, steps

    began = time.monotonic()
    folder = steps.fresh_folder(out)
    shell = steps.Shell(folder)
    steps.simulate(shell, preset, seed)
    floats = steps.train(shell, epochs, test_specimens, seed)
    exported = steps.better_on_validation(shell)
    int8 = steps.export(shell, exported)
    spectra = steps.test_spectra(shell, exported)
    account = steps.stream(shell, spectra)

    trusted = folder / "home" / keys.TRUSTED_KEYS
    click.echo("\nThe kernel beside ONNX Runtime, interleaved ...")
    measured = kernel.compare(folder / "model.sedge", trusted, spectra)
    files: list[real.RealFile] = []
    if real_data is not None:
        click.echo(f"Real files of {real_data} ...")
        files = list(real.classify_folder(Bundle.open(folder / "model.sedge", trusted=trusted), real_data))

    found = page.figures(floats, int8, exported, measured, account, files)
    write_atomic(folder / "report.json", dump_json(found))
    write_atomic(folder / "report.html", page.html(found, floats, int8, files, folder).encode())
    click.echo()
    for line in page.real_lines(files):
        click.echo("  {:<60} {:>9}  {:>3} shots, {:>3} accepted, vote {} ({})".format(*line))
    if files:
        click.echo()
    width = max(len(name) for name, _ in page.rows(found))
    for name, value in page.rows(found):
        click.echo(f"  {name:<{width}}  {value}")
    click.echo(f"\n{out / 'report.html'}\n{out / 'report.json'}\n({time.monotonic() - began:.0f} s)")
