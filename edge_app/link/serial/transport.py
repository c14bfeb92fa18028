"""A six-lead device on a serial line: the same bytes as over the air, in COBS packets."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from edge_app.link.base import LinkInfo, Listening
from edge_app.link.serial.port import NO_ANSWER, UNPLUGGED, SerialPort
from firmware_bridge.protocol.checksum import crc_pair
from firmware_bridge.protocol.cobs import DELIMITER
from firmware_bridge.protocol.serial_packets import (
    DEFAULT_BAUD,
    SERIAL_MTU,
    PacketReader,
    SerialChannel,
    encode_packet,
)
from lsemvae.ecg.errors import LinkError

# An Arduino-like board restarts when its port is opened, and its boot loader takes two seconds before it answers.
_ASK_S: Final = 0.7
_ASK_TIMES: Final = 6


class SerialTransport(Listening):
    """A `Transport` to a six-lead device on a serial port.

    Parameters
    ----------
    port, baud
        See `SerialPort`.
    """

    def __init__(self, port: str, baud: int = DEFAULT_BAUD) -> None:
        super().__init__()
        self._port = SerialPort(port, baud=baud)
        self._reader = PacketReader()
        self._asked: dict[SerialChannel, asyncio.Future[bytes]] = {}
        self._established = False

    @property
    def mtu(self) -> int:
        """Largest packet, as an attribute packet of a radio, bytes."""
        return SERIAL_MTU

    @property
    def rejected(self) -> int:
        """Packets of the present connection that could not be read."""
        return self._reader.rejected

    async def connect(self) -> LinkInfo:
        """Open the port and have the device describe itself."""
        await self.disconnect()
        self._reader = PacketReader()
        try:
            await self._port.open(on_bytes=self._received, on_lost=self._lost)
            await self._port.write(DELIMITER)  # ends a packet that was cut off by whoever wrote last
            self._established = True
            await self._ask(SerialChannel.DESCRIPTOR)
        except BaseException:
            await self.disconnect()
            raise
        return LinkInfo(name=self._port.path, address=self._port.path, mtu=self.mtu, kind="serial")

    async def disconnect(self) -> None:
        """Close the port."""
        self._established = False
        self._listeners.clear()
        self._fail_asked("the port was closed")
        await self._port.close()

    async def read_descriptor(self) -> bytes:
        """Return the value of the descriptor channel; the device sends nothing after it until START."""
        return await self._ask(SerialChannel.DESCRIPTOR)

    async def read_status(self) -> bytes:
        """Return the value of the status channel."""
        return await self._ask(SerialChannel.STATUS)

    async def write_control(self, request: bytes) -> None:
        """Send a request."""
        self._check_connected()
        await self._port.write(encode_packet(SerialChannel.CONTROL, request))

    async def _ask(self, channel: SerialChannel) -> bytes:
        """Return the value of a channel; asked for again when no answer, or a damaged one, comes."""
        for _attempt in range(_ASK_TIMES):
            self._check_connected()
            answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self._asked[channel] = answer
            await self._port.write(encode_packet(channel))
            with suppress(TimeoutError):
                async with asyncio.timeout(_ASK_S):
                    return await answer
        found = f"{self.rejected} unreadable packets" if self.rejected else "no answer"
        message = f"{self._port.path}: found {found} in {_ASK_TIMES * _ASK_S:.1f} s, expected a {channel.name.lower()}"
        raise LinkError(message, advice=NO_ANSWER)

    def _received(self, _channel: str, data: bytes) -> None:
        for packet in self._reader.feed(data):
            if not packet.data:
                continue
            waiting = self._asked.get(packet.channel)
            if waiting is not None and not waiting.done():
                found, expected = crc_pair(packet.data)  # at the end of a descriptor or a status
                if found == expected:
                    waiting.set_result(packet.data)
            self._deliver(packet.channel.name.lower(), packet.data)

    def _lost(self, reason: str) -> None:
        if not self._established:
            return
        self._established = False
        self._fail_asked(reason)
        self._tell_lost(reason)

    def _fail_asked(self, reason: str) -> None:
        for waiting in self._asked.values():
            if not waiting.done():
                waiting.set_exception(LinkError(f"{self._port.path}: {reason}", advice=UNPLUGGED))
        self._asked.clear()

    def _check_connected(self) -> None:
        if not self._established:
            raise LinkError(f"{self._port.path}: found no connection, expected one", advice=UNPLUGGED)
