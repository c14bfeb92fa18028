"""What every link offers: the values and notifications of the six-lead profile, or the bare bytes of another device.

A transport knows nothing about frames. It turns the failures of its radio into `LinkError` with advice, and it may be
connected again after `disconnect`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

NotificationCallback = Callable[[bytes], None]
DisconnectCallback = Callable[[str], None]
# Told the characteristic's UUID ("" on a serial line) and the bytes.
OnBytes = Callable[[str, bytes], None]


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """A connected device.

    Attributes
    ----------
    name, address
        As the device advertises itself.
    mtu
        Largest attribute packet, bytes.
    kind
        "ble", "in-process", ...
    pace
        Seconds of the device per second of this computer where the transport knows it (a simulation in this process);
        None where it does not.
    """

    name: str
    address: str
    mtu: int
    kind: str
    pace: float | None = None


class Transport(Protocol):
    """A link to one device."""

    @property
    def mtu(self) -> int:
        """Largest attribute packet of the present connection, bytes."""
        ...

    async def connect(self) -> LinkInfo:
        """Find the device and connect; `LinkError` if that fails."""
        ...

    async def disconnect(self) -> None:
        """End the connection and free everything it held; harmless when there is none."""
        ...

    async def read_descriptor(self) -> bytes:
        """Return the value of the descriptor characteristic."""
        ...

    async def read_status(self) -> bytes:
        """Return the value of the status characteristic."""
        ...

    async def write_control(self, request: bytes) -> None:
        """Write to the control characteristic, with response."""
        ...

    async def subscribe(
        self,
        *,
        on_live: NotificationCallback,
        on_control: NotificationCallback,
        on_status: NotificationCallback | None = None,
        on_bulk: NotificationCallback | None = None,
    ) -> None:
        """Ask for notifications of the live, control, status and bulk characteristics."""
        ...

    def on_disconnect(self, callback: DisconnectCallback | None) -> None:
        """Have `callback` told the reason when an established connection is lost."""
        ...


class Listening:
    """What links share whose notifications all come by one way: who listens to which channel, and who hears of a loss.

    A channel is named as `Transport.subscribe` names it: live, control, status, bulk.
    """

    def __init__(self) -> None:
        self._listeners: dict[str, NotificationCallback] = {}
        self._on_disconnect: DisconnectCallback | None = None

    async def subscribe(
        self,
        *,
        on_live: NotificationCallback,
        on_control: NotificationCallback,
        on_status: NotificationCallback | None = None,
        on_bulk: NotificationCallback | None = None,
    ) -> None:
        """Hand on what comes on these channels from now on."""
        self._check_connected()
        wanted = {"live": on_live, "control": on_control, "status": on_status, "bulk": on_bulk}
        self._listeners = {name: callback for name, callback in wanted.items() if callback is not None}

    def on_disconnect(self, callback: DisconnectCallback | None) -> None:
        """Have `callback` told the reason when an established connection is lost."""
        self._on_disconnect = callback

    def _deliver(self, channel: str, data: bytes) -> None:
        listener = self._listeners.get(channel)
        if listener is not None:
            listener(data)

    def _tell_lost(self, reason: str) -> None:
        if self._on_disconnect is not None:
            self._on_disconnect(reason)

    def _check_connected(self) -> None:
        """Raise `LinkError` where there is no connection."""
        raise NotImplementedError


class Port(Protocol):
    """The way to a device that does not speak the six-lead profile."""

    async def open(self, *, on_bytes: OnBytes, on_lost: DisconnectCallback) -> str:
        """Connect, listen and return a name for the device; `LinkError` if that fails."""
        ...

    async def write(self, data: bytes) -> None:
        """Write bytes to the device."""
        ...

    async def close(self) -> None:
        """Disconnect; harmless when there is no connection."""
        ...
