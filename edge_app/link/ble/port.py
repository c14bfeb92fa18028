"""Any Bluetooth device that a driver knows: find it, subscribe, write. Loads bleak.

The rules of the radio are in `edge_app.link.ble.connection`.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData

from edge_app.link.base import DisconnectCallback, OnBytes
from edge_app.link.ble.connection import BleConnection, Sought
from edge_app.link.ble.scan import SCAN_S
from firmware_bridge.drivers.base import DriverInfo
from lsemvae.ecg.errors import LinkError

# After the first device that fits, a second one of the kind would show itself within this time: slower advertisers than
# six-lead devices are.
_SECOND_LOOK_S: Final = 1.5

_WRONG_DEVICE: Final = "Choose the driver of this device, or update its firmware."
_SMALL_MTU: Final = "Use a Bluetooth 4.2 adapter or a later one; the packets of this device do not fit smaller ones."


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
        self._name = name
        self._connection = BleConnection(address=address, scan_s=scan_s, pair=None)

    async def open(self, *, on_bytes: OnBytes, on_lost: DisconnectCallback) -> str:
        """Scan, connect, subscribe to what the driver listens to and read what it wants read."""
        info, connection, address = self._info, self._connection, self._connection.address

        def wanted(device: BLEDevice, advertisement: AdvertisementData) -> bool:
            if address is not None:
                return device.address.lower() == address.lower()
            names = {name for name in (device.name, advertisement.local_name) if name}
            if self._name is not None and self._name not in names:
                return False
            services = tuple(advertisement.service_uuids)
            return any(info.recognises(name=name, services=services) for name in names or {""})

        sought = Sought(
            wanted=wanted, services=info.service_uuids, second_look_s=_SECOND_LOOK_S,
            what=address or self._name or f"device for driver {info.name}",
            all_of_them=f"these devices for driver {info.name}",
        )  # fmt: skip
        device = await connection.open(sought, on_lost=on_lost)
        try:
            self._check_profile()
            for uuid in info.notify:
                await connection.notify(uuid, partial(on_bytes, uuid), f"{info.name}: asking for notifications")
            for uuid in info.read:
                on_bytes(uuid, await connection.read(uuid, f"{info.name}: reading"))
        except BaseException:
            await connection.close()
            raise
        return f"{device.name} ({device.address})" if device.name else device.address

    async def write(self, data: bytes) -> None:
        """Write to the characteristic that the driver writes to."""
        info = self._info
        if info.write is None:
            raise LinkError(f"{info.name}: found bytes to write, expected none for this device")
        await self._connection.write(info.write, data, f"{info.name}: writing", response=info.write_response)

    async def close(self) -> None:
        """Disconnect, whatever state the link is in."""
        await self._connection.close()

    def _check_profile(self) -> None:
        """Check that the device has the characteristics that the driver needs, and room for its packets."""
        info = self._info
        for uuid in filter(None, (*info.notify, *info.read, info.write)):
            characteristic = self._connection.characteristic(uuid)
            if characteristic is None:
                message = f"{info.name}: found no characteristic {uuid} on the device, expected one"
                raise LinkError(message, advice=_WRONG_DEVICE)
            mtu = self._connection.mtu_of(characteristic)
            if uuid in info.notify and mtu < info.min_mtu:
                message = f"{info.name}: found packets of {mtu} bytes, expected at least {info.min_mtu}"
                raise LinkError(message, advice=_SMALL_MTU)
