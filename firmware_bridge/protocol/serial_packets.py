"""The six-lead protocol on a serial line: COBS packets of ``channel u8, bytes``.

The bytes are those that the characteristic of the same name carries over the air. Live, bulk, status and descriptor
end in their own CRC-16. Requests and replies do not, because a radio's link layer checks them; on a wire a control
packet ends in a CRC-16 over channel and bytes.

A host reads descriptor or status with a packet of the channel alone. Reading the descriptor begins a connection: the
device stops sending until START, as after a radio link that came up.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from firmware_bridge.protocol.checksum import check_crc, with_crc
from firmware_bridge.protocol.cobs import DELIMITER, CobsReader, cobs_encode
from firmware_bridge.protocol.errors import FrameCrcError, FrameError, FrameTooShortError
from firmware_bridge.protocol.profile import CRC_BYTES

# The packets of a radio with data length extension: 244 bytes of a characteristic. With channel and check sum they fit
# one COBS block, so the overhead is two bytes a packet.
SERIAL_MTU: Final = 247

DEFAULT_BAUD: Final = 115_200


class SerialChannel(IntEnum):
    """First byte of a packet."""

    LIVE = 0
    CONTROL = 1
    STATUS = 2
    BULK = 3
    DESCRIPTOR = 4


@dataclass(frozen=True, slots=True)
class SerialPacket:
    """One packet, check sum of a control packet already taken off; empty data asks for the channel's value."""

    channel: SerialChannel
    data: bytes


def encode_packet(channel: SerialChannel, data: bytes = b"") -> bytes:
    """Return the bytes on the wire, delimiter included."""
    packet = bytes((channel,)) + data
    return cobs_encode(with_crc(packet) if channel is SerialChannel.CONTROL else packet) + DELIMITER


def decode_packet(packet: bytes) -> SerialPacket:
    """Return what a packet (COBS undone) holds; `FrameError` for an unknown channel or a control packet that was changed."""
    if not packet:
        raise FrameTooShortError("serial packet: found 0 bytes, expected a channel")
    if packet[0] not in tuple(SerialChannel):
        raise FrameError(f"serial packet: found channel {packet[0]}, expected 0..{max(SerialChannel)}")
    channel = SerialChannel(packet[0])
    if channel is not SerialChannel.CONTROL:
        return SerialPacket(channel, packet[1:])
    if len(packet) < 1 + CRC_BYTES:
        raise FrameTooShortError(f"control packet: found {len(packet)} bytes, expected at least {1 + CRC_BYTES}")
    check_crc(packet, what="control packet", error=FrameCrcError)
    return SerialPacket(channel, packet[1:-CRC_BYTES])


class PacketReader:
    """Packets out of a serial line; damaged ones are dropped and counted in `rejected`."""

    def __init__(self) -> None:
        self._cobs = CobsReader()
        self._refused = 0

    @property
    def rejected(self) -> int:
        """Packets that could not be read."""
        return self._cobs.damaged + self._refused

    def feed(self, data: bytes | bytearray) -> tuple[SerialPacket, ...]:
        """Take bytes; return the packets that they complete."""
        packets = []
        for raw in self._cobs.feed(data):
            try:
                packets.append(decode_packet(raw))
            except FrameError:
                self._refused += 1
        return tuple(packets)
