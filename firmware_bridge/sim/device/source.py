"""What a virtual device measures: a recording turned into the codes of its converter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.protocol.profile import ELECTRODES_OF_LEAD, Contact
from lsemvae.ecg.errors import LengthError, SampleError
from lsemvae.ecg.leads import select_leads
from lsemvae.ecg.record import EcgRecord

SOURCE_LEADS: Final = ("I", "II")

# ADS1292R at gain 6: 2.42 V / (6 x 2^23).
LSB_PV: Final = 48_100
RAIL_CODE: Final = (1 << 23) - 1

# Dry electrodes sit at some millivolt: with it a test notices a host that forgets the offset.
ELECTRODE_OFFSET_UV: Final = (12_345.0, -6_789.0)


@dataclass(frozen=True, slots=True, eq=False)
class SignalSource:
    """Signal of both channels, as codes of the converter.

    Attributes
    ----------
    codes
        int32 ``[2, time]``: leads I and II with the electrode offset.
    contact
        uint8 ``[time]``, bits of `Contact`.
    loop
        Begin again after the last sample, or end the stream there.
    """

    codes: NDArray[np.int32]
    contact: NDArray[np.uint8]
    fs_hz: float
    loop: bool = True

    @property
    def n_samples(self) -> int:
        """Length of one pass."""
        return int(self.codes.shape[1])

    def read(self, start: int, stop: int) -> tuple[NDArray[np.int32], Contact]:
        """Return the samples ``[2, stop - start]`` and the contact bits that were set anywhere in them."""
        index = np.arange(start, stop) % self.n_samples
        return self.codes[:, index], Contact(int(np.bitwise_or.reduce(self.contact[index])))


def source_from_uv(
    signal_uv: NDArray[np.floating],
    *,
    fs_hz: float,
    loop: bool = True,
    contact: NDArray[np.uint8] | None = None,
    offset_uv: tuple[float, float] = ELECTRODE_OFFSET_UV,
) -> SignalSource:
    """Return a source of leads I and II, ``[2, time]`` in microvolt; beyond the converter's range it is flagged."""
    signal = np.asarray(signal_uv, dtype=np.float64)
    if signal.ndim != 2 or signal.shape[0] != len(SOURCE_LEADS) or not np.isfinite(signal).all():
        raise SampleError(f"signal of a virtual device: found shape {signal.shape}, expected finite [2, time]")
    if signal.shape[1] == 0:
        raise LengthError("signal of a virtual device: found 0 samples, expected at least 1")
    exact = np.rint((signal + np.array(offset_uv)[:, None]) * 1e6 / LSB_PV)
    codes = np.clip(exact, -RAIL_CODE, RAIL_CODE).astype(np.int32)
    flags = np.zeros(signal.shape[1], dtype=np.uint8) if contact is None else contact.copy()
    for row, flag in zip(np.abs(exact) >= RAIL_CODE, (Contact.SATURATED_1, Contact.SATURATED_2), strict=True):
        flags[row] |= int(flag)
    return SignalSource(codes=codes, contact=flags, fs_hz=fs_hz, loop=loop)


def source_from_record(
    record: EcgRecord, *, loop: bool = True, offset_uv: tuple[float, float] = ELECTRODE_OFFSET_UV
) -> SignalSource:
    """Return a source of leads I and II of a record, chosen by name; its lead-off intervals become contact flags."""
    signal_uv = select_leads(record.samples.astype(np.float64) * record.lsb_uv, leads=record.leads, wanted=SOURCE_LEADS)
    contact = np.zeros(record.n_samples, dtype=np.uint8)
    # The one electrode whose loss explains a lead: LA for I, LL for II, RA (which both share) for any other that is measured at it.
    single = {"I": Contact.LA_OFF, "II": Contact.LL_OFF}
    for off in record.lead_off:
        electrode = single.get(off.lead, Contact.RA_OFF) & ELECTRODES_OF_LEAD.get(off.lead, Contact.RA_OFF)
        contact[off.start : off.stop] |= int(electrode)
    return source_from_uv(signal_uv, fs_hz=record.fs_hz, loop=loop, contact=contact, offset_uv=offset_uv)
