"""Who may sign a bundle: the public keys that travel with the app, and the one check that uses them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lsemvae.ecg.errors import BundleSignatureError
from lsemvae.screen.manifest import key_id, signed_bytes

# Sizes of Ed25519 (RFC 8032, section 5.1.5 and 5.1.6).
PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
# The four packages are one wheel: what the app is released with lies in its folder. This is the one place that says so.
_APP: Final = Path(__file__).parents[2] / "edge_app"
# Public keys: one file per key, the 32 bytes in hexadecimal.
TRUST_DIR: Final = _APP / "trust"
SHIPPED_BUNDLE: Final = _APP / "bundle"


def load_trusted_keys(folder: Path = TRUST_DIR) -> tuple[bytes, ...]:
    """Read every ``*.pub`` file of `folder`.

    Raises
    ------
    BundleSignatureError
        A key file is damaged. A damaged key is never skipped: the operator would not learn why a bundle is refused.
    """
    keys = []
    for path in sorted(folder.glob("*.pub")):
        try:
            key, found = bytes.fromhex(path.read_text(encoding="ascii").strip()), ""
        except (OSError, ValueError):
            key, found = b"", "something that is not hexadecimal"
        if len(key) != PUBLIC_KEY_BYTES:
            raise BundleSignatureError(
                f"The public key file {path.name} holds {found or f'{len(key)} bytes'}; "
                f"expected {PUBLIC_KEY_BYTES} bytes in hexadecimal.",
                advice="Reinstall the app: one of its key files is damaged.",
            )
        keys.append(key)
    return tuple(keys)


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
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    for key in trusted_keys:
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, signed_bytes(manifest))
        except (InvalidSignature, ValueError):
            continue
        return key_id(key)
    known = ", ".join(key_id(key) for key in trusted_keys)
    raise BundleSignatureError(f"The signature of the manifest was made by none of the trusted keys ({known}).")
