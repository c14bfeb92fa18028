"""Is this the device whose key is on its case? Asked after each connect, before a sample is taken.

A tag proves that whoever answers holds the key and describes itself with this descriptor. It does not bind the samples
that follow: the encryption of the link (LE Secure Connections) does.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Final

from edge_app.link.client import DeviceClient, Opened
from firmware_bridge.protocol.authenticity import DeviceKey, decode_authenticate_reply, encode_authenticate, verify
from firmware_bridge.protocol.profile import NONCE_BYTES, Feature, Op, ReplyStatus
from lsemvae.ecg.errors import LinkError, ProtocolError

Nonce = Callable[[int], bytes]

_TRUST_IT: Final = (
    "Scan the code on the case of the device once: edge_app devices trust (it asks for the code). For a device on the "
    "bench: --allow-unauthenticated; its recordings are marked."
)
_HAS_NO_KEY: Final = (
    "Use a device with a code on its case, or update the device's firmware. For a device on the bench: "
    "--allow-unauthenticated; its recordings are marked."
)
_NOT_OURS: Final = (
    "Do not use this device: another one may be answering in the place of yours. Switch off other devices near you and "
    "try again; if yours got a new code, scan it."
)

_WITHOUT_KEY: Final = (ReplyStatus.NOT_AUTHENTICATED, ReplyStatus.BAD_OP)


class DeviceNotAuthenticatedError(LinkError):
    """The device did not prove that it holds a key that this program knows.

    Attributes
    ----------
    lasting
        Another attempt does not mend it (see `edge_app.session.link.is_lasting`).
    """

    code = "E_DEVICE_NOT_AUTHENTICATED"
    lasting = True

    def __init__(self, message: str, *, advice: str = _TRUST_IT) -> None:
        super().__init__(message, advice=advice)


async def authenticate(
    client: DeviceClient, opened: Opened, keys: Sequence[DeviceKey], *, nonce: Nonce = secrets.token_bytes
) -> DeviceKey:
    """Return the key in `keys` that the device holds.

    Parameters
    ----------
    nonce
        Source of random bytes; a challenge is never used twice.

    Raises
    ------
    DeviceNotAuthenticatedError
        The device has no key, holds none of `keys`, or its answer makes no sense.
    LinkError
        The link failed, or no answer came.
    ProtocolError
        The link's packets are too small for an answer.
    """
    name = opened.info.name
    if not opened.descriptor.features & Feature.DEVICE_KEY:
        raise _no_key(name)
    if not keys:
        raise DeviceNotAuthenticatedError(
            f"{name}: found a device whose key this program does not know, expected a known one", advice=_TRUST_IT
        )
    challenge = nonce(NONCE_BYTES)
    try:
        reply = await client.request(Op.AUTHENTICATE, encode_authenticate(challenge))
        if reply.status in _WITHOUT_KEY:
            raise _no_key(name)
        answer = decode_authenticate_reply(client.accepted(reply).data)
        nonce_and_tag = (challenge, answer.device_nonce, answer.tag)
        key = next((key for key in keys if verify(key, opened.descriptor_bytes, *nonce_and_tag)), None)
    except ProtocolError as exc:
        if "MTU_TOO_SMALL" in str(exc):
            raise
        raise DeviceNotAuthenticatedError(f"{name}: found no proof of a key ({exc})", advice=_NOT_OURS) from exc
    if key is None:
        raise DeviceNotAuthenticatedError(
            f"{name}: found an answer that none of {len(keys)} known keys gives, expected that of a known device",
            advice=_NOT_OURS,
        )
    return key


class Gatekeeper:
    """Decides at each connect of a session whether the device may be recorded.

    Parameters
    ----------
    keys
        Keys of the devices that may.
    allow_unauthenticated
        Record a device that proves nothing as well, and mark the recording. Not one that takes the place of a device
        that proved itself at the beginning.

    Attributes
    ----------
    key
        The key that the device proved to hold; None for one that did not.
    """

    def __init__(self, keys: Sequence[DeviceKey], *, allow_unauthenticated: bool) -> None:
        self._keys = tuple(keys)
        self._allow = allow_unauthenticated
        self._admitted = False
        self.key: DeviceKey | None = None

    async def admit(self, client: DeviceClient, opened: Opened) -> str | None:
        """Take the device's samples from here on, or raise; return why where it was let in without a proof.

        Once a device proved itself, each later connect must prove the same key: a recording is never continued by
        another device, trusted or not.
        """
        remark = None
        if self._admitted and self.key is not None:
            await authenticate(client, opened, (self.key,))
        elif not self._admitted:
            try:
                self.key = await authenticate(client, opened, self._keys)
            except DeviceNotAuthenticatedError as exc:
                if not self._allow:
                    raise
                remark = str(exc)
        self._admitted = True
        client.admit()
        return remark


def _no_key(name: str) -> DeviceNotAuthenticatedError:
    return DeviceNotAuthenticatedError(
        f"{name}: found a device without a key, expected one that proves what it is", advice=_HAS_NO_KEY
    )
