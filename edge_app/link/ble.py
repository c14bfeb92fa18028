"""Bluetooth Low Energy through bleak. This is the only module of the application that loads bleak.

The rules below are there because a real stack broke without them:

- one scanner, stopped before connecting; a fresh device object for every connection;
- a connection that a crashed application left behind hides the device from scans, so it is closed and the scan
repeated; - notifications by StartNotify, never AcquireNotify (bluetoothd 5.66 crashes, others lose the first
notifications); - the disconnect callback counts only after `connect` has returned, since it also fires for failed
attempts; - `disconnect` is awaited always, even when the link is lost: bleak closes its D-Bus connection only there,
and BlueZ
  delivers every later notification once more for each one that was left open;
- the MTU comes from the characteristic, as ``client.mtu_size`` is a guess on BlueZ.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final

from bleak import BleakClient, BleakScanner
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak_retry_connector import establish_connection

from edge_app.link.base import DisconnectCallback, LinkInfo, NotificationCallback
from edge_app.link.ble_errors import RADIO_EXCEPTIONS, not_found, translated
from edge_app.link.ble_stale import close_stale_connections
from firmware_bridge.profile import (
    ATT_HEADER_BYTES,
    BULK_UUID,
    CONTROL_UUID,
    DESCRIPTOR_UUID,
    LIVE_UUID,
    SERVICE_UUID,
    STATUS_UUID,
)
from lsemvae.ecg.errors import LinkError

_LOGGER = logging.getLogger(__name__)

# Devices advertise every 100 ms to 1 s; ten seconds also cover a busy 2.4 GHz band.
SCAN_S: Final = 10.0
# bleak gives up after 10 s of its own; the rest is for closing the bus.
_DISCONNECT_S: Final = 12.0


class BleTransport:
    """A `Transport` to the nearest device that advertises the six-lead service.

    Parameters
    ----------
    address, name
        Take only this device; without them the first one found, and from then on that one.
    scan_s
        How long to look for it, seconds.
    """

    def __init__(self, *, address: str | None = None, name: str | None = None, scan_s: float = SCAN_S) -> None:
        self._address = address
        self._name = name
        self._scan_s = scan_s
        self._client: BleakClient | None = None
        self._established = False
        self._on_disconnect: DisconnectCallback | None = None

    @property
    def mtu(self) -> int:
        """Largest attribute packet of the present connection, bytes."""
        return self._characteristic(LIVE_UUID).max_write_without_response_size + ATT_HEADER_BYTES

    async def connect(self) -> LinkInfo:
        """Scan, connect with retries, check that the device has the service."""
        await self.disconnect()
        with translated("Bluetooth"):
            device = await self._find()
            self._client = await establish_connection(
                BleakClient, device, device.name or device.address, disconnected_callback=self._lost,
                use_services_cache=False,
            )  # fmt: skip
        self._established = True
        self._address = device.address
        return LinkInfo(name=device.name or device.address, address=device.address, mtu=self.mtu, kind="ble")

    async def disconnect(self) -> None:
        """Disconnect and close the client's bus, whatever state the link is in."""
        client, self._client = self._client, None
        self._established = False
        if client is None:
            return
        with suppress(*RADIO_EXCEPTIONS):
            async with asyncio.timeout(_DISCONNECT_S):
                await client.disconnect()

    async def read_descriptor(self) -> bytes:
        """Value of the descriptor characteristic."""
        return await self._read(DESCRIPTOR_UUID, "reading the descriptor")

    async def read_status(self) -> bytes:
        """Value of the status characteristic."""
        return await self._read(STATUS_UUID, "reading the status")

    async def write_control(self, request: bytes) -> None:
        """Write to the control characteristic, with response."""
        with translated("writing a request"):
            await self._connected().write_gatt_char(CONTROL_UUID, request, response=True)

    async def subscribe(
        self,
        *,
        on_live: NotificationCallback,
        on_control: NotificationCallback,
        on_status: NotificationCallback | None = None,
        on_bulk: NotificationCallback | None = None,
    ) -> None:
        """Ask for notifications, control first: a reply must never come before somebody listens."""
        await self._notify(CONTROL_UUID, on_control)
        await self._notify(LIVE_UUID, on_live)
        if on_status is not None:
            await self._notify(STATUS_UUID, on_status)
        if on_bulk is not None:
            await self._notify(BULK_UUID, on_bulk)

    def on_disconnect(self, callback: DisconnectCallback | None) -> None:
        """Have `callback` told when an established link is lost."""
        self._on_disconnect = callback

    async def _find(self) -> BLEDevice:
        device = await self._scan()
        if device is None and await close_stale_connections(SERVICE_UUID, address=self._address):
            device = await self._scan()
        if device is None:
            raise not_found(self._address or self._name or "six-lead device", seconds=self._scan_s)
        return device

    async def _scan(self) -> BLEDevice | None:
        return await BleakScanner.find_device_by_filter(
            self._wanted, timeout=self._scan_s, service_uuids=[SERVICE_UUID]
        )

    def _wanted(self, device: BLEDevice, advertisement: AdvertisementData) -> bool:
        if SERVICE_UUID not in advertisement.service_uuids:
            return False
        if self._address is not None:
            return device.address.lower() == self._address.lower()
        return self._name is None or self._name in (device.name, advertisement.local_name)

    async def _notify(self, uuid: str, callback: NotificationCallback) -> None:
        def handle(_characteristic: BleakGATTCharacteristic, data: bytearray) -> None:
            if data:
                callback(bytes(data))

        with translated("asking for notifications"):
            await self._connected().start_notify(uuid, handle, bluez={"use_start_notify": True})

    async def _read(self, uuid: str, what: str) -> bytes:
        with translated(what):
            return bytes(await self._connected().read_gatt_char(uuid))

    def _characteristic(self, uuid: str) -> BleakGATTCharacteristic:
        found = self._connected().services.get_characteristic(uuid)
        if found is None:
            raise LinkError(f"device: found no characteristic {uuid}, expected one", advice="Use a six-lead device.")
        return found

    def _connected(self) -> BleakClient:
        if self._client is None:
            raise LinkError("Bluetooth: found no connection, expected one")
        return self._client

    def _lost(self, client: BleakClient) -> None:
        if client is not self._client or not self._established:
            _LOGGER.debug("disconnect of an attempt that was not established: ignored")
            return
        self._established = False
        if self._on_disconnect is not None:
            self._on_disconnect("the device is out of reach or switched off")
