"""ProtoCentral boards on a serial line: ADS1293 (leads I, II) and ADS1292R (lead I and respiration).

One envelope, one sample a packet: ``0A FA, length u16, 02, payload, 00 0B``, little-endian. There is no check sum, no
index and no scale. Header, length, type, footer and the range of a 24-bit converter are what a packet is judged by; a
header that turns out to be samples costs the packets that it overlaps, and those losses cannot be seen.

Layouts: protocentral-ads1293-arduino @1a183bc and @6a36ad4 (example 3), protocentral-ads1292r-arduino @9a75cf6
(02.OpenView, payload of 8 bytes) and @a0c0d20 (example 1, payload of 20 bytes).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from firmware_bridge.drivers.base import DriverInfo, QualityInfo, stated_lsb_uv
from firmware_bridge.drivers.stream import StreamDriver, int32
from firmware_bridge.protocol.codec import int16
from lsemvae.ecg.record import check_fs_hz

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER: Final = b"\x0a\xfa"
FOOTER: Final = b"\x00\x0b"
DATA_TYPE: Final = 0x02
_HEAD_BYTES: Final = 5  # header, length, type
_ENVELOPE_BYTES: Final = _HEAD_BYTES + len(FOOTER)

ADS1293_PAYLOAD: Final = 12
# Two generations of the ADS1292R example.
ADS1292R_PAYLOADS: Final = (8, 20)

# The boards' examples sign-extend 24 bits, older ones send them unsigned; a number outside both is no sample.
_MIN_CODE: Final = -(1 << 23)
_END_CODE: Final = 1 << 24

# The rate is a line of the sketch, not part of the stream; the examples ask for these.
ADS1293_FS_HZ: Final = 100.0
ADS1292R_FS_HZ: Final = 125.0

# Examples of one board differ (115 200 at @1a183bc, 57 600 at @6a36ad4).
ADS1293_BAUD: Final = 115_200
ADS1292R_BAUD: Final = 57_600

_RAIL_16: Final = 32767


class ProtocentralReader:
    """Cutter of a byte stream into payloads; anything between packets is skipped and counted in `skipped`."""

    def __init__(self, payloads: tuple[int, ...]) -> None:
        self._payloads = payloads
        self._pending = b""
        self.skipped = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the payloads that are complete with `data`, in order."""
        self._pending += data
        at = self._next_header(0)
        while len(self._pending) - at >= _HEAD_BYTES:
            n_bytes = int.from_bytes(self._pending[at + 2 : at + 4], "little")
            if n_bytes not in self._payloads or self._pending[at + 4] != DATA_TYPE:
                at = self._pass(at)
            elif len(self._pending) - at < n_bytes + _ENVELOPE_BYTES:
                break
            elif self._pending.startswith(FOOTER, at + _HEAD_BYTES + n_bytes):
                yield self._pending[at + _HEAD_BYTES : at + _HEAD_BYTES + n_bytes]
                at = self._next_header(at + n_bytes + _ENVELOPE_BYTES)
            else:
                at = self._pass(at)
        self._pending = self._pending[at:]

    def _next_header(self, at: int) -> int:
        """Return the position of a header at `at` or after, else the end; the first byte of one at the very end counts."""
        found = self._pending.find(HEADER, at)
        if found < 0:
            begun = len(self._pending) > at and self._pending.endswith(HEADER[:1])
            found = len(self._pending) - begun
        self.skipped += found - at
        return found

    def _pass(self, at: int) -> int:
        """Pass a false header by one byte only: a true one may begin inside the packet that it seemed to open."""
        self.skipped += 1
        return self._next_header(at + 1)


class Ads1293Driver(StreamDriver):
    """Three channels of 24 bits: LA-RA (I), LL-RA (II) and a chest electrode whose place nobody knows.

    Parameters
    ----------
    lsb_uv
        Weight of one code. It follows from gain, reference and the decimation that the sketch sets; None where unknown.
    fs_hz
        Rate that the sketch sets.
    chest_lead
        Name of the third channel, if its electrode was placed for a chest lead; None leaves it out.
    baud
        Rate of the line that the sketch sets.
    """

    def __init__(
        self,
        *,
        lsb_uv: float | None = None,
        fs_hz: float = ADS1293_FS_HZ,
        chest_lead: str | None = None,
        baud: int = ADS1293_BAUD,
    ) -> None:
        leads = ("I", "II") if chest_lead is None else ("I", "II", chest_lead)
        super().__init__(
            DriverInfo(
                name="protocentral-ads1293",
                title="ProtoCentral ADS1293 board",
                kind="serial",
                leads=leads,
                fs_hz=check_fs_hz(fs_hz),
                lsb_uv=stated_lsb_uv(lsb_uv),
                quality=QualityInfo(gap_detectable=False, calibrated=lsb_uv is not None, timestamped=False),
                baud=baud,
            )
        )
        self._reader = ProtocentralReader((ADS1293_PAYLOAD,))

    def feed(self, channel: str, data: bytes, t_us: int) -> None:
        """Take bytes of the line."""
        for payload in self._reader.feed(data):
            codes = int32(payload)
            if codes.min() < _MIN_CODE or codes.max() >= _END_CODE:
                self._malformed += 1
                continue
            self._take(codes[: len(self.info.leads), None], t_us)

    @property
    def skipped_bytes(self) -> int:
        """Bytes that belong to no packet."""
        return self._reader.skipped


class Ads1292rDriver(StreamDriver):
    """One lead: ECG between RA and LA (filtered to 40 Hz by the sketch), beside it respiration, which is left out.

    The sketch sends zeros in all fields while an electrode is off; zeros in all fields are taken as that.

    Parameters
    ----------
    lsb_uv
        Weight of one code after the sketch's filter; None where unknown.
    fs_hz
        Rate that the sketch sets.
    lead
        Lead that the electrodes were placed for.
    baud
        Rate of the line that the sketch sets.
    """

    def __init__(
        self,
        *,
        lsb_uv: float | None = None,
        fs_hz: float = ADS1292R_FS_HZ,
        lead: str = "I",
        baud: int = ADS1292R_BAUD,
    ) -> None:
        super().__init__(
            DriverInfo(
                name="protocentral-ads1292r",
                title="ProtoCentral ADS1292R board or shield",
                kind="serial",
                leads=(lead,),
                fs_hz=check_fs_hz(fs_hz),
                lsb_uv=stated_lsb_uv(lsb_uv),
                quality=QualityInfo(gap_detectable=False, calibrated=lsb_uv is not None, timestamped=False),
                baud=baud,
            )
        )
        self._reader = ProtocentralReader(ADS1292R_PAYLOADS)

    def feed(self, channel: str, data: bytes, t_us: int) -> None:
        """Take bytes of the line."""
        for payload in self._reader.feed(data):
            ecg = int16(payload[:2])
            self._take(ecg[:, None], t_us, off=np.array([not any(payload)]), saturated=np.abs(ecg) >= _RAIL_16)

    @property
    def skipped_bytes(self) -> int:
        """Bytes that belong to no packet."""
        return self._reader.skipped
