"""Consistent Overhead Byte Stuffing: packets on a serial line, a zero byte after each and none inside.

A receiver that lost its place finds it again at the next zero. Overhead: one byte in 254, and the zero. Source: S.
Cheshire, M. Baker, "Consistent Overhead Byte Stuffing", IEEE/ACM Transactions on Networking 7(2), 1999. COBS shows
lost bytes, not changed ones: what a packet holds needs a check sum of its own.
"""

from __future__ import annotations

from typing import Final

from firmware_bridge.protocol.errors import FrameError, FrameTooShortError

DELIMITER: Final = b"\0"

# A code byte of 255 stands for 254 bytes without a zero and, unlike every smaller one, for no zero after them.
_FULL_CODE: Final = 0xFF
_FULL_BYTES: Final = _FULL_CODE - 1

# The longest attribute value of Bluetooth is 512 bytes; with channel, check sum and code bytes a packet stays below.
DEFAULT_MAX_BYTES: Final = 520


def cobs_encode(data: bytes | bytearray) -> bytes:
    """Return `data` without zeros; the delimiter is not included."""
    out = bytearray()
    blocks = bytes(data).split(b"\0")
    for number, block in enumerate(blocks, 1):
        position = 0
        while len(block) - position >= _FULL_BYTES:
            out.append(_FULL_CODE)
            out += block[position : position + _FULL_BYTES]
            position += _FULL_BYTES
        # A full block that ends the data needs no code byte after it: no zero follows.
        if position < len(block) or position == 0 or number < len(blocks):
            out.append(len(block) - position + 1)
            out += block[position:]
    return bytes(out)


def cobs_decode(packet: bytes | bytearray) -> bytes:
    """Undo `cobs_encode`; `FrameError` for bytes that no encoder makes."""
    if not packet:
        raise FrameTooShortError("COBS packet: found 0 bytes, expected at least 1")
    out = bytearray()
    position = 0
    while position < len(packet):
        code = packet[position]
        block = packet[position + 1 : position + code]
        if code == 0 or 0 in block:
            raise FrameError("COBS packet: found a zero byte, expected none before the delimiter")
        if len(block) != code - 1:
            raise FrameTooShortError(f"COBS packet: found {len(block)} bytes in a block, expected {code - 1}")
        out += block
        position += code
        if code != _FULL_CODE and position < len(packet):
            out.append(0)
    return bytes(out)


class CobsReader:
    """Packets out of a stream of bytes that may be cut anywhere.

    Memory is bounded: a run of more than `max_bytes` without a delimiter is dropped up to the next one.

    Attributes
    ----------
    damaged
        Packets that were dropped because no encoder makes such bytes, or because they were too long.
    """

    def __init__(self, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._too_long = False
        self.damaged = 0

    def feed(self, data: bytes | bytearray) -> tuple[bytes, ...]:
        """Take bytes; return the packets that they complete, in order. Nothing between two delimiters is no packet."""
        packets: list[bytes] = []
        *complete, rest = bytes(data).split(DELIMITER)
        for piece in complete:
            self._keep(piece)
            raw, too_long = bytes(self._buffer), self._too_long
            self.clear()
            if too_long:
                self.damaged += 1
            elif raw:
                try:
                    packets.append(cobs_decode(raw))
                except FrameError:
                    self.damaged += 1
        self._keep(rest)
        return tuple(packets)

    def clear(self) -> None:
        """Forget the packet that has begun."""
        self._buffer.clear()
        self._too_long = False

    def _keep(self, piece: bytes) -> None:
        self._buffer += piece[: self._max_bytes + 1 - len(self._buffer)]
        self._too_long = self._too_long or len(self._buffer) > self._max_bytes
