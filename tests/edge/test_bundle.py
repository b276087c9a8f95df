"""Bundles: what the board accepts is exactly what was signed, byte for byte.

The archive is small and its "compiled model" is text, which is never loaded: these tests are about trust.
tests/edge/test_bundle_model.py runs a real compiled model.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from libsedge import archive, bundle, keys
from libsedge.bundle import Bundle
from libsedge.cli import main
from libsedge.errors import BundleError, ConfigError, SedgeError, SignatureError
from libsedge.manifest import MANIFEST, SIGNATURE
from libsedge.preprocess import PreprocessConfig, Segment
from libsedge_native.bundle_writer import BundleInfo, json_bytes, write_bundle, write_members

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
COLD = Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64)))
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(range(64, 96)))
POINTS, CLASSES = 12, 3
CALIBRATION = {
    "temperature": 1.5,
    "min_confidence": 0.6,
    "min_contrast": 4.0,
    "max_saturated_fraction": 0.01,
    "logit_scale": 0.07,
    "logit_zero_point": 3,
}


def pin(private: Ed25519PrivateKey, name: str) -> keys.TrustedKey:
    return keys.TrustedKey(keys.public_bytes(private), name)


TRUSTED = (pin(KEY, "signing"), pin(COLD, "cold"))


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("LIBSEDGE_HOME", str(folder))
    (folder / "trusted.keys").write_text("".join(key.line() for key in TRUSTED))
    return folder


def make(out: Path, private: Ed25519PrivateKey = KEY, **changes: object) -> Bundle:
    rng = np.random.default_rng(0)
    info = {
        "name": "rocks",
        "version": "1.2.3",
        "counter": 7,
        "instrument": "bench",
        "arena_bytes": 64,
        "layers": ("dense: 12 -> 3",),
        "training": {"simulated": True, "seed": 1},
    }
    info.update({key: changes.pop(key) for key in list(changes) if key in info})  # type: ignore[dict-item]
    parts: dict = {
        "onnx": b"onnx bytes",
        "sources": {"model.cpp": "// model\n", "model.h": "// header\n"},
        "kernels": {bundle.target(): b"shared object"},
        "preprocess": PreprocessConfig((Segment(300.0, 306.0, POINTS),), scale=0.05, zero_point=-128),
        "labels": ["basalt", "gypsum", "olivine"],
        "calibration": CALIBRATION,
        "goldens": (
            rng.integers(-128, 128, (2, POINTS)).astype(np.int8),
            rng.integers(-128, 128, (2, CLASSES)).astype(np.int8),
        ),
        "model_card": "# rocks\n",
    }
    return write_bundle(out, info=BundleInfo(**info), private=private, **(parts | changes))  # type: ignore[arg-type]


@pytest.fixture
def good(tmp_path: Path) -> Path:
    make(tmp_path / "good.sedge")
    return tmp_path / "good.sedge"


def forge(file: Path, private: Ed25519PrivateKey, change: Callable[[dict, dict], None]) -> None:
    """Change and sign a bundle again, without the writer's checks."""
    members = archive.unpack(file.read_bytes())
    manifest = json.loads(members[MANIFEST])
    change(members, manifest)
    members[MANIFEST] = json_bytes(manifest)
    members[SIGNATURE] = keys.sign(private, members[MANIFEST])
    file.write_bytes(archive.pack(members))


def relist(members: dict, manifest: dict) -> None:
    """Digests as they are now."""
    import hashlib

    manifest["members"] = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in members.items()
        if name not in (MANIFEST, SIGNATURE)
    }


def refused(file: Path, error: type[SedgeError] = BundleError, match: str = "") -> None:
    with pytest.raises(error, match=match) as caught:
        Bundle.open(file)
    assert caught.value.file == str(file)


# --- what a good bundle is ------------------------------------------------------------------------


def test_a_good_bundle_opens(good: Path) -> None:
    opened = Bundle.open(good)
    assert opened.signer == TRUSTED[0]
    assert opened.labels == ["basalt", "gypsum", "olivine"]
    assert opened.calibration == CALIBRATION
    assert opened.preprocess.points == POINTS
    assert opened.manifest["counter"] == 7
    assert opened.manifest["version"] == "1.2.3"
    assert opened.goldens[0].shape == (2, POINTS)
    assert opened.goldens[1].shape == (2, CLASSES)
    assert opened.kernel(bundle.target()) == b"shared object"
    assert opened.targets == [bundle.target()]
    with pytest.raises(BundleError, match="has no compiled model"):
        opened.kernel("mips-linux")


def test_pinned_keys_can_be_a_file(good: Path, home: Path, tmp_path: Path) -> None:
    assert Bundle.open(good, trusted=home / "trusted.keys").signer == TRUSTED[0]
    (tmp_path / "others.keys").write_text(pin(STRANGER, "other").line())
    with pytest.raises(SignatureError, match="not pinned"):
        Bundle.open(good, trusted=tmp_path / "others.keys")


def test_same_input_same_bytes(tmp_path: Path) -> None:
    first, second = make(tmp_path / "a.sedge"), make(tmp_path / "b.sedge")
    assert first.digest == second.digest
    assert (tmp_path / "a.sedge").read_bytes() == (tmp_path / "b.sedge").read_bytes()


def test_any_zip_tool_opens_it(good: Path) -> None:
    """Oracle: the standard library's zip reader, and the bytes its writer gives for the same entries."""
    members = archive.unpack(good.read_bytes())
    again = io.BytesIO()
    with zipfile.ZipFile(good) as file, zipfile.ZipFile(again, "w") as writer:
        assert file.testzip() is None
        assert {name: file.read(name) for name in file.namelist()} == members
        for name in sorted(members):
            entry = zipfile.ZipInfo(name)
            entry.external_attr, entry.create_system = 0o100644 << 16, 3
            writer.writestr(entry, members[name])
    assert again.getvalue() == good.read_bytes()


def test_unzip_agrees(good: Path) -> None:
    tool = shutil.which("unzip")
    if tool is None:
        pytest.skip("unzip is not installed")
    assert subprocess.run([tool, "-tqq", good], check=False).returncode == 0


# --- every byte counts ----------------------------------------------------------------------------


def test_every_bit_flip_is_refused(good: Path, tmp_path: Path) -> None:
    data = good.read_bytes()
    file = tmp_path / "flipped.sedge"
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        file.write_bytes(changed)
        with pytest.raises(BundleError):
            Bundle.open(file, TRUSTED)


def test_every_truncation_is_refused(good: Path, tmp_path: Path) -> None:
    data = good.read_bytes()
    file = tmp_path / "short.sedge"
    for length in range(len(data)):
        file.write_bytes(data[:length])
        with pytest.raises(BundleError):
            Bundle.open(file, TRUSTED)


@pytest.mark.parametrize("extra", [b"\0", b"x" * 1000, b"PK\5\6" + bytes(18)])
def test_anything_added_is_refused(good: Path, extra: bytes) -> None:
    data = good.read_bytes()
    good.write_bytes(data + extra)
    refused(good, match="not the canonical archive")
    good.write_bytes(extra + data)
    refused(good, match="not a libsedge bundle")


def rezip(file: Path, entries: list[tuple[str, bytes]], **options: int) -> None:
    with zipfile.ZipFile(file, "w", **options) as writer:  # type: ignore[call-overload]
        for name, data in entries:
            entry = zipfile.ZipInfo(name)
            entry.external_attr, entry.create_system = 0o100644 << 16, 3
            entry.compress_type = options.get("compression", zipfile.ZIP_STORED)
            writer.writestr(entry, data)


def test_members_reordered_or_compressed_are_refused(good: Path) -> None:
    entries = sorted(archive.unpack(good.read_bytes()).items())
    rezip(good, entries[::-1])
    refused(good, match="not the canonical archive")
    rezip(good, entries, compression=zipfile.ZIP_DEFLATED)
    refused(good, match="compressed")
    rezip(good, entries)  # negative control: the same tool, the canonical order
    Bundle.open(good)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_duplicate_member_is_refused(good: Path) -> None:
    entries = sorted(archive.unpack(good.read_bytes()).items())
    rezip(good, sorted([*entries, ("labels.json", b'["x", "y", "z"]')]))
    refused(good, match=r"labels\.json: appears twice")


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/passwd", "kernel/../model.so", "kernel/X86/model.so", "extra.txt", "labels.json\n"],
)
def test_a_member_of_another_name_is_refused(good: Path, name: str) -> None:
    def add(members: dict, manifest: dict) -> None:
        members[name] = b""
        relist(members, manifest)

    forge(good, KEY, add)
    refused(good, match="not a member a bundle may have")


@pytest.mark.parametrize(
    "name", ["model.onnx", "goldens/inputs.npy", "MODEL_CARD.md", "SIGNATURE", "preprocess.json"]
)
def test_a_missing_member_is_refused(good: Path, name: str) -> None:
    members = archive.unpack(good.read_bytes())
    del members[name]
    good.write_bytes(archive.pack(members))
    refused(good, match=f"{name}: is missing")


def test_a_renamed_member_is_refused(good: Path) -> None:
    members = archive.unpack(good.read_bytes())
    members["kernel/sparc-linux/model.so"] = members.pop(f"kernel/{bundle.target()}/model.so")
    good.write_bytes(archive.pack(members))
    refused(good, SignatureError, "not in both")


def test_a_changed_member_is_refused_by_its_digest(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = archive.unpack(good.read_bytes())
    members["model.onnx"] = b"onnx bytez"
    good.write_bytes(archive.pack(members))
    refused(good, SignatureError, r"model\.onnx.*not what was signed")
    # Negative control: without the digest check the changed byte gets through, so the test above can fail.
    monkeypatch.setattr(bundle, "check_digests", lambda members, listed: None)
    assert Bundle.open(good).members["model.onnx"] == b"onnx bytez"


def test_mix_and_match_of_two_signed_bundles_is_refused(good: Path, tmp_path: Path) -> None:
    make(tmp_path / "other.sedge", onnx=b"other onnx")
    one, two = (archive.unpack(file.read_bytes()) for file in (good, tmp_path / "other.sedge"))
    good.write_bytes(archive.pack(one | {"model.onnx": two["model.onnx"]}))
    refused(good, SignatureError, r"model\.onnx")
    good.write_bytes(archive.pack(one | {SIGNATURE: two[SIGNATURE]}))
    refused(good, SignatureError, "does not hold")


# --- who signed it --------------------------------------------------------------------------------


def test_a_changed_manifest_is_refused_by_the_signature(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = archive.unpack(good.read_bytes())
    members[MANIFEST] = members[MANIFEST].replace(b'"counter": 7', b'"counter": 9')
    good.write_bytes(archive.pack(members))
    refused(good, SignatureError, "'signing' does not hold")
    # Negative control: without the signature check the raised counter gets through.
    monkeypatch.setattr(keys, "signature_holds", lambda signature, message: True)
    assert Bundle.open(good).manifest["counter"] == 9


def test_a_stranger_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "a.sedge", private=STRANGER)
    refused(tmp_path / "a.sedge", SignatureError, "not pinned")


def test_rotation_through_the_cold_key(tmp_path: Path, home: Path) -> None:
    """The cold key's bundle is accepted; once the first key's line is replaced, its bundles are refused."""
    by_first, by_cold, by_new = (tmp_path / f"{name}.sedge" for name in ("first", "cold", "new"))
    for file, private in ((by_first, KEY), (by_cold, COLD), (by_new, STRANGER)):
        make(file, private=private)
    assert Bundle.open(by_cold).signer == TRUSTED[1]
    refused(by_new, SignatureError, "not pinned")
    (home / "trusted.keys").write_text(pin(STRANGER, "signing").line() + TRUSTED[1].line())
    refused(by_first, SignatureError, "not pinned")
    assert Bundle.open(by_cold).signer == TRUSTED[1]
    assert Bundle.open(by_new).signer == pin(STRANGER, "signing")


def test_a_third_pinned_key_refuses_everything(good: Path, home: Path) -> None:
    (home / "trusted.keys").write_text("".join(key.line() for key in (*TRUSTED, pin(STRANGER, "third"))))
    with pytest.raises(ConfigError, match="not 3"):
        Bundle.open(good)
    (home / "trusted.keys").unlink()
    with pytest.raises(ConfigError, match="no pinned keys"):
        Bundle.open(good)


# --- the file itself ------------------------------------------------------------------------------


def test_links_and_special_files_are_refused(good: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.sedge"
    link.symlink_to(good)
    refused(link, match="symbolic links are not followed")
    fifo = tmp_path / "fifo.sedge"
    os.mkfifo(fifo)
    refused(fifo, match="not a regular file")
    refused(tmp_path, match="not a regular file")
    refused(tmp_path / "none.sedge", match="cannot be opened")


def test_oversize_is_refused_without_reading_it_all(
    tmp_path: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = tmp_path / "huge.sedge"
    with open(huge, "wb") as stream:
        stream.truncate(1 << 40)  # sparse: one tebibyte
    refused(huge, match="larger than")
    size = good.stat().st_size
    monkeypatch.setattr(bundle, "MAX_BYTES", size)
    Bundle.open(good)
    monkeypatch.setattr(bundle, "MAX_BYTES", size - 1)
    refused(good, match="larger than")


def test_the_bytes_that_were_verified_are_the_bytes_in_use(good: Path) -> None:
    opened = Bundle.open(good)
    good.write_bytes(b"replaced after the check")
    assert opened.kernel(bundle.target()) == b"shared object"
    assert opened.goldens[0].shape == (2, POINTS)


def test_random_bytes_are_refused_with_typed_errors(tmp_path: Path, good: Path) -> None:
    rng = np.random.default_rng(0)
    data = good.read_bytes()
    file = tmp_path / "x.sedge"
    for _ in range(300):
        noise = bytearray(data)
        for at in rng.integers(0, len(data), 20):
            noise[at] = rng.integers(0, 256)
        file.write_bytes(noise)
        for verify in (True, False):
            try:
                Bundle.open(file, TRUSTED, verify=verify)
                assert not verify
            except BundleError:
                pass


# --- what a signer may not write either -----------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("schema_version", 2, "schema_version = 2"),
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
