"""``org.bluez.Adapter1``."""

from __future__ import annotations

from typing import Final

from dbus_fast import DBusError, PropertyAccess
from dbus_fast.annotations import DBusBool, DBusDict, DBusObjectPath, DBusStr
from dbus_fast.service import ServiceInterface, dbus_method, dbus_property

from firmware_bridge.sim.bluezd.contract import Host
from firmware_bridge.sim.bluezd.names import (
    ERROR_DOES_NOT_EXIST,
    ERROR_FAILED,
    ERROR_IN_PROGRESS,
    ERROR_NOT_READY,
    Nothing,
    StrList,
)
from firmware_bridge.sim.bluezd.registrations import CURRENT_SENDER

_READ: Final = PropertyAccess.READ
_ADDRESS: Final = "00:11:22:33:44:55"


class Adapter(ServiceInterface):
    """The one adapter; it can be switched off like a real one."""

    def __init__(self, host: Host) -> None:
        super().__init__("org.bluez.Adapter1")
        self._host = host
        self.powered = True
        self._scanning: set[str] = set()

    @property
    def discovering(self) -> bool:
        """Whether a client scans."""
        return bool(self._scanning)

    def set_powered(self, *, powered: bool) -> None:
        """Switch the adapter on or off; every connection and every scan ends with its power."""
        self.powered = powered
        if not powered:
            self._host.power_lost()
        self.emit_properties_changed({"Powered": powered})

    async def leave_discovery(self, sender: str) -> None:
        """Take note that a client scans no longer."""
        if sender not in self._scanning:
            return
        self._scanning.remove(sender)
        if not self._scanning:
            await self._host.central.stop_scanning()
            self.emit_properties_changed({"Discovering": False})
            self._host.scan_ended()

    async def end_discovery(self) -> None:
        """End the scans of all clients."""
        for sender in tuple(self._scanning):
            await self.leave_discovery(sender)

    @dbus_property(access=_READ)
    def Address(self) -> DBusStr:  # noqa: N802 (BlueZ's name)
        """Address of the adapter."""
        return _ADDRESS

    @dbus_property(access=_READ)
    def AddressType(self) -> DBusStr:  # noqa: N802 (BlueZ's name)
        """Kind of address."""
        return "public"

    @dbus_property(access=_READ)
    def Name(self) -> DBusStr:  # noqa: N802 (BlueZ's name)
        """Name of the adapter."""
        return "bluezd"

    @dbus_property(access=_READ)
    def Alias(self) -> DBusStr:  # noqa: N802 (BlueZ's name)
        """Name shown to people."""
        return "bluezd"

    @dbus_property(access=_READ)
    def Powered(self) -> DBusBool:  # noqa: N802 (BlueZ's name)
        """Whether the adapter is on."""
        return self.powered

    @dbus_property(access=_READ)
    def Discovering(self) -> DBusBool:  # noqa: N802 (BlueZ's name)
        """Whether a scan runs."""
        return self.discovering

    @dbus_property(access=_READ)
    def Roles(self) -> StrList:  # noqa: N802 (BlueZ's name)
        """What the adapter can be."""
        return ["central"]

    @dbus_method()
    def SetDiscoveryFilter(self, _filter: DBusDict) -> Nothing:  # noqa: N802 (BlueZ's name)
        """Accepted; one virtual device needs no filter."""

    @dbus_method()
    async def StartDiscovery(self) -> Nothing:  # noqa: N802 (BlueZ's name)
        """Scan."""
        if not self.powered:
            raise DBusError(ERROR_NOT_READY, "Resource Not Ready")
        sender = CURRENT_SENDER.get()
        if sender in self._scanning:
            raise DBusError(ERROR_IN_PROGRESS, "Operation already in progress")
        self._scanning.add(sender)
        if len(self._scanning) == 1:
            self._host.scan_began()
            self.emit_properties_changed({"Discovering": True})
            await self._host.central.start_scanning(active=True, filter_duplicates=False)

    @dbus_method()
    async def StopDiscovery(self) -> Nothing:  # noqa: N802 (BlueZ's name)
        """End the caller's scan."""
        if not self.powered:
            raise DBusError(ERROR_NOT_READY, "Resource Not Ready")
        if CURRENT_SENDER.get() not in self._scanning:
            raise DBusError(ERROR_FAILED, "No discovery started")
        await self.leave_discovery(CURRENT_SENDER.get())

    @dbus_method()
    async def RemoveDevice(self, path: DBusObjectPath) -> Nothing:  # noqa: N802 (BlueZ's name)
        """Forget a device with its keys."""
        if not await self._host.forget(path):
            raise DBusError(ERROR_DOES_NOT_EXIST, "Does Not Exist")
