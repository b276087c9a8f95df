"""Bundles: what the board accepts is exactly what was signed, byte for byte.

The archive is small and its "compiled model" is text, which is never loaded: these tests are about trust.
tests/edge/test_bundle_model.py runs a real compiled model, test_bundle_contents.py has the schemas.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from libsedge import archive, bundle, keys
from libsedge.bundle import Bundle
from libsedge.errors import BundleError, ConfigError, SignatureError
from libsedge.manifest import MANIFEST, SIGNATURE
from small_bundle import (
    CALIBRATION,
    CLASSES,
    COLD,
    KEY,
    POINTS,
    STRANGER,
    TRUSTED,
    forge,
    make,
    pin,
    refused,
    relist,
)


@pytest.fixture(autouse=True)
def home(trusting_home: Path) -> Path:
    return trusting_home


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
def test_anything_added_is_refused(good: Path, extra: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    data = good.read_bytes()
    good.write_bytes(data + extra)
    refused(good, match="not the canonical archive")
    with monkeypatch.context() as patch:  # negative control: unless the archive is rebuilt, nobody notices
        patch.setattr(archive, "_pieces", lambda members: iter([data + extra]))
        Bundle.open(good)
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
    [
        *(
            "../evil",
            "/etc/passwd",
            "kernel/../model.so",
            "kernel/X86/model.so",
            "extra.txt",
            "labels.json\n",
        ),
        *("kernel/cortex-m7/../model.h", "kernel/cortex-m7/model.py", "kernel/cortex-m7/a/model.h"),
    ],
)
def test_a_member_of_another_name_is_refused(good: Path, name: str) -> None:
    def add(members: dict, manifest: dict) -> None:
        members[name] = b""
        relist(members, manifest)

    forge(good, KEY, add)
    refused(good, match="not a member a bundle may have")


def test_sources_for_a_machine_are_no_compiled_model(good: Path) -> None:
    def add(members: dict, manifest: dict) -> None:
        members["kernel/cortex-m7/model.cpp"] = b"// model"
        relist(members, manifest)

    forge(good, KEY, add)
    assert Bundle.open(good, trusted=TRUSTED).source_targets == ["cortex-m7"]

    def leave_out(members: dict, manifest: dict) -> None:
        del members[f"kernel/{bundle.target()}/model.so"]
        relist(members, manifest)

    forge(good, KEY, leave_out)
    refused(good, match="kernel/<target>/model.so: is missing")


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
