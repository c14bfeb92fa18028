"""The daemon: owns the name ``org.bluez`` on a bus and turns advertisements into devices."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any, Final

from bumble.controller import Controller
from bumble.core import AdvertisingData
from bumble.device import Advertisement, Device
from bumble.hci import Address
from bumble.link import LocalLink
from bumble.transport.common import AsyncPipeSink
from dbus_fast import Message
from dbus_fast.aio import MessageBus

from firmware_bridge.sim.bluezd.adapter import Adapter
from firmware_bridge.sim.bluezd.device import BlueZDevice, path_of
from firmware_bridge.sim.bluezd.gatt import release
from firmware_bridge.sim.bluezd.names import ADAPTER_PATH, full_uuid
from firmware_bridge.sim.bluezd.registrations import Registrations, remember_sender

# What a Raspberry Pi's BlueZ negotiates with a peer that allows it.
DEFAULT_MTU: Final = 517
_CENTRAL_ADDRESS: Final = "F0:F1:F2:F3:F4:F5"
_WATCH_SENDERS: Final = "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged'"
_NAME_FIELDS: Final = (AdvertisingData.Type.COMPLETE_LOCAL_NAME, AdvertisingData.Type.SHORTENED_LOCAL_NAME)
_UUID_FIELD: Final = AdvertisingData.Type.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS


class Bluezd:
    """A user-space bluetoothd.

    Attributes
    ----------
    counts
        Calls by name, and notifications received from the device ("notified") and sent to clients ("delivered").
    connects_to_fail
        So many calls of Connect end with le-connection-abort-by-local.
    """

    def __init__(self, *, link: LocalLink, mtu: int = DEFAULT_MTU) -> None:
        controller = Controller("central", link=link)
        self.central = Device.with_hci("central", Address(_CENTRAL_ADDRESS), controller, AsyncPipeSink(controller))
        self.mtu = mtu
        self.adapter = Adapter(self)
        self.registrations = Registrations()
        self.counts: Counter[str] = Counter()
        self.connects_to_fail = 0
        self._devices: dict[str, BlueZDevice] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._bus: MessageBus | None = None

    @property
    def bus(self) -> MessageBus:
        """The bus connection, after `start`."""
        if self._bus is None:
            raise RuntimeError("the daemon was not started")
        return self._bus

    async def start(self, bus_address: str, *, with_adapter: bool = True) -> None:
        """Serve ``org.bluez`` on the bus at `bus_address`."""
        self._bus = await MessageBus(bus_address=bus_address, negotiate_unix_fd=True).connect()
        self._bus.add_message_handler(remember_sender)
        self._bus.add_message_handler(self._watch_senders)
        await self._bus.call(_match_request())
        await self.central.power_on()
        self.central.on(Device.EVENT_ADVERTISEMENT, self._advertised)
        if with_adapter:
            self._bus.export(ADAPTER_PATH, self.adapter)
        await self._bus.request_name("org.bluez")

    def forget(self, path: str) -> None:
        """Remove a device object."""
        device = self._devices.pop(path, None)
        if device is not None:
            self.bus.unexport(path, device)

    def disconnect_all(self) -> None:
        """End every connection, as an adapter without power does."""
        for device in self._devices.values():
            self._spawn(device.drop())

    def _advertised(self, advertisement: Advertisement) -> None:
        name = next((str(value) for kind in _NAME_FIELDS if (value := advertisement.data.get(kind))), "")
        uuids = [full_uuid(uuid) for uuid in advertisement.data.get(_UUID_FIELD) or ()]
        known = self._devices.get(path_of(advertisement))
        if known is not None:
            known.seen(name=name, uuids=uuids)
            return
        device = BlueZDevice(self, advertisement)
        device.local_name, device.uuids = name, uuids
        self._devices[device.path] = device
        self.bus.export(device.path, device)

    def _watch_senders(self, message: Message) -> None:
        """A client that left the bus wants nothing any more."""
        if message.member != "NameOwnerChanged" or message.body[2]:
            return
        idle = set(self.registrations.remove_sender(message.body[0]))
        characteristics = [
            characteristic
            for device in self._devices.values()
            for path, characteristic in device.characteristics.items()
            if path in idle
        ]
        self._spawn(release(characteristics))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _match_request() -> Message:
    return Message(
        destination="org.freedesktop.DBus", path="/org/freedesktop/DBus", interface="org.freedesktop.DBus",
        member="AddMatch", signature="s", body=[_WATCH_SENDERS],
    )  # fmt: skip
