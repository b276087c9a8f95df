"""Signing keys: made once, pinned, never overwritten by accident, rotated through the cold one."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from libsedge import keys
from libsedge.cli import main
from libsedge.errors import ConfigError, SignatureError

MESSAGE = b'{"schema_version": 1}\n'


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIBSEDGE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_home_without_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIBSEDGE_HOME")
    assert keys.home() == Path.home() / ".config" / "libsedge"


def test_keygen_writes_a_private_key_and_pins_it(home: Path) -> None:
    private, pins, key = keys.generate()
    assert private == home / "signing.key"
    assert pins == home / "trusted.keys"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert private.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert pins.read_text() == f"ed25519 {key.raw.hex()} signing\n"
    assert keys.public_bytes(keys.load_private()) == key.raw
    assert keys.read_trusted() == (key,)
    assert sorted(path.name for path in home.iterdir()) == ["signing.key", "trusted.keys"]


def test_keygen_refuses_to_overwrite(home: Path) -> None:
    keys.generate()
    before = [(home / name).read_bytes() for name in ("signing.key", "trusted.keys")]
    with pytest.raises(ConfigError, match=r"signing\.key.*exists; --force"):
        keys.generate()
    assert before == [(home / name).read_bytes() for name in ("signing.key", "trusted.keys")]


def test_force_replaces_key_and_pin() -> None:
    old = keys.generate()[2]
    new = keys.generate(force=True)[2]
    assert keys.read_trusted() == (new,)
    assert old.raw != new.raw


def test_two_keys_are_pinned_and_a_third_is_refused(home: Path) -> None:
    first, second = keys.generate()[2], keys.generate(cold=True)[2]
    assert keys.read_trusted() == (first, second)
    assert (home / "cold.key").exists()
    third = keys.TrustedKey(keys.public_bytes(Ed25519PrivateKey.generate()), "third")
    (home / "trusted.keys").write_text(first.line() + second.line() + third.line())
    with pytest.raises(ConfigError, match="one or two keys, not 3"):
        keys.read_trusted()


def test_keygen_does_not_displace_two_foreign_pins(home: Path) -> None:
    home.mkdir()
    pins = [keys.TrustedKey(bytes([i]) * 32, f"flight{i}").line() for i in (1, 2)]
    (home / "trusted.keys").write_text("# the board's\n\n" + "".join(pins))
    with pytest.raises(ConfigError, match="pins 2 other keys already"):
        keys.generate()
    assert not (home / "signing.key").exists()


def test_signature_holds_for_its_key_and_message_only() -> None:
    private, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    pinned = keys.TrustedKey(keys.public_bytes(private), "a")
    stranger = keys.TrustedKey(keys.public_bytes(other), "b")
    signature = keys.sign(private, MESSAGE)
    assert signature == keys.sign(private, MESSAGE)
    assert keys.verify(signature, MESSAGE, [stranger, pinned]) == pinned
    with pytest.raises(SignatureError, match=r"not pinned"):
        keys.verify(signature, MESSAGE, [stranger])
    with pytest.raises(SignatureError, match="'a' does not hold"):
        keys.verify(signature, MESSAGE + b" ", [pinned])
    # The stranger's signature under the pinned key's name.
    forged = keys.sign(other, MESSAGE).replace(stranger.raw.hex().encode(), pinned.raw.hex().encode())
    with pytest.raises(SignatureError, match="'a' does not hold"):
        keys.verify(forged, MESSAGE, [pinned])


def test_every_bit_of_a_signature_counts() -> None:
    private = Ed25519PrivateKey.generate()
    pinned = [keys.TrustedKey(keys.public_bytes(private), "a")]
    signature = keys.sign(private, MESSAGE)
    for bit in range(8 * len(signature)):
        changed = bytearray(signature)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SignatureError):
            keys.verify(bytes(changed), MESSAGE, pinned)
    for length in range(len(signature)):
        with pytest.raises(SignatureError):
            keys.verify(signature[:length], MESSAGE, pinned)


def test_s_plus_the_group_order_is_refused() -> None:
    """RFC 8032, 5.1.7: S must be below L, or a signature has a second spelling."""
    order = 2**252 + 27742317777372353535851937790883648493
    private = Ed25519PrivateKey.generate()
    pinned = keys.TrustedKey(keys.public_bytes(private), "a")
    raw = private.sign(MESSAGE)
    s = int.from_bytes(raw[32:], "little") + order
    again = raw[:32] + s.to_bytes(32, "little")
    with pytest.raises(SignatureError):
        keys.verify(f"ed25519 {pinned.raw.hex()} {again.hex()}\n".encode(), MESSAGE, [pinned])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not 0"),
        ("# nothing\n", "not 0"),
        ("ed25519 abc x\n", "line 1"),
        (f"ed25519 {'AB' * 32} x\n", "line 1"),
        (f"rsa {'ab' * 32} x\n", "line 1"),
        (f"ed25519 {'ab' * 32} x y\n", "line 1"),
        (f"ed25519 {'ab' * 32} x\ned25519 {'ab' * 32} y\n", "repeats"),
        (f"ed25519 {'ab' * 32} x\ned25519 {'cd' * 32} x\n", "repeats"),
        ("ed25519 \N{LATIN SMALL LETTER E WITH ACUTE}\n", "cannot be read"),
    ],
)
def test_malformed_pins_are_refused(home: Path, text: str, why: str) -> None:
    home.mkdir()
    (home / "trusted.keys").write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=why):
        keys.read_trusted()


def test_file_modes_are_checked(home: Path) -> None:
    keys.generate()
    (home / "signing.key").chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        keys.load_private()
    (home / "trusted.keys").chmod(0o666)
    with pytest.raises(ConfigError, match="chmod o-w"):
        keys.read_trusted()


def test_private_keys_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="libsedge keygen"):
        keys.load_private(tmp_path / "none.key")
    file = tmp_path / "other.key"
    pem = generate_private_key(SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for content, why in ((pem, "not an Ed25519 key"), (b"hello", "not a PEM PKCS8")):
        file.write_bytes(content)
        file.chmod(0o600)
        with pytest.raises(ConfigError, match=why):
            keys.load_private(file)


def test_command_line(home: Path) -> None:
    first = CliRunner().invoke(main, ["keygen"])
    assert first.exit_code == 0, first.output
    assert str(home / "signing.key") in first.output
    assert keys.read_trusted()[0].raw.hex() in first.output
    again = CliRunner().invoke(main, ["keygen"])
    assert again.exit_code == 2
    assert "exists" in again.output
    assert CliRunner().invoke(main, ["keygen", "--cold"]).exit_code == 0
    assert [key.name for key in keys.read_trusted()] == ["signing", "cold"]
