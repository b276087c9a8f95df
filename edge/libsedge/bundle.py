"""Open a `.sedge` bundle: verify it, then use those same bytes.

The file is read once. Those bytes must be the canonical archive of their members, the manifest must be
signed by a pinned key, and every member must have the length and SHA-256 the manifest gives, in that order;
nothing else is parsed before. Whoever holds no pinned key can therefore make this code parse the zip
headers and nothing more.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import libsedge
from libsedge import archive, keys, manifest
from libsedge.errors import BundleError, ConfigError, SelfTestError, SignatureError, naming
from libsedge.keys import TrustedKey
from libsedge.manifest import MANIFEST, SHARED_OBJECT, SIGNATURE, SOURCE, Precision

if TYPE_CHECKING:
    from libsedge._core import FloatModel, Model
    from libsedge.preprocess import PreprocessConfig

#: of the largest logit of a golden vector: how far a float32 kernel may be from it. int8 kernels are exact.
TOLERANCE = 1e-5
MAX_BYTES = 64 << 20
#: other names that systems give to a machine
MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "armv7l": "armv7"}


def target() -> str:
    """This machine's name in `kernel/<target>/model.so`, such as "x86_64-linux"."""
    machine = platform.machine().lower()
    return f"{MACHINES.get(machine, machine)}-{platform.system().lower()}"


def read_once(path: str | os.PathLike[str]) -> bytes:
    """All bytes of a regular file of at most MAX_BYTES that is not a symbolic link; raises BundleError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as why:
        link = " (symbolic links are not followed)" if os.path.islink(path) else ""
        raise BundleError(f"cannot be opened: {why.strerror}{link}", file=path) from why
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BundleError("is not a regular file", file=path)
        data = bytearray()
        while len(data) <= MAX_BYTES:
            block = os.read(descriptor, 1 << 20)
            if not block:
                return bytes(data)
            data += block
    except OSError as why:
        raise BundleError(f"cannot be read: {why.strerror}", file=path) from why
    finally:
        os.close(descriptor)
    raise BundleError(f"is larger than {MAX_BYTES} bytes", file=path)


def grid_sha256(grid_nm: np.ndarray) -> str:
    """SHA-256 (hex) of a wavelength grid as little-endian float64, nm."""
    return hashlib.sha256(np.ascontiguousarray(grid_nm, dtype="<f8").tobytes()).hexdigest()


def check_names(members: dict[str, bytes]) -> None:
    """Every required member, at least one compiled model, and nothing else but more of them and source folders; raises
    BundleError."""
    missing = sorted(manifest.REQUIRED - members.keys())
    if missing:
        raise BundleError("is missing", field=missing[0])
    others = sorted(members.keys() - manifest.REQUIRED)
    for name in others:
        if SHARED_OBJECT.fullmatch(name) is None and SOURCE.fullmatch(name) is None:
            raise BundleError("is not a member a bundle may have", field=name)
    if not any(map(SHARED_OBJECT.fullmatch, others)):
        raise BundleError("is missing", field="kernel/<target>/model.so")


def check_digests(members: dict[str, bytes], listed: dict[str, Any]) -> None:
    """Length and SHA-256 of every member but the manifest and its signature; raises SignatureError."""
    present = members.keys() - {MANIFEST, SIGNATURE}
    for name in sorted(present ^ listed.keys()):
        raise SignatureError("is in the archive or in the manifest, but not in both", field=name)
    for name in sorted(present):
        found = {"bytes": len(members[name]), "sha256": hashlib.sha256(members[name]).hexdigest()}
        if found != listed[name]:
            raise SignatureError(f"is not what was signed: {listed[name]}", field=name, value=found)


def off(found: np.ndarray, wanted: np.ndarray, kernels: int = 1) -> np.ndarray:
    """Which values [n, ...] are not as wanted, bool: int8 bit for bit, float32 within TOLERANCE of the largest wanted
    value of their row. A value that is not a number is off. kernels : 2 where the wanted ones are a kernel's too.
    """
    share = kernels * TOLERANCE if wanted.dtype == np.float32 else 0.0
    wide = wanted.astype(np.float64)
    largest = np.abs(wide).max(axis=tuple(range(1, wide.ndim)), keepdims=True)
    return np.asarray(~(np.abs(found.astype(np.float64) - wide) <= share * largest))


def wrong_goldens(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The rows of logits [n, classes] that hold one which is `off`."""
    return np.flatnonzero(off(found, wanted).any(axis=1))


@dataclass(frozen=True)
class Bundle:
    """An opened bundle; `signer` is the pinned key that signed it, None with verify=False."""

    path: Path
    digest: str  # SHA-256 of the archive, hex
    size: int
    members: dict[str, bytes]
    manifest: dict[str, Any]
    labels: list[str]
    calibration: dict[str, Any]
    signer: TrustedKey | None

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        trusted: Iterable[TrustedKey] | str | os.PathLike[str] | None = None,
        verify: bool = True,
    ) -> Bundle:
        """Read and verify `path` against pinned keys.

        trusted : keys, or a file in the form of trusted.keys; None = LIBSEDGE_HOME/trusted.keys.
        Raises BundleError (malformed), SignatureError (a signature or digest does not hold) or ConfigError
        (no pinned keys). verify=False skips signature and digests: for `inspect` only, such a bundle runs
        nothing.
        """
        data = read_once(path)
        pinned: tuple[TrustedKey, ...] = ()
        if verify:
            from_file = trusted is None or isinstance(trusted, (str, os.PathLike))
            pinned = keys.read_trusted(trusted) if from_file else tuple(trusted)  # type: ignore[arg-type]
        with naming(path):
            members = archive.unpack(data)
            check_names(members)
            signer = keys.verify(members[SIGNATURE], members[MANIFEST], pinned) if verify else None
            table = manifest.check_manifest(manifest.parse_json(members[MANIFEST], MANIFEST))
            if verify:
                check_digests(members, table["members"])
            labels = manifest.parse_json(members["labels.json"], "labels.json")
            calibration = manifest.parse_json(members["calibration.json"], "calibration.json")
            bundle = cls(
                path=Path(path),
                digest=hashlib.sha256(data).hexdigest(),
                size=len(data),
                members=members,
                manifest=table,
                labels=manifest.check_labels(labels, table["classes"]),
                calibration=manifest.check_calibration(
                    calibration, manifest.SCHEMAS[table["schema_version"]]
                ),
                signer=signer,
            )
            if verify:
                bundle._check_contents()
        return bundle

    def _check_contents(self) -> None:
        """The members agree with the manifest and with this runtime."""
        have, need = libsedge.__version__, self.manifest["minimum_runtime"]
        release = re.match(r"\d+\.\d+\.\d+", have)  # a source tree that was never installed has none
        if release is not None and manifest.parse_version(release[0]) < manifest.parse_version(need):
            raise BundleError(f"needs libsedge {need} or later, this is {have}", field=MANIFEST)
        grid = self.preprocess.grid_nm
        if grid_sha256(grid) != self.manifest["wavelength_grid_sha256"]:
            raise BundleError("does not give the wavelength grid of the manifest", field="preprocess.json")
        if len(grid) != self.manifest["input_length"]:
            raise BundleError(f"gives {len(grid)} grid points, not input_length", field="preprocess.json")
        quantise = (self.preprocess.scale, self.preprocess.zero_point)
        if self.precision == "int8" and None in quantise:
            raise BundleError("lacks the quantise step's scale and zero point", field="preprocess.json")
        if self.precision == "float32" and quantise != (None, None):
            raise BundleError("quantises the input of a float32 network", field="preprocess.json")
        if len(self.goldens[0]) != len(self.goldens[1]):
            raise BundleError(
                "differ in their number of rows", field="goldens/inputs.npy, goldens/outputs.npy"
            )
        for name, part in zip(("inputs", "outputs"), self.goldens, strict=True):
            if not np.isfinite(part).all():
                raise BundleError("holds a number that is not finite", field=f"goldens/{name}.npy")

    @property
    def precision(self) -> Precision:
        """What the network computes in, takes and gives."""
        return manifest.SCHEMAS[self.manifest["schema_version"]]

    @property
    def exactness(self) -> str:
        """In words, how the logits of this network must equal those wanted: see `off`."""
        return "bit for bit" if self.precision == "int8" else f"within {TOLERANCE:g} of the largest logit"

    def must_be_int8(self, what: str) -> None:
        """Raises BundleError for a float32 network; what : the part of libsedge that works on int8 alone."""
        if self.precision != "int8":
            raise BundleError(f"is {self.precision}, and {what} takes int8 networks only", file=self.path)

    @functools.cached_property
    def preprocess(self) -> PreprocessConfig:
        """The preprocessing of preprocess.json."""
        from libsedge.preprocess import PreprocessConfig

        member = "preprocess.json"
        try:
            return PreprocessConfig.from_json(manifest.parse_json(self.members[member], member))
        except ConfigError as error:
            raise BundleError(error.why, field=f"{member}: {error.field}", value=error.value) from error

    @functools.cached_property
    def goldens(self) -> tuple[np.ndarray, np.ndarray]:
        """Golden inputs [n, input_length] and expected outputs [n, classes], of the network's precision."""
        columns = {"inputs": self.manifest["input_length"], "outputs": self.manifest["classes"]}
        members = {name: f"goldens/{name}.npy" for name in columns}
        inputs, outputs = (
            archive.unpack_array(self.members[file], file, columns[name], self.precision)
            for name, file in members.items()
        )
        return inputs, outputs

    @property
    def targets(self) -> list[str]:
        """The machines this bundle has a compiled model for."""
        matches = (SHARED_OBJECT.fullmatch(name) for name in sorted(self.members))
        return [match[1] for match in matches if match is not None]

    @property
    def source_targets(self) -> list[str]:
        """The machines without Linux that this bundle carries a source folder for."""
        matches = (SOURCE.fullmatch(name) for name in self.members)
        return sorted({match[1] for match in matches if match is not None})

    def kernel(self, name: str) -> bytes:
        """The compiled model for a target; raises BundleError where the bundle has none."""
        if name not in self.targets:
            raise BundleError(
                f"has no compiled model for it; it has {', '.join(self.targets)}", file=self.path, value=name
            )
        return self.members[f"kernel/{name}/model.so"]

    def load(self, isa: str | None = None) -> Model | FloatModel:
        """The compiled model for this machine as it is, not proved; see `model`."""
        if self.signer is None:
            raise SignatureError("was opened without verification and runs nothing", file=self.path)
        from libsedge import _core

        kind = _core.Model if self.precision == "int8" else _core.FloatModel
        return kind(self.kernel(target()), isa)

    def model(self, isa: str | None = None) -> Model | FloatModel:
        """The compiled model on this machine, after its constants' CRC-32C held and the goldens came out as
        `wrong_goldens` demands; isa None takes that of the environment's LIBSEDGE_ISA, or the fastest. A name is a
        demand, from either.

        Raises SelfTestError where they did not, SignatureError for a bundle opened with verify=False, and the
        errors of `_core.Model` for an instruction set that cannot be had.
        """
        model = self.load(isa or os.environ.get("LIBSEDGE_ISA") or None)
        onnx = hashlib.sha256(self.members["model.onnx"]).hexdigest()
        found = (model.digest, model.input_len, model.classes, model.arena_bytes)
        wanted = (onnx, *(self.manifest[key] for key in ("input_length", "classes", "arena_bytes")))
        if found != wanted:
            raise BundleError(f"is not generated from model.onnx: not {wanted}", file=self.path, value=found)
        model.self_test()
        model.scrub()
        inputs, outputs = self.goldens
        wrong = wrong_goldens(model.run_batch(np.array(inputs)), outputs)
        if len(wrong):
            raise SelfTestError(
                f"golden vectors {wrong[:8].tolist()} of {len(inputs)} come out different on this machine",
                file=self.path,
                field=f"kernel/{target()}/model.so ({model.isa})",
            )
        return model
