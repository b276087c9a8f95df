"""A simulated set of other specimens, on which nets, recipes and strategies are chosen before the 37 are tested.

`python -m libsedge_training.study.development -o development.h5` simulates the 37 minerals, rocks, soils and
alloys of `simulate/development.csv`: classes, distances and instrument of `libsedge simulate --preset small`, none
of the specimens. Every specimen of the study is in some test part, and a fold's validation part holds six
specimens; whoever chooses by looking at all of them has looked at the test. Averages of rocks and soils are rounded.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from libsedge_training.simulate import generate
from libsedge_training.simulate import materials as materials_table

TABLE = materials_table.TABLE.with_name("development.csv")
SEED = 101


def development_materials() -> tuple[materials_table.Material, ...]:
    """The development specimens."""
    return materials_table.load_materials(TABLE)


@click.command()
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
@click.option(
    "--physics", default=generate.DEFAULT_PHYSICS, show_default=True, help="As of libsedge simulate."
)
def main(output: Path, physics: str) -> None:
    """Simulate the development set."""
    plan = replace(generate.make_plan("small", SEED, physics=physics), materials=development_materials())
    generate.run(plan, output)
    click.echo(f"{output}: {len(plan.materials)} development specimens, plan {plan.digest()[:16]}")


if __name__ == "__main__":
    main()
