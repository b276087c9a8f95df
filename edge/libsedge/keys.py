"""Signing keys (Ed25519): made on the host, pinned on the board.

Two files in the home directory (`LIBSEDGE_HOME`, default `~/.config/libsedge`):

* `signing.key` (and `cold.key`): private, PEM PKCS8, mode 0600; they stay on the host, the cold one off-line.
* `trusted.keys`: text, one `ed25519 <64 hex digits> <name>` a line, `#` starts a comment, at most two keys.
  The board needs this file and nothing else. Rotation: ship a bundle signed by the cold key, replace the
  lost key's line.

A bundle's SIGNATURE member is one line, `ed25519 <public key, hex> <signature, hex>`, and the signature is
over the bytes of manifest.json. The public key in it only says which pinned key to try.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from libsedge.errors import ConfigError, SignatureError

MAX_TRUSTED = 2
SIGNING_KEY, COLD_KEY, TRUSTED_KEYS = "signing.key", "cold.key", "trusted.keys"

_LINE = re.compile(r"ed25519 ([0-9a-f]{64}) ([A-Za-z0-9][A-Za-z0-9._-]{0,63})")
_SIGNATURE = re.compile(rb"ed25519 ([0-9a-f]{64}) ([0-9a-f]{128})\n")


@dataclass(frozen=True)
class TrustedKey:
    """A pinned public key: 32 raw bytes and the name its owner gave it."""

    raw: bytes
    name: str

    def line(self) -> str:
        return f"ed25519 {self.raw.hex()} {self.name}\n"


def home() -> Path:
    """The directory of the keys: `LIBSEDGE_HOME`, else `~/.config/libsedge`."""
    return Path(os.environ.get("LIBSEDGE_HOME") or Path.home() / ".config" / "libsedge")


def public_bytes(private: Ed25519PrivateKey) -> bytes:
    return private.public_key().public_bytes_raw()


def sign(private: Ed25519PrivateKey, message: bytes) -> bytes:
    """The SIGNATURE member for `message`; the same bytes every time (RFC 8032)."""
    return f"ed25519 {public_bytes(private).hex()} {private.sign(message).hex()}\n".encode()


def signer_of(signature: bytes) -> bytes:
    """The public key (32 bytes) a SIGNATURE names; raises SignatureError where the member is malformed."""
    match = _SIGNATURE.fullmatch(signature)
    if match is None:
        raise SignatureError("must be one line `ed25519 <public key> <signature>` in lower-case hex")
    return bytes.fromhex(match[1].decode())


def signature_holds(signature: bytes, message: bytes) -> bool:
    """Whether the signature is the named key's over `message`; says nothing about trust in that key."""
    public = Ed25519PublicKey.from_public_bytes(signer_of(signature))
    try:
        public.verify(bytes.fromhex(signature.split()[2].decode()), message)
    except InvalidSignature:
        return False
    return True


def verify(signature: bytes, message: bytes, trusted: Iterable[TrustedKey]) -> TrustedKey:
    """The pinned key that signed `message`; SignatureError where there is none."""
    named = signer_of(signature)
    key = next((key for key in trusted if key.raw == named), None)
    if key is None:
        raise SignatureError(f"signed by {named.hex()}, which is not pinned in {TRUSTED_KEYS}")
    if not signature_holds(signature, message):
        raise SignatureError(f"the signature of key {key.name!r} does not hold over manifest.json")
    return key


def read_trusted(path: str | os.PathLike[str] | None = None) -> tuple[TrustedKey, ...]:
    """The pinned keys (one or two). Raises ConfigError for a missing, writable-by-all or malformed file."""
    file = home() / TRUSTED_KEYS if path is None else Path(path)
    try:
        if stat.S_IMODE(file.stat().st_mode) & stat.S_IWOTH:
            raise ConfigError("anyone on this machine can write it; run chmod o-w", file=file)
        text = file.read_text("ascii")
    except FileNotFoundError:
        raise ConfigError("no pinned keys; copy the file here or run `libsedge keygen`", file=file) from None
    except (OSError, UnicodeDecodeError) as why:
        raise ConfigError(f"cannot be read: {why}", file=file) from why
    keys: list[TrustedKey] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ConfigError(
                "must be `ed25519 <64 hex digits> <name>`", file=file, field=f"line {number}", value=line
            )
        key = TrustedKey(bytes.fromhex(match[1]), match[2])
        if any(key.raw == other.raw or key.name == other.name for other in keys):
            raise ConfigError("repeats a key or a name", file=file, field=f"line {number}", value=line)
        keys.append(key)
    if not 1 <= len(keys) <= MAX_TRUSTED:
        raise ConfigError(f"must hold one or two keys, not {len(keys)}", file=file)
    return tuple(keys)


def load_private(path: str | os.PathLike[str] | None = None) -> Ed25519PrivateKey:
    """A signing key from PEM PKCS8; ConfigError for a missing, readable-by-others or malformed file."""
    file = home() / SIGNING_KEY if path is None else Path(path)
    try:
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise ConfigError("others can read this private key; run chmod 600", file=file)
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except FileNotFoundError:
        raise ConfigError("no signing key; run `libsedge keygen` first", file=file) from None
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as why:
        raise ConfigError(f"not a PEM PKCS8 private key: {why}", file=file) from why
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("not an Ed25519 key; run `libsedge keygen`", file=file)
    return key


def generate(cold: bool = False, force: bool = False) -> tuple[Path, Path, TrustedKey]:
    """Make a key pair, pin its public half; returns (private key file, trusted.keys, the pinned key).

    `force` replaces a key and its pin: bundles signed by the old key are refused from then on. Raises
    ConfigError where the key exists and `force` is not given, or where two other keys are pinned already.
    """
    folder, name = home(), "cold" if cold else "signing"
    file, pins = folder / (COLD_KEY if cold else SIGNING_KEY), folder / TRUSTED_KEYS
    if file.exists() and not force:
        raise ConfigError("exists; --force replaces it, and bundles it signed are then refused", file=file)
    private = Ed25519PrivateKey.generate()
    key = TrustedKey(public_bytes(private), name)
    kept = [other for other in (read_trusted(pins) if pins.exists() else ()) if other.name != name]
    if len(kept) >= MAX_TRUSTED:
        raise ConfigError(f"pins {MAX_TRUSTED} other keys already; remove one line first", file=pins)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # The pin first: a crash in between leaves a pin without a key, which the next keygen replaces.
    _replace(pins, "".join(pin.line() for pin in [*kept, key]).encode(), 0o644)
    _replace(file, pem, 0o600)
    return file, pins, key


def generate_frame_key(path: Path, force: bool = False) -> None:
    """Make the file of a `libsedge.frame_key.FrameKey`; ConfigError where it exists and `force` is not given."""
    if path.exists() and not force:
        raise ConfigError("exists; --force replaces it, and frames it signed are then refused", file=path)
    _replace(path, f"hmac-sha256 {secrets.token_hex(32)}\n".encode(), 0o600)


def _replace(path: Path, data: bytes, mode: int) -> None:
    """Write `data` under a temporary name with `mode` from the first byte on, then rename it over `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as why:
        temporary.unlink(missing_ok=True)
        raise ConfigError(f"cannot be written: {why.strerror}", file=path) from why
