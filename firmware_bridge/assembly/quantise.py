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
from lsemvae.ecg.record import EcgRecord, Interval, LeadOff, StartTime
from lsemvae.ecg.runs import runs_of
from lsemvae.ecg.source import SourceInfo

# Symmetric on purpose: negating a lead (a swapped pair of electrodes) must not overflow.
INT16_LIMIT: Final = 32767

_NOTHING_SAID: Final = SourceInfo()


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


def build_record(
    timeline: Timeline,
    *,
    descriptor: DeviceDescriptor,
    start: StartTime | None = None,
    device: str = "",
    record_id: str = "",
    source: SourceInfo = _NOTHING_SAID,
) -> EcgRecord:
    """The record of a time line: received samples plus declared gaps are its length, always."""
    if not timeline.received.any():
        raise LengthError(
            "found 0 received samples, expected at least 1",
            advice="Check that the device is on and near, then record again.",
        )
    lead_off = _lead_off(timeline, leads=descriptor.leads)
    saturated = _saturated(timeline, rail_code=descriptor.rail_code)
    usable = timeline.received & ~saturated & ~lead_off  # [lead, time]
    offsets = _offsets(timeline, usable=usable)
    centred = np.where(timeline.received, timeline.codes.astype(np.int64) - offsets[:, None], 0)
    shift = _shift_to_fit(centred, usable=usable)
    counts = np.rint(centred / (1 << shift))
    saturated |= np.any(np.abs(counts) > INT16_LIMIT, axis=0)
    return EcgRecord(
        samples=np.clip(counts, -INT16_LIMIT, INT16_LIMIT).astype(np.int16),
        lsb_uv=descriptor.lsb_uv * (1 << shift),
        fs_hz=descriptor.fs_hz,
        leads=descriptor.leads,
        offset_uv=tuple(float(code) * descriptor.lsb_uv for code in offsets),
        start=start,
        gaps=_intervals(~timeline.received),
        lead_off=tuple(
            LeadOff(name, *run) for name, row in zip(descriptor.leads, lead_off, strict=True) for run in runs_of(row)
        ),
        device=device,
        record_id=record_id,
        saturated=_intervals(saturated & timeline.received),
        gain_known=source.calibrated,
        source=source,
    )


def usable_samples(timeline: Timeline, *, descriptor: DeviceDescriptor) -> NDArray[np.bool_]:
    """``[lead, time]``: received, within the converter's range, with the lead's electrodes on."""
    saturated = _saturated(timeline, rail_code=descriptor.rail_code)
    usable: NDArray[np.bool_] = timeline.received & ~saturated & ~_lead_off(timeline, leads=descriptor.leads)
    return usable


def _lead_off(timeline: Timeline, *, leads: tuple[str, ...]) -> NDArray[np.bool_]:
    """``[lead, time]``: an electrode of the lead is off; without the right-leg drive no lead can be trusted."""
    masks = np.array([int(ELECTRODES_OF_LEAD[name] | Contact.RL_OFF) for name in leads], dtype=np.uint8)
    off: NDArray[np.bool_] = (timeline.contact[None, :] & masks[:, None]).astype(np.bool_)
    return off


def _saturated(timeline: Timeline, *, rail_code: int) -> NDArray[np.bool_]:
    """``[time]``: the device says so, or a code lies at or beyond the rail of its converter."""
    limits = np.uint8(Contact.SATURATED_1 | Contact.SATURATED_2)
    saturated: NDArray[np.bool_] = (timeline.contact & limits).astype(np.bool_)
    saturated |= np.any(np.abs(timeline.codes.astype(np.int64)) >= rail_code, axis=0)
    return saturated


def _offsets(timeline: Timeline, *, usable: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Median code of each lead over its usable samples, or over all received ones if it has none."""
    chosen = [mask if mask.any() else timeline.received for mask in usable]
    return np.array(
        [int(np.median(row[mask])) for row, mask in zip(timeline.codes, chosen, strict=True)], dtype=np.int64
    )


def _shift_to_fit(centred: NDArray[np.int64], *, usable: NDArray[np.bool_]) -> int:
    """Smallest k for which every usable sample divided by 2^k fits 16 bits."""
    largest = int(np.abs(centred[usable]).max(initial=0))
    shift = 0
    while round(largest / (1 << shift)) > INT16_LIMIT:
        shift += 1
    return shift


def _intervals(mask: NDArray[np.bool_]) -> tuple[Interval, ...]:
    return tuple(Interval(start, stop) for start, stop in runs_of(mask))
