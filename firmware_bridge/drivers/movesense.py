"""Movesense sensors with the GATT sensor-data protocol (GD-77): one chest lead, for development only.

Request ``01, ref, path`` subscribes, ``02, ref`` ends it. A data notification is ``02, ref, time u32 (ms, of the first
sample), 16 x i32``, little-endian, without check sum or sequence number; lost notifications show in the time.
Source: movesense.com/docs/esw/gatt_sensordata_protocol. One code is 1/20/2^17 V (stated by the maker's staff in a public
answer), 0.38147 uV.
"""

from __future__ import annotations

from typing import Final

from firmware_bridge.drivers.base import DriverInfo, QualityInfo, stated_lsb_uv
from firmware_bridge.drivers.stream import PacketClock, StampedDriver, int32
from lsemvae.ecg.errors import RateError

SERVICE_UUID: Final = "34802252-7185-4d5d-b431-630e7050e8f0"
WRITE_UUID: Final = "34800001-7185-4d5d-b431-630e7050e8f0"
NOTIFY_UUID: Final = "34800002-7185-4d5d-b431-630e7050e8f0"

LSB_UV: Final = 1e6 / 20 / (1 << 17)
# Rates of /Meas/ECG: 125-512 Hz.
RATES_HZ: Final = (125, 128, 200, 250, 256, 500, 512)

SAMPLES_PER_PACKET: Final = 16
_HEAD_BYTES: Final = 6
DATA_BYTES: Final = _HEAD_BYTES + 4 * SAMPLES_PER_PACKET
_SUBSCRIBE, _UNSUBSCRIBE = 1, 2
_REFERENCE: Final = 99
_RESPONSE: Final = 1
_DATA_HEAD: Final = bytes((2, _REFERENCE))
_HTTP_OK: Final = range(200, 300)
# The input takes 60 mV beside an offset of 500 mV (user guide of Movesense MD), 1.5 million codes; 24 bits are no ECG.
_END_CODE: Final = 1 << 23


class MovesenseDriver(StampedDriver):
    """One lead.

    Parameters
    ----------
    lsb_uv
        Weight of one code, if it is another than the maker states.
    fs_hz
        One of `RATES_HZ`.
    lead
        Name for the sensor's lead. It is a chest lead between two places of a strap and none of the twelve.
    """

    def __init__(self, *, lsb_uv: float | None = None, fs_hz: int = 200, lead: str = "I") -> None:
        if fs_hz not in RATES_HZ:
            raise RateError(f"found {fs_hz} Hz, expected one of {', '.join(map(str, RATES_HZ))} Hz")
        super().__init__(
            DriverInfo(
                name="movesense",
                title="Movesense sensor",
                kind="ble",
                leads=(lead,),
                fs_hz=float(fs_hz),
                lsb_uv=LSB_UV if lsb_uv is None else stated_lsb_uv(lsb_uv),
                quality=QualityInfo(gap_detectable=True, calibrated=True, timestamped=True),
                service_uuids=(SERVICE_UUID,),
                name_prefixes=("Movesense",),
                notify=(NOTIFY_UUID,),
                write=WRITE_UUID,
                min_mtu=DATA_BYTES + 3,
            ),
            PacketClock(fs_hz, ticks_per_s=1e3, modulus=1 << 32),
        )
        self._rate = fs_hz

    def begin(self) -> tuple[bytes, ...]:
        """Return the request that subscribes to the ECG."""
        return (bytes((_SUBSCRIBE, _REFERENCE)) + f"/Meas/ECG/{self._rate}".encode("ascii"),)

    def end(self) -> tuple[bytes, ...]:
        """Return the request that ends the subscription."""
        return (bytes((_UNSUBSCRIBE, _REFERENCE)),)

    def feed(self, channel: str, data: bytes, t_us: int) -> None:
        """Take a notification."""
        if channel.lower() != NOTIFY_UUID:
            return
        if len(data) >= 4 and data[0] == _RESPONSE:
            status = int.from_bytes(data[2:4], "little")
            if data[1] == _REFERENCE and status not in _HTTP_OK:
                self._remark(f"subscription to ECG at {self._rate} Hz refused: status {status}")
            return
        samples = int32(data[_HEAD_BYTES:]) if len(data) == DATA_BYTES and data[:2] == _DATA_HEAD else None
        if samples is None or samples.min() < -_END_CODE or samples.max() >= _END_CODE:
            self._malformed += 1
            return
        self._take_stamped(samples, t_us, stamp=int.from_bytes(data[2:6], "little"))
