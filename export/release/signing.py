"""The publisher's signature: Ed25519 keys on disk and signatures over a canonical manifest.

Private keys never stand in the repository or in a bundle. A bundle carries the signature and the key's identifier; a
clinic trusts the public keys that its application ships.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from export.errors import SigningKeyError
from lsemvae.screen.manifest import key_id, signed_bytes

DEFAULT_KEY: Final = "default"
_KEY_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PRIVATE_MODE: Final = 0o600


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 private key and the identifier of its public half."""

    private: Ed25519PrivateKey
    key_id: str

    @property
    def public_bytes(self) -> bytes:
        """The raw 32 bytes of the public key."""
        return self.private.public_key().public_bytes_raw()

    def sign(self, manifest: bytes) -> bytes:
        """Return the 64 raw signature bytes over the bytes of a canonical manifest."""
        return self.private.sign(signed_bytes(manifest))


def key_folder() -> Path:
    """Return where keys live: `$LSEMVAE_HOME/keys`, or `~/.config/lsemvae/keys`."""
    home = os.environ.get("LSEMVAE_HOME")
    return (Path(home) if home else Path.home() / ".config" / "lsemvae") / "keys"


def key_path(name: str = DEFAULT_KEY) -> Path:
    """Return the path of the named key's private half."""
    if _KEY_NAME.fullmatch(name) is None:
        raise SigningKeyError(f"key name {name!r}; expected letters, digits, dot, dash or underscore (at most 64)")
    return key_folder() / f"{name}.pem"


def load_or_create_key(key: Path | str = DEFAULT_KEY) -> SigningKey:
    """Load a key by name or path; a key that is only *named* is made on first use, a path must exist."""
    if isinstance(key, Path):
        return load_key(key)
    path = key_path(key)
    if path.exists():
        return load_key(path)
    try:
        return create_key(path)
    except OSError as error:
        raise SigningKeyError(
            f"the key cannot be made: {error}", advice=f"Make {path.parent} writable, or set LSEMVAE_HOME."
        ) from error


def create_key(path: Path) -> SigningKey:
    """Make a key: PKCS8 PEM at `path` (mode 0600), the public key in hex beside it (`.pub`); nothing is overwritten."""
    public = path.with_suffix(".pub")
    taken = [str(p) for p in (path, public) if p.exists()]
    if taken:
        raise SigningKeyError(f"{' and '.join(taken)} already there; expected a free name")
    private = Ed25519PrivateKey.generate()
    key = _signing_key(private)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write_new(path, pem, mode=_PRIVATE_MODE)
    _write_new(public, key.public_bytes.hex().encode() + b"\n", mode=0o644)
    return key


def load_key(path: Path) -> SigningKey:
    """Load a private key; one that others may read is refused."""
    if not path.is_file():
        raise SigningKeyError(f"no signing key at {path}")
    mode = stat.S_IMODE(path.stat().st_mode)
    if os.name == "posix" and mode & 0o077:
        raise SigningKeyError(f"{path} has mode {mode:04o}; expected {_PRIVATE_MODE:04o}: others can read the key")
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SigningKeyError(f"{path} is not an unencrypted private key in PEM: {error}") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise SigningKeyError(f"{path} holds a {type(private).__name__}; expected an Ed25519 key")
    return _signing_key(private)


def _signing_key(private: Ed25519PrivateKey) -> SigningKey:
    return SigningKey(private, key_id(private.public_key().public_bytes_raw()))


def _write_new(path: Path, data: bytes, *, mode: int) -> None:
    """Write a file that did not exist, with its mode from the first byte on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
