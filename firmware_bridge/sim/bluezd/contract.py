"""What the objects on the bus may ask of the daemon that made them; they never import it."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from bumble.device import Device
from dbus_fast.aio import MessageBus

from firmware_bridge.sim.bluezd.agents import Agents
from firmware_bridge.sim.bluezd.registrations import Registrations


class Host(Protocol):
    """The daemon, as adapter, devices and characteristics see it.

    Attributes
    ----------
    counts
        Calls and notifications by name.
    registrations
        Who asked for which notifications.
    connects_to_fail
        So many calls of Connect still to be aborted.
    mtu
        Attribute MTU to ask for, bytes.
    """

    counts: Counter[str]
    agents: Agents
    registrations: Registrations
    connects_to_fail: int
    central: Device
    mtu: int

    @property
    def bus(self) -> MessageBus:
        """The bus connection."""
        ...

    @property
    def powered(self) -> bool:
        """Whether the adapter is on."""
        ...

    @property
    def discovering(self) -> bool:
        """Whether a client scans."""
        ...

    async def forget(self, path: str) -> bool:
        """Remove a device object, its link and its keys; return whether there was one."""
        ...

    def power_lost(self) -> None:
        """End every connection and every scan."""
        ...

    def scan_began(self) -> None:
        """Keep whoever was seen before."""
        ...

    def scan_ended(self) -> None:
        """Forget soon who is neither connected nor paired."""
        ...


class Owner(Protocol):
    """A connected device, as its characteristics see it."""

    host: Host

    @property
    def mtu(self) -> int:
        """Attribute MTU of the connection, bytes."""
        ...

    async def secure(self, handle: int) -> None:
        """Pair, because a request for this attribute was refused for want of encryption."""
        ...

    async def behind_a_stuck_read(self, handle: int) -> None:
        """Wait for ever if an earlier read of this attribute was never answered."""
        ...
