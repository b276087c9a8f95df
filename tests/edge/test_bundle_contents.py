"""What a bundle's members may hold, even under a good signature; the writer; `verify` and `inspect`."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from libsedge import archive
from libsedge.bundle import Bundle
from libsedge.cli import main
from libsedge.errors import BundleError, SignatureError
from libsedge.manifest import MANIFEST
from libsedge.preprocess import PreprocessConfig, Segment
from libsedge_native.bundle_writer import json_bytes, write_members
from small_bundle import (
    CALIBRATION,
    CLASSES,
    KEY,
    POINTS,
    STRANGER,
    forge,
    make,
    refused,
    relist,
)


@pytest.fixture(autouse=True)
def home(trusting_home: Path) -> Path:
    return trusting_home


# --- what a signer may not write either -----------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("schema_version", 3, "schema_version = 3: this runtime reads 1 and 2"),
        ("counter", 0, "counter = 0"),
        ("counter", True, "counter = True"),
        ("counter", None, "counter: must"),
        ("version", "1.0", "version = '1.0'"),
        ("version", "01.0.0", "version"),
        ("name", "No Spaces", "name"),
        ("minimum_runtime", "99.0.0", "needs libsedge 99"),
        ("wavelength_grid_sha256", "0" * 64, "wavelength grid"),
        ("input_length", 13, "goldens|grid points"),
        ("classes", 4, "classes"),
        ("training", {"seed": 1}, "training.simulated"),
        ("layers", [1], "layers"),
        ("surprise", 1, "exactly the keys"),
    ],
)
def test_manifest_schema(
    good: Path, field: str, value: object, match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libsedge.__version__", "0.1.0")
    forge(good, KEY, lambda members, manifest: manifest.__setitem__(field, value))
    refused(good, match=match)


@pytest.mark.parametrize(
    ("have", "accepted"),
    [("0.1.0", True), ("0.1.0.dev3+g1", True), ("1.0.0", True), ("0.0.9", False), ("0+unknown", True)],
)
def test_minimum_runtime(good: Path, have: str, accepted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libsedge.__version__", have)
    if accepted:
        Bundle.open(good)
    else:
        refused(good, match=r"needs libsedge 0\.1\.0 or later")


def test_a_manifest_without_the_counter_is_refused(good: Path) -> None:
    """Nothing to roll back to unseen: every bundle carries the counter that the model store enforces."""
    forge(good, KEY, lambda members, manifest: manifest.pop("counter") and None)
    refused(good, match="exactly the keys")


@pytest.mark.parametrize(
    ("member", "content", "match"),
    [
        ("labels.json", b'["a", "b"]', "3 classes"),
        ("labels.json", b'["a", "b", "b"]', "unique"),
        ("labels.json", b'["a", "b", ""]', "unique"),
        ("labels.json", b"\xff", "not valid JSON"),
        ("labels.json", b"[" * 100_000, "not valid JSON"),
        ("calibration.json", json_bytes(CALIBRATION | {"temperature": 0}), "temperature = 0"),
        ("calibration.json", json_bytes(CALIBRATION).replace(b"1.5", b"NaN"), "not a finite number"),
        ("calibration.json", json_bytes(CALIBRATION).replace(b"1.5", b"1e999"), "not a finite number"),
        ("calibration.json", b'{"temperature": 1, "temperature": 2}', "repeats a key"),
        ("calibration.json", json_bytes(CALIBRATION | {"logit_zero_point": 128}), "logit_zero_point"),
        ("calibration.json", json_bytes(CALIBRATION | {"max_error": 1.1}), "max_error"),
        ("calibration.json", json_bytes(CALIBRATION | {"max_err": 0.1}), "exactly the keys"),
        ("preprocess.json", b"{}", r"preprocess\.json"),
        ("goldens/inputs.npy", b"\x93NUMPY", "canonical .npy"),
        ("goldens/inputs.npy", b"hello" * 100, "canonical .npy"),
    ],
)
def test_member_contents(good: Path, member: str, content: bytes, match: str) -> None:
    def change(members: dict, manifest: dict) -> None:
        members[member] = content
        relist(members, manifest)

    forge(good, KEY, change)
    refused(good, match=match)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, POINTS), np.uint8),
        np.zeros((2, POINTS + 1), np.int8),
        np.zeros((0, POINTS), np.int8),
        np.zeros(POINTS, np.int8),
        np.asfortranarray(np.zeros((2, POINTS), np.int8)),
        np.array([[{}] * POINTS], object),
    ],
)
def test_golden_arrays_of_another_kind(good: Path, array: np.ndarray) -> None:
    def change(members: dict, manifest: dict) -> None:
        stream = io.BytesIO()
        np.save(stream, array, allow_pickle=True)
        members["goldens/inputs.npy"] = stream.getvalue()
        relist(members, manifest)

    forge(good, KEY, change)
    refused(good, match=r"goldens/inputs\.npy")


@pytest.mark.parametrize("rows", [0, 1, 3, 2_000_000_000])
def test_a_golden_header_is_not_believed(good: Path, rows: int) -> None:
    def change(members: dict, manifest: dict) -> None:
        data = members["goldens/inputs.npy"]
        claim = f"({rows}, 12), }}".encode()
        members["goldens/inputs.npy"] = data.replace(b"(2, 12), }".ljust(len(claim)), claim, 1)
        assert members["goldens/inputs.npy"] != data
        relist(members, manifest)

    forge(good, KEY, change)
    refused(good, match=r"goldens/inputs\.npy")


def test_numpy_reads_the_goldens(good: Path) -> None:
    """Oracle: numpy's own reader."""
    opened = Bundle.open(good)
    for array, member in zip(opened.goldens, ("goldens/inputs.npy", "goldens/outputs.npy"), strict=True):
        read = np.load(io.BytesIO(opened.members[member]), allow_pickle=False)
        assert read.dtype == np.int8
        np.testing.assert_array_equal(read, array)


# --- the writer -----------------------------------------------------------------------------------


def test_the_writer_refuses_what_the_board_would(tmp_path: Path) -> None:
    out = tmp_path / "a.sedge"
    for changes in (
        {"labels": ["a", "b"]},
        {"version": "one"},
        {"calibration": CALIBRATION | {"temperature": -1.0}},
        {"kernels": {}},
        {"kernels": {"../x": b""}},
        {"sources": {"model.cpp": ""}},
        {"goldens": (np.zeros((1, POINTS)), np.zeros((1, CLASSES), np.int8))},
        {"preprocess": PreprocessConfig((Segment(300.0, 306.0, POINTS),))},
    ):
        with pytest.raises(BundleError):
            make(out, **changes)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_bundle(good: Path) -> None:
    before = good.read_bytes()
    with pytest.raises(BundleError, match=r"good\.sedge: goldens/outputs"):
        make(good, labels=["a", "b"])
    assert good.read_bytes() == before
    assert [path.name for path in good.parent.iterdir()] == ["good.sedge"]


def test_the_writer_names_a_folder_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot be written"):
        make(tmp_path / "none" / "a.sedge")


def test_write_members_signs_what_it_is_given(good: Path, tmp_path: Path) -> None:
    members = archive.unpack(good.read_bytes())
    again = write_members(tmp_path / "again.sedge", members, KEY)
    assert again.digest == Bundle.open(good).digest


# --- the command line -----------------------------------------------------------------------------


def test_verify_command(good: Path) -> None:
    result = CliRunner().invoke(main, ["verify", "--no-run", str(good)])
    assert result.exit_code == 0, result.output
    for text in ("canonical", "key 'signing'", "digests    10 of 10", Bundle.open(good).digest):
        assert text in result.output
    good.write_bytes(good.read_bytes()[:-1])
    result = CliRunner().invoke(main, ["verify", "--no-run", str(good)])
    assert result.exit_code == 2
    assert "accepted" not in result.output
    assert str(good) in result.output


def test_inspect_reads_what_it_would_not_run(tmp_path: Path, home: Path) -> None:
    file = tmp_path / "a.sedge"
    make(file, private=STRANGER, kernels={"sparc-linux": b"so"})
    result = CliRunner().invoke(main, ["inspect", str(file)])
    assert result.exit_code == 0, result.output
    for text in (
        "UNTRUSTED",
        "basalt, gypsum, olivine",
        "sparc-linux",
        "dense: 12 -> 3",
        "simulated",
        "64 bytes",
    ):
        assert text in result.output
    with pytest.raises(SignatureError, match="runs nothing"):
        Bundle.open(file, verify=False).model()
    (home / "trusted.keys").unlink()
    assert CliRunner().invoke(main, ["inspect", str(file)]).exit_code == 0


def test_inspect_shows_tampering_and_no_control_characters(good: Path) -> None:
    members = archive.unpack(good.read_bytes())
    members["model.onnx"] = b"other"
    members["labels.json"] = json_bytes(["a", "b", "\x1b[2J"])
    members[MANIFEST] = members[MANIFEST].replace(b"bench", b"bunch")
    good.write_bytes(archive.pack(members))
    result = CliRunner().invoke(main, ["inspect", str(good)])
    assert result.exit_code == 0, result.output
    assert "DOES NOT HOLD" in result.output
    assert "model.onnx  DIGEST DIFFERS" in result.output
    assert "\x1b" not in result.output
