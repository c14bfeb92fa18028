"""Any Bluetooth device that a driver knows: find it, subscribe, write. Loads bleak.

The rules of `edge_app.link.ble.transport` hold here too: StartNotify, disconnect awaited always, stale connections closed, a
disconnect counted only after the connection was there.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from bleak import BleakClient, BleakScanner
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak_retry_connector import establish_connection

from edge_app.link.base import DisconnectCallback, OnBytes
from edge_app.link.ble.errors import RADIO_EXCEPTIONS, not_found, translated
from edge_app.link.ble.stale import close_stale_connections
from firmware_bridge.drivers.base import DriverInfo
from firmware_bridge.protocol.profile import ATT_HEADER_BYTES
from lsemvae.ecg.errors import LinkError

# As for the six-lead device: slow advertisers, a busy band.
SCAN_S: Final = 10.0
# After the first device that fits, a second one of the kind would show itself within this time.
_SECOND_LOOK_S: Final = 1.5
_DISCONNECT_S: Final = 12.0
# bleak waits for a response for ever when a device has gone silent.
_STEP_S: Final = 10.0

_CHOOSE: Final = "Name the address of the one to use, or switch the others off."
_WRONG_DEVICE: Final = "Choose the driver of this device, or update its firmware."
_SMALL_MTU: Final = "Use a Bluetooth 4.2 adapter or a later one; the packets of this device do not fit smaller ones."
_LOST_REASON: Final = "the device is out of reach or switched off"


class GattPort:
    """A `Port` over Bluetooth to a device that a driver describes.

    Parameters
    ----------
    info
        What the device advertises, which characteristics it has, what it needs.
    address, name
        Take only this device; without them there must be just one of the kind.
    scan_s
        How long to look for it, seconds.
    """

    def __init__(
        self, info: DriverInfo, *, address: str | None = None, name: str | None = None, scan_s: float = SCAN_S
    ) -> None:
        self._info = info
        self._address = address
        self._name = name
        self._scan_s = scan_s
        self._client: BleakClient | None = None
        self._established = False
        self._on_lost: DisconnectCallback | None = None

    async def open(self, *, on_bytes: OnBytes, on_lost: DisconnectCallback) -> str:
        """Scan, connect, subscribe to what the driver listens to and read what it wants read."""
        await self.close()
        try:
            return await self._open(on_bytes=on_bytes, on_lost=on_lost)
        except BaseException:
            await self.close()
            raise

    async def write(self, data: bytes) -> None:
        """Write to the characteristic that the driver writes to."""
        if self._info.write is None:
            raise LinkError(f"{self._info.name}: found bytes to write, expected none for this device")
        with translated(f"{self._info.name}: writing"):
            async with asyncio.timeout(_STEP_S):
                await self._connected().write_gatt_char(self._info.write, data, response=self._info.write_response)

    async def close(self) -> None:
        """Disconnect and close the client's bus, whatever state the link is in."""
        client, self._client = self._client, None
        self._established = False
        if client is None:
            return
        with suppress(*RADIO_EXCEPTIONS):
            async with asyncio.timeout(_DISCONNECT_S):
                await client.disconnect()

    async def _open(self, *, on_bytes: OnBytes, on_lost: DisconnectCallback) -> str:
        with translated("Bluetooth"):
            device = await self._find()
            self._client = await establish_connection(
                BleakClient, device, device.name or device.address, disconnected_callback=self._lost,
                use_services_cache=False,
            )  # fmt: skip
        self._on_lost, self._established = on_lost, True
        self._check_profile()
        for uuid in self._info.notify:
            await self._listen(uuid, on_bytes)
        for uuid in self._info.read:
            on_bytes(uuid, await self._read(uuid))
        return f"{device.name} ({device.address})" if device.name else device.address

    async def _find(self) -> BLEDevice:
        found = await self._scan()
        if not found and await self._close_stale():
            found = await self._scan()
        if not found:
            raise not_found(self._address or self._name or f"device for driver {self._info.name}", seconds=self._scan_s)
        if len(found) > 1:
            listed = ", ".join(f"{device.name or 'no name'} ({address})" for address, device in sorted(found.items()))
            message = f"scan: found {len(found)} devices for driver {self._info.name}: {listed}; expected one"
            raise LinkError(message, advice=_CHOOSE)
        return next(iter(found.values()))

    async def _scan(self) -> dict[str, BLEDevice]:
        """Devices that fit, by address; the scanner has stopped when this returns."""
        found: dict[str, BLEDevice] = {}
        first = asyncio.Event()

        def seen(device: BLEDevice, advertisement: AdvertisementData) -> None:
            if self._wanted(device, advertisement):
                found[device.address] = device
                first.set()

        async with BleakScanner(detection_callback=seen):
            with suppress(TimeoutError):
                async with asyncio.timeout(self._scan_s):
                    await first.wait()
            if found and self._address is None:
                await asyncio.sleep(_SECOND_LOOK_S)
        return found

    def _wanted(self, device: BLEDevice, advertisement: AdvertisementData) -> bool:
        if self._address is not None:
            return device.address.lower() == self._address.lower()
        names = {name for name in (device.name, advertisement.local_name) if name}
        if self._name is not None and self._name not in names:
            return False
        services = tuple(advertisement.service_uuids)
        return any(self._info.recognises(name=name, services=services) for name in names or {""})

    async def _close_stale(self) -> bool:
        closed = [await close_stale_connections(uuid, address=self._address) for uuid in self._info.service_uuids]
        return any(closed)

    def _check_profile(self) -> None:
        """The characteristics that the driver needs, and room for its packets."""
        for uuid in filter(None, (*self._info.notify, *self._info.read, self._info.write)):
            characteristic = self._connected().services.get_characteristic(uuid)
            if characteristic is None:
                message = f"{self._info.name}: found no characteristic {uuid} on the device, expected one"
                raise LinkError(message, advice=_WRONG_DEVICE)
            mtu = characteristic.max_write_without_response_size + ATT_HEADER_BYTES
            if uuid in self._info.notify and mtu < self._info.min_mtu:
                message = f"{self._info.name}: found packets of {mtu} bytes, expected at least {self._info.min_mtu}"
                raise LinkError(message, advice=_SMALL_MTU)

    async def _listen(self, uuid: str, on_bytes: OnBytes) -> None:
        def handle(_characteristic: BleakGATTCharacteristic, data: bytearray) -> None:
            if data and self._established:
                on_bytes(uuid, bytes(data))

        with translated(f"{self._info.name}: asking for notifications"):
            async with asyncio.timeout(_STEP_S):
                await self._connected().start_notify(uuid, handle, bluez={"use_start_notify": True})

    async def _read(self, uuid: str) -> bytes:
        with translated(f"{self._info.name}: reading"):
            async with asyncio.timeout(_STEP_S):
                return bytes(await self._connected().read_gatt_char(uuid))

    def _connected(self) -> BleakClient:
        if self._client is None:
            raise LinkError(f"{self._info.name}: found no connection, expected one")
        return self._client

    def _lost(self, client: BleakClient) -> None:
        if client is not self._client or not self._established:
            return  # an attempt that was not established
        self._established = False
        if self._on_lost is not None:
            self._on_lost(_LOST_REASON)


__all__ = ["SCAN_S", "GattPort"]
