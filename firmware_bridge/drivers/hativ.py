"""Hativ P30: two limb leads at 250 Hz over Bluetooth.

Documented (package healthrian_ble_support_for_p30 3.0.0, MIT): name, characteristics, commands ``BB CC, length,
payload`` without a check sum, the keep-alive every 2 s, 20 samples of 24 bits big-endian for each of two leads in a
notification. Not documented in what was read: the weight of a code, the order of the two leads' samples inside a
notification, and the bytes of the lead state. The first two must be stated; until then the record is uncalibrated.
"""

from __future__ import annotations

from typing import Final, Literal

from firmware_bridge.drivers.base import DriverInfo, QualityInfo, sig_uuid, stated_lsb_uv
from firmware_bridge.drivers.stream import StreamDriver
from firmware_bridge.protocol.codec import int24

Order = Literal["interleaved", "blocks"]

CONTROL_UUID: Final = sig_uuid(0x2CF0)
ECG_UUID: Final = sig_uuid(0x2C07)

SAMPLES_PER_PACKET: Final = 20
_N_LEADS: Final = 2
PACKET_BYTES: Final = SAMPLES_PER_PACKET * _N_LEADS * 3

SET_MODE: Final = b"\x0a\x01"
START: Final = b"\x10"
STOP: Final = b"\x11"
KEEP_ALIVE: Final = b"\xff"
# Without it the device falls asleep.
_KEEP_ALIVE_US: Final = 2_000_000


def command(payload: bytes) -> bytes:
    """Return a command: ``BB CC, length of the payload, payload``."""
    return bytes((0xBB, 0xCC, len(payload))) + payload


class HativDriver(StreamDriver):
    """Leads I and II.

    Parameters
    ----------
    lsb_uv
        Weight of one code; None where unknown.
    order
        "interleaved" (I, II, I, II, ...) or "blocks" (twenty of I, then twenty of II). None where unknown: samples are
        then read as interleaved, and the record is uncalibrated, since its two leads may be mixed.
    """

    def __init__(self, *, lsb_uv: float | None = None, order: Order | None = None) -> None:
        known = lsb_uv is not None and order is not None
        super().__init__(
            DriverInfo(
                name="hativ",
                title="Hativ P30",
                kind="ble",
                leads=("I", "II"),
                fs_hz=250.0,
                lsb_uv=stated_lsb_uv(lsb_uv),
                quality=QualityInfo(gap_detectable=False, calibrated=known, timestamped=False),
                name_prefixes=("Hativ",),
                notify=(ECG_UUID,),
                write=CONTROL_UUID,
                min_mtu=PACKET_BYTES + 3,
            )
        )
        self._order = order
        self._keep_alive_us: int | None = None

    def begin(self) -> tuple[bytes, ...]:
        """Return what switches it on, then what starts it."""
        return command(SET_MODE), command(START)

    def poll(self, t_us: int) -> tuple[bytes, ...]:
        """Return the keep-alive, every 2 s."""
        if self._keep_alive_us is not None and t_us - self._keep_alive_us < _KEEP_ALIVE_US:
            return ()
        self._keep_alive_us = t_us
        return (command(KEEP_ALIVE),)

    def end(self) -> tuple[bytes, ...]:
        """Return what stops it."""
        return (command(STOP),)

    def feed(self, channel: str, data: bytes, t_us: int) -> None:
        """Take a notification of the ECG characteristic."""
        if channel.lower() != ECG_UUID:
            return
        if len(data) != PACKET_BYTES:
            self._malformed += 1
            return
        flat = int24(data, big_endian=True)
        blocks = self._order == "blocks"
        self._take(flat.reshape(_N_LEADS, -1) if blocks else flat.reshape(-1, _N_LEADS).T, t_us)
