"""Connections that a crashed application left behind.

BlueZ keeps a device connected when the program that connected it dies, and a connected device does not advertise: no
scan would find it again. Only Linux is like that; elsewhere this does nothing.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

_LOGGER = logging.getLogger(__name__)
_BLUEZ: Final = "org.bluez"
_DEVICE: Final = "org.bluez.Device1"
_OBJECT_MANAGER: Final = "org.freedesktop.DBus.ObjectManager"


async def close_stale_connections(service_uuid: str, *, address: str | None = None) -> tuple[str, ...]:
    """Disconnect devices that offer a service (or the one with `address`); returns their addresses."""
    if sys.platform != "linux":
        return ()
    # bleak itself stands on dbus-fast on Linux.
    from dbus_fast import BusType
    from dbus_fast.aio import MessageBus

    bus = MessageBus(bus_type=BusType.SYSTEM)
    try:
        await bus.connect()
        connected = [item for item in await _connected(bus, service_uuid) if address in (None, item[1])]
        for path, found in connected:
            _LOGGER.info("closing a stale connection to %s", found)
            await _call(bus, path=path, interface=_DEVICE, member="Disconnect")
    finally:
        bus.disconnect()
    return tuple(found for _path, found in connected)


async def _connected(bus: Any, service_uuid: str) -> list[tuple[str, str]]:
    reply = await _call(bus, path="/", interface=_OBJECT_MANAGER, member="GetManagedObjects")
    objects = reply.body[0] if reply is not None and reply.body and isinstance(reply.body[0], dict) else {}
    found = []
    for path, interfaces in objects.items():
        device = {name: variant.value for name, variant in interfaces.get(_DEVICE, {}).items()}
        if device.get("Connected") and service_uuid in device.get("UUIDs", ()):
            found.append((path, device["Address"]))
    return found


async def _call(bus: Any, *, path: str, interface: str, member: str) -> Any:
    from dbus_fast import Message

    return await bus.call(Message(destination=_BLUEZ, path=path, interface=interface, member=member))
