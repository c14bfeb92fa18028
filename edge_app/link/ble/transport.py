"""A six-lead device over Bluetooth Low Energy; loads bleak. The rules of the radio are in `edge_app.link.ble.connection`."""

from __future__ import annotations

from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData

from edge_app.link.base import DisconnectCallback, LinkInfo, NotificationCallback
from edge_app.link.ble.connection import BleConnection, Sought
from edge_app.link.ble.scan import SCAN_S
from firmware_bridge.protocol.profile import (
    BULK_UUID,
    CONTROL_UUID,
    DESCRIPTOR_UUID,
    LIVE_UUID,
    SERVICE_UUID,
    STATUS_UUID,
)
from lsemvae.ecg.errors import LinkError


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
        self._name = name
        self._connection = BleConnection(address=address, scan_s=scan_s, pair=pair)
        self._on_disconnect: DisconnectCallback | None = None

    @property
    def mtu(self) -> int:
        """Largest attribute packet of the present connection, bytes."""
        live = self._connection.characteristic(LIVE_UUID)
        if live is None:
            raise LinkError(
                f"device: found no characteristic {LIVE_UUID}, expected one", advice="Use a six-lead device."
            )
        return self._connection.mtu_of(live)

    async def connect(self) -> LinkInfo:
        """Scan, connect with retries, pair where that is needed, check that the device has the service."""
        connection = self._connection

        def wanted(device: BLEDevice, advertisement: AdvertisementData) -> bool:
            if SERVICE_UUID not in advertisement.service_uuids:
                return False
            if connection.address is not None:
                return device.address.lower() == connection.address.lower()
            return self._name is None or self._name in (device.name, advertisement.local_name)

        def lost(reason: str) -> None:
            if self._on_disconnect is not None:
                self._on_disconnect(reason)

        sought = Sought(
            wanted=wanted, services=(SERVICE_UUID,), filters=(SERVICE_UUID,), probe=DESCRIPTOR_UUID,
            what=connection.address or self._name or "six-lead device",
            all_of_them=f"the name {self._name}" if self._name else "these six-lead devices",
        )  # fmt: skip
        device = await connection.open(sought, on_lost=lost)
        try:
            mtu = self.mtu
        except BaseException:
            await connection.close()
            raise
        connection.address = device.address
        return LinkInfo(name=device.name or device.address, address=device.address, mtu=mtu, kind="ble")

    async def disconnect(self) -> None:
        """Disconnect, whatever state the link is in."""
        await self._connection.close()

    async def read_descriptor(self) -> bytes:
        """Return the value of the descriptor characteristic."""
        return await self._connection.read(DESCRIPTOR_UUID, "reading the descriptor")

    async def read_status(self) -> bytes:
        """Return the value of the status characteristic."""
        return await self._connection.read(STATUS_UUID, "reading the status")

    async def write_control(self, request: bytes) -> None:
        """Write to the control characteristic, with response."""
        await self._connection.write(CONTROL_UUID, request, "writing a request", response=True)

    async def subscribe(
        self,
        *,
        on_live: NotificationCallback,
        on_control: NotificationCallback,
        on_status: NotificationCallback | None = None,
        on_bulk: NotificationCallback | None = None,
    ) -> None:
        """Ask for notifications, control first: a reply must never come before somebody listens."""
        wanted = ((CONTROL_UUID, on_control), (LIVE_UUID, on_live), (STATUS_UUID, on_status), (BULK_UUID, on_bulk))
        for uuid, callback in wanted:
            if callback is not None:
                await self._connection.notify(uuid, callback, "asking for notifications")

    def on_disconnect(self, callback: DisconnectCallback | None) -> None:
        """Have `callback` told when an established link is lost."""
        self._on_disconnect = callback
