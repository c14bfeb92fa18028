"""What the security manager does on a link: take up a bond, make one."""

from __future__ import annotations

import asyncio
from typing import Final

from bumble.core import BaseBumbleError
from bumble.device import Connection, Device
from dbus_fast import DBusError

from firmware_bridge.sim.bluezd.names import ERROR_AUTHENTICATION_FAILED, ERROR_FAILED

_ENCRYPTION_TIMEOUT_S: Final = 5.0
# The security manager gives up after 30 s (Core Specification, volume 3, part H, 3.4).
_PAIRING_TIMEOUT_S: Final = 30.0
# Bumble cancels its own wait when the link ends meanwhile.
_FAILURES: Final = (TimeoutError, BaseBumbleError, asyncio.CancelledError)


async def encrypt(connection: Connection) -> None:
    """Take up the bond; a device that has forgotten it ends the connection."""
    try:
        async with asyncio.timeout(_ENCRYPTION_TIMEOUT_S):
            await connection.encrypt()
    except _FAILURES as exc:
        raise DBusError(ERROR_FAILED, "le-connection-refused") from exc


async def bond(central: Device, connection: Connection) -> None:
    """Pair, and keep the keys."""
    try:
        async with asyncio.timeout(_PAIRING_TIMEOUT_S):
            await central.pair(connection)
    except _FAILURES as exc:
        raise DBusError(ERROR_AUTHENTICATION_FAILED, "Authentication Failed") from exc
