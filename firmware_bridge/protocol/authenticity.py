"""Is this the device whose key is on its case? AUTHENTICATE: a challenge, and a tag that only the key can make.

``tag = HMAC-SHA256(key, "E6L-AUTH-1" + descriptor as read (40 bytes) + host nonce + device nonce)``, first 16 bytes
(RFC 2104; truncation as in RFC 2104 section 5). A tag proves that whoever answers holds the key and describes itself so.
It does not bind the samples that follow: that is what the encryption of the link (LE Secure Connections) is for.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import Final

from firmware_bridge.protocol.descriptor import DESCRIPTOR_BYTES
from firmware_bridge.protocol.errors import ControlError, KeyTextError
from firmware_bridge.protocol.profile import DEVICE_KEY_BYTES, NONCE_BYTES, TAG_BYTES

# First bytes of what is signed: a tag made for another use of the key is never a tag of this one.
DOMAIN: Final = b"E6L-AUTH-1"

_FINGERPRINT_DOMAIN: Final = b"E6L-KEY-ID"
_KEY_TEXT: Final = re.compile(r"E6L1:([A-Za-z0-9._-]{1,32}):([0-9A-Fa-f]{64})")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")
_KEY_ADVICE: Final = "Scan the code on the case of the device again, or type the whole line below it."


@dataclass(frozen=True, slots=True)
class DeviceKey:
    """Name and secret of a device, as the QR code on its case gives them: ``E6L1:NAME:KEY``.

    Attributes
    ----------
    name
        1-32 of ``A-Z a-z 0-9 . _ -``.
    secret
        32 bytes; never shown by `repr`.
    """

    name: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise KeyTextError(
                f"device name: found {len(self.name)} characters, expected 1..32 of letters, digits, '.', '_', '-'",
                advice=_KEY_ADVICE,
            )
        if len(self.secret) != DEVICE_KEY_BYTES:
            raise KeyTextError(
                f"device key: found {len(self.secret)} bytes, expected {DEVICE_KEY_BYTES}", advice=_KEY_ADVICE
            )

    @classmethod
    def parse(cls, text: str) -> DeviceKey:
        """Return the key in the text of a QR code; the text itself never appears in the error."""
        found = _KEY_TEXT.fullmatch(text.strip())
        if found is None:
            raise KeyTextError(
                f"device key: found {len(text.strip())} characters, expected E6L1:NAME:KEY with 64 hexadecimal digits",
                advice=_KEY_ADVICE,
            )
        return cls(name=found[1], secret=bytes.fromhex(found[2]))

    def to_text(self) -> str:
        """Return the text of the QR code: a secret."""
        return f"E6L1:{self.name}:{self.secret.hex()}"

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that tell keys apart and may be shown."""
        return hashlib.sha256(_FINGERPRINT_DOMAIN + self.secret).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class AuthenticateReply:
    """Nonce of the device and its tag, 16 bytes each."""

    device_nonce: bytes
    tag: bytes

    def to_bytes(self) -> bytes:
        """Return the data of an AUTHENTICATE reply."""
        _check_length("device nonce", self.device_nonce, NONCE_BYTES)
        _check_length("tag", self.tag, TAG_BYTES)
        return self.device_nonce + self.tag


def encode_authenticate(host_nonce: bytes) -> bytes:
    """Return the parameters of an AUTHENTICATE request: 16 random bytes, fresh for each request."""
    _check_length("host nonce", host_nonce, NONCE_BYTES)
    return bytes(host_nonce)


def decode_authenticate(params: bytes) -> bytes:
    """Read the host nonce in the parameters of an AUTHENTICATE request."""
    _check_length("AUTHENTICATE parameters", params, NONCE_BYTES)
    return bytes(params)


def decode_authenticate_reply(data: bytes) -> AuthenticateReply:
    """Read the data of an AUTHENTICATE reply."""
    _check_length("AUTHENTICATE reply", data, NONCE_BYTES + TAG_BYTES)
    return AuthenticateReply(device_nonce=bytes(data[:NONCE_BYTES]), tag=bytes(data[NONCE_BYTES:]))


def tag(key: DeviceKey | bytes, descriptor: bytes, host_nonce: bytes, device_nonce: bytes) -> bytes:
    """Return the 16 bytes that a device with `key` answers.

    Parameters
    ----------
    descriptor
        The 40 bytes as they were read over this connection.
    """
    secret = key.secret if isinstance(key, DeviceKey) else key
    _check_length("device key", secret, DEVICE_KEY_BYTES)
    _check_length("descriptor", descriptor, DESCRIPTOR_BYTES)
    _check_length("host nonce", host_nonce, NONCE_BYTES)
    _check_length("device nonce", device_nonce, NONCE_BYTES)
    message = DOMAIN + descriptor + host_nonce + device_nonce
    return hmac.new(secret, message, hashlib.sha256).digest()[:TAG_BYTES]


def verify(key: DeviceKey | bytes, descriptor: bytes, host_nonce: bytes, device_nonce: bytes, found: bytes) -> bool:
    """Return whether `found` is the tag of `key`; compared in constant time."""
    return hmac.compare_digest(tag(key, descriptor, host_nonce, device_nonce), found)


def _check_length(what: str, found: bytes, expected: int) -> None:
    if len(found) != expected:
        raise ControlError(f"{what}: found {len(found)} bytes, expected {expected}")
