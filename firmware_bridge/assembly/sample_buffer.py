"""Samples on a time line: what is here, what is missing, and what must stay missing."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.assembly.quantise import Timeline
from firmware_bridge.protocol.profile import Contact
from lsemvae.ecg.runs import runs_of

_FIRST_CAPACITY: Final = 16_384  # 30 s at 500 Hz without growing
# Saturation shows in the codes themselves; whether an electrode was on does not.
_ELECTRODES: Final = int(Contact.RA_OFF | Contact.LA_OFF | Contact.LL_OFF | Contact.RL_OFF)


class SampleBuffer:
    """Grows to the right; the first sample that is put at a position stays.

    Parameters
    ----------
    n_leads
        Channels per sample.
    limit
        Samples per lead that it may ever hold.
    """

    def __init__(self, *, n_leads: int, limit: int) -> None:
        self.end = 0
        self.limit = limit
        self._codes = np.zeros((n_leads, _FIRST_CAPACITY), dtype=np.int32)
        self._received = np.zeros(_FIRST_CAPACITY, dtype=np.bool_)
        self._barred = np.zeros(_FIRST_CAPACITY, dtype=np.bool_)
        self._contact = np.zeros(_FIRST_CAPACITY, dtype=np.uint8)

    @property
    def received(self) -> int:
        """Samples that are here."""
        return int(np.count_nonzero(self._received[: self.end]))

    @property
    def n_bytes(self) -> int:
        """Memory of the arrays."""
        return self._codes.nbytes + self._received.nbytes + self._barred.nbytes + self._contact.nbytes

    def place(self, codes: NDArray[np.int32], *, start: int, contact: int) -> bool:
        """Put samples ``[lead, time]`` at `start`; False if every position was taken or barred."""
        stop = start + codes.shape[1]
        self._reserve(stop)
        new = self._free(start, stop)
        if not new.any():
            return False
        self._codes[:, start:stop][:, new] = codes[:, new]
        self._contact[start:stop][new] = contact
        self._received[start:stop] |= new
        self.end = max(self.end, stop)
        return True

    def bar(self, start: int, stop: int) -> bool:
        """Declare that ``[start, stop)`` holds no signal of the patient and is never to be filled; False if it did so."""
        self._reserve(stop)
        new = self._free(start, stop)
        self._barred[start:stop] |= new
        self.end = max(self.end, stop)
        return bool(new.any())

    def fill(self, codes: NDArray[np.int32], contact: NDArray[np.uint8] | None, *, start: int) -> int:
        """Put samples into gaps only, and say how many; without `contact`, a gap's bits are those on either side of it."""
        stop = start + codes.shape[1]
        self._reserve(stop)
        new = self._free(start, stop)
        bits = self._contact_beside(new, start) if contact is None else contact
        self._codes[:, start:stop][:, new] = codes[:, new]
        self._contact[start:stop][new] = bits[new]
        self._received[start:stop] |= new
        if new.any():
            self.end = max(self.end, start + int(np.flatnonzero(new)[-1]) + 1)
        return int(np.count_nonzero(new))

    def contradictions(self, codes: NDArray[np.int32], *, start: int) -> tuple[int, int]:
        """Return of the samples of `codes` that are here already how many differ, and how many there are."""
        stop = min(start + codes.shape[1], self.end)
        here = self._received[start:stop]
        differ = np.any(self._codes[:, start:stop] != codes[:, : here.size], axis=0) & here
        return int(np.count_nonzero(differ)), int(np.count_nonzero(here))

    def missing(self, stop: int, *, barred: bool = True) -> NDArray[np.bool_]:
        """``[stop]``: what is not here; without `barred`, less what is never to be filled."""
        absent = np.ones(stop, dtype=np.bool_)
        known = min(stop, self.end)
        absent[:known] = ~self._received[:known]
        if not barred:
            absent[:known] &= ~self._barred[:known]
        return absent

    def timeline(self, stop: int) -> Timeline:
        """Return everything up to `stop`, copied; beyond the newest sample nothing is received."""
        known = min(stop, self.end)
        timeline = Timeline(
            codes=np.zeros((self._codes.shape[0], stop), dtype=np.int32),
            received=np.zeros(stop, dtype=np.bool_),
            contact=np.zeros(stop, dtype=np.uint8),
        )
        timeline.codes[:, :known] = self._codes[:, :known]
        timeline.received[:known] = self._received[:known]
        timeline.contact[:known] = self._contact[:known]
        return timeline

    def _free(self, start: int, stop: int) -> NDArray[np.bool_]:
        free: NDArray[np.bool_] = ~(self._received[start:stop] | self._barred[start:stop])
        return free

    def _contact_beside(self, new: NDArray[np.bool_], start: int) -> NDArray[np.uint8]:
        """Contact ``[time]`` of runs that carry none: an electrode that was off before or after may have been off within."""
        bits = np.zeros(new.size, dtype=np.uint8)
        for first, stop in runs_of(new):
            beside = [at for at in (start + first - 1, start + stop) if 0 <= at < self.end and self._received[at]]
            bits[first:stop] = int(np.bitwise_or.reduce(self._contact[beside])) & _ELECTRODES if beside else 0
        return bits

    def _reserve(self, n_samples: int) -> None:
        have = self._received.size
        if n_samples <= have:
            return
        more = max(n_samples, min(2 * have, self.limit)) - have
        self._codes = np.pad(self._codes, ((0, 0), (0, more)))
        self._received = np.pad(self._received, (0, more))
        self._barred = np.pad(self._barred, (0, more))
        self._contact = np.pad(self._contact, (0, more))
