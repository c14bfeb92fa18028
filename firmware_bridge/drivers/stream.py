"""What the drivers share: a track, counts, remarks of the device, the rate at which samples arrive, and time stamps of packets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from firmware_bridge.drivers.base import DriverInfo, DriverStatistics
from firmware_bridge.drivers.track import MAX_GAP_S, MAX_SAMPLES, Track
from lsemvae.ecg.errors import LengthError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lsemvae.ecg.record import EcgRecord
    from lsemvae.ecg.runs import StartTime

# Under 5 s a late packet of half a second changes the rate by a tenth.
_MIN_RATE_US: Final = 5_000_000

# A device that answers each request with an error must not fill memory with its complaints.
_MAX_REMARKS: Final = 20

# A clock that goes back by more is a device that was restarted, not a packet that came twice.
_MAX_BACK_S: Final = 10.0

# Time stamps are coarse (1 ms) and a device's two clocks differ; a lost packet is far above this, so less than a
# quarter of a packet is jitter.
_JITTER: Final = 0.25

REPEATED: Final = -1
IMPLAUSIBLE: Final = -2


def int32(data: bytes) -> NDArray[np.int32]:
    """Return the signed 32-bit little-endian numbers in `data`."""
    return np.frombuffer(data, dtype="<i4").astype(np.int32)


class ArrivalRate:
    """Samples per second by the time of their arrival."""

    def __init__(self) -> None:
        self._first: tuple[int, int] | None = None
        self._last: tuple[int, int] | None = None

    def observe(self, t_us: int, elapsed: int) -> None:
        """Take note that at `t_us` there are `elapsed` samples, gaps included."""
        self._first = self._first or (t_us, elapsed)
        self._last = (t_us, elapsed)

    def hz(self) -> float | None:
        """Return the rate, or None under 5 s."""
        if self._first is None or self._last is None or self._last[0] - self._first[0] < _MIN_RATE_US:
            return None
        return (self._last[1] - self._first[1]) / (self._last[0] - self._first[0]) * 1e6


def with_remark(remarks: tuple[str, ...], text: str) -> tuple[str, ...]:
    """Return the remarks with one more, up to a bound."""
    return (*remarks, text) if len(remarks) < _MAX_REMARKS else remarks


class PacketClock:
    """Lost samples between packets that carry a time and no index, by comparing times with the samples between them.

    Parameters
    ----------
    fs_hz
        Sampling rate.
    ticks_per_s
        Unit of the stamps.
    modulus
        Value at which the stamps wrap.
    """

    def __init__(self, fs_hz: float, *, ticks_per_s: float, modulus: int) -> None:
        self._samples_per_tick = fs_hz / ticks_per_s
        self._ticks_per_s = ticks_per_s
        self._modulus = modulus
        self._last: int | None = None

    def lost(self, stamp: int, n_samples: int) -> int:
        """Return the samples missing before a packet, `REPEATED` if it was here before, `IMPLAUSIBLE` if its time cannot be.

        Parameters
        ----------
        stamp
            Time of the same point of each packet (its first or its last sample).
        n_samples
            Samples between that point of the packet before and of this one, if nothing is lost.
        """
        if self._last is None:
            self._last = stamp
            return 0
        ticks = (stamp - self._last + self._modulus // 2) % self._modulus - self._modulus // 2
        if not -_MAX_BACK_S <= ticks / self._ticks_per_s <= MAX_GAP_S:
            return IMPLAUSIBLE
        if ticks <= 0:
            return REPEATED
        self._last = stamp
        missing = ticks * self._samples_per_tick - n_samples
        return round(missing) if missing > max(1.0, _JITTER * n_samples) else 0


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
        """Return nothing to write: the device sends of itself."""
        return ()

    def poll(self, t_us: int) -> tuple[bytes, ...]:
        """Return nothing to write: the device needs no reminder."""
        return ()

    def end(self) -> tuple[bytes, ...]:
        """Return nothing to write: the device goes on until it is switched off."""
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
        """Return the record of everything so far; what is known to be missing is declared as gaps."""
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


class StampedDriver(StreamDriver):
    """Base of the drivers whose packets carry a time and no index.

    Parameters
    ----------
    clock
        Knows unit and range of the time stamps.
    """

    def __init__(self, info: DriverInfo, clock: PacketClock) -> None:
        super().__init__(info)
        self._clock = clock

    def _take_stamped(self, samples: NDArray[np.int32], t_us: int, *, stamp: int) -> None:
        """Add the samples ``[time]`` of one packet, and what its time says was lost before it."""
        lost = self._clock.lost(stamp, samples.size)
        if lost == IMPLAUSIBLE:
            self._malformed += 1
        elif lost == REPEATED:
            self._duplicates += 1
        else:
            self._skip(lost)
            self._take(samples[None, :], t_us)
