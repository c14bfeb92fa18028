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
from bumble.keys import MemoryKeyStore
from bumble.link import LocalLink
from bumble.pairing import PairingConfig, PairingDelegate
from bumble.transport.common import AsyncPipeSink

from firmware_bridge.protocol.profile import (
    BULK_UUID,
    CONTROL_UUID,
    DESCRIPTOR_UUID,
    LIVE_UUID,
    SERVICE_UUID,
    STATUS_UUID,
)
from firmware_bridge.sim.air.player import DevicePlayer
from firmware_bridge.sim.device.device import Channel, Notification

DEFAULT_ADDRESS: Final = "F1:F2:F3:F4:F5:F6"
_ADVERTISING_INTERVAL_MS: Final = 100
# 31 bytes of an advertisement less flags (3), the service (18) and two of its own.
_NAME_BYTES: Final = 8
_P: Final = Characteristic.Properties


class BumblePeripheral:
    """The GATT server of a virtual device.

    The live characteristic is notify only: BlueZ repeats the answer to a read as a notification, so what can be read
    must not be streamed. Nothing is sent on subscription, and no notification is ever empty.

    Parameters
    ----------
    name
        Advertised as far as it fits beside the service: 8 bytes.
    encrypted
        Refuse reads and writes on a link that is not encrypted, as PROTOCOL.md asks of a device.

    Attributes
    ----------
    player
        The device that answers.
    accepts_pairing
        Whether a pairing request is agreed to.
    """

    def __init__(
        self,
        player: DevicePlayer,
        *,
        link: LocalLink,
        name: str,
        address: str = DEFAULT_ADDRESS,
        encrypted: bool = False,
    ) -> None:
        self.player = self._genuine = player
        self.accepts_pairing = True
        self._encrypted = encrypted
        controller = Controller(name, link=link)
        configuration = DeviceConfiguration(
            name=name,
            address=hci.Address(address),
            advertising_interval_min=_ADVERTISING_INTERVAL_MS,
            advertising_interval_max=_ADVERTISING_INTERVAL_MS,
        )
        self._device = Device.from_config_with_hci(configuration, controller, AsyncPipeSink(controller))
        self._keys = self._genuine_keys = self._device.keystore = MemoryKeyStore()
        self._device.pairing_config_factory = lambda _connection: PairingConfig(
            sc=True, mitm=False, bonding=True, delegate=_Agrees(self)
        )
        self._characteristics = self._build_service()
        # The service first: hosts filter on it, and it must not depend on a scan response.
        fields: list[tuple[AdvertisingData.Type, bytes]] = [
            (AdvertisingData.Type.FLAGS, bytes([0x06])),
            (AdvertisingData.Type.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS, bytes(UUID(SERVICE_UUID))),
            (AdvertisingData.Type.SHORTENED_LOCAL_NAME, name.encode()[:_NAME_BYTES]),
        ]
        self._device.advertising_data = bytes(AdvertisingData([(int(kind), data) for kind, data in fields]))
        self._device.on(Device.EVENT_CONNECTION, self._connected)
        self._connection: Connection | None = None
        self._advertising = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Switch on and advertise."""
        await self._device.power_on()
        await self._advertise_as_due()
        self.player.start()

    async def power_off(self) -> None:
        """Vanish: the host sees the link end, and no advertisement any more."""
        await self._genuine.power_off()
        await self._advertise_as_due()

    async def power_on(self) -> None:
        """Advertise again, with an empty ring."""
        self._genuine.power_on()
        await self._advertise_as_due()

    async def set_battery(self, percent: int) -> None:
        """Charge of the battery; at 0 % the device vanishes."""
        await self._genuine.set_battery(percent)
        await self._advertise_as_due()

    async def impersonate(self, player: DevicePlayer | None) -> None:
        """Have another device answer under this name and address, without the bonds of this one; None ends it."""
        await self.drop()
        self.player.detach(self)
        self.player = player or self._genuine
        self._keys = self._device.keystore = MemoryKeyStore() if player else self._genuine_keys
        await self._advertise_as_due()

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

    def forget_bonds(self) -> None:
        """Lose the keys, as a device that was reset."""
        self._keys.all_keys.clear()

    def _build_service(self) -> dict[Channel, Characteristic[bytes]]:
        readable, writeable = Attribute.READABLE, Attribute.WRITEABLE
        if self._encrypted:
            readable |= Attribute.READ_REQUIRES_ENCRYPTION
            writeable |= Attribute.WRITE_REQUIRES_ENCRYPTION
        nothing = Attribute.Permissions(0)
        value = CharacteristicValue[bytes]
        descriptor = value(read=lambda _connection: self.player.device.read_descriptor())
        status = value(read=lambda _connection: self.player.device.read_status())
        # The write is answered before the indication goes out, as a real stack does.
        control = value(write=lambda _connection, request: self._spawn(self.player.control(bytes(request))))
        refused = value(read=_refuse_read)
        characteristics = {
            Channel.LIVE: Characteristic[bytes](LIVE_UUID, _P.NOTIFY, nothing, refused),
            Channel.CONTROL: Characteristic[bytes](CONTROL_UUID, _P.WRITE | _P.INDICATE, writeable, control),
            Channel.STATUS: Characteristic[bytes](STATUS_UUID, _P.READ | _P.NOTIFY, readable, status),
            Channel.BULK: Characteristic[bytes](BULK_UUID, _P.NOTIFY, nothing, refused),
        }
        described = Characteristic[bytes](DESCRIPTOR_UUID, _P.READ, readable, descriptor)
        self._device.add_service(Service(SERVICE_UUID, [described, *characteristics.values()]))
        return characteristics

    def _connected(self, connection: Connection) -> None:
        self._connection = connection
        connection.on(Connection.EVENT_DISCONNECTION, self._disconnected)
        connection.on(Connection.EVENT_CONNECTION_ENCRYPTION_CHANGE, lambda: self._encryption_changed(connection))
        self.player.attach(self)

    def _encryption_changed(self, connection: Connection) -> None:
        """End a link that was encrypted with a key that is not ours any more; the virtual controller takes any."""
        pairing = connection.handle in self._device.smp_manager.sessions
        if not pairing and str(connection.peer_address) not in self._keys.all_keys:
            self._spawn(connection.disconnect(hci.HCI_ErrorCode.PIN_OR_KEY_MISSING_ERROR))

    def _disconnected(self, _reason: int) -> None:
        self._connection = None
        self.player.detach(self)
        self._spawn(self._advertise_as_due())

    async def _advertise_as_due(self) -> None:
        """Be seen while there is power and no connection."""
        async with self._advertising:
            due = self.player.device.powered and self._connection is None
            if due and not self._device.is_advertising:
                await self._device.start_advertising(auto_restart=False)
            elif not due and self._device.is_advertising:
                await self._device.stop_advertising()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Agrees(PairingDelegate):
    """Answer to a pairing request; without display and buttons there is nothing to compare."""

    def __init__(self, peripheral: BumblePeripheral) -> None:
        super().__init__(io_capability=PairingDelegate.IoCapability.NO_OUTPUT_NO_INPUT)
        self._peripheral = peripheral

    async def accept(self) -> bool:
        """Return what the peripheral was told."""
        return self._peripheral.accepts_pairing


def _refuse_read(_connection: object) -> bytes:
    raise ATT_Error(error_code=ATT_READ_NOT_PERMITTED_ERROR)
