"""Design of the front-end's linear-phase FIR, in numpy.

The filter is a low-pass convolved with a high-pass. Both have an odd number of
symmetric taps, so applied about its centre the whole is zero phase.

* Low-pass: windowed sinc with a Kaiser window (Kaiser 1974; length and beta after Oppenheim & Schafer, section 7.5.3).
* High-pass: a unit impulse less a Hann window of two periods of `pass_low_hz`. A Hann window of length T has its
  first zero at 2 / T, so the gain is exactly one at `pass_low_hz`, and within the window's side lobes (2.7 %) above.

Taps are whole multiples of 2**-30 and sum to exactly zero. So the gain at 0 Hz is exactly nothing, and the taps,
hence their hash, do not depend on the last bits of a platform's sine.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# Fine enough (-180 dB) to be inaudible, coarse enough that rounding a sine differently (1e-17) moves no tap.
_GRID: Final = float(2**30)


def kaiser_beta(attenuation_db: float) -> float:
    """Return the Kaiser window's shape parameter for a stop-band attenuation (Kaiser 1974)."""
    if attenuation_db > 50.0:
        return 0.1102 * (attenuation_db - 8.7)
    if attenuation_db > 21.0:
        return 0.5842 * math.pow(attenuation_db - 21.0, 0.4) + 0.07886 * (attenuation_db - 21.0)
    return 0.0


def kaiser_length(attenuation_db: float, *, transition: float) -> float:
    """Return the window length in samples for a transition band, given as a part of the sampling rate (Kaiser 1974)."""
    return (attenuation_db - 7.95) / (2.285 * 2 * math.pi * transition)


def low_pass(*, fs_hz: float, pass_hz: float, stop_hz: float, attenuation_db: float) -> FloatArray:
    """Return an odd number of symmetric taps that sum to one."""
    half = math.ceil(kaiser_length(attenuation_db, transition=(stop_hz - pass_hz) / fs_hz) / 2)
    n = np.arange(-half, half + 1)
    cutoff = (pass_hz + stop_hz) / fs_hz  # twice the middle of the transition band over the rate
    taps = np.sinc(n * cutoff) * np.kaiser(2 * half + 1, kaiser_beta(attenuation_db))
    return np.asarray(taps / taps.sum(), dtype=np.float64)


def baseline(*, fs_hz: float, pass_hz: float) -> FloatArray:
    """Return the taps of a Hann average over two periods of `pass_hz`, an odd number that sums to one."""
    half = round(fs_hz / pass_hz)
    n = np.arange(-half + 1, half)
    taps = 0.5 + 0.5 * np.cos(np.pi * n / half)
    return np.asarray(taps / taps.sum(), dtype=np.float64)


def band_pass(
    *, fs_hz: float, pass_low_hz: float, pass_high_hz: float, stop_high_hz: float, attenuation_db: float
) -> FloatArray:
    """Return the front-end's taps, an odd number, symmetric, exactly summing to zero."""
    low = low_pass(fs_hz=fs_hz, pass_hz=pass_high_hz, stop_hz=stop_high_hz, attenuation_db=attenuation_db)
    slow = baseline(fs_hz=fs_hz, pass_hz=pass_low_hz)
    high = -slow
    high[slow.size // 2] += 1.0
    grid = np.rint(np.convolve(low, high) * _GRID)
    half = grid[: grid.size // 2]
    return np.concatenate([half, [-2.0 * half.sum()], half[::-1]]) / _GRID
