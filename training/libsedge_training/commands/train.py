"""`libsedge train`: a set of spectra becomes a run folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from libsedge.errors import ConfigError
from libsedge.preprocess import PreprocessConfig, Smooth, Snip
from rich.console import Console

# Read by torch's OpenMP when it loads: threads that wait sleep instead of spinning. On a machine with other
# work an epoch took half the time and a third of the CPU (2 cores, 8 busy processes).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from libsedge_training import chemistry, distributed, fit
from libsedge_training.model import NETS, NetSpec, macs, net_spec
from libsedge_training.prepare import segments_for
from libsedge_training.readers import read
from libsedge_training.run_folder import read_run
from libsedge_training.search.best import weighting_name
from libsedge_training.simulate.minerals import CLASS_SETS

_DEFAULT = fit.TrainConfig()
_CONFIG = (
    "net",
    "weighting",
    "epochs",
    "patience",
    "batch",
    "lr",
    "weight_decay",
    "seed",
    "test_specimens",
    "validation_specimens",
    "qat",
)


def _steps(spec: NetSpec, smooth: str | None, continuum: int | None) -> PreprocessConfig:
    """The default grid with the optional steps that were asked for; ConfigError for what is not WINDOW:ORDER."""
    config = segments_for(spec)
    if smooth is not None:
        window, _, order = smooth.partition(":")
        if not (window.isascii() and window.isdigit() and order.isascii() and order.isdigit()):
            raise ConfigError("must be WINDOW:ORDER, such as 11:2", field="smooth", value=smooth)
        config = replace(config, smooth=Smooth(int(window), int(order)))
    return config if continuum is None else replace(config, continuum=Snip(continuum))


@click.command()
@click.argument("spectra", metavar="[SET.h5]", required=False, type=click.Path(exists=True))
@click.option("-o", "--output", "run_dir", metavar="RUN", required=True, help="Folder of the run; made here.")
@click.option("--net", type=click.Choice(list(NETS)), default=_DEFAULT.net, show_default=True)
@click.option(
    "--weighting",
    metavar="NAME",
    default=_DEFAULT.weighting,
    show_default=True,
    callback=lambda ctx, option, name: weighting_name(name),
    help="Weights of the training spectra; see `libsedge weights --list`. Or the best.json of `libsedge search`.",
)
@click.option("--epochs", type=int, default=_DEFAULT.epochs, show_default=True)
@click.option(
    "--patience", type=int, default=_DEFAULT.patience, show_default=True, help="Epochs without a better one."
)
@click.option("--batch", type=int, default=_DEFAULT.batch, show_default=True)
@click.option("--lr", type=float, default=_DEFAULT.lr, show_default=True, help="First learning rate (Adam).")
@click.option(
    "--weight-decay", type=float, default=_DEFAULT.weight_decay, show_default=True, help="L2, in Adam."
)
@click.option("--seed", type=int, default=_DEFAULT.seed, show_default=True, help="Of split, net and batches.")
@click.option("--test-specimens", type=int, default=_DEFAULT.test_specimens, show_default=True)
@click.option("--validation-specimens", type=int, default=None, help="Default: 15 %, at least one a class.")
@click.option(
    "--qat",
    metavar="N",
    type=int,
    default=_DEFAULT.qat,
    show_default=True,
    help="Train the last N epochs with the rounding of the int8 export; one of them is kept.",
)
@click.option(
    "--classes",
    type=click.Choice(list(CLASS_SETS)),
    help="Train for these classes (chemistry: eight, of minerals and metals; families: six, with soil), for any "
    "instrument within 240-850 nm, on simulated spectra; SET.h5 is then made beside RUN where none is given.",
)
@click.option(
    "--hold-out",
    type=click.Choice(["specimens", "minerals"]),
    default="specimens",
    show_default=True,
    help="With --classes: validate and test on other specimens of the same minerals, or on other minerals.",
)
@click.option(
    "--smooth", metavar="WINDOW:ORDER", help="Savitzky-Golay smoothing of the pixels, such as 11:2."
)
@click.option(
    "--continuum",
    type=int,
    metavar="PIXELS",
    help="Take the continuum away (SNIP of this half window), such as 40.",
)
@click.option("--resume", is_flag=True, help="Continue RUN after its last whole epoch, with its own options.")
@click.option("--threads", type=int, default=None, help="CPU threads of torch; default: torch's choice.")
@click.pass_context
def train(
    ctx: click.Context,
    spectra: str | None,
    run_dir: str,
    classes: str | None,
    hold_out: str,
    smooth: str | None,
    continuum: int | None,
    resume: bool,
    threads: int | None,
    **chosen: Any,
) -> None:
    """Train a 1-D CNN on a set of labelled spectra, split by specimen.

    Under torchrun, several processes share every batch: `torchrun --nproc-per-node 2 -m libsedge_training train ...`
    """
    ranks = ctx.with_resource(distributed.joined())
    console = Console(stderr=True, quiet=not ranks.first)
    given = {n: chosen[n] for n in _CONFIG if ctx.get_parameter_source(n) is not ParameterSource.DEFAULT}
    started = resume and (Path(run_dir) / "run.json").exists()
    if started:
        config = fit.TrainConfig.from_json(read_run(run_dir)["config"])
        config = replace(config, **given)
    elif classes is not None:
        config = chemistry.config(hold_out, **given)
    else:
        config = fit.TrainConfig(**chosen)
    if classes is not None:
        if spectra is None and distributed.dist.is_initialized():
            raise ConfigError(
                "several processes need a set that is there: make it with one first", field="SET.h5"
            )
        spectra = str(chemistry.spectra_for(run_dir, classes, spectra, console, epochs=config.epochs))
    if spectra is None:
        raise ConfigError("name a set of spectra, or classes to simulate one for (--classes)", field="SET.h5")
    data = read(spectra)
    if classes is not None:
        chemistry.check_labels(data, classes)
    spec = net_spec(config.net)
    console.print(
        f"{len(data)} spectra{' (simulated)' if data.simulated else ''}, {len(data.classes)} classes, "
        f"{len(data.specimens)} specimens; net {spec.name}, "
        f"{macs(spec, spec.points, max(2, len(data.classes))):,} MACs; weighting {config.weighting}",
        highlight=False,
        soft_wrap=True,
    )
    learn: Callable[..., dict[str, Any]] = fit.train
    if classes is not None:
        learn = partial(chemistry.train, hold_out=hold_out)
    if smooth is not None or continuum is not None:
        if classes is not None or started:
            raise ConfigError(
                "is fixed by --classes, and by the run that --resume continues", field="smooth, continuum"
            )
        learn = partial(fit.train, steps=_steps(spec, smooth, continuum))
    run = learn(
        data,
        run_dir,
        config,
        resume=resume,
        threads=threads,
        data_file=Path(os.path.relpath(spectra, run_dir)).as_posix(),
        console=console,
    )
    best = run["best"]
    if not ranks.first:
        return
    click.echo(
        f"{run_dir}: epoch {best['epoch']} of {run['epochs_run']} kept, validation loss {best['loss']:.4f}, "
        f"balanced accuracy {best['accuracy']:.1%} on {len(run['specimens']['validation'])} specimens"
        f"{' (simulated spectra)' if run['simulated'] else ''}"
    )
