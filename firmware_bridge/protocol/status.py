"""The 20-byte status, once a second and on change: it fits the smallest MTU."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from firmware_bridge.protocol.checksum import check_crc, with_crc
from firmware_bridge.protocol.errors import StatusError
from firmware_bridge.protocol.profile import ALL_ELECTRODES_ON, INDEX_MODULUS, PROTOCOL_VERSION, Contact, DeviceState

STATUS_BYTES: Final = 20
_LAYOUT: Final = struct.Struct("<BBBBHhIIH")


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """State of a device.

    Attributes
    ----------
    next_index, oldest_index
        Index after the newest sample, and of the oldest sample still in the ring (both modulo 2^32).
    overruns
        Frames since START that could not be sent (modulo 2^16).
    """

    state: DeviceState
    contact: Contact = ALL_ELECTRODES_ON
    battery_percent: int = 0
    battery_mv: int = 0
    temperature_centi_c: int = 0
    next_index: int = 0
    oldest_index: int = 0
    overruns: int = 0


def encode_status(status: DeviceStatus) -> bytes:
    """Return the 20 bytes of a status."""
    raw = _LAYOUT.pack(
        PROTOCOL_VERSION, status.state, int(status.contact), status.battery_percent, status.battery_mv,
        status.temperature_centi_c,
        status.next_index % INDEX_MODULUS, status.oldest_index % INDEX_MODULUS, status.overruns & 0xFFFF,
    )  # fmt: skip
    return with_crc(raw)


def decode_status(data: bytes | bytearray) -> DeviceStatus:
    """Return the status in `data`; raise a `StatusError` that says what is wrong with it."""
    raw = bytes(data)
    if len(raw) != STATUS_BYTES:
        raise StatusError(f"status: found {len(raw)} bytes, expected {STATUS_BYTES}")
    check_crc(raw, what="status", error=StatusError)
    version, state, contact, percent, millivolt, temperature, next_index, oldest, overruns = _LAYOUT.unpack(raw[:-2])
    if version != PROTOCOL_VERSION:
        raise StatusError(f"status version: found {version}, expected {PROTOCOL_VERSION}")
    if state not in tuple(DeviceState):
        raise StatusError(f"device state: found {state}, expected 0..{max(DeviceState)}")
    return DeviceStatus(
        state=DeviceState(state), contact=Contact(contact), battery_percent=percent, battery_mv=millivolt,
        temperature_centi_c=temperature, next_index=next_index, oldest_index=oldest, overruns=overruns,
    )  # fmt: skip
