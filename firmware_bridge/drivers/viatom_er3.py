"""Viatom/Lepu ER3, M12, Lepod with a cable: leads I and II at once, 250 Hz, polled.

The answer to request 06 is 48 bytes of state, index of the first sample u32, number of samples u16 and the samples of
four or eight channels, packed as differences (:func:`unpack_differences`). Four channels are respiration (or V5), I, II,
V1; eight are V6, I, II, V1-V5. Only I and II are kept.

An early firmware answered request 03 with 20 bytes of state, ``n u16`` and plain interleaved i16 (`plain_channels`).
Layouts: viatomEcho/LepuBle @cb6a6bc (Er3BleResponse.kt), @06669eb (Er3BleCmd.java).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.drivers.base import DriverInfo, QualityInfo, stated_lsb_uv
from firmware_bridge.drivers.viatom import OFF_MARK, PolledDriver
from firmware_bridge.drivers.viatom import STATE_BYTES as PLAIN_STATE_BYTES
from firmware_bridge.drivers.viatom_frames import NOTIFY_UUID, SERVICE_UUID, WRITE_UUID, ViatomFrame
from firmware_bridge.protocol.codec import int16
from lsemvae.ecg.errors import FormatError

REQUEST: Final = ViatomFrame(cmd=0x06)
PLAIN_REQUEST: Final = ViatomFrame(cmd=0x03, payload=b"\x7d")

FS_HZ: Final = 250.0
LSB_UV: Final = 2.44140625  # 10 mV / 4096, the maker's conversion of request 06

STATE_BYTES: Final = 48
_LEAD_TYPE_AT: Final = 24
_LEAD_OFF_AT: Final = 40  # u16: bit 0 lead I, bit 1 lead II
_WAVE_AT: Final = STATE_BYTES + 6

# Cable 0 has twelve leads (eight channels), all others four channels; of these 1, 2, 5, 6, 7 measure I and II.
_EIGHT_CHANNELS: Final = 0
CABLES_WITH_I_AND_II: Final = (0, 1, 2, 5, 6, 7)
_LEADS_AT: Final = slice(1, 3)

_ESCAPE: Final = 0x80
_RAIL: Final = 32767

# So many times a packet must begin where the one before ended before the index is believed to count samples: nobody documents it.
_MATCHES: Final = 3
_INDEX_MODULUS: Final = 1 << 32
_MAX_JUMP: Final = 150_000  # 10 minutes
_MAX_BACK: Final = 2_500  # 10 seconds


def unpack_differences(data: bytes, *, n_channels: int) -> NDArray[np.int32] | None:
    """Return the samples ``[channel, time]`` of a packed wave, or None if `data` does not hold whole samples.

    A sample of all channels is one signed difference (u8) for each, to the sample before (0 before the first); or 0x80,
    a mask, and for each channel, by its bit, a value of 16 bits or a difference.
    """
    rows: list[list[int]] = []
    last = [0] * n_channels
    at, end = 0, len(data)
    while at < end:
        mask = 0
        if data[at] == _ESCAPE:
            if at + 1 >= end:
                return None
            mask, at = data[at + 1], at + 2
        elif _ESCAPE in data[at : at + n_channels]:
            return None  # no difference: an escape where none may be
        for channel in range(n_channels):
            size = 2 if mask >> channel & 1 else 1
            if at + size > end:
                return None
            value = int.from_bytes(data[at : at + size], "little", signed=True)
            last[channel] = value if size == 2 else last[channel] + value
            at += size
        rows.append(last.copy())
    table = np.array(rows, dtype=np.int64).reshape(-1, n_channels)
    if table.size and np.abs(table).max() > _RAIL + 1:
        return None  # the sum of differences left the range of the device's 16 bits
    return np.ascontiguousarray(table.T.astype(np.int32))


class ViatomEr3Driver(PolledDriver):
    """Leads I and II.

    Parameters
    ----------
    lsb_uv
        Weight of one code; None takes the maker's conversion, which is known for the packed form only.
    plain_channels
        4 or 8 for the early firmware; None for the packed form.
    """

    def __init__(self, *, lsb_uv: float | None = None, plain_channels: Literal[4, 8] | None = None) -> None:
        if plain_channels not in (None, 4, 8):
            raise FormatError(f"found {plain_channels} plain channels, expected 4 or 8")
        packed = plain_channels is None
        super().__init__(
            DriverInfo(
                name="viatom-er3",
                title="Viatom/Lepu ER3, M12, Lepod with a 6-lead cable",
                kind="ble",
                leads=("I", "II"),
                fs_hz=FS_HZ,
                lsb_uv=LSB_UV if packed and lsb_uv is None else stated_lsb_uv(lsb_uv),
                quality=QualityInfo(gap_detectable=False, calibrated=packed or lsb_uv is not None, timestamped=False),
                service_uuids=(SERVICE_UUID,),
                name_prefixes=("ER3", "M12", "Lepod"),
                notify=(NOTIFY_UUID,),
                write=WRITE_UUID,
            )
        )
        self.request = REQUEST if packed else PLAIN_REQUEST
        self._plain = plain_channels
        self._next_index: int | None = None
        self._matches = 0
        self._doubtful = False

    def _answer(self, payload: bytes, t_us: int) -> bool:
        if self._plain is not None:
            n_samples = int.from_bytes(payload[PLAIN_STATE_BYTES : PLAIN_STATE_BYTES + 2], "little")
            body = payload[PLAIN_STATE_BYTES + 2 :]
            if len(payload) < PLAIN_STATE_BYTES + 2 or len(body) != 2 * n_samples * self._plain:
                return False
            if n_samples:
                self._samples(int16(body).reshape(-1, self._plain).T[_LEADS_AT], t_us, off=0)
            return True
        if len(payload) < _WAVE_AT:
            return False
        if not payload[_WAVE_AT:]:
            return True
        cable = payload[_LEAD_TYPE_AT]
        if cable not in CABLES_WITH_I_AND_II:
            self._remark(f"cable of type {cable} does not measure leads I and II")
            return False
        wave = unpack_differences(payload[_WAVE_AT:], n_channels=8 if cable == _EIGHT_CHANNELS else 4)
        if wave is None:
            return False
        if self._in_order(int.from_bytes(payload[STATE_BYTES : STATE_BYTES + 4], "little"), wave.shape[1]):
            self._samples(wave[_LEADS_AT], t_us, off=payload[_LEAD_OFF_AT])
        return True

    def _samples(self, codes: NDArray[np.int32], t_us: int, *, off: int) -> None:
        marks = codes == OFF_MARK
        flags = np.array([off & 1, off >> 1 & 1], dtype=np.bool_)
        saturated = np.any(codes <= -_RAIL, axis=0)
        self._take(np.where(marks, 0, codes), t_us, off=marks | flags[:, None], saturated=saturated)

    def _in_order(self, index: int, n_samples: int) -> bool:
        """Return whether a packet is new; declare what is missing before it, once the index is believed."""
        expected, self._next_index = self._next_index, (index + n_samples) % _INDEX_MODULUS
        if expected is None:
            return True
        ahead = (index - expected + _INDEX_MODULUS // 2) % _INDEX_MODULUS - _INDEX_MODULUS // 2
        believed = self._matches >= _MATCHES and not self._doubtful
        if ahead == 0:
            self._matches += 1
        elif not believed or not -_MAX_BACK <= ahead <= _MAX_JUMP:
            self._doubtful = True
        elif ahead > 0:
            self._skip(ahead)
        else:
            self._next_index = expected
            self._duplicates += 1
            return False
        # Gaps are detectable as long as the index did what an index of samples does.
        shows = self._matches >= _MATCHES and not self._doubtful
        if shows != self.info.quality.gap_detectable:
            quality = replace(self.info.quality, gap_detectable=shows, timestamped=shows)
            self.info = replace(self.info, quality=quality)
        return True
