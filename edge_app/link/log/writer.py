"""Write a notification log while a session runs: a link that works as before and keeps a copy of what it carried.

The log replays the session (`edge_app.link.log.replay`) and is what goes into a fault report; `edge_app.link.log.file`
describes the file.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Self

from edge_app.link.base import DisconnectCallback, LinkInfo, NotificationCallback, OnBytes, Port, Transport
from edge_app.link.log.file import E6L_DRIVER, LogWriter
from lsemvae.ecg.errors import EcgError


class _Logging:
    """The clock of a log, and its end."""

    def __init__(self, path: Path, *, driver: str) -> None:
        self.log = LogWriter(path, driver=driver)
        self._t0_s: float | None = None

    def note(self, channel: str, data: bytes = b"", **details: object) -> None:
        """Keep an entry with the time since the first one."""
        now_s = asyncio.get_running_loop().time()
        self._t0_s = now_s if self._t0_s is None else self._t0_s
        self.log.append(channel, data, t_us=round((now_s - self._t0_s) * 1e6), **details)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.log.close()


class LoggingTransport(_Logging):
    """A `Transport` that keeps a log of another one; a context manager, which closes the log.

    Parameters
    ----------
    inner
        The link to a six-lead device.
    path
        A file that is not there yet.
    """

    def __init__(self, inner: Transport, path: Path) -> None:
        super().__init__(path, driver=E6L_DRIVER)
        self._inner = inner
        self._connected = False

    @property
    def mtu(self) -> int:
        """Largest attribute packet of the present connection, bytes."""
        return self._inner.mtu

    async def connect(self) -> LinkInfo:
        """Connect; the log keeps the kind of link, never the name or address of the device."""
        try:
            info = await self._inner.connect()
        except EcgError:
            self.note("connect_failed")
            raise
        self._connected = True
        self.note("connect", mtu=info.mtu, kind=info.kind)
        return info

    async def disconnect(self) -> None:
        """End the connection."""
        if self._connected:
            self._connected = False
            self.note("disconnect")
        await self._inner.disconnect()

    async def read_descriptor(self) -> bytes:
        """Return the value of the descriptor characteristic."""
        return self._kept("descriptor", await self._inner.read_descriptor())

    async def read_status(self) -> bytes:
        """Return the value of the status characteristic."""
        return self._kept("status_read", await self._inner.read_status())

    async def write_control(self, request: bytes) -> None:
        """Write to the control characteristic."""
        self.note("request", request)
        await self._inner.write_control(request)

    async def subscribe(
        self,
        *,
        on_live: NotificationCallback,
        on_control: NotificationCallback,
        on_status: NotificationCallback | None = None,
        on_bulk: NotificationCallback | None = None,
    ) -> None:
        """Ask for notifications."""
        await self._inner.subscribe(
            on_live=self._listener("live", on_live),
            on_control=self._listener("control", on_control),
            on_status=None if on_status is None else self._listener("status", on_status),
            on_bulk=None if on_bulk is None else self._listener("bulk", on_bulk),
        )

    def on_disconnect(self, callback: DisconnectCallback | None) -> None:
        """Have `callback` told when the link is lost."""

        def lost(reason: str) -> None:
            self._connected = False
            self.note("lost")
            if callback is not None:
                callback(reason)

        self._inner.on_disconnect(None if callback is None else lost)

    def _kept(self, channel: str, data: bytes) -> bytes:
        self.note(channel, data)
        return data

    def _listener(self, channel: str, callback: NotificationCallback) -> NotificationCallback:
        def received(data: bytes) -> None:
            self.note(channel, bytes(data))
            callback(data)

        return received


class LoggingPort(_Logging):
    """A `Port` that keeps a log of another one; a context manager, which closes the log."""

    def __init__(self, inner: Port, path: Path, *, driver: str) -> None:
        super().__init__(path, driver=driver)
        self._inner = inner

    async def open(self, *, on_bytes: OnBytes, on_lost: DisconnectCallback) -> str:
        """Connect and listen."""

        def received(channel: str, data: bytes) -> None:
            self.note(channel, data)
            on_bytes(channel, data)

        return await self._inner.open(on_bytes=received, on_lost=on_lost)

    async def write(self, data: bytes) -> None:
        """Write bytes to the device."""
        self.note("write", data)
        await self._inner.write(data)

    async def close(self) -> None:
        """Disconnect."""
        await self._inner.close()
