"""Samples that a device kept in its memory: whether they may stand in for what the radio lost."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.protocol.profile import NO_STREAM_INDEX
from lsemvae.ecg.errors import ProtocolError

# Stored and streamed samples come out of one converter: they are equal, but for a frame that a 16-bit check sum let
# pass by chance. A recording that is one sample off differs nearly everywhere.
MAX_CONTRADICTION: Final = 0.01

_I24: Final = (-(1 << 23), (1 << 23) - 1)
_ADVICE: Final = "The gaps stay as they are. Update the device's firmware if this returns."


class StoredSamplesError(ProtocolError):
    """Stored samples that are not of this stream."""


def check_stored(
    first_index: int, codes: NDArray[np.int32], contact: NDArray[np.uint8] | None, *, n_leads: int
) -> tuple[NDArray[np.int32], NDArray[np.uint8] | None]:
    """Return the codes ``[lead, time]`` and contact ``[time]`` as their own types, or raise a `StoredSamplesError`."""
    samples = np.asarray(codes)
    if first_index == NO_STREAM_INDEX:
        raise StoredSamplesError(
            "stored recording: found none of this stream (made without one), expected the index of its first sample",
            advice=_ADVICE,
        )
    if samples.ndim != 2 or samples.shape[0] != n_leads or not np.issubdtype(samples.dtype, np.integer):
        found = f"{samples.dtype} {samples.shape}"
        raise StoredSamplesError(f"stored samples: found {found}, expected integers [{n_leads}, time]", advice=_ADVICE)
    if samples.size and (int(samples.min()) < _I24[0] or int(samples.max()) > _I24[1]):
        raise StoredSamplesError(
            f"stored samples: found {samples.min()}..{samples.max()}, expected {_I24[0]}..{_I24[1]}", advice=_ADVICE
        )
    if contact is not None and np.shape(contact) != (samples.shape[1],):
        raise StoredSamplesError(
            f"stored contact: found shape {np.shape(contact)}, expected ({samples.shape[1]},)", advice=_ADVICE
        )
    return samples.astype(np.int32), None if contact is None else np.asarray(contact, dtype=np.uint8)


def check_agreement(differing: int, common: int) -> None:
    """Refuse a recording that disagrees with the stream where both are known: its index is wrong, or its signal."""
    if differing > MAX_CONTRADICTION * common:
        raise StoredSamplesError(
            f"stored recording: found {differing} of {common} samples unlike those received, "
            f"expected at most {MAX_CONTRADICTION:.0%}",
            advice=_ADVICE,
        )
