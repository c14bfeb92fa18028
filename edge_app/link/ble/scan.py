"""What is on the air: one scanner at a time, stopped before anything else is done with the adapter. Loads bleak."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from bleak import BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData

from edge_app.link.ble.errors import translated
from edge_app.link.bounded import within
from edge_app.link.radio_errors import DeviceAmbiguousError
from firmware_bridge.drivers import recognise
from lsemvae.ecg.errors import LengthError

# Devices advertise every 100 ms to 1 s; ten seconds also cover a busy 2.4 GHz band.
SCAN_S: Final = 10.0
# After the first device that fits, how long a second one may take to show itself: a six-lead device that waits for a
# host advertises ten times a second.
SECOND_LOOK_S: Final = 0.6
# Starting and stopping a scan are calls over the bus; bluetoothd may answer a stop after the kernel's own 10 s round.
_MARGIN_S: Final = 12.0

Wanted = Callable[[BLEDevice, AdvertisementData], bool]


@dataclass(frozen=True, slots=True)
class Seen:
    """A device that was heard.

    Attributes
    ----------
    name
        As advertised; empty if it has none.
    rssi
        Strength of the last advertisement, dBm: -40 is near, -90 is hardly there.
    services
        UUIDs in the advertisement.
    driver
        Name in `firmware_bridge.drivers.catalogue`, None for a device that no driver knows.
    """

    name: str
    address: str
    rssi: int
    services: tuple[str, ...]
    driver: str | None


async def scan(seconds: float = SCAN_S) -> tuple[Seen, ...]:
    """Listen for `seconds` and return every device heard, those that a driver knows first, the nearest first.

    Raises
    ------
    RadioError
        The adapter is off or absent, the service does not run, or this user may not use it.
    """
    if not 0 < seconds <= 3600:
        raise LengthError(f"scan: found {seconds} s, expected more than 0 s and up to an hour")
    with translated("scan"):
        if sys.platform == "linux":
            # bleak does not notice when the service ends, and then says that there is no adapter.
            from edge_app.link.ble.bus import BluezBus

            await BluezBus.check()
        heard = await within(seconds + _MARGIN_S, BleakScanner.discover(timeout=seconds, return_adv=True))
    seen = []
    for device, advertisement in heard.values():
        name = advertisement.local_name or device.name or ""
        services = tuple(sorted(advertisement.service_uuids))
        driver = recognise(name=name, services=services)
        seen.append(Seen(name, device.address, rssi=advertisement.rssi, services=services, driver=driver))
    return tuple(sorted(seen, key=lambda one: (one.driver is None, -one.rssi, one.address)))


async def find(
    wanted: Wanted, *, services: Iterable[str] = (), seconds: float, second_look_s: float = SECOND_LOOK_S
) -> tuple[BLEDevice, ...]:
    """Return the devices that are `wanted`, looking on for `second_look_s` after the first; the scan has ended then."""
    found: dict[str, BLEDevice] = {}
    first = asyncio.Event()

    def heard(device: BLEDevice, advertisement: AdvertisementData) -> None:
        if wanted(device, advertisement):
            found[device.address] = device
            first.set()

    async def look() -> None:
        async with BleakScanner(detection_callback=heard, service_uuids=list(services)):
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await first.wait()
            if found and second_look_s > 0:
                await asyncio.sleep(second_look_s)

    await within(seconds + second_look_s + _MARGIN_S, look())
    return tuple(found[address] for address in sorted(found))


def only_one(found: tuple[BLEDevice, ...], *, what: str) -> BLEDevice:
    """Return the one device in `found`; more are an error that lists them."""
    if len(found) > 1:
        listed = ", ".join(f"{device.name or 'no name'} ({device.address})" for device in found)
        raise DeviceAmbiguousError(f"scan: found {len(found)} of {what}: {listed}; expected one")
    return found[0]
