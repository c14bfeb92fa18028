"""``org.bluez.Device1``."""

from __future__ import annotations

import asyncio
import logging
from typing import Final, NoReturn

from bumble.core import BaseBumbleError
from bumble.device import Advertisement, Connection, Peer
from bumble.hci import OwnAddressType
from dbus_fast import DBusError, PropertyAccess
from dbus_fast.annotations import DBusBool, DBusInt16, DBusObjectPath, DBusStr
from dbus_fast.service import ServiceInterface, dbus_method, dbus_property

from firmware_bridge.sim.bluezd.contract import Host
from firmware_bridge.sim.bluezd.gatt import GattCharacteristic, GattService
from firmware_bridge.sim.bluezd.names import (
    ADAPTER_PATH,
    ERROR_ALREADY_EXISTS,
    ERROR_AUTHENTICATION_FAILED,
    ERROR_FAILED,
    ERROR_NOT_CONNECTED,
    ERROR_NOT_READY,
    Nothing,
    StrList,
    device_path,
)
from firmware_bridge.sim.bluezd.registrations import CURRENT_SENDER

_LOGGER = logging.getLogger(__name__)
_READ: Final = PropertyAccess.READ
_RSSI_DBM: Final = -40
_READ_WRITE: Final = PropertyAccess.READWRITE
_CONNECT_TIMEOUT_S: Final = 5.0
# bluetoothd shows a device as connected for a moment before it reports an aborted connection.
_ABORT_TOGGLE_S: Final = 0.05
_ENCRYPTION_TIMEOUT_S: Final = 5.0
# The security manager gives up after 30 s (Core Specification, volume 3, part H, 3.4).
_PAIRING_TIMEOUT_S: Final = 30.0
# Of taking up or making a bond. Bumble cancels its own wait when the link ends meanwhile.
_SECURITY_FAILURES: Final = (TimeoutError, BaseBumbleError, asyncio.CancelledError)


def path_of(advertisement: Advertisement) -> str:
    """Return the object path of the device that sent an advertisement."""
    return device_path(advertisement.address.to_string(with_type_qualifier=False))


class BlueZDevice(ServiceInterface):
    """A device that was seen, connected or not."""

    def __init__(self, host: Host, advertisement: Advertisement, *, bonded: bool) -> None:
        super().__init__("org.bluez.Device1")
        self.host = host
        self._address = advertisement.address
        self.path = path_of(advertisement)
        self.local_name = ""
        self.uuids: list[str] = []
        self.characteristics: dict[str, GattCharacteristic] = {}
        self._services: dict[str, GattService] = {}
        self._connection: Connection | None = None
        self._connecting = False
        self._resolved = False
        self._resolving: asyncio.Task[None] | None = None
        self._bonded = bonded
        self._trusted = False
        self._lost = asyncio.Event()
        self._stuck: set[int] = set()

    @property
    def address(self) -> str:
        """Bluetooth address, as the key store names it."""
        return str(self._address)

    @property
    def is_temporary(self) -> bool:
        """Whether nothing but a scan knows it."""
        return self._connection is None and not (self._connecting or self._bonded)

    @property
    def mtu(self) -> int:
        """Attribute MTU of the connection; 23 without one."""
        return self._connection.att_mtu if self._connection else 23

    @dbus_property(access=_READ)
    def Address(self) -> DBusStr:  # noqa: N802 (BlueZ's name)
        """Bluetooth address."""
        return self._address.to_string(with_type_qualifier=False)

    @dbus_property(access=_READ)
    def AddressType(self) -> DBusStr:  # noqa: N802 (BlueZ's name)
        """Kind of address."""
        return "random"

    @dbus_property(access=_READ)
    def Name(self) -> DBusStr:  # noqa: N802 (BlueZ's name)
        """Advertised name."""
        return self.local_name

    @dbus_property(access=_READ)
    def Alias(self) -> DBusStr:  # noqa: N802 (BlueZ's name)
        """Name shown to people."""
        return self.local_name or self._address.to_string(with_type_qualifier=False).replace(":", "-")

    @dbus_property(access=_READ)
    def Adapter(self) -> DBusObjectPath:  # noqa: N802 (BlueZ's name)
        """The adapter that saw it."""
        return ADAPTER_PATH

    @dbus_property(access=_READ)
    def UUIDs(self) -> StrList:  # noqa: N802 (BlueZ's name)
        """Advertised services."""
        return self.uuids

    @dbus_property(access=_READ)
    def RSSI(self) -> DBusInt16:  # noqa: N802 (BlueZ's name)
        """Signal strength, dBm."""
        return _RSSI_DBM

    @dbus_property(access=_READ)
    def Paired(self) -> DBusBool:  # noqa: N802 (BlueZ's name)
        """Whether it is paired."""
        return self._bonded

    @dbus_property(access=_READ)
    def Bonded(self) -> DBusBool:  # noqa: N802 (BlueZ's name)
        """Whether its keys are kept."""
        return self._bonded

    @dbus_property(access=_READ_WRITE)
    def Trusted(self) -> DBusBool:  # noqa: N802 (BlueZ's name)
        """Whether it may do without asking what a paired device may."""
        return self._trusted

    @Trusted.setter
    def SetTrusted(self, value: DBusBool) -> None:  # noqa: N802 (the library wants another name)
        """Trust it."""
        self._trusted = value
        self.emit_properties_changed({"Trusted": value})

    @dbus_property(access=_READ)
    def Blocked(self) -> DBusBool:  # noqa: N802 (BlueZ's name)
        """Whether it is blocked: no."""
        return False

    @dbus_property(access=_READ)
    def Connected(self) -> DBusBool:  # noqa: N802 (BlueZ's name)
        """Whether it is connected."""
        return self._connection is not None

    @dbus_property(access=_READ)
    def ServicesResolved(self) -> DBusBool:  # noqa: N802 (BlueZ's name)
        """Whether its services are known."""
        return self._resolved

    @dbus_method()
    async def Connect(self) -> Nothing:  # noqa: N802 (BlueZ's name)
        """Connect and discover services."""
        await self._connect()

    @dbus_method()
    async def Pair(self) -> Nothing:  # noqa: N802 (BlueZ's name)
        """Connect if need be, and pair; without an agent there is nobody to agree to it."""
        self.host.counts["Pair"] += 1
        if self._bonded:
            raise DBusError(ERROR_ALREADY_EXISTS, "Already Exists")
        agent = self.host.agents.agent_for(CURRENT_SENDER.get())
        if self._connection is None:
            await self._connect()
        if agent is None:
            await self.drop()
            raise DBusError(ERROR_AUTHENTICATION_FAILED, "Authentication Failed")
        await self._bond()

    @dbus_method()
    async def Disconnect(self) -> Nothing:  # noqa: N802 (BlueZ's name)
        """End the connection."""
        self.host.counts["Disconnect"] += 1
        await self.drop()

    async def drop(self) -> None:
        """End the connection, if there is one."""
        if self._connection is not None:
            await self._connection.disconnect()

    async def secure(self, handle: int) -> None:
        """Pair, because a request was refused for want of encryption; somebody must be there to agree.

        Without an agent bluetoothd leaves the request unanswered until the link ends (seen with 5.66 and 5.82).
        """
        agent = self.host.agents.agent_for("")
        if agent is None:
            self._stuck.add(handle)
            await self._unanswered()
        await self.host.agents.authorize(self.host.bus, agent, device_path=self.path)
        await self._bond()

    async def behind_a_stuck_read(self, handle: int) -> None:
        """Wait behind a read that was never answered, until the device is forgotten (seen with 5.82)."""
        if handle in self._stuck:
            await self._unanswered()

    async def _unanswered(self) -> NoReturn:
        self.host.counts["unanswered"] += 1
        await self._lost.wait()
        raise DBusError(ERROR_NOT_CONNECTED, "Not Connected")

    async def _connect(self) -> None:
        self.host.counts["Connect"] += 1
        self.host.counts["ConnectWhileDiscovering"] += self.host.discovering
        if self._connection is not None:
            return
        if not self.host.powered:
            raise DBusError(ERROR_NOT_READY, "Resource Not Ready")
        if self.host.connects_to_fail > 0:
            self.host.connects_to_fail -= 1
            self.emit_properties_changed({"Connected": True})
            await asyncio.sleep(_ABORT_TOGGLE_S)
            asyncio.get_running_loop().call_later(_ABORT_TOGGLE_S, self.emit_properties_changed, {"Connected": False})
            raise DBusError(ERROR_FAILED, "le-connection-abort-by-local")
        self._connecting = True
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                connection = await self.host.central.connect(self._address, own_address_type=OwnAddressType.RANDOM)
        except (TimeoutError, BaseBumbleError) as exc:
            raise DBusError(ERROR_FAILED, "Software caused connection abort") from exc
        finally:
            self._connecting = False
        self._connection = connection
        self._lost.clear()
        connection.on(Connection.EVENT_DISCONNECTION, self._disconnected)
        if self._bonded:  # a device that has forgotten the bond ends the connection
            try:
                async with asyncio.timeout(_ENCRYPTION_TIMEOUT_S):
                    await connection.encrypt()
            except _SECURITY_FAILURES as exc:
                raise DBusError(ERROR_FAILED, "le-connection-refused") from exc
        if self._connection is None:
            raise DBusError(ERROR_FAILED, "le-connection-refused")
        self.emit_properties_changed({"Connected": True})
        self._resolving = asyncio.get_running_loop().create_task(self._resolve(connection))

    async def _bond(self) -> None:
        connection = self._connection
        if connection is None:
            raise DBusError(ERROR_NOT_CONNECTED, "Not Connected")
        try:
            async with asyncio.timeout(_PAIRING_TIMEOUT_S):
                await self.host.central.pair(connection)
        except _SECURITY_FAILURES as exc:
            await self.drop()
            raise DBusError(ERROR_AUTHENTICATION_FAILED, "Authentication Failed") from exc
        self._bonded = True
        self.emit_properties_changed({"Paired": True, "Bonded": True})

    def seen(self, *, name: str, uuids: list[str]) -> None:
        """Take over what an advertisement says, and tell it."""
        self.local_name = name or self.local_name
        self.uuids = uuids or self.uuids
        changes = {"RSSI": _RSSI_DBM, "UUIDs": self.uuids, "Name": self.local_name, "Alias": self.local_name}
        self.emit_properties_changed(changes)

    async def _resolve(self, connection: Connection) -> None:
        try:
            peer = Peer(connection)
            await peer.request_mtu(self.host.mtu)
            await peer.discover_services()
            for service in peer.services:
                await service.discover_characteristics()
                service_path = f"{self.path}/service{service.handle:04x}"
                self._services[service_path] = GattService(service, device_path=self.path)
                self.host.bus.export(service_path, self._services[service_path])
                for proxy in service.characteristics:
                    path = f"{service_path}/char{proxy.handle:04x}"
                    self.characteristics[path] = GattCharacteristic(self, proxy, service_path=service_path, path=path)
                    self.host.bus.export(path, self.characteristics[path])
            # As bluetoothd does: whoever was registered when the link was lost is registered again.
            for path, characteristic in self.characteristics.items():
                if self.host.registrations.count(path):
                    await characteristic.subscribe()
        except (TimeoutError, BaseBumbleError) as exc:
            _LOGGER.info("services not resolved: %r", exc)
            return
        self._resolved = True
        self.emit_properties_changed({"ServicesResolved": True})

    def _disconnected(self, _reason: int) -> None:
        self._lost.set()
        if self._resolving is not None:
            self._resolving.cancel()
        self.take_back()
        self._connection, self._resolved = None, False
        self.emit_properties_changed({"ServicesResolved": False})
        self.emit_properties_changed({"Connected": False})

    def take_back(self) -> None:
        """Take the objects of its services from the bus."""
        for path, characteristic in self.characteristics.items():
            characteristic.close()
            self.host.bus.unexport(path, characteristic)
        for path, service in self._services.items():
            self.host.bus.unexport(path, service)
        self.characteristics, self._services = {}, {}
