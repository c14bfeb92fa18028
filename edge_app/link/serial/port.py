"""The bytes of any board that speaks over a serial port.

pyserial reads in a thread of its own and hands bytes to the event loop, so a slow or dead port never blocks it. The
port is taken for this program alone: two readers of one port each get half of the bytes.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from edge_app.link.base import DisconnectCallback, OnBytes
from firmware_bridge.protocol.serial_packets import DEFAULT_BAUD
from lsemvae.ecg.errors import LinkError

_LOGGER = logging.getLogger(__name__)

# pyserial wakes up this often to see whether it shall end.
_READ_S: Final = 0.1
_WRITE_S: Final = 2.0
_MAX_BAUD: Final = 4_000_000

NO_ANSWER: Final = "Check that this port is the device's, that it is switched on, and its rate (baud)."
UNPLUGGED: Final = "Plug the device in again, use another cable or USB port, then connect. What was received is kept."
LOST_REASON: Final = "the serial port is gone: the device was unplugged or switched off"
_PERMISSION: Final = "Add the user to the group 'dialout' (sudo usermod -aG dialout USER) and log in again."
_BUSY: Final = "Close the other program that uses the port (serial monitor, a second recording) and try again."
_INSTALL: Final = "Install it with: pip install 'lsemvae[serial]'"
_NOT_SERIAL: Final = "Name a serial port, for example /dev/ttyACM0, /dev/ttyUSB0 or COM3."


class SerialPort:
    """Bytes to and from one serial port.

    Parameters
    ----------
    path
        Name of the port.
    baud
        Bits per second; a USB device with a port of its own ignores it.
    """

    def __init__(self, path: str, *, baud: int = DEFAULT_BAUD) -> None:
        if not 0 < baud <= _MAX_BAUD:
            raise LinkError(f"serial port: found {baud} baud, expected 1 to {_MAX_BAUD}", advice=NO_ANSWER)
        self.path = path
        self.baud = baud
        self._serial: Any = None
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._writing = asyncio.Lock()

    async def open(self, *, on_bytes: OnBytes, on_lost: DisconnectCallback) -> str:
        """Open the port and return its name.

        `on_bytes` gets ("", bytes) in the event loop, `on_lost` is told once when the port is gone.
        """
        await self.close()
        try:
            import serial
        except ImportError:
            raise LinkError("serial port: found no package pyserial, expected it", advice=_INSTALL) from None

        def opened() -> Any:
            port = serial.Serial(self.path, self.baud, timeout=_READ_S, write_timeout=_WRITE_S, exclusive=True)
            port.reset_input_buffer()
            return port

        with translated(self.path):
            self._serial = await asyncio.to_thread(opened)
        self._ending.clear()
        loop, port = asyncio.get_running_loop(), self._serial

        def deliver(data: bytes) -> None:
            if self._serial is port:
                on_bytes("", data)

        def lost(reason: str) -> None:
            if self._serial is port:
                on_lost(reason)

        self._thread = threading.Thread(
            target=_read_until, args=(port, self._ending, _Loop(loop, deliver, lost)), name="serial-port", daemon=True
        )
        self._thread.start()
        return self.path

    async def write(self, data: bytes) -> None:
        """Write all of `data`."""
        async with self._writing:
            if self._serial is None:
                raise LinkError(f"{self.path}: found no open port, expected one")
            with translated(self.path):
                await asyncio.to_thread(self._serial.write, data)

    async def close(self) -> None:
        """Close the port; harmless when it is not open."""
        port, self._serial = self._serial, None
        thread, self._thread = self._thread, None
        if port is None:
            return
        self._ending.set()
        if thread is not None:
            await asyncio.to_thread(thread.join)
        with suppress(OSError):
            await asyncio.to_thread(port.close)


class _Loop:
    """The event loop as the reading thread sees it; a loop that has ended needs no news."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, deliver: Callable[[bytes], None], lost: DisconnectCallback
    ) -> None:
        self._loop = loop
        self._deliver = deliver
        self._lost = lost

    def deliver(self, data: bytes) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._deliver, data)

    def lost(self, reason: str) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._lost, reason)


def _read_until(port: Any, ending: threading.Event, loop: _Loop) -> None:
    """Read, in a thread of its own, until told to end or until the port is gone."""
    while not ending.is_set():
        try:
            data = port.read(max(1, port.in_waiting))
        except OSError as exc:  # pyserial's SerialException is one
            _LOGGER.info("reading failed: %s", exc)
            loop.lost(LOST_REASON)
            return
        if data:
            loop.deliver(bytes(data))


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Turn what pyserial raises into `LinkError` with what to do now."""
    try:
        yield
    except ValueError as exc:
        raise LinkError(f"{path}: {exc}", advice=NO_ANSWER) from exc
    except OSError as exc:  # pyserial keeps the number of the operating system's error
        message, advice = f"{path}: {exc}", UNPLUGGED
        if exc.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            message, advice = f"{path}: found no such port, expected one of {_ports()}", _NOT_SERIAL
        elif exc.errno in (errno.EACCES, errno.EPERM):
            message, advice = f"{path}: found no permission to open the port, expected it", _PERMISSION
        elif exc.errno in (errno.EBUSY, errno.EAGAIN):
            message, advice = f"{path}: found the port in use, expected it free", _BUSY
        elif exc.errno in (errno.EIO, errno.EBADF):
            message = f"{path}: {LOST_REASON}"
        elif exc.errno is None and "configure" in str(exc):
            message, advice = f"{path}: found something else, expected a serial port", _NOT_SERIAL
        raise LinkError(message, advice=advice) from exc


def _ports() -> str:
    from serial.tools.list_ports import comports

    return ", ".join(sorted(port.device for port in comports())) or "(this machine has none)"
