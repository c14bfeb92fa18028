"""The device's side of each protocol, for tests: samples to bytes, written from the documents with `struct` alone.

Nothing here imports a driver, so that a mistake in one is not a mistake in both.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

Rows = Sequence[Sequence[int]]  # [lead][time]


def crc8_bitwise(data: bytes) -> int:
    """CRC-8, polynomial 0x07, start 0."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = ((crc << 1) ^ 0x07) & 0xFF if crc & 0x80 else crc << 1
    return crc


def crc16_bitwise(data: bytes) -> int:
    """CRC-16/CCITT-FALSE."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = ((crc << 1) ^ 0x1021) & 0xFFFF if crc & 0x8000 else crc << 1
    return crc


def openview(payload: bytes) -> bytes:
    """ProtoCentral's envelope."""
    return b"\x0a\xfa" + struct.pack("<HB", len(payload), 2) + payload + b"\x00\x0b"


def ads1293(rows: Rows) -> bytes:
    """One packet a sample of three channels."""
    return b"".join(openview(struct.pack("<3i", *sample)) for sample in zip(*rows, strict=True))


def ads1292r(ecg: Sequence[int], *, respiration: int = 7, rate: int = 60, long: bool = False) -> bytes:
    """One packet a sample; the older sketch sends 20 bytes."""
    tail = b"\x00" * 12 if long else b""
    return b"".join(openview(struct.pack("<4h", value, respiration, rate, 15) + tail) for value in ecg)


def viatom(cmd: int, payload: bytes, *, kind: int = 1, number: int = 0) -> bytes:
    """A frame with its check sum."""
    body = struct.pack("<5BH", 0xA5, cmd, cmd ^ 0xFF, kind, number, len(payload)) + payload
    return body + bytes((crc8_bitwise(body),))


def viatom_rt(samples: Sequence[int], *, run_status: int = 2) -> bytes:
    """Answer to request 03: 20 bytes of state, n, samples."""
    state = struct.pack("<HBBIB11x", 61, 0x01, 88, 12, run_status)
    return viatom(0x03, state + struct.pack(f"<H{len(samples)}h", len(samples), *samples))


def er3_plain(rows: Rows) -> bytes:
    """Answer of the early firmware: interleaved 16-bit numbers."""
    flat = [value for sample in zip(*rows, strict=True) for value in sample]
    return viatom(0x03, bytes(20) + struct.pack(f"<H{len(flat)}h", len(rows[0]), *flat))


def er3_packed(rows: Rows, *, index: int, cable: int = 1, off: int = 0) -> bytes:
    """Answer to request 06: 48 bytes of state, index, n, differences."""
    state = bytearray(48)
    state[24] = cable
    state[40:42] = struct.pack("<H", off)
    return viatom(0x06, bytes(state) + struct.pack("<IH", index, len(rows[0])) + er3_differences(rows))


def er3_differences(rows: Rows) -> bytes:
    """The packing: the first sample in full, then differences, in full again where one does not fit."""
    out = b""
    last: list[int] | None = None
    for sample in zip(*rows, strict=True):
        full = [
            last is None or not -127 <= value - old <= 127 for value, old in zip(sample, last or sample, strict=True)
        ]
        if any(full):
            out += bytes((0x80, sum(bit << k for k, bit in enumerate(full))))
        for k, value in enumerate(sample):
            out += struct.pack("<h", value) if full[k] else struct.pack("<b", value - (last or sample)[k])
        last = list(sample)
    return out


def hativ(rows: Rows, *, order: str = "interleaved") -> bytes:
    """A notification: 24 bits big-endian."""
    flat = [v for row in rows for v in row] if order == "blocks" else [v for s in zip(*rows, strict=True) for v in s]
    return b"".join((value & 0xFFFFFF).to_bytes(3, "big") for value in flat)


def polar(samples: Sequence[int], *, t_ns: int) -> bytes:
    """A frame of the measurement data characteristic; the time is that of its last sample."""
    body = b"".join((value & 0xFFFFFF).to_bytes(3, "little") for value in samples)
    return struct.pack("<BQB", 0, t_ns, 0) + body


def movesense(samples: Sequence[int], *, t_ms: int, ref: int = 99) -> bytes:
    """A data notification; the time is that of its first sample."""
    return struct.pack(f"<BBI{len(samples)}i", 2, ref, t_ms & 0xFFFFFFFF, *samples)
