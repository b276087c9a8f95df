"""`libsedge simulate`: a simulated multi-distance set of spectra."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from click.core import ParameterSource
from libsedge.errors import ConfigError


def _numbers(text: str) -> list[float]:
    try:
        return [float(item) for item in text.split(",")]
    except ValueError as error:
        raise ConfigError(
            "metres, separated by commas, such as 2.0,3.5,5.0", field="distances", value=text
        ) from error


def _refuse(ctx: click.Context, names: tuple[str, ...], why: str) -> None:
    """ConfigError for the first of these options that was given."""
    for name in names:
        if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise ConfigError(f"{why}: leave it out", field=name, value=ctx.params[name])


def _list_materials() -> None:
    from libsedge_training.simulate.materials import KINDS, describe, load_materials

    for m in load_materials():
        click.echo(f"{m.label:10} {m.name:18} {KINDS[m.kind]:35} {describe(m)}")


def _check(
    real_data: Path, seed: int, physics: str, jobs: int | None, as_json: bool, *, progress: bool
) -> None:
    from libsedge_training.simulate import fidelity, generate

    plan = generate.make_plan(
        "small", seed, distances=fidelity.SET_DISTANCES, spectra=fidelity.SET_SPECTRA, physics=physics
    )
    result = fidelity.check(real_data, plan, jobs=jobs, progress=progress)
    if as_json:
        click.echo(result.to_json(), nl=False)
    else:
        click.echo(fidelity.markdown(result))
        click.echo(f"\n{len(result.rows) - len(result.failed)} of {len(result.rows)} within their bands")
        click.echo(f"simulator and bands: {result.digest}")
    if result.failed:
        sys.exit(1)


def _class_set(
    classes: str,
    output: Path,
    seed: int,
    spectra: int | None,
    materials: str | None,
    jobs: int | None,
    *,
    progress: bool,
) -> None:
    """The set of `libsedge train --classes`; distances, instrument and physics are drawn at random there."""
    from libsedge_training.simulate import chemistry

    names = None if materials is None else [name.strip() for name in materials.split(",")]
    plan = chemistry.make_plan(output, seed, classes=classes, spectra=spectra, names=names)
    path = chemistry.run(plan, output, jobs=jobs, progress=progress)
    click.echo(
        f"{path}: {plan.count} simulated spectra of {len(plan.materials)} materials in "
        f"{len({plan.label(m) for m in plan.materials})} classes, each on a random instrument"
    )


@click.command()
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Store to write (.h5).")
@click.option(
    "--preset",
    default="small",
    show_default=True,
    help="tiny, small, full (17,760 spectra), or chemistry or families, the sets of `libsedge train --classes`.",
)
@click.option("--seed", default=1, show_default=True, help="Same seed, same bytes.")
@click.option("--jobs", type=int, help="Processes; default: one a CPU.")
@click.option("--distances", help="Metres, separated by commas, 1.5 to 7; default: the preset's.")
@click.option("--spectra", type=int, help="Spectra a material and distance; default: the preset's.")
@click.option("--materials", help="Names separated by commas; default: the preset's.")
@click.option(
    "--instrument", default="marscode", show_default=True, help="marscode, supercam, chemcam or handheld."
)
@click.option(
    "--physics", default="zones", show_default=True, help="Plasma: zones (core, rim, periphery) or uniform."
)
@click.option(
    "--dust",
    "dust_share",
    type=float,
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="Martian dust: its mass fraction in the plasma of the first shot of every point, 0 to 1.",
)
@click.option(
    "--dust-decay",
    type=float,
    metavar="SHOTS",
    help="Shots in which the dust falls by e; default: 1.1, as on the rock Coronation.",
)
@click.option(
    "--check", is_flag=True, help="Compare the simulation with real spectra; non-zero exit if it fails."
)
@click.option(
    "--real-data",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="LIBSEDGE_REAL_DATA",
    default=Path("../shared/data"),
    show_default=True,
    help="For --check: folder of the real files.",
)
@click.option("--json", "as_json", is_flag=True, help="For --check: JSON in place of the table.")
@click.option("--list-materials", is_flag=True, help="Print the table of materials and stop.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@click.pass_context
def simulate(
    ctx: click.Context,
    output: Path | None,
    preset: str,
    seed: int,
    jobs: int | None,
    distances: str | None,
    spectra: int | None,
    materials: str | None,
    instrument: str,
    physics: str,
    dust_share: float,
    dust_decay: float | None,
    check: bool,
    real_data: Path,
    as_json: bool,
    list_materials: bool,
    quiet: bool,
) -> None:
    """Simulate LIBS spectra of reference materials at several distances.

    Plasma emission in local thermodynamic equilibrium (libskit, NIST lines), distance effect, spectrometer
    and noise; every set is marked as simulated. An interrupted run goes on where it stopped when called
    again.
    """
    if list_materials:
        _list_materials()
        return
    if dust_decay is not None and not dust_share:
        raise ConfigError("goes with --dust", field="dust_decay", value=dust_decay)
    by_class = preset in ("chemistry", "families")
    if dust_share and (check or by_class):
        raise ConfigError(
            "neither --check nor the presets chemistry and families have dust: leave --dust out",
            field="dust",
            value=dust_share,
        )
    if check:
        given = ("distances", "spectra", "materials", "instrument")
        _refuse(ctx, given, "--check has a set of its own, like the real files'")
        if output is not None:
            raise ConfigError("--check keeps no set: leave -o out", field="output", value=str(output))
        _check(real_data, seed, physics, jobs, as_json, progress=not quiet and sys.stderr.isatty())
        return
    if output is None:
        raise ConfigError("name the store to write: -o set.h5", field="output")
    if by_class:
        _refuse(ctx, ("distances", "instrument", "physics"), f"--preset {preset} draws it at random")
        _class_set(preset, output, seed, spectra, materials, jobs, progress=not quiet and sys.stderr.isatty())
        return
    from libsedge_training.simulate import dust, presets
    from libsedge_training.simulate.generate import make_plan, run

    plan = make_plan(
        preset,
        seed,
        distances=None if distances is None else _numbers(distances),
        spectra=spectra,
        materials=None if materials is None else [name.strip() for name in materials.split(",")],
        physics=physics,
        instrument_config=presets.instrument(instrument),
        dust=dust.make(dust_share, dust.DECAY_SHOTS if dust_decay is None else dust_decay),
    )
    path = run(plan, output, jobs=jobs, progress=not quiet and sys.stderr.isatty())
    count = len(plan.materials) * len(plan.distances) * plan.spectra
    classes = len({material.label for material in plan.materials})
    click.echo(
        f"{path}: {count} simulated spectra of {len(plan.materials)} materials in {classes} classes "
        f"at {len(plan.distances)} distances"
    )
