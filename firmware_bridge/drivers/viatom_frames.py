"""Frames of the Viatom/Lepu family: ``A5, cmd, ~cmd, type, number, length u16, payload, CRC-8``.

Little-endian; CRC-8 with polynomial 0x07, start 0, over all bytes before it. One frame may take several notifications.
Sources: viatom-dev/iOSERModule @ed74e1d, viatomEcho/LepuBle @46c1de4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SERVICE_UUID: Final = "14839ac4-7d7e-415c-9a42-167340cf2339"
WRITE_UUID: Final = "8b00ace7-eb0b-49b0-bbe9-9aee0a26e1a3"
NOTIFY_UUID: Final = "0734594a-a8e7-4b1a-a6b1-cd5243059a57"

GET_INFO: Final = 0xE1
GET_BATTERY: Final = 0xE4

TYPE_REQUEST: Final = 0
TYPE_OK: Final = 1
# A device that refuses a request answers with a type from here on.
TYPE_ERROR: Final = 0xE0

_MARK: Final = 0xA5
_HEAD_BYTES: Final = 7
_CRC_POLYNOMIAL: Final = 0x07

# Half a second of eight channels at 250 Hz is 2 000 bytes; a longer length is a false header.
MAX_PAYLOAD: Final = 4096

# The parts of a frame follow each other within a connection interval or two. A frame that stops growing lost a part.
_STALE_US: Final = 1_000_000


def _crc8_table() -> bytes:
    table = bytearray()
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc << 1) ^ (_CRC_POLYNOMIAL if crc & 0x80 else 0)
        table.append(crc & 0xFF)
    return bytes(table)


_CRC8: Final = _crc8_table()


def crc8(data: bytes) -> int:
    """Return the check sum of `data`; "123456789" gives 0xF4."""
    crc = 0
    for byte in data:
        crc = _CRC8[crc ^ byte]
    return crc


@dataclass(frozen=True, slots=True)
class ViatomFrame:
    """One request or response."""

    cmd: int
    kind: int = TYPE_REQUEST
    number: int = 0
    payload: bytes = b""

    def to_bytes(self) -> bytes:
        """Return the bytes on the wire."""
        head = bytes((_MARK, self.cmd, ~self.cmd & 0xFF, self.kind, self.number))
        body = head + len(self.payload).to_bytes(2, "little") + self.payload
        return body + bytes((crc8(body),))


class ViatomReader:
    """Frames put together from notifications.

    Attributes
    ----------
    corrupt
        Frames whose check sum does not match.
    skipped
        Bytes that belong to no frame.
    """

    def __init__(self) -> None:
        self._pending = b""
        self._since_us = 0
        self.corrupt = 0
        self.skipped = 0

    def feed(self, data: bytes, t_us: int) -> tuple[ViatomFrame, ...]:
        """Return the frames that are complete with `data`."""
        if self._pending and t_us - self._since_us > _STALE_US:
            self._drop(1)
        self._pending += data
        self._since_us = t_us
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return tuple(frames)

    def _next(self) -> ViatomFrame | None:
        """Return the next whole frame, and drop what lies before it; None if there is none."""
        while True:
            found = self._pending.find(_MARK)
            self._drop(len(self._pending) if found < 0 else found)
            if len(self._pending) < _HEAD_BYTES:
                return None
            n_bytes = _HEAD_BYTES + int.from_bytes(self._pending[5:7], "little") + 1
            if self._pending[1] ^ self._pending[2] != 0xFF or n_bytes > _HEAD_BYTES + MAX_PAYLOAD + 1:
                self._drop(1)
            elif len(self._pending) < n_bytes:
                return None
            elif crc8(self._pending[: n_bytes - 1]) == self._pending[n_bytes - 1]:
                raw, self._pending = self._pending[:n_bytes], self._pending[n_bytes:]
                return ViatomFrame(cmd=raw[1], kind=raw[3], number=raw[4], payload=raw[_HEAD_BYTES:-1])
            else:
                self.corrupt += 1
                self._drop(1)

    def _drop(self, n_bytes: int) -> None:
        self.skipped += n_bytes
        self._pending = self._pending[n_bytes:]
