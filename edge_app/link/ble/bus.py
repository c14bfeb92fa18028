"""The application's own connection to BlueZ on the system bus; Linux only.

bleak notices neither that bluetoothd was killed (a killed service takes back none of the objects it showed) nor does it
offer an agent for pairing. This connection does both. Every wait has an end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from bleak.exc import BleakDBusError
from dbus_fast import BusType, Message, MessageType, unpack_variants
from dbus_fast.aio import MessageBus
from dbus_fast.service import ServiceInterface

from edge_app.link.radio_errors import BluetoothServiceError

BLUEZ: Final = "org.bluez"
ADAPTER: Final = "org.bluez.Adapter1"
DEVICE: Final = "org.bluez.Device1"
_DBUS: Final = "org.freedesktop.DBus"
_OWNERS: Final = f"type='signal',sender='{_DBUS}',interface='{_DBUS}',member='NameOwnerChanged',arg0='{BLUEZ}'"

# bluetoothd answers within milliseconds; the bus itself may start it first, which takes a second or two on a small board.
CALL_S: Final = 10.0
SERVICE_ENDED: Final = "the Bluetooth service ended"
_BUS_ENDED: Final = "the system bus ended"

_RESTART: Final = "Restart the Bluetooth service (sudo systemctl restart bluetooth) and try again."

Objects = Mapping[str, Mapping[str, Mapping[str, Any]]]


class BluezBus:
    """A connection to the system bus; make one with `open`.

    Parameters
    ----------
    on_gone
        Called once with the reason when bluetoothd or the bus itself ends.
    """

    def __init__(self, bus: MessageBus, on_gone: Callable[[str], None] | None = None) -> None:
        self._bus = bus
        self._on_gone = on_gone
        self._watcher = asyncio.get_running_loop().create_task(self._watch_bus(), name="system-bus")

    @classmethod
    async def open(cls, on_gone: Callable[[str], None] | None = None) -> BluezBus:
        """Connect to the bus, and see that BlueZ answers: the bus starts it where that is configured."""
        bus = MessageBus(bus_type=BusType.SYSTEM)
        try:
            async with asyncio.timeout(CALL_S):
                await bus.connect()
            opened = cls(bus, on_gone)
        except BaseException:
            bus.disconnect()
            raise
        try:
            bus.add_message_handler(opened._owner_changed)
            await opened._call(_DBUS, "/org/freedesktop/DBus", _DBUS, "AddMatch", "s", (_OWNERS,))
            try:
                await opened.objects()
            except TimeoutError as exc:
                message = f"Bluetooth service: found no answer in {CALL_S:g} s, expected one"
                raise BluetoothServiceError(message, advice=_RESTART) from exc
        except BaseException:
            await opened.close()
            raise
        return opened

    @classmethod
    async def check(cls) -> None:
        """See that BlueZ answers, and leave the bus again."""
        await (await cls.open()).close()

    async def close(self) -> None:
        """Leave the bus; harmless when that was done before."""
        self._on_gone = None
        self._bus.disconnect()
        self._watcher.cancel()
        await asyncio.gather(self._watcher, return_exceptions=True)

    async def objects(self) -> Objects:
        """Return everything that BlueZ shows: object path, interface, property."""
        reply = await self.call("/", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
        objects: Objects = unpack_variants(reply[0])
        return objects

    async def device(self, path: str) -> Mapping[str, Any]:
        """Return the properties of a device; none if BlueZ does not know it."""
        return (await self.objects()).get(path, {}).get(DEVICE, {})

    async def call(
        self, path: str, interface: str, member: str, signature: str = "", body: tuple[Any, ...] = (),
        *, seconds: float | None = None,
    ) -> list[Any]:  # fmt: skip
        """Call a method of BlueZ and return what it answers; `BleakDBusError` if that is an error."""
        return await self._call(BLUEZ, path, interface, member, signature, body, seconds=seconds)

    def export(self, path: str, interface: ServiceInterface) -> None:
        """Offer an object to BlueZ."""
        self._bus.export(path, interface)

    def unexport(self, path: str) -> None:
        """Take it back."""
        self._bus.unexport(path)

    async def _call(
        self, destination: str, path: str, interface: str, member: str, signature: str, body: tuple[Any, ...],
        *, seconds: float | None = None,
    ) -> list[Any]:  # fmt: skip
        message = Message(
            destination=destination, path=path, interface=interface, member=member, signature=signature, body=list(body)
        )
        async with asyncio.timeout(CALL_S if seconds is None else seconds):
            reply = await self._bus.call(message)
        if reply is None:
            raise EOFError(f"{member}: no answer on the system bus")
        if reply.message_type is MessageType.ERROR:
            raise BleakDBusError(reply.error_name or "", reply.body)
        return list(reply.body)

    def _owner_changed(self, message: Message) -> None:
        if message.member == "NameOwnerChanged" and message.body[0] == BLUEZ and message.body[1]:
            self._gone(SERVICE_ENDED)

    async def _watch_bus(self) -> None:
        with suppress(Exception):  # the bus ends with whatever killed its socket; that it ended is all that counts
            await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
        self._gone(_BUS_ENDED)

    def _gone(self, reason: str) -> None:
        tell, self._on_gone = self._on_gone, None
        if tell is not None:
            tell(reason)
