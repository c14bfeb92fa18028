"""A virtual device in the same process: the whole way of a heartbeat without a radio, for demonstration and tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edge_app.link.base import LinkInfo, Listening
from firmware_bridge.sim.air.faults import Faults
from firmware_bridge.sim.air.player import DevicePlayer
from firmware_bridge.sim.device.device import Notification, VirtualDevice
from firmware_bridge.sim.device.source import SignalSource, source_from_record
from lsemvae.ecg.errors import LinkError
from lsemvae.ecg.record import EcgRecord

# The largest packet that the Bluetooth 4.2 data length extension carries in one piece.
DEFAULT_MTU: Final = 247


class InProcessTransport(Listening):
    """A `Transport` to a virtual device that replays a recording.

    Parameters
    ----------
    recording
        What the device measures: leads I and II of a record (or a ready `SignalSource`).
    speed
        Times real time.
    loop
        Replay again after the end; otherwise the device ends the stream there.
    faults
        What the imagined radio does to live frames.
    device
        Makes the device of a source: one with a key, or one whose core is in C.
    """

    def __init__(
        self,
        recording: EcgRecord | SignalSource,
        *,
        speed: float = 1.0,
        loop: bool = True,
        faults: Faults | None = None,
        mtu: int = DEFAULT_MTU,
        name: str = "virtual device",
        device: Callable[[SignalSource], VirtualDevice] = VirtualDevice,
    ) -> None:
        super().__init__()
        source = recording if isinstance(recording, SignalSource) else source_from_record(recording, loop=loop)
        self.player = DevicePlayer(device(source), faults=faults, speed=speed)
        self._mtu = mtu
        self._speed = speed
        self._name = name
        self._connected = False

    @property
    def mtu(self) -> int:
        """Largest attribute packet, bytes."""
        return self._mtu

    async def connect(self) -> LinkInfo:
        """Connect, if the device has power."""
        if not self.player.device.powered:
            raise LinkError(f"{self._name}: found no answer, expected a device that is switched on")
        self._connected = True
        self.player.attach(self)
        self.player.start()
        return LinkInfo(name=self._name, address="in-process", mtu=self._mtu, kind="in-process", pace=self._speed)

    async def disconnect(self) -> None:
        """End the connection; the device goes on acquiring."""
        self._connected = False
        self._listeners.clear()
        self.player.detach(self)
        await self.player.close()

    async def read_descriptor(self) -> bytes:
        """Return the value of the descriptor characteristic."""
        self._check_connected()
        return self.player.device.read_descriptor()

    async def read_status(self) -> bytes:
        """Return the value of the status characteristic."""
        self._check_connected()
        return self.player.device.read_status()

    async def write_control(self, request: bytes) -> None:
        """Write to the control characteristic."""
        self._check_connected()
        await self.player.control(request)

    async def send(self, notification: Notification) -> None:
        """Deliver a notification; the device's side of the link calls this."""
        self._deliver(notification.channel.value, notification.data)

    async def drop(self) -> None:
        """Lose the link; the device's side of it calls this."""
        if not self._connected:
            return
        self._connected = False
        self._listeners.clear()
        self._tell_lost("the device is out of reach or switched off")

    def _check_connected(self) -> None:
        if not self._connected:
            raise LinkError(f"{self._name}: found no connection, expected one")
