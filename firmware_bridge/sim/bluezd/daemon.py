"""The daemon: owns the name ``org.bluez`` on a bus and turns advertisements into devices."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final

from bumble.controller import Controller
from bumble.core import AdvertisingData
from bumble.device import Advertisement, Device
from bumble.hci import Address
from bumble.keys import MemoryKeyStore
from bumble.link import LocalLink
from bumble.pairing import PairingConfig
from bumble.transport.common import AsyncPipeSink
from dbus_fast import Message
from dbus_fast.aio import MessageBus

from firmware_bridge.sim.bluezd.adapter import Adapter
from firmware_bridge.sim.bluezd.agents import AgentManager, Agents
from firmware_bridge.sim.bluezd.device import BlueZDevice, path_of
from firmware_bridge.sim.bluezd.gatt import release
from firmware_bridge.sim.bluezd.names import ADAPTER_PATH, MANAGER_PATH, full_uuid
from firmware_bridge.sim.bluezd.registrations import Registrations, remember_sender

# What a Raspberry Pi's BlueZ negotiates with a peer that allows it.
DEFAULT_MTU: Final = 517
# bluetoothd's TemporaryTimeout.
TEMPORARY_S: Final = 30.0
_NAME: Final = "org.bluez"
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
    agents
        Who agrees to pairing.
    temporary_s
        How long a device that is neither connected nor paired is remembered after a scan.
    """

    def __init__(self, *, link: LocalLink, mtu: int = DEFAULT_MTU) -> None:
        controller = Controller("central", link=link)
        self.central = Device.with_hci("central", Address(_CENTRAL_ADDRESS), controller, AsyncPipeSink(controller))
        self.keys = self.central.keystore = MemoryKeyStore()
        # LE Secure Connections and a bond; neither side has a display, so nobody can be asked to compare numbers.
        self.central.pairing_config_factory = lambda _connection: PairingConfig(sc=True, mitm=False, bonding=True)
        self.mtu = mtu
        self.agents = Agents()
        self.adapter = Adapter(self)
        self.registrations = Registrations()
        self.counts: Counter[str] = Counter()
        self.connects_to_fail = 0
        self.temporary_s = TEMPORARY_S
        self._pruning: asyncio.TimerHandle | None = None
        self._devices: dict[str, BlueZDevice] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._bus: MessageBus | None = None
        self._bus_address = ""
        self._with_adapter = True

    @property
    def powered(self) -> bool:
        """Whether the adapter is on."""
        return self.adapter.powered

    @property
    def discovering(self) -> bool:
        """Whether a client scans."""
        return self.adapter.discovering

    @property
    def bus(self) -> MessageBus:
        """The bus connection, after `start`."""
        if self._bus is None:
            raise RuntimeError("the daemon was not started")
        return self._bus

    async def start(self, bus_address: str, *, with_adapter: bool = True) -> None:
        """Serve ``org.bluez`` on the bus at `bus_address`."""
        self._bus_address = bus_address
        self._with_adapter = with_adapter
        await self.central.power_on()
        self.central.on(Device.EVENT_ADVERTISEMENT, self._advertised)
        await self._serve()

    async def crash(self) -> None:
        """Go without a word, as a killed bluetoothd does: its bus connection ends, and the links; no object is taken back."""
        self.bus.disconnect()
        with suppress(Exception):  # a bus that died first says so here
            await self.bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
        devices = dict(self._devices)
        self._take_back(devices)
        await self._clear()

    async def stop(self) -> None:
        """End as ``systemctl stop`` has it: links end, objects are taken back, then the name."""
        devices = dict(self._devices)
        await self._clear()
        self._take_back(devices)
        await self.bus.release_name(_NAME)
        self.bus.disconnect()
        await self.bus.wait_for_disconnect()  # type: ignore[no-untyped-call]

    async def restart(self) -> None:
        """Come back after `crash` or `stop`, at the same bus address; bonds are kept, as on a disk."""
        await self._serve()

    async def _serve(self) -> None:
        self._bus = await MessageBus(bus_address=self._bus_address, negotiate_unix_fd=True).connect()
        self._bus.add_message_handler(remember_sender)
        self._bus.add_message_handler(self._watch_senders)
        await self._bus.call(
            Message(
                destination="org.freedesktop.DBus",
                path="/org/freedesktop/DBus",
                interface="org.freedesktop.DBus",
                member="AddMatch",
                signature="s",
                body=[_WATCH_SENDERS],
            )
        )
        self._bus.export(MANAGER_PATH, AgentManager(self.agents))
        if self._with_adapter:
            self._bus.export(ADAPTER_PATH, self.adapter)
        await self._bus.request_name(_NAME)

    async def _clear(self) -> None:
        """End links and scans; forget devices and the wishes of clients, which a daemon holds in its memory only."""
        await asyncio.gather(*(device.drop() for device in self._devices.values()))
        await self.adapter.end_discovery()
        self._devices.clear()
        self.agents.clear()
        self.registrations.clear()
        self.scan_began()

    def _take_back(self, devices: dict[str, BlueZDevice]) -> None:
        """Take all objects from the bus; on one that was left already nobody hears of it."""
        for path, device in devices.items():
            device.take_back()
            self.bus.unexport(path, device)
        self.bus.unexport(ADAPTER_PATH)
        self.bus.unexport(MANAGER_PATH)

    async def forget(self, path: str) -> bool:
        """Remove a device object, its link and its keys; return whether there was one."""
        device = self._devices.pop(path, None)
        if device is None:
            return False
        await device.drop()
        await self.keys.delete(device.address)
        self.bus.unexport(path, device)
        return True

    async def bonds(self) -> dict[str, bool]:
        """Return the address of each bonded device, and whether its key is one of LE Secure Connections (one for both sides)."""
        return {name: keys.ltk is not None for name, keys in await self.keys.get_all()}

    def power_lost(self) -> None:
        """End every connection and every scan, as an adapter without power does."""
        self._spawn(self.adapter.end_discovery())
        for device in self._devices.values():
            self._spawn(device.drop())

    def scan_ended(self) -> None:
        """Forget soon who is neither connected nor paired, unless a scan sees it again."""
        self._pruning = asyncio.get_running_loop().call_later(self.temporary_s, self._prune)

    def scan_began(self) -> None:
        """Keep whoever was seen before while a scan runs."""
        if self._pruning is not None:
            self._pruning.cancel()

    def _prune(self) -> None:
        for path, device in tuple(self._devices.items()):
            if device.is_temporary:
                self.bus.unexport(path, device)
                del self._devices[path]

    def _advertised(self, advertisement: Advertisement) -> None:
        name = next((str(value) for kind in _NAME_FIELDS if (value := advertisement.data.get(kind))), "")
        uuids = [full_uuid(uuid) for uuid in advertisement.data.get(_UUID_FIELD) or ()]
        if not self.discovering:
            return  # what was on its way when the scan was stopped
        known = self._devices.get(path_of(advertisement))
        if known is not None:
            known.seen(name=name, uuids=uuids)
            return
        device = BlueZDevice(self, advertisement, bonded=str(advertisement.address) in self.keys.all_keys)
        device.local_name, device.uuids = name, uuids
        self._devices[device.path] = device
        self.bus.export(device.path, device)

    def _watch_senders(self, message: Message) -> None:
        """Forget a client that left the bus."""
        if message.member != "NameOwnerChanged" or message.body[2]:
            return
        self._spawn(self.adapter.leave_discovery(message.body[0]))
        self.agents.remove_sender(message.body[0])
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
