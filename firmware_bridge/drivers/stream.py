"""What the drivers share: a track, counts, remarks of the device, and the rate at which samples arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from firmware_bridge.drivers.base import DriverInfo, DriverStatistics
from firmware_bridge.drivers.track import MAX_SAMPLES, Track
from lsemvae.ecg.errors import LengthError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lsemvae.ecg.record import EcgRecord, StartTime

# Under 5 s a late packet of half a second changes the rate by a tenth.
_MIN_RATE_US: Final = 5_000_000

# A device that answers each request with an error must not fill memory with its complaints.
_MAX_REMARKS: Final = 20


class ArrivalRate:
    """Samples per second by the time of their arrival."""

    def __init__(self) -> None:
        self._first: tuple[int, int] | None = None
        self._last: tuple[int, int] | None = None

    def observe(self, t_us: int, elapsed: int) -> None:
        """At `t_us` there are `elapsed` samples, gaps included."""
        self._first = self._first or (t_us, elapsed)
        self._last = (t_us, elapsed)

    def hz(self) -> float | None:
        """The rate, or None under 5 s."""
        if self._first is None or self._last is None or self._last[0] - self._first[0] < _MIN_RATE_US:
            return None
        return (self._last[1] - self._first[1]) / (self._last[0] - self._first[0]) * 1e6


def with_remark(remarks: tuple[str, ...], text: str) -> tuple[str, ...]:
    """The remarks with one more, up to a bound."""
    return (*remarks, text) if len(remarks) < _MAX_REMARKS else remarks


class StreamDriver:
    """Base of the drivers: nothing to write, nothing to poll, a record out of a track.

    Attributes
    ----------
    info
        What the device is.
    remarks
        What the device refused or said of itself, in words.
    """

    def __init__(self, info: DriverInfo, *, max_samples: int = MAX_SAMPLES) -> None:
        self.info = info
        self.remarks: tuple[str, ...] = ()
        self._track = Track(len(info.leads), max_samples=max_samples)
        self._packets = self._corrupt = self._malformed = self._lost = self._duplicates = 0
        self._arrival = ArrivalRate()

    def begin(self) -> tuple[bytes, ...]:
        """Nothing: the device sends of itself."""
        return ()

    def poll(self, t_us: int) -> tuple[bytes, ...]:
        """Nothing: the device needs no reminder."""
        return ()

    def end(self) -> tuple[bytes, ...]:
        """Nothing: the device goes on until it is switched off."""
        return ()

    @property
    def elapsed(self) -> int:
        """Samples so far, gaps included."""
        return self._track.elapsed

    @property
    def statistics(self) -> DriverStatistics:
        """What came so far."""
        return DriverStatistics(
            packets=self._packets,
            corrupt=self._corrupt,
            malformed=self._malformed,
            lost_samples=self._lost,
            duplicates=self._duplicates,
            overflow=self._track.overflow,
        )

    @property
    def rate_seen_hz(self) -> float | None:
        """Samples per second by their arrival, gaps included; None under 5 s.

        Far from the nominal rate it says that samples are lost on the way or that the rate is not what was stated:
        the only hint where a stream has no index.
        """
        return self._arrival.hz()

    def to_record(self, *, start: StartTime | None, device: str, record_id: str = "") -> EcgRecord:
        """The record of everything so far; what is known to be missing is declared as gaps."""
        if not self._track.received and self.remarks:
            raise LengthError(f"found 0 received samples, expected at least 1; the device said: {self.remarks[-1]}")
        return self._track.to_record(self.info, start=start, device=device, record_id=record_id)

    def _take(
        self,
        codes: NDArray[np.int32],
        t_us: int,
        *,
        off: NDArray[np.bool_] | None = None,
        saturated: NDArray[np.bool_] | None = None,
    ) -> None:
        """Add the samples ``[lead, time]`` of one packet that arrived at `t_us`."""
        self._packets += 1
        self._track.append(codes, off=off, saturated=saturated)
        self._arrival.observe(t_us, self._track.elapsed)

    def _skip(self, n_samples: int) -> None:
        """Declare samples that were lost before the next packet."""
        self._lost += self._track.skip(n_samples)

    def _remark(self, text: str) -> None:
        self.remarks = with_remark(self.remarks, text)
