"""CRC-16/CCITT-FALSE: polynomial 0x1021, start 0xFFFF, no reflection, no final XOR; "123456789" gives 0x29B1."""

from __future__ import annotations

import binascii
from typing import Final

CRC_START: Final = 0xFFFF


def crc16(data: bytes | bytearray | memoryview) -> int:
    """Check sum of `data`; the standard library's ``crc_hqx`` is this polynomial in C."""
    return binascii.crc_hqx(data, CRC_START)


def with_crc(data: bytes) -> bytes:
    """`data` followed by its check sum, little-endian."""
    return data + crc16(data).to_bytes(2, "little")


def crc_pair(data: bytes) -> tuple[int, int]:
    """Check sum stored in the last two bytes, and the one computed over the bytes before them."""
    return int.from_bytes(data[-2:], "little"), crc16(data[:-2])
