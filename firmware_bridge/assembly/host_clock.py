"""Which samples can exist at a moment of the host's clock: the guard against an index that jumps ahead.

A sample cannot arrive before it was measured, however late it comes. So the time since START bounds the index from
above, with no more slack than two clocks need. The clock itself is the caller's: this module is only given its times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lsemvae.ecg.errors import RateError

# Twice the deviation at which a stream is refused as a whole (`drift.MAX_PPM`): the guard is no judge of clocks.
RATE_TOLERANCE: Final = 0.01

# Buffering only delays samples; this is for a caller that notes the time of START a little late.
MARGIN_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class HostClock:
    """The host's view of a stream's clock.

    Attributes
    ----------
    begun_us
        Host time in microseconds, taken before START was written: sample 0 cannot be older.
    fs_hz
        Rate of the device.
    pace
        Seconds of the device per second of the host: 1, except for a simulation or a replay that runs faster or slower.
    """

    begun_us: int
    fs_hz: float
    pace: float = 1.0

    def __post_init__(self) -> None:
        if not (0.0 < self.pace < float("inf") and 0.0 < self.fs_hz < float("inf")):
            raise RateError(f"host clock: found pace {self.pace!r} at {self.fs_hz!r} Hz, expected positive numbers")

    def device_us(self, t_us: int) -> int:
        """Microseconds of device time since START at host time `t_us`; 0 before it."""
        return round(max(0, t_us - self.begun_us) * self.pace)

    def possible_samples(self, t_us: int) -> int:
        """Largest number of samples per lead that can have been measured at host time `t_us`."""
        elapsed_s = self.device_us(t_us) * 1e-6 * (1.0 + RATE_TOLERANCE) + MARGIN_S * self.pace
        return int(elapsed_s * self.fs_hz)
