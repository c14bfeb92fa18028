"""CRC-16/CCITT-FALSE: polynomial 0x1021, start 0xFFFF, no reflection, no final XOR; "123456789" gives 0x29B1."""

from __future__ import annotations

import binascii
from typing import Final

from lsemvae.ecg.errors import ProtocolError

CRC_START: Final = 0xFFFF


def crc16(data: bytes | bytearray | memoryview) -> int:
    """Return the check sum of `data`; the standard library's ``crc_hqx`` is this polynomial in C."""
    return binascii.crc_hqx(data, CRC_START)


def with_crc(data: bytes) -> bytes:
    """Return `data` followed by its check sum, little-endian."""
    return data + crc16(data).to_bytes(2, "little")


def crc_pair(data: bytes) -> tuple[int, int]:
    """Return the check sum in the last two bytes, and the one computed over the bytes before them."""
    return int.from_bytes(data[-2:], "little"), crc16(data[:-2])


def check_crc(data: bytes, *, what: str, error: type[ProtocolError]) -> None:
    """Raise `error` if the last two bytes of `data` are not the check sum of the bytes before them; `what` names the message."""
    found, expected = crc_pair(data)
    if found != expected:
        raise error(f"{what} check sum: found 0x{found:04X}, expected 0x{expected:04X}")
