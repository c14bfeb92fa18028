"""The time line of a driver: samples in order, known gaps between them, leads without contact; then a record.

Codes become int16 by the rule of `firmware_bridge.assembly.quantise`: a constant number of codes is taken off each lead, and the
step is the device's own or the smallest power of two of it that fits. That module knows the electrodes of the six-lead
profile; here lead-off comes by lead, and there may be more than four leads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.assembly.quantise import INT16_LIMIT
from firmware_bridge.drivers.base import ARBITRARY_LSB_UV, DriverInfo
from lsemvae.ecg.errors import LengthError
from lsemvae.ecg.record import MAX_LSB_UV, EcgRecord, Interval, LeadOff
from lsemvae.ecg.runs import runs_of

if TYPE_CHECKING:
    from lsemvae.ecg.record import StartTime

# A recording takes 10-30 s. An hour at 500 Hz bounds memory (14 MB for two leads), whatever a device sends.
MAX_SAMPLES: Final = 1_800_000

# A longer silence is no gap of a recording but another recording, or a clock that jumped.
MAX_GAP_S: Final = 600.0

_FIRST_CAPACITY: Final = 8_192


class Track:
    """Grows at its end only.

    Parameters
    ----------
    n_leads
        Rows.
    max_samples
        Samples kept at most, gaps included; later ones are counted in `overflow`.
    """

    def __init__(self, n_leads: int, *, max_samples: int = MAX_SAMPLES) -> None:
        self._max = max_samples
        self._codes = np.zeros((n_leads, _FIRST_CAPACITY), dtype=np.int32)
        self._received = np.zeros(_FIRST_CAPACITY, dtype=np.bool_)
        self._off = np.zeros((n_leads, _FIRST_CAPACITY), dtype=np.bool_)
        self._saturated = np.zeros(_FIRST_CAPACITY, dtype=np.bool_)
        self.elapsed = 0
        self.overflow = 0

    @property
    def received(self) -> int:
        """Samples that are here."""
        return int(np.count_nonzero(self._received[: self.elapsed]))

    def append(
        self,
        codes: NDArray[np.int32],
        *,
        off: NDArray[np.bool_] | None = None,
        saturated: NDArray[np.bool_] | None = None,
    ) -> int:
        """Add samples ``[lead, time]``; `off` ``[lead]`` or ``[lead, time]`` and `saturated` ``[time]`` go with them.

        Returns the number kept.
        """
        start, stop = self._extend(codes.shape[1])
        kept = stop - start
        self._codes[:, start:stop] = codes[:, :kept]
        self._received[start:stop] = True
        if off is not None:
            self._off[:, start:stop] = off[:, None] if off.ndim == 1 else off[:, :kept]
        if saturated is not None:
            self._saturated[start:stop] = saturated[:kept]
        return kept

    def skip(self, n_samples: int) -> int:
        """Declare samples that were lost; returns the number declared."""
        start, stop = self._extend(n_samples)
        return stop - start

    def to_record(
        self,
        info: DriverInfo,
        *,
        fs_hz: float | None = None,
        start: StartTime | None = None,
        device: str = "",
        record_id: str = "",
    ) -> EcgRecord:
        """The record of everything so far, with what the device cannot know written into it."""
        if not self.received:
            raise LengthError(
                "found 0 received samples, expected at least 1",
                advice="Check that the device is on and near and that the electrodes touch the skin, then record again.",
            )
        n = self.elapsed
        received, off = self._received[:n], self._off[:, :n]
        saturated = self._saturated[:n].copy()
        usable = received & ~off & ~saturated
        lsb_uv = ARBITRARY_LSB_UV if info.lsb_uv is None else info.lsb_uv
        counts, offsets, shift = _quantised(self._codes[:, :n], received=received, usable=usable, lsb_uv=lsb_uv)
        saturated |= np.any(np.abs(counts) > INT16_LIMIT, axis=0)
        return EcgRecord(
            samples=np.clip(counts, -INT16_LIMIT, INT16_LIMIT).astype(np.int16),
            lsb_uv=lsb_uv * (1 << shift),
            fs_hz=info.fs_hz if fs_hz is None else fs_hz,
            leads=info.leads,
            offset_uv=tuple(float(code) * lsb_uv for code in offsets),
            start=start,
            gaps=_intervals(~received),
            lead_off=tuple(
                LeadOff(name, *run) for name, row in zip(info.leads, off, strict=True) for run in runs_of(row)
            ),
            device=device,
            record_id=record_id,
            gain_known=info.quality.calibrated,
            saturated=_intervals(saturated & received),
            source=info.quality.source(info.name),
        )

    def _extend(self, n_samples: int) -> tuple[int, int]:
        start, stop = self.elapsed, min(self.elapsed + n_samples, self._max)
        self.overflow += start + n_samples - stop
        have = self._received.size
        if stop > have:
            more = min(max(stop, 2 * have), max(self._max, stop)) - have
            self._codes = np.pad(self._codes, ((0, 0), (0, more)))
            self._received = np.pad(self._received, (0, more))
            self._off = np.pad(self._off, ((0, 0), (0, more)))
            self._saturated = np.pad(self._saturated, (0, more))
        self.elapsed = stop
        return start, stop


def _quantised(
    codes: NDArray[np.int32], *, received: NDArray[np.bool_], usable: NDArray[np.bool_], lsb_uv: float
) -> tuple[NDArray[np.float64], NDArray[np.int64], int]:
    """Counts before they are limited, offset of each lead in codes, and the power of two of the step.

    A step above the coarsest that a record may have is not taken: what then does not fit is a saturated input.
    """
    chosen = [mask if mask.any() else received for mask in usable]
    offsets = np.array([int(np.median(row[mask])) for row, mask in zip(codes, chosen, strict=True)], dtype=np.int64)
    centred = np.where(received, codes.astype(np.int64) - offsets[:, None], 0)
    largest, shift = int(np.abs(centred[usable]).max(initial=0)), 0
    while round(largest / (1 << shift)) > INT16_LIMIT and lsb_uv * (2 << shift) <= MAX_LSB_UV:
        shift += 1
    return np.rint(centred / (1 << shift)), offsets, shift


def _intervals(mask: NDArray[np.bool_]) -> tuple[Interval, ...]:
    return tuple(Interval(start, stop) for start, stop in runs_of(mask))
