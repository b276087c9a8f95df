"""`libsedge build-runner`: a verified bundle becomes one program that needs neither Python nor any other file."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shlex
import tempfile
from pathlib import Path
from typing import Any

import click
import libsedge
import libsedge.bundle
import numpy as np
from libsedge import _core
from libsedge.bundle import Bundle
from libsedge.classifier import exp_table, probabilities_of
from libsedge.errors import BundleError, ConfigError, ToolchainError
from libsedge.preprocess import PreprocessConfig, Preprocessor
from libsedge.sources.base import Axis
from libsedge.sources.files import open_spectra
from numpy.typing import NDArray

from libsedge_native import emit
from libsedge_native.generate import GeneratedModel, generate
from libsedge_native.lowered import Optimise
from libsedge_native.targets import Target, compiler, isas_of, target_of
from libsedge_native.toolchain import run, write_sources

#: the hand-written sources: in a wheel inside this package (setup.py puts them there), in the repository beside it
_PACKED = Path(__file__).resolve().parent / "native"
SOURCE_TREE = _PACKED if _PACKED.is_dir() else _PACKED.parents[1]
FOLDERS = ("src", "runner")
#: what preprocessing includes of the kernels' headers, whatever kernels the model has
CPU_HEADER = Path(__file__).resolve().parent / "include" / "libsedge" / "x86_cpu.h"

LIMITS = ("min_confidence", "min_contrast", "max_saturated_fraction")
#: all that the runner knows of these members; `max_error` is what the thresholds promise and changes no decision
KNOWN_KEYS = {
    "calibration.json": {*LIMITS, "temperature", "logit_scale", "logit_zero_point", "max_error"},
    "preprocess.json": {
        *("format", "version", "segments", "compress", "scale", "zero_point", "smooth", "continuum"),
    },
}

#: nothing throws, but with -fno-exceptions g++ 12 leaves preprocessing's last steps unvectorised: 15 µs for 2
COMPILE_FLAGS = (
    *("-std=c++17", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
    *("-fno-rtti", "-g0", "-ffunction-sections", "-fdata-sections"),
)
LINK_FLAGS = ("-Wl,--gc-sections", "-Wl,-s", "-Wl,--build-id=none")


def canary_counts(channels: int) -> NDArray[np.uint16]:
    """A made-up spectrum, uint16 [channels]: noise on a background and some lines; the same everywhere."""
    stream = b"".join(hashlib.sha256(b"libsedge canary %d" % i).digest() for i in range(channels // 32 + 8))
    noise = np.frombuffer(stream[:channels], np.uint8)
    counts = 500 + noise.astype(np.int64) % 32
    words = np.frombuffer(stream[-192:], "<u4").reshape(24, 2)
    for at, height in words.tolist():
        counts[at % channels] += 500 + height % 20000
    return counts.astype(np.uint16)


def _double(value: float) -> str:
    """An exact C++17 literal of a double."""
    if math.isnan(value):
        return "NAN"
    return ("-" if value < 0 else "") + "INFINITY" if math.isinf(value) else float(value).hex()


def _float(value: float) -> str:
    with np.errstate(over="ignore"):
        text = _double(float(np.float32(value)))
    return text + "F" if text[-1].isdigit() else f"static_cast<float>({text})"


def _array(name: str, ctype: str, values: NDArray[Any]) -> dict[str, Any]:
    if ctype in ("double", "float"):
        literal = _double if ctype == "double" else _float
        words = [literal(value) + "," for value in values.tolist()]
        rows = [" ".join(words[at : at + 4]) for at in range(0, len(words), 4)]
    else:
        rows = emit.rows(values.tolist(), "int")
    return {"name": name, "ctype": f"const {ctype}", "count": len(values), "rows": rows}


def _c_string(text: str) -> str:
    """The C++ literal of a text's JSON string, in ASCII; `?` cannot form a trigraph."""
    inner = json.dumps(text).replace("\\", "\\\\").replace('"', '\\"').replace("?", "\\?")
    return f'"{inner}"'


def _optional_steps(config: PreprocessConfig) -> dict[str, int]:
    """Their parameters as the C++ takes them: 0 = the step is left out."""
    return {
        "smooth_window": 0 if config.smooth is None else config.smooth.window,
        "smooth_order": 0 if config.smooth is None else config.smooth.order,
        "snip_half_window": 0 if config.continuum is None else config.continuum.half_window,
    }


def check_known(bundle: Bundle) -> None:
    """BundleError for a bundle about which the runner would decide otherwise than `libsedge run`: with a rule or step
    that it does not have."""
    held = {"calibration.json": bundle.calibration, "preprocess.json": bundle.preprocess.to_json()}
    for member, known in KNOWN_KEYS.items():
        for key in sorted(held[member].keys() - known):
            raise BundleError("libsedge-run does not have this", file=bundle.path, field=f"{member}, {key}")


def _net_numbers(bundle: Bundle) -> NDArray[np.float64]:
    """What the net's end needs beside it, in the order of `Network::add_constants`: of int8 the table of exponentials
    and the input's scale and zero point, of float32 the temperature."""
    config, calibration = bundle.preprocess, bundle.calibration
    if bundle.precision == "float32":
        return np.array([calibration["temperature"]], np.float64)
    with np.errstate(over="ignore"):
        ends = [float(np.float32(config.scale)), float(config.zero_point or 0)]
    return np.append(exp_table(calibration["logit_scale"], calibration["temperature"]), ends)


def constants_crc(bundle: Bundle, axis: Axis, mask: NDArray[np.bool_]) -> int:
    """CRC-32C of the constants as `Decider::constants_crc` computes it on the board."""
    config, calibration = bundle.preprocess, bundle.calibration
    with np.errstate(over="ignore"):
        saturation = float(np.float32(axis.saturation))
    numbers = [-1.0 if math.isnan(saturation) else saturation, float(config.compress == "sqrt")]
    numbers += [float(steps) for steps in _optional_steps(config).values()]
    numbers += [float(calibration[name]) for name in LIMITS]
    sizes = [segment.channels for segment in config.segments]
    parts = (axis.wavelength_nm, mask, config.grid_nm, sizes, numbers, _net_numbers(bundle))
    crc = _core.crc32c(b"".join(np.asarray(part, "<f8").tobytes() for part in parts))
    return _core.crc32c("".join(json.dumps(label) for label in bundle.labels).encode(), crc)


def constants_cpp(bundle: Bundle, model: GeneratedModel, axis: Axis) -> str:
    """Text of runner_constants.cpp. Raises AxisError for an unusable axis, SelfTestError as `Bundle.model`."""
    config, calibration, manifest = bundle.preprocess, bundle.calibration, bundle.manifest
    preprocessor = Preprocessor(config, axis.wavelength_nm, axis.mask)
    counts = canary_counts(preprocessor.channels)
    network_input = preprocessor.input(counts)
    logits = bundle.model().run(np.ascontiguousarray(network_input))
    index = int(logits.argmax())
    real = bundle.precision == "float32"
    mask = np.ones(len(axis.wavelength_nm), bool) if axis.mask is None else axis.mask != 0
    arrays = [
        _array("wavelength_nm", "double", np.asarray(axis.wavelength_nm, np.float64)),
        _array("mask", "std::uint8_t", mask.astype(np.uint8)),
        _array("grid_nm", "double", config.grid_nm),
        _array("segment_points", "std::size_t", np.array([s.channels for s in config.segments])),
        _array("canary_counts", "std::uint16_t", counts),
        _array("canary_logits", "float" if real else "std::int8_t", logits),
    ]
    if not real:
        arrays.append(_array("exp_table", "double", _net_numbers(bundle)[:256]))
    template = emit.environment().get_template("runner_constants.cpp.j2")
    return template.render(
        version=libsedge.__version__,
        bundle=f"{manifest['name']} {manifest['version']}",
        digest=bundle.digest,
        name=model.name,
        macro=f"SEDGE_{model.name.upper()}",
        arrays=arrays,
        labels=[_c_string(label) for label in bundle.labels],
        channels=preprocessor.channels,
        saturation=_float(axis.saturation),
        points=config.points,
        segments=len(config.segments),
        compress_sqrt=config.compress == "sqrt",
        **_optional_steps(config),
        precision=bundle.precision,
        scale=_float(config.scale or 0.0),
        zero_point=config.zero_point,
        temperature=_double(calibration["temperature"]),
        **{name: _double(calibration[name]) for name in LIMITS},
        canary_input_crc=_core.crc32c(network_input.astype(network_input.dtype.newbyteorder("<")).tobytes()),
        canary_index=index,
        canary_confidence=_double(float(probabilities_of(bundle)(logits[None])[0, index])),
        crc=constants_crc(bundle, axis, mask),
    )


def write_folder(
    bundle: Bundle,
    folder: Path,
    axis: Axis | None = None,
    source_tree: Path = SOURCE_TREE,
    isas: tuple[str, ...] | None = None,
) -> list[str]:
    """Everything a compiler needs, in one existing folder; returns the names of the .cpp files.

    The net is generated again from the bundle's signed model.onnx, with the bundle's goldens embedded.
    axis : of the instrument; None = spectra come on the model's grid. isas : as for `generate`.
    Raises BundleError as `check_known`, ToolchainError where the hand-written sources are not in `source_tree`.
    """
    check_known(bundle)
    optimise: Optimise = "size" if bundle.manifest["training"].get("optimise") == "size" else "speed"
    model = generate(
        bundle.members["model.onnx"],
        goldens=np.array(bundle.goldens[0]),
        isas=isas,
        optimise=optimise,
        precision=bundle.precision,
    )
    text = constants_cpp(bundle, model, axis or Axis(bundle.preprocess.grid_nm))
    write_sources(model, folder)
    (folder / CPU_HEADER.name).write_bytes(CPU_HEADER.read_bytes())
    names = list(model.sources)
    for name in FOLDERS:
        files = sorted(path for path in (source_tree / name).glob("*") if path.suffix in (".h", ".cpp"))
        if not files:
            raise ToolchainError(
                "the runner's sources are not here; give the `native` folder of a source checkout",
                field="source-tree",
                value=str(source_tree),
            )
        for file in files:
            if file.stem.endswith("_network") and file.stem != f"{bundle.precision}_network":
                continue
            (folder / file.name).write_bytes(file.read_bytes())
            names += [file.name] if file.suffix == ".cpp" else []
    (folder / "runner_constants.cpp").write_text(text, encoding="utf-8", newline="\n")
    return sorted([*names, "runner_constants.cpp"])


def emulator(machine: Target) -> list[str]:
    """What starts a program of that machine here: nothing on the machine itself."""
    return [] if machine.native else [machine.emulator, "-L", machine.sysroot]


def build(
    bundle: Bundle,
    out: Path,
    *,
    axis: Axis | None = None,
    static: bool = False,
    target: str | None = None,
    isas: tuple[str, ...] | None = None,
    check: bool = True,
    source_tree: Path = SOURCE_TREE,
) -> str:
    """Compile `out` and run its start checks; returns what `libsedge-run --check` printed.

    target : a name of `targets.TARGETS`; None = this machine. isas : instruction sets beside "scalar"; None = the
    target's. check : False where a program of another machine cannot be run here.
    The same bundle and compiler give the same bytes. Raises ToolchainError, and leaves `out` as it was.
    """
    machine = target_of(target or libsedge.bundle.target())
    with tempfile.TemporaryDirectory(prefix="sedge-") as name:
        folder = Path(name)
        sources = write_folder(
            bundle, folder, axis, source_tree, machine.kernels(bundle.precision) if isas is None else isas
        )
        flags = [*COMPILE_FLAGS, *machine.flags]
        linking = [*LINK_FLAGS, *(["-static"] if static else [])]
        run([*compiler(machine), *flags, *sources, *linking, "-o", "run"], folder)
        said = run([*emulator(machine), str(folder / "run"), "--check"], folder) if check else ""
        temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
        try:
            temporary.write_bytes((folder / "run").read_bytes())
            temporary.chmod(0o755)
            os.replace(temporary, out)
        except OSError as why:
            raise ConfigError(f"cannot be written: {why.strerror}", file=out) from why
        finally:
            temporary.unlink(missing_ok=True)
        return said


@click.command("build-runner")
@click.argument("bundle", type=click.Path(), metavar="MODEL.sedge")
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), help="The program, such as libsedge-run."
)
@click.option(
    "--axis", "axis_file", type=click.Path(), help="A file whose axis, mask and saturation to link in."
)
@click.option("--saturation", type=float, help="Counts at which a channel is clipped; default: as in --axis.")
@click.option("--static", is_flag=True, help="Link everything in: the program needs no shared library.")
@click.option("--target", help="The machine it is for, such as aarch64-linux; default: this one.")
@click.option("--isas", metavar="NAME,...", help="Instruction sets to link in beside scalar; default: all.")
@click.option(
    "--no-check", is_flag=True, help="Do not run the start checks: no emulator of the target is here."
)
@click.option(
    "--emit", is_flag=True, help="Write the sources into the new folder --out, and compile nothing."
)
@click.option(
    "--source-tree", type=click.Path(path_type=Path), default=SOURCE_TREE, help="`native` of a checkout."
)
def build_runner(
    bundle: str,
    out: Path,
    axis_file: str | None,
    saturation: float | None,
    static: bool,
    target: str | None,
    isas: str | None,
    no_check: bool,
    emit: bool,
    source_tree: Path,
) -> None:
    """Build libsedge-run: the Python-free program of one model, from a bundle that a pinned key signed."""
    opened = Bundle.open(bundle)
    chosen = None if isas is None else tuple(name for name in isas.split(",") if name not in ("", "scalar"))
    axis: Axis | None = None
    if axis_file is not None:
        spectra = open_spectra(axis_file)
        axis = spectra.axis
        spectra.close()
    if saturation is not None:
        base = axis or Axis(opened.preprocess.grid_nm)
        axis = Axis(base.wavelength_nm, base.mask, saturation)
    if emit:
        try:
            out.mkdir(parents=True)
        except OSError as why:
            raise ConfigError(f"must be a new folder: {why.strerror}", file=out) from why
        machine = target or libsedge.bundle.target()
        emitted = isas_of([machine], opened.precision) if chosen is None else chosen
        write_folder(opened, out, axis, source_tree, emitted)
        click.echo(f"sources in {out}; compile with: c++ {shlex.join(COMPILE_FLAGS)} *.cpp -o libsedge-run")
        return
    said = build(
        opened,
        out,
        axis=axis,
        static=static,
        target=target,
        isas=chosen,
        check=not no_check,
        source_tree=source_tree,
    )
    click.echo(said, nl=False)
    click.echo(f"written  {out}, {out.stat().st_size:,} bytes{', static' if static else ''}")
