"""Virtual devices on a pseudo-terminal: a six-lead device, and a board of ProtoCentral's kind.

``python -m firmware_bridge.sim.air.serial_device --record FILE`` prints ``{"event": "ready", "port": PATH}``; any program
opens that path as a serial port. End of input or SIGTERM ends it. Linux and macOS only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import struct
import sys
import threading
import tty
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.protocol.authenticity import DeviceKey
from firmware_bridge.protocol.serial_packets import SERIAL_MTU, PacketReader, SerialChannel, encode_packet
from firmware_bridge.sim.air.faults import Faults
from firmware_bridge.sim.air.player import DevicePlayer
from firmware_bridge.sim.device.core_device import make_device
from firmware_bridge.sim.device.device import Notification
from firmware_bridge.sim.device.source import SignalSource, source_from_record
from firmware_bridge.sim.process import device_parser, end_on_sigterm, say
from lsemvae.ecg.errors import EcgError
from lsemvae.ecg.record import EcgRecord
from lsemvae.formats.read import read_record

_READ_BYTES: Final = 4096
_USER_ERROR: Final = 1

# Layout of the example sketches of protocentral-ads1293-arduino (commit 1a183bc): 0A FA, length of the data u16, packet
# type 2, data, 00 0B. No check sum, no counter.
_BOARD_HEAD: Final = bytes((0x0A, 0xFA))
_BOARD_TYPE: Final = 0x02
_BOARD_TAIL: Final = bytes((0x00, 0x0B))
_BOARD_TICK_S: Final = 0.01


class Pty:
    """A pseudo-terminal; `path` is the end that a program opens as a serial port."""

    def __init__(self) -> None:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self.unsent = 0

    def listen(self, on_bytes: Callable[[bytes], None]) -> None:
        """Hand on what the program writes."""

        def read() -> None:
            try:
                data = os.read(self._master, _READ_BYTES)
            except BlockingIOError:
                return
            if data:
                on_bytes(data)

        asyncio.get_running_loop().add_reader(self._master, read)

    def write(self, data: bytes) -> bool:
        """Send all of `data`, or none of it where the other end does not read: a serial driver drops, never waits."""
        if self._master < 0:
            return False
        try:
            if os.write(self._master, data) == len(data):
                return True
        except BlockingIOError:
            pass
        self.unsent += 1
        return False

    def unplug(self) -> None:
        """Take the port away under the program that has it open."""
        if self._master >= 0:
            asyncio.get_running_loop().remove_reader(self._master)
            os.close(self._slave)
            os.close(self._master)
            self._master = self._slave = -1


class SerialPeripheral:
    """A virtual six-lead device on a pseudo-terminal.

    Parameters
    ----------
    player
        The device, its faults and its clock.
    corrupt
        Changes what leaves the device, below the packets: line noise.
    """

    def __init__(self, player: DevicePlayer, *, corrupt: Callable[[bytes], bytes] = bytes) -> None:
        self.player = player
        self._pty = Pty()
        self._corrupt = corrupt
        self._reader = PacketReader()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def path(self) -> str:
        """The port to open."""
        return self._pty.path

    @property
    def mtu(self) -> int:
        """Largest attribute packet, bytes."""
        return SERIAL_MTU

    @property
    def unsent(self) -> int:
        """Packets that did not fit the buffer of the line."""
        return self._pty.unsent

    def start(self) -> None:
        """Switch on."""
        self._pty.listen(self._received)
        self.player.start()

    def unplug(self) -> None:
        """Pull the cable."""
        self._pty.unplug()

    async def close(self) -> None:
        """Switch off and take the port away."""
        await self.player.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pty.unplug()

    async def send(self, notification: Notification) -> None:
        """Send a notification to the host."""
        self._put(SerialChannel[notification.channel.name], notification.data)

    async def drop(self) -> None:
        """Do nothing: a wire has no link to cut, the device falls silent."""

    def _put(self, channel: SerialChannel, data: bytes) -> None:
        self._pty.write(self._corrupt(encode_packet(channel, data)))

    def _received(self, data: bytes) -> None:
        device = self.player.device
        for packet in self._reader.feed(data):
            if not device.powered:
                continue
            if packet.channel is SerialChannel.CONTROL:
                task = asyncio.get_running_loop().create_task(self.player.control(packet.data))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            elif packet.channel is SerialChannel.DESCRIPTOR:
                self.player.detach(self)
                self.player.attach(self)
                self._put(SerialChannel.DESCRIPTOR, device.read_descriptor())
            elif packet.channel is SerialChannel.STATUS:
                self._put(SerialChannel.STATUS, device.read_status())


class ProtoCentralBoard:
    """A board that streams ``0A FA, length, 02, channels x int32, 00 0B`` from power-on, one packet a sample.

    Parameters
    ----------
    codes
        int32 ``[channel, time]``, repeated after the end.
    speed
        Times real time.
    """

    def __init__(self, codes: NDArray[np.int32], *, fs_hz: float, speed: float = 1.0) -> None:
        self._codes = codes
        self._rate_hz = fs_hz * speed
        self._layout = struct.Struct(f"<{codes.shape[0]}i")
        self._pty = Pty()
        self._task: asyncio.Task[None] | None = None

    @property
    def path(self) -> str:
        """The port to open."""
        return self._pty.path

    def packet(self, index: int) -> bytes:
        """Return the bytes of one sample."""
        data = self._layout.pack(*(int(code) for code in self._codes[:, index % self._codes.shape[1]]))
        return _BOARD_HEAD + struct.pack("<HB", len(data), _BOARD_TYPE) + data + _BOARD_TAIL

    def start(self) -> None:
        """Switch on."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="virtual-board")

    def unplug(self) -> None:
        """Pull the cable."""
        self._pty.unplug()

    async def close(self) -> None:
        """Switch off."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._pty.unplug()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        start_s, sent = loop.time(), 0
        while True:
            due = int((loop.time() - start_s) * self._rate_hz)
            self._pty.write(b"".join(self.packet(index) for index in range(sent, due)))
            sent = due
            await asyncio.sleep(_BOARD_TICK_S)


def board_codes(record: EcgRecord, *, leads: Sequence[str], lsb_uv: float) -> NDArray[np.int32]:
    """Return the codes ``[lead, time]`` of a converter with `lsb_uv` per code that measures `leads` of a record."""
    rows = [record.leads.index(lead) for lead in leads]
    codes: NDArray[np.int32] = np.rint(record.samples[rows] * (record.lsb_uv / lsb_uv)).astype(np.int32)
    return codes


def main(argv: Sequence[str] | None = None) -> int:
    """Run until standard input ends; 1 if the recording cannot be read."""
    parser = device_parser("firmware_bridge.sim.air.serial_device")
    parser.add_argument("--faults", type=json.loads, default={}, help='JSON, for example \'{"drop": 0.05, "seed": 2}\'')
    options = parser.parse_args(argv)
    end_on_sigterm()
    try:
        source = source_from_record(read_record(options.record))
        asyncio.run(_serve(source, options))
    except EcgError as exc:
        say("error", **exc.to_dict())
        return _USER_ERROR
    return 0


async def _serve(source: SignalSource, options: argparse.Namespace) -> None:
    key = None if options.key is None else DeviceKey.parse(options.key)
    virtual = make_device(source, core=options.core, key=key)
    player = DevicePlayer(virtual, faults=Faults(**options.faults), speed=options.speed, on_event=say)
    device = SerialPeripheral(player)
    device.start()
    say("ready", port=device.path)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def read() -> None:  # in a thread, as a loop cannot watch standard input where that is a file
        while os.read(0, _READ_BYTES):
            pass
        with suppress(RuntimeError):  # the loop has ended by itself
            loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=read, name="standard-input", daemon=True).start()
    await ended.wait()
    await device.close()


if __name__ == "__main__":
    sys.exit(main())
