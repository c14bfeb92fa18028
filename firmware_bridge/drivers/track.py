"""The time line of a driver: samples in order, known gaps between them, leads without contact; then a record.

Codes become int16 in `firmware_bridge.assembly.quantise`. Lead-off comes by lead here, not by electrode, and there may be more
than the four leads of the six-lead profile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.assembly.quantise import Measured
from firmware_bridge.drivers.base import ARBITRARY_LSB_UV, DriverInfo
from lsemvae.ecg.errors import LengthError

if TYPE_CHECKING:
    from lsemvae.ecg.record import EcgRecord
    from lsemvae.ecg.runs import StartTime

# A recording takes 10-30 s. An hour at 500 Hz bounds memory (14 MB for two leads), whatever a device sends.
MAX_SAMPLES: Final = 1_800_000

# A longer silence is no gap of a recording but another recording, or a clock that jumped.
MAX_GAP_S: Final = 600.0

_FIRST_CAPACITY: Final = 8_192


class Track:
    """Samples of a driver in order; grows at its end only.

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

        Return the number kept.
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
        """Declare samples that were lost; return the number declared."""
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
        """Return the record of everything so far, with what the device cannot know written into it."""
        if not self.received:
            raise LengthError(
                "found 0 received samples, expected at least 1",
                advice="Check that the device is on and near and that the electrodes touch the skin, then record again.",
            )
        n = self.elapsed
        found = Measured(
            codes=self._codes[:, :n],
            received=self._received[:n],
            off=self._off[:, :n],
            saturated=self._saturated[:n],
            leads=info.leads,
            fs_hz=info.fs_hz if fs_hz is None else fs_hz,
            lsb_uv=ARBITRARY_LSB_UV if info.lsb_uv is None else info.lsb_uv,
        )
        source = info.quality.source(info.name)
        return found.to_record(start=start, device=device, record_id=record_id, source=source)

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
