"""The virtual device on a wire, as section 13 of PROTOCOL.md has it: what it says before anybody asked for its descriptor."""

from __future__ import annotations

import asyncio
import os

import numpy as np
import pytest

from firmware_bridge.protocol.control import Request, StartParams
from firmware_bridge.protocol.profile import Op
from firmware_bridge.protocol.serial_packets import PacketReader, SerialChannel, SerialPacket, encode_packet
from firmware_bridge.sim.air.player import DevicePlayer
from firmware_bridge.sim.air.serial_device import SerialPeripheral
from firmware_bridge.sim.device.device import VirtualDevice
from firmware_bridge.sim.device.source import source_from_uv

START = encode_packet(SerialChannel.CONTROL, Request(op=Op.START, txn=1, params=StartParams().to_bytes()).to_bytes())


class Wire:
    """The host's end of the line: packets as they come."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self._reader = PacketReader()
        self._packets: asyncio.Queue[SerialPacket] = asyncio.Queue()
        asyncio.get_running_loop().add_reader(self.fd, self._read)

    def _read(self) -> None:
        for packet in self._reader.feed(os.read(self.fd, 4096)):
            self._packets.put_nowait(packet)

    async def next(self) -> SerialPacket:
        return await asyncio.wait_for(self._packets.get(), 20)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.fd)
        os.close(self.fd)


@pytest.fixture
def talk():
    """Run a conversation with a fresh device on a pseudo-terminal."""

    def run(conversation):
        async def both():
            source = source_from_uv(np.zeros((2, 1000)), fs_hz=500.0)
            device = SerialPeripheral(DevicePlayer(VirtualDevice(source), speed=20.0))
            device.start()
            wire = Wire(device.path)
            try:
                return await conversation(wire)
            finally:
                wire.close()
                await device.close()

        return asyncio.run(both())

    return run


def test_before_its_descriptor_was_read_only_status_and_descriptor_are_answered(talk):
    async def conversation(wire):
        os.write(wire.fd, b"\0" + START + encode_packet(SerialChannel.STATUS))
        return (await wire.next()).channel

    assert talk(conversation) is SerialChannel.STATUS  # and no reply to START before it


def test_reading_the_descriptor_begins_a_connection_status_comes_by_itself_and_no_sample_before_start(talk):
    async def conversation(wire):
        os.write(wire.fd, encode_packet(SerialChannel.DESCRIPTOR))
        heard = [(await wire.next()).channel for _ in range(4)]
        os.write(wire.fd, START)
        while (packet := await wire.next()).channel is SerialChannel.STATUS:
            heard.append(packet.channel)
        return heard, packet

    heard, reply = talk(conversation)
    assert heard[0] is SerialChannel.DESCRIPTOR
    assert set(heard[1:]) == {SerialChannel.STATUS}
    assert (reply.channel, reply.data[:3]) == (SerialChannel.CONTROL, b"\x81\x01\x00")


@pytest.mark.parametrize(("request_hex", "reply_hex"), [("7f05", "ff0502"), ("01", "810002"), ("0101001900", "810100")])
def test_every_request_is_answered_an_unknown_and_a_short_one_too(talk, request_hex, reply_hex):
    async def conversation(wire):
        os.write(wire.fd, encode_packet(SerialChannel.DESCRIPTOR))
        os.write(wire.fd, encode_packet(SerialChannel.CONTROL, bytes.fromhex(request_hex)))
        while (packet := await wire.next()).channel is not SerialChannel.CONTROL:
            pass
        return packet.data[:3].hex()

    assert talk(conversation) == reply_hex
