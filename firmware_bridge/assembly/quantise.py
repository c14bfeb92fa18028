"""Device codes on a time line to an `EcgRecord` of int16 samples.

A converter of 24 bits sees the electrode offset (up to 300 mV) and the heartbeat (about 1 mV) in one number. The
offset, a whole number of codes, is taken off each lead and kept in ``offset_uv``; what remains keeps the device's own
step where it fits 16 bits, else the smallest power of two of it that does. ``lsb_uv`` says which. Where an electrode is
off or a channel at its limit the signal is meaningless and does not choose the step; whatever then does not fit is
limited and declared as saturated, never silently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.protocol.descriptor import DeviceDescriptor
from firmware_bridge.protocol.profile import ELECTRODES_OF_LEAD, Contact
from lsemvae.ecg.errors import LengthError
from lsemvae.ecg.record import MAX_LSB_UV, EcgRecord
from lsemvae.ecg.runs import Interval, LeadOff, StartTime, runs_of
from lsemvae.ecg.source import SourceInfo

# Symmetric on purpose: negating a lead (a swapped pair of electrodes) must not overflow.
INT16_LIMIT: Final = 32767

UNKNOWN_SOURCE: Final = SourceInfo()


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Everything that was received, on the device's clock.

    Attributes
    ----------
    codes
        int32 ``[lead, time]``, 0 where nothing was received.
    received
        bool ``[time]``.
    contact
        uint8 ``[time]``, bits of `Contact`.
    """

    codes: NDArray[np.int32]
    received: NDArray[np.bool_]
    contact: NDArray[np.uint8]

    @property
    def n_samples(self) -> int:
        """Elapsed samples, received or not."""
        return int(self.received.size)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Measured:
    """Codes of a device, with what is known of each sample.

    Attributes
    ----------
    codes
        int32 ``[lead, time]``.
    received
        bool ``[time]``.
    off
        bool ``[lead, time]``: an electrode of the lead is off.
    saturated
        bool ``[time]``: a channel is at its limit.
    lsb_uv
        Weight of one code, uV.
    """

    codes: NDArray[np.int32]
    received: NDArray[np.bool_]
    off: NDArray[np.bool_]
    saturated: NDArray[np.bool_]
    leads: tuple[str, ...]
    fs_hz: float
    lsb_uv: float

    @property
    def usable(self) -> NDArray[np.bool_]:
        """``[lead, time]``: received, within the converter's range, with the lead's electrodes on."""
        usable: NDArray[np.bool_] = self.received & ~self.saturated & ~self.off
        return usable

    def to_record(self, *, start: StartTime | None, device: str, record_id: str, source: SourceInfo) -> EcgRecord:
        """Return the record: received samples plus declared gaps are its length, always."""
        usable = self.usable
        # Of each lead the median over its usable samples, or over all received ones if it has none.
        rows = ((row, mask if mask.any() else self.received) for row, mask in zip(self.codes, usable, strict=True))
        offsets = np.array([int(np.median(row[mask])) for row, mask in rows], dtype=np.int64)
        centred = np.where(self.received, self.codes.astype(np.int64) - offsets[:, None], 0)
        # The smallest step for which every usable sample fits, but none above the coarsest that a record may have.
        largest, shift = int(np.abs(centred[usable]).max(initial=0)), 0
        while round(largest / (1 << shift)) > INT16_LIMIT and self.lsb_uv * (2 << shift) <= MAX_LSB_UV:
            shift += 1
        counts = np.rint(centred / (1 << shift))
        saturated = self.saturated | np.any(np.abs(counts) > INT16_LIMIT, axis=0)
        return EcgRecord(
            samples=np.clip(counts, -INT16_LIMIT, INT16_LIMIT).astype(np.int16),
            lsb_uv=self.lsb_uv * (1 << shift),
            fs_hz=self.fs_hz,
            leads=self.leads,
            offset_uv=tuple(float(code) * self.lsb_uv for code in offsets),
            start=start,
            gaps=_intervals(~self.received),
            lead_off=tuple(
                LeadOff(name, *run) for name, row in zip(self.leads, self.off, strict=True) for run in runs_of(row)
            ),
            device=device,
            record_id=record_id,
            saturated=_intervals(saturated & self.received),
            gain_known=source.calibrated,
            source=source,
        )


def measured(timeline: Timeline, *, descriptor: DeviceDescriptor) -> Measured:
    """Return the codes of a time line with what contact bits and rail say of them.

    A lead is off when one of its electrodes is; without the right-leg drive no lead can be trusted. A sample is saturated when
    the device says so, or when a code lies at or beyond the rail of its converter.
    """
    electrodes = [int(ELECTRODES_OF_LEAD[name] | Contact.RL_OFF) for name in descriptor.leads]
    off = timeline.contact[None, :] & np.array(electrodes, dtype=np.uint8)[:, None]
    said = timeline.contact & np.uint8(Contact.SATURATED_1 | Contact.SATURATED_2)
    at_rail = np.any(np.abs(timeline.codes.astype(np.int64)) >= descriptor.rail_code, axis=0)
    return Measured(
        codes=timeline.codes,
        received=timeline.received,
        off=off.astype(np.bool_),
        saturated=said.astype(np.bool_) | at_rail,
        leads=descriptor.leads,
        fs_hz=descriptor.fs_hz,
        lsb_uv=descriptor.lsb_uv,
    )


def build_record(
    timeline: Timeline,
    *,
    descriptor: DeviceDescriptor,
    start: StartTime | None = None,
    device: str = "",
    record_id: str = "",
    source: SourceInfo = UNKNOWN_SOURCE,
) -> EcgRecord:
    """Return the record of a time line: received samples plus declared gaps are its length, always."""
    if not timeline.received.any():
        raise LengthError(
            "found 0 received samples, expected at least 1",
            advice="Check that the device is on and near, then record again.",
        )
    found = measured(timeline, descriptor=descriptor)
    return found.to_record(start=start, device=device, record_id=record_id, source=source)


def _intervals(mask: NDArray[np.bool_]) -> tuple[Interval, ...]:
    return tuple(Interval(start, stop) for start, stop in runs_of(mask))
