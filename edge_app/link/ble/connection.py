"""One connection over Bluetooth Low Energy, through bleak: found, reached, used within time limits, always closed.

The rules below are there because a real stack broke without them; whatever speaks over Bluetooth keeps them here:

- one scanner, stopped before connecting; a fresh device object for every connection;
- a connection that a crashed application left behind hides the device from scans, so it is closed and the scan
  repeated;
- notifications by StartNotify, never AcquireNotify (bluetoothd 5.66 crashes, others lose the first notifications);
- the disconnect callback counts only after `open` has come that far, since it also fires for failed attempts;
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
import functools
import logging
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from bleak import BleakClient
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.device import BLEDevice
from bleak.exc import BleakError
from bleak_retry_connector import establish_connection

from edge_app.link.base import DisconnectCallback, NotificationCallback
from edge_app.link.ble import scan as ble_scan
from edge_app.link.ble.errors import RADIO_EXCEPTIONS, is_of_the_link, not_found, translated, unanswered
from edge_app.link.ble.stale import close_stale_connections
from edge_app.link.bounded import within
from firmware_bridge.protocol.profile import ATT_HEADER_BYTES
from lsemvae.ecg.errors import LinkError

if TYPE_CHECKING:
    from edge_app.link.ble.bus import BluezBus

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")

# Several attempts of a few seconds each; a device that is heard but not reached by then needs somebody to look at it.
_CONNECT_S: Final = 45.0
# A device answers within one or two connection intervals, and a link without an answer ends after 4 s; the rest is for
# the bus. A device that wants an encrypted link which it does not get is never answered for.
_STEP_S: Final = 10.0
# bleak gives up after 10 s of its own; the rest is for closing the bus.
_DISCONNECT_S: Final = 12.0
_LOST: Final = "the device is out of reach or switched off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """Which device to connect to.

    Attributes
    ----------
    wanted
        Whether an advertisement is of such a device.
    services
        What such devices offer; connections to these that nobody uses any more are closed.
    filters
        What to have the system scan for; empty: everything.
    what, all_of_them
        The device, and several of its kind, in words.
    second_look_s
        How long another one that fits may take to show itself after the first, seconds.
    probe
        Characteristic that is read once the device is paired: a bond that is worth nothing shows there.
    """

    wanted: ble_scan.Wanted
    services: tuple[str, ...]
    what: str
    all_of_them: str
    filters: tuple[str, ...] = ()
    second_look_s: float | None = None
    probe: str | None = None


class BleConnection:
    """A connection to one device; it may be opened again after `close`.

    Parameters
    ----------
    address
        Take only the device with this address.
    scan_s
        How long to look for it, seconds.
    pair
        Pair with a device that this computer has no keys of, and again with one that has lost its own. Linux; elsewhere
        the system asks the user by itself. None: devices of this kind want no encrypted link.
    """

    def __init__(self, *, address: str | None, scan_s: float, pair: bool | None) -> None:
        self.address = address
        self._scan_s = scan_s
        self._pair = pair
        self._client: BleakClient | None = None
        self._bus: BluezBus | None = None
        self._established = False
        self._answered = False
        self._on_lost: DisconnectCallback | None = None

    async def open(self, sought: Sought, *, on_lost: DisconnectCallback) -> BLEDevice:
        """Scan, connect with retries, pair where that is needed; `on_lost` is told once when the link is gone.

        Raises
        ------
        LinkError
            The device was not found or not reached; nothing is left open.
        """
        await self.close()
        self._on_lost = on_lost
        try:
            with translated("Bluetooth"):
                self._bus = await open_bus(self._lost)
                device = await self._find(sought)
                try:
                    await self._reach(device, sought)
                except RADIO_EXCEPTIONS as exc:
                    if not await self._bond_may_be_lost(device, exc):
                        raise
                    _LOGGER.warning("%s is not held with its keys (%s); pairing again", device.address, exc)
                    device = await self._pair_anew(device, sought)
        except BaseException:
            await self.close()
            raise
        self._established = True
        return device

    async def close(self) -> None:
        """Disconnect and close both bus connections, whatever state the link is in."""
        self._established = False
        await self._close_client()
        bus, self._bus = self._bus, None
        if bus is not None:
            await bus.close()

    def characteristic(self, uuid: str) -> BleakGATTCharacteristic | None:
        """Return a characteristic of the device, None if it has none of this UUID."""
        return self._connected().services.get_characteristic(uuid)

    def mtu_of(self, characteristic: BleakGATTCharacteristic) -> int:
        """Return the largest attribute packet of the present connection, bytes."""
        return characteristic.max_write_without_response_size + ATT_HEADER_BYTES

    async def read(self, uuid: str, what: str) -> bytes:
        """Return the value of a characteristic; `what` says in an error what was being done."""
        return bytes(await self._step(what, lambda client: client.read_gatt_char(uuid)))

    async def write(self, uuid: str, data: bytes, what: str, *, response: bool | None) -> None:
        """Write to a characteristic; `response` None: as it offers."""
        await self._step(what, lambda client: client.write_gatt_char(uuid, data, response=response))

    async def notify(self, uuid: str, callback: NotificationCallback, what: str) -> None:
        """Ask for the notifications of a characteristic; empty ones are none."""

        def handle(_characteristic: BleakGATTCharacteristic, data: bytearray) -> None:
            if data and self._established:
                callback(bytes(data))

        await self._step(what, lambda client: client.start_notify(uuid, handle, bluez={"use_start_notify": True}))

    # -- connecting --------------------------------------------------------------------------------------------------

    async def _find(self, sought: Sought) -> BLEDevice:
        second_look_s = ble_scan.SECOND_LOOK_S if sought.second_look_s is None else sought.second_look_s
        look = functools.partial(
            ble_scan.find, sought.wanted, services=sought.filters, seconds=self._scan_s,
            second_look_s=0.0 if self.address is not None else second_look_s,
        )  # fmt: skip
        found = await look()
        if not found:
            closed = [await close_stale_connections(uuid, address=self.address) for uuid in sought.services]
            found = await look() if any(closed) else found
        if not found:
            raise not_found(sought.what, seconds=self._scan_s)
        return ble_scan.only_one(found, what=sought.all_of_them)

    async def _reach(self, device: BLEDevice, sought: Sought) -> None:
        def lost(client: BleakClient) -> None:
            if client is self._client:
                self._lost(_LOST)

        async with self._agent(device):
            attempts = establish_connection(
                BleakClient, device, device.name or device.address, disconnected_callback=lost, use_services_cache=False
            )
            self._client = await within(_CONNECT_S, attempts)
            if self._bus is not None and self._pair:
                from edge_app.link.ble.pairing import pair

                await pair(self._bus, _path(device))
                if sought.probe is None or self.characteristic(sought.probe) is None:
                    return  # no such device: said by whoever needs the characteristic
                try:
                    async with asyncio.timeout(_STEP_S):
                        await self._client.read_gatt_char(sought.probe)
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
        """Return whether a device that was just heard, and whose keys are here, cannot be held on to."""
        if self._bus is None or not self._pair or not is_of_the_link(exc):
            return False
        from edge_app.link.ble.pairing import is_bonded

        return await is_bonded(self._bus, _path(device))

    async def _pair_anew(self, device: BLEDevice, sought: Sought) -> BLEDevice:
        from edge_app.link.ble.pairing import forget

        assert self._bus is not None  # asked for in _bond_may_be_lost
        await self._close_client()
        await forget(self._bus, _path(device))
        device = await self._find(sought)
        await self._reach(device, sought)
        return device

    async def _close_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(*RADIO_EXCEPTIONS):
                await within(_DISCONNECT_S, client.disconnect())

    # -- a connection ------------------------------------------------------------------------------------------------

    async def _step(self, what: str, step: Callable[[BleakClient], Coroutine[Any, Any, _T]]) -> _T:
        """Do one exchange with the device, bound its time and translate its failure."""
        with translated(what):
            try:
                async with asyncio.timeout(_STEP_S):  # a cancelled step ends at once: it only waits for a reply
                    done = await step(self._connected())
            except TimeoutError as exc:
                # A device that answered once is not waiting for encryption.
                pairs = self._pair is not False or self._answered
                raise unanswered(what, seconds=_STEP_S, pairs=pairs) from exc
        self._answered = True
        return done

    def _connected(self) -> BleakClient:
        if self._client is None:
            raise LinkError("Bluetooth: found no connection, expected one")
        return self._client

    def _lost(self, reason: str) -> None:
        if not self._established:
            _LOGGER.debug("disconnect of an attempt that was not established: ignored")
            return
        self._established = False
        if self._on_lost is not None:
            self._on_lost(reason)


async def open_bus(on_gone: Callable[[str], None]) -> BluezBus | None:
    """Return our own connection to BlueZ; None where the system's Bluetooth is another."""
    if sys.platform != "linux":
        return None
    from edge_app.link.ble.bus import BluezBus

    return await BluezBus.open(on_gone)


def _path(device: BLEDevice) -> str:
    """Return the object path of a device in BlueZ."""
    return str(device.details["path"])
