"""Polar H10: one chest lead at 130 Hz in microvolts, for development only.

Polar Measurement Data service. A frame is ``00, time u64 (ns, of the last sample), 00, n x i24 uV``, little-endian,
without check sum or sequence number; lost frames show in the time. Layout: bleakheart src/bleakheart/_core.py @b4b6896.
"""

from __future__ import annotations

from typing import Final

from firmware_bridge.drivers.base import DriverInfo, QualityInfo
from firmware_bridge.drivers.stream import PacketClock, StampedDriver
from firmware_bridge.protocol.codec import int24
from lsemvae.ecg.errors import UnitError

SERVICE_UUID: Final = "fb005c80-02e7-f387-1cad-8acd2d8df0c8"
CONTROL_UUID: Final = "fb005c81-02e7-f387-1cad-8acd2d8df0c8"
DATA_UUID: Final = "fb005c82-02e7-f387-1cad-8acd2d8df0c8"

# START ECG; sample rate (0), one value, 130 Hz; resolution (1), one value, 14 bit.
START: Final = bytes.fromhex("02000001820001010e00")
STOP: Final = bytes.fromhex("0300")

FS_HZ: Final = 130.0
_HEAD_BYTES: Final = 10
_ECG: Final = 0
_REPLY: Final = 0xF0
_ALREADY: Final = 6  # the stream runs already: nothing to complain about

REFUSALS: Final = {
    1: "invalid operation", 2: "invalid measurement", 3: "not supported", 4: "invalid length", 5: "invalid parameter",
    6: "already in this state", 7: "invalid resolution", 8: "invalid sample rate", 9: "invalid range",
    10: "invalid MTU", 11: "invalid number of channels", 12: "invalid state", 13: "device is on its charger",
}  # fmt: skip


class PolarH10Driver(StampedDriver):
    """One lead.

    Parameters
    ----------
    lsb_uv
        The device sends microvolts: anything but None or 1.0 is refused.
    lead
        Name for the strap's lead. It is a chest lead between two places of a strap and none of the twelve.
    """

    def __init__(self, *, lsb_uv: float | None = None, lead: str = "I") -> None:
        if lsb_uv not in (None, 1.0):
            raise UnitError(f"found a weight of {lsb_uv} uV per code, expected 1: the device sends microvolts")
        super().__init__(
            DriverInfo(
                name="polar-h10",
                title="Polar H10 chest strap",
                kind="ble",
                leads=(lead,),
                fs_hz=FS_HZ,
                lsb_uv=1.0,
                quality=QualityInfo(gap_detectable=True, calibrated=True, timestamped=True),
                service_uuids=(SERVICE_UUID,),
                name_prefixes=("Polar H10",),
                notify=(CONTROL_UUID, DATA_UUID),
                write=CONTROL_UUID,
                min_mtu=232,  # 73 samples a frame
            ),
            PacketClock(FS_HZ, ticks_per_s=1e9, modulus=1 << 64),
        )

    def begin(self) -> tuple[bytes, ...]:
        """Return the request that starts the ECG."""
        return (START,)

    def end(self) -> tuple[bytes, ...]:
        """Return the request that stops it."""
        return (STOP,)

    def feed(self, channel: str, data: bytes, t_us: int) -> None:
        """Take a notification or an indication."""
        uuid = channel.lower()
        if uuid == CONTROL_UUID:
            if len(data) < 4 or data[0] != _REPLY:
                self._malformed += 1
            elif data[3] not in (0, _ALREADY):
                self._remark(f"request {data[1]} refused: {REFUSALS.get(data[3], f'error {data[3]}')}")
        elif uuid == DATA_UUID:
            body = data[_HEAD_BYTES:]
            if not body or len(body) % 3 or data[0] != _ECG or data[9] != 0:
                self._malformed += 1
            else:
                self._take_stamped(int24(body), t_us, stamp=int.from_bytes(data[1:9], "little"))
