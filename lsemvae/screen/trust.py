"""Who may sign a bundle: the public keys that travel with the app, and the one check that uses them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lsemvae.ecg.errors import BundleSignatureError
from lsemvae.screen.manifest import key_id, signed_bytes

#: Sizes of Ed25519 (RFC 8032, section 5.1.5 and 5.1.6).
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64

#: Public keys the app was released with: one file per key, the 32 bytes in hexadecimal.
TRUST_DIR = Path(__file__).parents[2] / "edge_app" / "trust"


def load_trusted_keys(folder: Path = TRUST_DIR) -> tuple[bytes, ...]:
    """Read every ``*.pub`` file of `folder`.

    Raises
    ------
    BundleSignatureError
        A key file is damaged. A damaged key is never skipped: the operator would not learn why a bundle is refused.
    """
    return tuple(_read_key(path) for path in sorted(folder.glob("*.pub")))


def _read_key(path: Path) -> bytes:
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise _bad_key(path, "something that is not hexadecimal") from error
    if len(key) != PUBLIC_KEY_BYTES:
        raise _bad_key(path, f"{len(key)} bytes")
    return key


def _bad_key(path: Path, found: str) -> BundleSignatureError:
    return BundleSignatureError(
        f"The public key file {path.name} holds {found}; expected {PUBLIC_KEY_BYTES} bytes in hexadecimal.",
        advice="Reinstall the app: one of its key files is damaged.",
    )


def verify_signature(manifest: bytes, signature: bytes, *, trusted_keys: Sequence[bytes]) -> str:
    """Check the Ed25519 signature over the manifest bytes exactly as they are stored; nothing is parsed before this.

    Parameters
    ----------
    manifest, signature
        The bytes of ``manifest.json`` and ``manifest.sig`` (64 raw bytes, RFC 8032).
    trusted_keys
        Raw public keys, 32 bytes each.

    Returns
    -------
    str
        Id of the key that made the signature (first 16 hexadecimal digits of its SHA-256).

    Raises
    ------
    BundleSignatureError
        No trusted key made this signature.
    """
    if len(signature) != SIGNATURE_BYTES:
        raise BundleSignatureError(f"manifest.sig has {len(signature)} bytes; expected {SIGNATURE_BYTES}.")
    if not trusted_keys:
        raise BundleSignatureError(
            "No public key is trusted, so no bundle can be.",
            advice="Reinstall the app, or name a key with --trust.",
        )
    for key in trusted_keys:
        if _is_signed_by(key, signature, signed_bytes(manifest)):
            return key_id(key)
    known = ", ".join(key_id(key) for key in trusted_keys)
    raise BundleSignatureError(f"The signature of the manifest was made by none of the trusted keys ({known}).")


def _is_signed_by(key: bytes, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
