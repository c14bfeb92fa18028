"""A six-lead device over Bluetooth Low Energy, through bleak.

The rules below are there because a real stack broke without them:

- one scanner, stopped before connecting; a fresh device object for every connection;
- a connection that a crashed application left behind hides the device from scans, so it is closed and the scan
  repeated;
- notifications by StartNotify, never AcquireNotify (bluetoothd 5.66 crashes, others lose the first notifications);
- the disconnect callback counts only after `connect` has returned, since it also fires for failed attempts;
- `disconnect` is awaited always, even when the link is lost: bleak closes its D-Bus connection only there, and BlueZ
  delivers every later notification once more for each one that was left open;
- the MTU comes from the characteristic, as ``client.mtu_size`` is a guess on BlueZ;
- pairing needs an agent, and without it a read of an encrypted characteristic is never answered: every wait has an end;
- such a read outlives its connection in bluetoothd 5.82, and later reads of that characteristic wait behind it: a device
  that does not answer its first read is forgotten and paired anew, once;
- a killed bluetoothd says nothing: the owner of its name on the bus is watched.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from bleak import BleakClient
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak.exc import BleakError
from bleak_retry_connector import establish_connection

from edge_app.link.base import DisconnectCallback, LinkInfo, NotificationCallback
from edge_app.link.ble import scan as ble_scan
from edge_app.link.ble.errors import RADIO_EXCEPTIONS, is_of_the_link, not_found, translated, unanswered
from edge_app.link.ble.stale import close_stale_connections
from edge_app.link.bounded import within
from firmware_bridge.protocol.profile import (
    ATT_HEADER_BYTES,
    BULK_UUID,
    CONTROL_UUID,
    DESCRIPTOR_UUID,
    LIVE_UUID,
    SERVICE_UUID,
    STATUS_UUID,
)
from lsemvae.ecg.errors import LinkError

if TYPE_CHECKING:
    from edge_app.link.ble.bus import BluezBus

_LOGGER = logging.getLogger(__name__)

SCAN_S: Final = ble_scan.SCAN_S
# Several attempts of a few seconds each; a device that is heard but not reached by then needs somebody to look at it.
_CONNECT_S: Final = 45.0
# A device answers within one or two connection intervals, and a link without an answer ends after 4 s; the rest is for
# the bus. A device that wants an encrypted link which it does not get is never answered for.
_STEP_S: Final = 10.0
# bleak gives up after 10 s of its own; the rest is for closing the bus.
_DISCONNECT_S: Final = 12.0
_LOST: Final = "the device is out of reach or switched off"


class BleTransport:
    """A `Transport` to the device that advertises the six-lead service.

    Parameters
    ----------
    address, name
        Take only this device; without the address there must be just one that fits, and from then on it is that one.
    scan_s
        How long to look for it, seconds.
    pair
        Pair with a device that this computer has no keys of, and again with one that has lost its own. Without it a
        device that wants an encrypted link is an error. Linux; elsewhere the system asks the user by itself.
    """

    def __init__(
        self, *, address: str | None = None, name: str | None = None, scan_s: float = SCAN_S, pair: bool = True
    ) -> None:
        self._address = address
        self._name = name
        self._scan_s = scan_s
        self._pair = pair
        self._client: BleakClient | None = None
        self._bus: BluezBus | None = None
        self._established = False
        self._answered = False
        self._on_disconnect: DisconnectCallback | None = None

    @property
    def mtu(self) -> int:
        """Largest attribute packet of the present connection, bytes."""
        return self._characteristic(LIVE_UUID).max_write_without_response_size + ATT_HEADER_BYTES

    async def connect(self) -> LinkInfo:
        """Scan, connect with retries, pair where that is needed, check that the device has the service."""
        await self.disconnect()
        try:
            with translated("Bluetooth"):
                device = await self._connect()
            mtu = self.mtu
        except BaseException:
            await self.disconnect()
            raise
        self._established = True
        self._address = device.address
        return LinkInfo(name=device.name or device.address, address=device.address, mtu=mtu, kind="ble")

    async def disconnect(self) -> None:
        """Disconnect and close both bus connections, whatever state the link is in."""
        self._established = False
        await self._close_client()
        bus, self._bus = self._bus, None
        if bus is not None:
            await bus.close()

    async def read_descriptor(self) -> bytes:
        """Value of the descriptor characteristic."""
        return await self._read(DESCRIPTOR_UUID, "reading the descriptor")

    async def read_status(self) -> bytes:
        """Value of the status characteristic."""
        return await self._read(STATUS_UUID, "reading the status")

    async def write_control(self, request: bytes) -> None:
        """Write to the control characteristic, with response."""
        async with self._step("writing a request"):
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

    # -- connecting --------------------------------------------------------------------------------------------------

    async def _connect(self) -> BLEDevice:
        self._bus = await _open_bus(self._link_lost)
        device = await self._find()
        try:
            return await self._reach(device)
        except RADIO_EXCEPTIONS as exc:
            if not await self._bond_may_be_lost(device, exc):
                raise
            _LOGGER.warning("%s does not take the link up with its keys (%s); pairing again", device.address, exc)
        await self._close_client()
        await self._forget(device)
        return await self._reach(await self._find())

    async def _reach(self, device: BLEDevice) -> BLEDevice:
        async with self._agent(device):
            attempts = establish_connection(
                BleakClient, device, device.name or device.address, disconnected_callback=self._client_lost,
                use_services_cache=False,
            )  # fmt: skip
            self._client = await within(_CONNECT_S, attempts)
            if self._bus is not None and self._pair:
                from edge_app.link.ble.pairing import pair

                await pair(self._bus, _path(device))
                await self._first_read()
        return device

    async def _first_read(self) -> None:
        """See that the device answers now that it is paired; a bond that is worth nothing shows here."""
        client = self._connected()
        if client.services.get_characteristic(DESCRIPTOR_UUID) is None:
            return  # no six-lead device: said by whoever needs the characteristic
        try:
            async with asyncio.timeout(_STEP_S):
                await client.read_gatt_char(DESCRIPTOR_UUID)
        except TimeoutError as exc:
            raise BleakError(f"found no answer of the device in {_STEP_S:g} s, expected one") from exc
        self._answered = True

    @asynccontextmanager
    async def _agent(self, device: BLEDevice) -> AsyncIterator[None]:
        if self._bus is None or not self._pair:
            yield
            return
        from edge_app.link.ble.pairing import agent_for

        async with agent_for(self._bus, _path(device)):
            yield

    async def _bond_may_be_lost(self, device: BLEDevice, exc: BaseException) -> bool:
        """Whether a device that was just heard, and whose keys are here, cannot be held on to."""
        if self._bus is None or not self._pair or not is_of_the_link(exc):
            return False
        from edge_app.link.ble.pairing import is_bonded

        return await is_bonded(self._bus, _path(device))

    async def _forget(self, device: BLEDevice) -> None:
        assert self._bus is not None  # asked for in _bond_may_be_lost
        from edge_app.link.ble.pairing import forget

        await forget(self._bus, _path(device))

    async def _find(self) -> BLEDevice:
        found = await self._scan()
        if not found and await close_stale_connections(SERVICE_UUID, address=self._address):
            found = await self._scan()
        if not found:
            raise not_found(self._address or self._name or "six-lead device", seconds=self._scan_s)
        return ble_scan.only_one(found, what=f"the name {self._name}" if self._name else "these six-lead devices")

    async def _scan(self) -> tuple[BLEDevice, ...]:
        look_on_s = 0.0 if self._address is not None else ble_scan.SECOND_LOOK_S
        return await ble_scan.find(
            self._wanted, services=(SERVICE_UUID,), seconds=self._scan_s, second_look_s=look_on_s
        )

    def _wanted(self, device: BLEDevice, advertisement: AdvertisementData) -> bool:
        if SERVICE_UUID not in advertisement.service_uuids:
            return False
        if self._address is not None:
            return device.address.lower() == self._address.lower()
        return self._name is None or self._name in (device.name, advertisement.local_name)

    async def _close_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(*RADIO_EXCEPTIONS):
                await within(_DISCONNECT_S, client.disconnect())

    # -- a connection ------------------------------------------------------------------------------------------------

    async def _notify(self, uuid: str, callback: NotificationCallback) -> None:
        def handle(_characteristic: BleakGATTCharacteristic, data: bytearray) -> None:
            if data:
                callback(bytes(data))

        async with self._step("asking for notifications"):
            await self._connected().start_notify(uuid, handle, bluez={"use_start_notify": True})

    async def _read(self, uuid: str, what: str) -> bytes:
        async with self._step(what):
            return bytes(await self._connected().read_gatt_char(uuid))

    @asynccontextmanager
    async def _step(self, what: str) -> AsyncIterator[None]:
        """Bound one exchange with the device and translate its failure."""
        with translated(what):
            try:
                async with asyncio.timeout(_STEP_S):
                    yield
            except TimeoutError as exc:
                # A device that answered once is not waiting for encryption.
                raise unanswered(what, seconds=_STEP_S, pairs=self._pair or self._answered) from exc
        self._answered = True

    def _characteristic(self, uuid: str) -> BleakGATTCharacteristic:
        found = self._connected().services.get_characteristic(uuid)
        if found is None:
            raise LinkError(f"device: found no characteristic {uuid}, expected one", advice="Use a six-lead device.")
        return found

    def _connected(self) -> BleakClient:
        if self._client is None:
            raise LinkError("Bluetooth: found no connection, expected one")
        return self._client

    def _client_lost(self, client: BleakClient) -> None:
        if client is self._client:
            self._link_lost(_LOST)

    def _link_lost(self, reason: str) -> None:
        if not self._established:
            _LOGGER.debug("disconnect of an attempt that was not established: ignored")
            return
        self._established = False
        if self._on_disconnect is not None:
            self._on_disconnect(reason)


async def _open_bus(on_gone: Any) -> BluezBus | None:
    """Our connection to BlueZ; None where the system's Bluetooth is another."""
    if sys.platform != "linux":
        return None
    from edge_app.link.ble.bus import BluezBus

    return await BluezBus.open(on_gone)


def _path(device: BLEDevice) -> str:
    """Object path of a device in BlueZ."""
    return str(device.details["path"])
