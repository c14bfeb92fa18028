"""The device's clock against the host's: arrival times over sample indices, one straight line.

A frame arrives some milliseconds after its newest sample was measured: a connection interval (uniform), the host's
scheduling (exponential), now and then a stall. None of that has a slope, so the slope is the clock. The line is a
least-squares fit that leaves out what lies far from it, repeated until nothing changes (after the least trimmed squares
of Rousseeuw 1984): with an interval of 30 ms, over 30 s, it is good to about 45 ppm rms, with and without stalls. Where
connection events keep step with the frames, arrivals show the host's own grid, and a drift of less than one interval
over the whole stream stays hidden. A record of 30 s is never resampled: 100 ppm are 3 ms at its end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from firmware_bridge.protocol.profile import INDEX_MODULUS
from lsemvae.ecg.errors import LengthError, ProtocolError

# A crystal keeps 50 ppm over temperature and age; more than twice that is worth a note.
FLAG_PPM: Final = 100.0

# No crystal is off by half a percent: the rate in the descriptor is wrong, and with it every interval in the record.
MAX_PPM: Final = 5000.0

# Below 10 s jitter alone looks like some hundred ppm.
MIN_SPAN_S: Final = 10.0
_MIN_ARRIVALS: Final = 20

# Residuals beyond this many robust standard deviations are stalls, but never those within a connection interval: where
# its events keep step with the frames most delays are equal, and the next event is no stall.
_TRIM: Final = 3.0
_LEAST_SIGMA_S: Final = 0.010  # an interval of 30 ms, evenly spread, has 8.7 ms
_ROUNDS: Final = 50
_SIGMA_OF_MAD: Final = 1.4826  # normal distribution

_CAPACITY: Final = 4096


class DriftError(ProtocolError):
    """The device's clock is so far off that its time axis is wrong."""


@dataclass(frozen=True, slots=True)
class DriftFit:
    """What the arrivals say about the device's rate.

    Attributes
    ----------
    fs_hz
        Rate by the host's clock.
    ppm
        Deviation from the nominal rate, parts per million; positive: the device is fast.
    n
        Arrivals that the line was fitted to, stalls left out.
    rms_ms
        Root mean square of their distance from the line.
    ppm_error
        Standard error of `ppm`.
    """

    fs_hz: float
    ppm: float
    n: int
    rms_ms: float
    ppm_error: float = 0.0

    @property
    def flagged(self) -> bool:
        """Whether the clock is off by more than 100 ppm and by more than jitter explains (two standard errors)."""
        return abs(self.ppm) > max(FLAG_PPM, 2.0 * self.ppm_error)


def fit_drift(index: ArrayLike, t_us: ArrayLike, *, nominal_fs_hz: float) -> DriftFit:
    """Fit the rate of a device to one stream.

    Parameters
    ----------
    index
        Sample index after each arrival ``[arrival]``, as on the wire: it may wrap at 2^32.
    t_us
        Host time of each arrival ``[arrival]`` in microseconds, from a clock that only moves forward.
    nominal_fs_hz
        Rate in the descriptor.

    Raises
    ------
    LengthError
        If there are fewer than 20 arrivals or they span less than 10 s.
    DriftError
        If the clock is off by more than 5000 ppm, beyond twice the standard error.
    """
    nominal_s = _unwrapped(np.asarray(index, dtype=np.int64)) / nominal_fs_hz
    times = np.asarray(t_us, dtype=np.int64)
    if nominal_s.shape != times.shape or times.ndim != 1:
        raise LengthError(f"arrivals: found {nominal_s.shape} indices and {times.shape} times, expected equal numbers")
    span_s = _span_s(nominal_s, times) if times.size else 0.0
    if times.size < _MIN_ARRIVALS or span_s < MIN_SPAN_S:
        expected = f"{_MIN_ARRIVALS} over {MIN_SPAN_S:g} s"
        raise LengthError(f"arrivals: found {times.size} over {span_s:.1f} s, expected {expected}")
    delay_s = (times - times[0]) * 1e-6 - nominal_s
    keep, slope = _trimmed_line(nominal_s, delay_s)
    x = nominal_s[keep]
    rms_s = float(np.std(delay_s[keep] - slope * x))
    # The slope of delay over nominal time is the relative error of the period; the rate is its inverse.
    fs_hz = nominal_fs_hz / max(1.0 + slope, 1e-9)
    spread = math.sqrt(max(float(np.sum((x - x.mean()) ** 2)), 1e-12))
    fit = DriftFit(
        fs_hz=fs_hz,
        ppm=(fs_hz / nominal_fs_hz - 1.0) * 1e6,
        n=int(x.size),
        rms_ms=rms_s * 1e3,
        ppm_error=rms_s / spread * 1e6,
    )
    if abs(fit.ppm) > MAX_PPM + 2.0 * fit.ppm_error:
        raise DriftError(
            f"device clock: found {fit.fs_hz:.3f} samples/s ({fit.ppm:+.0f} ppm), "
            f"expected {nominal_fs_hz:g} within {MAX_PPM:g} ppm",
            advice="Do not use the recording: its time axis is wrong. Check the rate in the device's descriptor.",
        )
    return fit


class Arrivals:
    """When the newest samples of a stream came, in bounded memory: when full, every second arrival is let go."""

    def __init__(self) -> None:
        self._pairs: list[tuple[int, int]] = []
        self._stride = 1
        self._seen = 0

    def __len__(self) -> int:
        return len(self._pairs)

    def add(self, index: int, t_us: int) -> None:
        """Take note that the sample before `index` came at `t_us`."""
        if self._seen % self._stride == 0:
            self._pairs.append((index, t_us))
        self._seen += 1
        if len(self._pairs) >= _CAPACITY:
            self._pairs = self._pairs[::2]
            self._stride *= 2

    def fit(self, *, nominal_fs_hz: float) -> DriftFit | None:
        """Return the fit, or None where there is too little to tell."""
        if len(self._pairs) < _MIN_ARRIVALS:
            return None
        index, t_us = np.array(self._pairs, dtype=np.int64).T
        if _span_s(_unwrapped(index) / nominal_fs_hz, t_us) < MIN_SPAN_S:
            return None
        return fit_drift(index, t_us, nominal_fs_hz=nominal_fs_hz)


def _unwrapped(index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return samples since the first arrival: each step is the nearest one that the index modulo 2^32 can mean."""
    half = INDEX_MODULUS // 2
    steps = (np.diff(index) + half) % INDEX_MODULUS - half
    return np.concatenate(([0], np.cumsum(steps))).astype(np.int64)


def _span_s(nominal_s: NDArray[np.float64], t_us: NDArray[np.int64]) -> float:
    """Return the shorter of the two spans: a device that is far off must not pass as a long recording."""
    return float(min(np.ptp(nominal_s), np.ptp(t_us) * 1e-6))


def _trimmed_line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.bool_], float]:
    """Return which arrivals are no stalls, and the slope through them."""
    keep = np.ones(x.size, dtype=np.bool_)
    for _ in range(_ROUNDS):
        slope = _slope(x[keep], y[keep])
        rest = y - slope * x
        middle = float(np.median(rest[keep]))
        sigma_s = max(_SIGMA_OF_MAD * float(np.median(np.abs(rest[keep] - middle))), _LEAST_SIGMA_S)
        nearer = np.abs(rest - middle) <= _TRIM * sigma_s
        if np.array_equal(nearer, keep):
            break
        keep = nearer
    return keep, _slope(x[keep], y[keep])


def _slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return the least-squares slope of y over x; 0.0 where x does not vary."""
    centred = x - x.mean()
    power = float(centred @ centred)
    return float(centred @ y) / power if power > 0 else 0.0
