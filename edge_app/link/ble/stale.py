"""Connections that a crashed application left behind.

BlueZ keeps a device connected when the program that connected it dies, and a connected device does not advertise: no
scan would find it again. What a dead program asked for ends with it, so a device of which somebody still gets
notifications is in use and left alone. Only Linux is like that; elsewhere this does nothing.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from edge_app.link.radio_errors import DeviceBusyError

if TYPE_CHECKING:
    from edge_app.link.ble.bus import Objects

_LOGGER = logging.getLogger(__name__)


async def close_stale_connections(service_uuid: str, *, address: str | None = None) -> tuple[str, ...]:
    """Disconnect devices that offer a service (or the one with `address`) and return their addresses.

    Raises
    ------
    DeviceBusyError
        All that there are serve another program.
    """
    if sys.platform != "linux":
        return ()
    # The D-Bus library is there on Linux only.
    from edge_app.link.ble.bus import DEVICE, BluezBus

    bus = await BluezBus.open()
    closed, busy = [], []
    try:
        objects = await bus.objects()
        for path, interfaces in objects.items():
            device = interfaces.get(DEVICE, {})
            if not device.get("Connected") or service_uuid not in device.get("UUIDs", ()):
                continue
            if address is not None and str(device["Address"]).lower() != address.lower():
                continue
            if _in_use(objects, path):
                busy.append(f"{device.get('Name', 'no name')} ({device['Address']})")
                continue
            _LOGGER.info("closing a stale connection to %s", device["Address"])
            await bus.call(path, DEVICE, "Disconnect")
            closed.append(str(device["Address"]))
    finally:
        await bus.close()
    if busy and not closed:
        raise DeviceBusyError(
            f"scan: found {', '.join(busy)} in use by another program, expected a device that is free"
        )
    return tuple(closed)


def _in_use(objects: Objects, device_path: str) -> bool:
    """Return whether a living program gets notifications of the device."""
    return any(
        interfaces.get("org.bluez.GattCharacteristic1", {}).get("Notifying", False)
        for path, interfaces in objects.items()
        if path.startswith(f"{device_path}/")
    )
