"""What a device driver needs of a link: bytes in, bytes out, one device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from edge_app.link.base import DisconnectCallback

#: Told the characteristic's UUID ("" on a serial line) and the bytes.
OnBytes = Callable[[str, bytes], None]


class Port(Protocol):
    """The way to a device that does not speak the six-lead profile."""

    async def open(self, *, on_bytes: OnBytes, on_lost: DisconnectCallback) -> str:
        """Connect and listen; returns a name for the device. `LinkError` if that fails."""
        ...

    async def write(self, data: bytes) -> None:
        """Write bytes to the device."""
        ...

    async def close(self) -> None:
        """Disconnect; harmless when there is no connection."""
        ...
