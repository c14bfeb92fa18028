"""``org.bluez.GattService1`` and ``org.bluez.GattCharacteristic1``."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from bumble.att import ATT_INSUFFICIENT_AUTHENTICATION_ERROR, ATT_INSUFFICIENT_ENCRYPTION_ERROR, ATT_Error
from bumble.core import ProtocolError as BumbleProtocolError
from bumble.gatt import Characteristic
from bumble.gatt_client import CharacteristicProxy, ServiceProxy
from dbus_fast import DBusError, PropertyAccess
from dbus_fast.annotations import DBusBool, DBusBytes, DBusDict, DBusObjectPath, DBusStr, DBusUInt16
from dbus_fast.service import ServiceInterface, dbus_method, dbus_property

from firmware_bridge.sim.bluezd.contract import Owner
from firmware_bridge.sim.bluezd.names import (
    ERROR_FAILED,
    ERROR_IN_PROGRESS,
    FdAndMtu,
    Nothing,
    PathList,
    StrList,
    flag_names,
    full_uuid,
)
from firmware_bridge.sim.bluezd.registrations import CURRENT_SENDER

_T = TypeVar("_T")
_READ: Final = PropertyAccess.READ
_WANTS_ENCRYPTION: Final = (ATT_INSUFFICIENT_AUTHENTICATION_ERROR, ATT_INSUFFICIENT_ENCRYPTION_ERROR)


class GattService(ServiceInterface):
    """A service of a connected device."""

    def __init__(self, service: ServiceProxy, *, device_path: str) -> None:
        super().__init__("org.bluez.GattService1")
        self._service = service
        self._device_path = device_path

    @dbus_property(access=_READ)
    def UUID(self) -> DBusStr:  # noqa: N802 (BlueZ's name)
        """128-bit UUID."""
        return full_uuid(self._service.uuid)

    @dbus_property(access=_READ)
    def Device(self) -> DBusObjectPath:  # noqa: N802 (BlueZ's name)
        """The device it belongs to."""
        return self._device_path

    @dbus_property(access=_READ)
    def Primary(self) -> DBusBool:  # noqa: N802 (BlueZ's name)
        """Primary service."""
        return True

    @dbus_property(access=_READ)
    def Includes(self) -> PathList:  # noqa: N802 (BlueZ's name)
        """Included services: none."""
        return []


class GattCharacteristic(ServiceInterface):
    """A characteristic of a connected device."""

    def __init__(self, device: Owner, proxy: CharacteristicProxy[bytes], *, service_path: str, path: str) -> None:
        super().__init__("org.bluez.GattCharacteristic1")
        self._device = device
        self._proxy = proxy
        self._service_path = service_path
        self._path = path
        self._value = b""
        self._subscribed = False
        self._socket: socket.socket | None = None

    @dbus_property(access=_READ)
    def UUID(self) -> DBusStr:  # noqa: N802 (BlueZ's name)
        """128-bit UUID."""
        return full_uuid(self._proxy.uuid)

    @dbus_property(access=_READ)
    def Service(self) -> DBusObjectPath:  # noqa: N802 (BlueZ's name)
        """The service it belongs to."""
        return self._service_path

    @dbus_property(access=_READ)
    def Value(self) -> DBusBytes:  # noqa: N802 (BlueZ's name)
        """Value last read or notified."""
        return self._value

    @dbus_property(access=_READ)
    def Notifying(self) -> DBusBool:  # noqa: N802 (BlueZ's name)
        """Whether anybody is registered."""
        return self._subscribed

    @dbus_property(access=_READ)
    def NotifyAcquired(self) -> DBusBool:  # noqa: N802 (BlueZ's name)
        """Whether a client took the notifications over by AcquireNotify."""
        return self._socket is not None

    @dbus_property(access=_READ)
    def Flags(self) -> StrList:  # noqa: N802 (BlueZ's name)
        """What can be done with it."""
        return flag_names(int(self._proxy.properties))

    @dbus_property(access=_READ)
    def MTU(self) -> DBusUInt16:  # noqa: N802 (BlueZ's name)
        """Attribute MTU of the connection."""
        return self._device.mtu

    @dbus_method()
    async def ReadValue(self, _options: DBusDict) -> DBusBytes:  # noqa: N802 (BlueZ's name)
        """Read; as in bluetoothd the answer also goes out as a change of Value, like a notification."""
        await self._device.behind_a_stuck_read(self._proxy.handle)
        value = bytes(await self._with_security(self._proxy.read_value))
        self._value = value
        self.emit_properties_changed({"Value": value})
        return value

    @dbus_method()
    async def WriteValue(self, value: DBusBytes, options: DBusDict) -> Nothing:  # noqa: N802 (BlueZ's name)
        """Write, with response unless the client asks for a command."""
        kind = options.get("type")
        with_response = kind is None or kind.value != "command"
        await self._with_security(lambda: self._proxy.write_value(bytes(value), with_response=with_response))

    @dbus_method()
    async def StartNotify(self) -> Nothing:  # noqa: N802 (BlueZ's name)
        """Register the caller."""
        self._device.host.counts["StartNotify"] += 1
        self._device.host.registrations.add(self._path, CURRENT_SENDER.get())
        await self.subscribe()
        self.emit_properties_changed({"Notifying": True})

    @dbus_method()
    async def StopNotify(self) -> Nothing:  # noqa: N802 (BlueZ's name)
        """Forget the caller."""
        self._device.host.registrations.remove(self._path, CURRENT_SENDER.get())
        if not self._device.host.registrations.count(self._path):
            await self.unsubscribe()

    @dbus_method()
    async def AcquireNotify(self, _options: DBusDict) -> FdAndMtu:  # noqa: N802 (BlueZ's name)
        """Hand notifications over through a socket; refused while anybody is registered by StartNotify."""
        self._device.host.counts["AcquireNotify"] += 1
        if self._socket is not None or self._device.host.registrations.count(self._path):
            raise DBusError(ERROR_IN_PROGRESS, "In Progress")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(0)
        self._socket = ours
        await self.subscribe()
        handed_over = os.dup(theirs.fileno())
        theirs.close()
        return [handed_over, self._device.mtu]

    async def subscribe(self) -> None:
        """Ask the device for notifications, once however many clients are registered."""
        if self._subscribed:
            return
        self._subscribed = True
        prefers_notify = not int(self._proxy.properties) & Characteristic.Properties.INDICATE
        await self._proxy.subscribe(self._notified, prefer_notify=prefers_notify)

    async def unsubscribe(self) -> None:
        """Ask the device to stop."""
        if not self._subscribed:
            return
        self._subscribed = False
        await self._proxy.unsubscribe(self._notified)
        self.emit_properties_changed({"Notifying": False})

    def close(self) -> None:
        """Forget who listened: the link is gone."""
        self._subscribed = False
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _with_security(self, request: Callable[[], Awaitable[_T]]) -> _T:
        """Do a request; where the device wants encryption for it, pair and do it again, as bluetoothd does."""
        try:
            return await request()
        except (ATT_Error, BumbleProtocolError) as exc:
            if exc.error_code not in _WANTS_ENCRYPTION:
                raise _att_failure(exc) from exc
        await self._device.secure(self._proxy.handle)
        try:
            return await request()
        except (ATT_Error, BumbleProtocolError) as exc:
            raise _att_failure(exc) from exc

    def _notified(self, value: bytes) -> None:
        self._device.host.counts["notified"] += 1
        self._value = bytes(value)
        if self._socket is not None:
            try:
                self._socket.send(self._value)
            except OSError:
                self._device.host.counts["not_delivered"] += 1
        for _ in range(self._device.host.registrations.count(self._path)):
            self._device.host.counts["delivered"] += 1
            self.emit_properties_changed({"Value": self._value})


def _att_failure(exc: Any) -> DBusError:
    return DBusError(ERROR_FAILED, f"Operation failed with ATT error: 0x{int(exc.error_code):02x}")


async def release(characteristics: list[GattCharacteristic]) -> None:
    """Stop what nobody wants any more."""
    await asyncio.gather(*(characteristic.unsubscribe() for characteristic in characteristics))
