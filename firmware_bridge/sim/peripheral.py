"""A virtual device on the air: Bumble's host stack serves the GATT profile around a `DevicePlayer`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from bumble import hci
from bumble.att import ATT_READ_NOT_PERMITTED_ERROR, ATT_Error, Attribute
from bumble.controller import Controller
from bumble.core import UUID, AdvertisingData
from bumble.device import Connection, Device, DeviceConfiguration
from bumble.gatt import Characteristic, CharacteristicValue, Service
from bumble.link import LocalLink
from bumble.transport.common import AsyncPipeSink

from firmware_bridge.profile import (
    CONTROL_UUID,
    DESCRIPTOR_UUID,
    LIVE_UUID,
    SERVICE_UUID,
    STATUS_UUID,
)
from firmware_bridge.sim.device import Channel, Notification
from firmware_bridge.sim.player import DevicePlayer

DEFAULT_ADDRESS: Final = "F1:F2:F3:F4:F5:F6"
_ADVERTISING_INTERVAL_MS: Final = 100
_P: Final = Characteristic.Properties


class BumblePeripheral:
    """The GATT server of a virtual device.

    The live characteristic is notify only: BlueZ repeats the answer to a read as a notification, so what can be read
    must not be streamed. Nothing is sent on subscription, and no notification is ever empty.
    """

    def __init__(self, player: DevicePlayer, *, link: LocalLink, name: str, address: str = DEFAULT_ADDRESS) -> None:
        self.player = player
        controller = Controller(name, link=link)
        configuration = DeviceConfiguration(
            name=name, address=hci.Address(address), advertising_interval_min=_ADVERTISING_INTERVAL_MS,
            advertising_interval_max=_ADVERTISING_INTERVAL_MS,
        )  # fmt: skip
        self._device = Device.from_config_with_hci(configuration, controller, AsyncPipeSink(controller))
        self._characteristics = self._build_service()
        self._device.advertising_data = _advertisement(name)
        self._device.on(Device.EVENT_CONNECTION, self._connected)
        self._connection: Connection | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Switch on and advertise."""
        await self._device.power_on()
        await self._device.start_advertising(auto_restart=False)
        self.player.start()

    async def power_off(self) -> None:
        """Vanish: the host sees the link end, and no advertisement any more."""
        await self.player.power_off()
        if self._device.is_advertising:
            await self._device.stop_advertising()

    async def power_on(self) -> None:
        """Advertise again, with an empty ring."""
        self.player.power_on()
        if not self._device.is_advertising:
            await self._device.start_advertising(auto_restart=False)

    @property
    def mtu(self) -> int:
        """Largest attribute packet of the present connection, bytes."""
        return self._connection.att_mtu if self._connection else 0

    async def send(self, notification: Notification) -> None:
        """Notify (live, status) or indicate (control) the connected host."""
        connection = self._connection
        if connection is None or not notification.data:
            return
        characteristic = self._characteristics[notification.channel]
        if notification.channel is Channel.CONTROL:
            await self._device.indicate_subscriber(connection, characteristic, notification.data)
        else:
            await self._device.notify_subscriber(connection, characteristic, notification.data)

    async def drop(self) -> None:
        """Cut the link."""
        if self._connection is not None:
            await self._connection.disconnect()

    def _build_service(self) -> dict[Channel, Characteristic[bytes]]:
        readable, writeable = Attribute.READABLE, Attribute.WRITEABLE
        value = CharacteristicValue[bytes]
        descriptor = value(read=lambda _connection: self.player.device.read_descriptor())
        characteristics = {
            Channel.LIVE: Characteristic[bytes](
                LIVE_UUID, _P.NOTIFY, Attribute.Permissions(0), value(read=_refuse_read)
            ),
            Channel.CONTROL: Characteristic[bytes](
                CONTROL_UUID, _P.WRITE | _P.INDICATE, writeable, value(write=self._control_written)
            ),
            Channel.STATUS: Characteristic[bytes](
                STATUS_UUID,
                _P.READ | _P.NOTIFY,
                readable,
                value(read=lambda _connection: self.player.device.read_status()),
            ),
        }
        described = Characteristic[bytes](DESCRIPTOR_UUID, _P.READ, readable, descriptor)
        self._device.add_service(Service(SERVICE_UUID, [described, *characteristics.values()]))
        return characteristics

    def _control_written(self, _connection: object, request: bytes) -> None:
        # The write is answered before the indication goes out, as a real stack does.
        self._spawn(self.player.control(bytes(request)))

    def _connected(self, connection: Connection) -> None:
        self._connection = connection
        connection.on(Connection.EVENT_DISCONNECTION, self._disconnected)
        self.player.attach(self)

    def _disconnected(self, _reason: int) -> None:
        self._connection = None
        self.player.detach(self)
        if self.player.device.powered:
            self._spawn(self._device.start_advertising(auto_restart=False))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _refuse_read(_connection: object) -> bytes:
    raise ATT_Error(error_code=ATT_READ_NOT_PERMITTED_ERROR)


def _advertisement(name: str) -> bytes:
    """Service UUID first: hosts filter on it, and it must not depend on a scan response."""
    fields: list[tuple[AdvertisingData.Type, bytes]] = [
        (AdvertisingData.Type.FLAGS, bytes([0x06])),
        (AdvertisingData.Type.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS, bytes(UUID(SERVICE_UUID))),
        (AdvertisingData.Type.SHORTENED_LOCAL_NAME, name.encode()[:8]),
    ]
    return bytes(AdvertisingData([(int(kind), data) for kind, data in fields]))
