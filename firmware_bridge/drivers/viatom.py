"""Viatom/Lepu single-lead recorders (DuoEK, ER1, ER2, VBeat): 125 Hz, polled, no sample index.

Each half second the host asks for what has gathered since it asked before: 20 bytes of state, ``n u16``, ``n x i16``. A
late request loses samples in the device without a trace, so gaps are not detectable. The lead (I, II or chest) is chosen
by how the device is held and is not sent.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from firmware_bridge.drivers.base import DriverInfo, QualityInfo, stated_lsb_uv
from firmware_bridge.drivers.stream import StreamDriver
from firmware_bridge.drivers.viatom_frames import (
    NOTIFY_UUID,
    SERVICE_UUID,
    TYPE_ERROR,
    TYPE_OK,
    WRITE_UUID,
    ViatomFrame,
    ViatomReader,
)
from firmware_bridge.protocol.codec import int16

REAL_TIME_DATA: Final = 0x03
# The parameter is the rate; the maker's programs send this request, byte for byte.
REQUEST: Final = ViatomFrame(cmd=REAL_TIME_DATA, payload=b"\x7d")
POLL_US: Final = 500_000

FS_HZ: Final = 125.0
# The maker's conversion: 1.0035 x 1800 / (4096 x 178.74) mV.
LSB_UV: Final = 1.0035 * 1800 / (4096 * 178.74) * 1000

STATE_BYTES: Final = 20
_RUN_STATUS_AT: Final = 8
# Low four bits of the run status: 0 is idle because no electrode touches, 7 says that one came off.
_NO_CONTACT: Final = (0, 7)
# The device writes this in place of a sample while an electrode is off.
OFF_MARK: Final = 32767
_RAIL: Final = 32767


class PolledDriver(StreamDriver):
    """Base of the drivers that ask every half second; subclasses read the answer."""

    request: ViatomFrame

    def __init__(self, info: DriverInfo) -> None:
        super().__init__(info)
        self._reader = ViatomReader()
        self._asked_us: int | None = None

    def poll(self, t_us: int) -> tuple[bytes, ...]:
        """Return the request, every half second."""
        if self._asked_us is not None and t_us - self._asked_us < POLL_US:
            return ()
        # Kept to the grid of half seconds, so that a caller who is late once is not late ever after; a pause starts
        # the grid afresh.
        late = self._asked_us is None or t_us - self._asked_us >= 2 * POLL_US
        self._asked_us = t_us if late or self._asked_us is None else self._asked_us + POLL_US
        return (self.request.to_bytes(),)

    def feed(self, channel: str, data: bytes, t_us: int) -> None:
        """Take a notification."""
        if channel.lower() != NOTIFY_UUID:
            return
        for frame in self._reader.feed(data, t_us):
            if frame.cmd != self.request.cmd:
                continue
            if frame.kind >= TYPE_ERROR:
                self._remark(f"request 0x{frame.cmd:02X} refused: type 0x{frame.kind:02X}")
            elif frame.kind != TYPE_OK or not self._answer(frame.payload, t_us):
                self._malformed += 1
        self._corrupt = self._reader.corrupt

    def _answer(self, payload: bytes, t_us: int) -> bool:
        """Take the samples of an answer; False if it cannot be read."""
        raise NotImplementedError


class ViatomDriver(PolledDriver):
    """One lead.

    Parameters
    ----------
    lsb_uv
        Weight of one code, if it is another than the maker's conversion.
    lead
        Lead that the device was held for.
    """

    request = REQUEST

    def __init__(self, *, lsb_uv: float | None = None, lead: str = "I") -> None:
        super().__init__(
            DriverInfo(
                name="viatom",
                title="Viatom/Lepu DuoEK, ER1, ER2, VBeat",
                kind="ble",
                leads=(lead,),
                fs_hz=FS_HZ,
                lsb_uv=LSB_UV if lsb_uv is None else stated_lsb_uv(lsb_uv),
                quality=QualityInfo(gap_detectable=False, calibrated=True, timestamped=False),
                service_uuids=(SERVICE_UUID,),
                name_prefixes=("DuoEK", "ER1", "ER2", "VBeat"),
                notify=(NOTIFY_UUID,),
                write=WRITE_UUID,
            )
        )

    def _answer(self, payload: bytes, t_us: int) -> bool:
        n_samples = int.from_bytes(payload[STATE_BYTES : STATE_BYTES + 2], "little")
        body = payload[STATE_BYTES + 2 :]
        if len(payload) < STATE_BYTES + 2 or len(body) != 2 * n_samples:
            return False
        if not n_samples:
            return True
        codes = int16(body)
        off = (codes == OFF_MARK) | (payload[_RUN_STATUS_AT] & 0x0F in _NO_CONTACT)
        self._take(np.where(codes == OFF_MARK, 0, codes)[None, :], t_us, off=off[None, :], saturated=codes <= -_RAIL)
        return True
