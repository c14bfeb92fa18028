"""Resampling by any real ratio with a windowed sinc, zero phase.

Output sample m stands at time m / fs_out. It is a weighted sum of the input samples around that time, with weights
from a Kaiser-windowed sinc (Oppenheim & Schafer, Discrete-Time Signal Processing, section 7.6) that are scaled to sum
to one, so a constant stays that constant. With r = min(fs_in, fs_out), the cutoff is r / 2 and half the transition
band is r / 2 - 40 Hz: everything up to 40 Hz passes, and what folds back over r / 2 lands above 40 Hz, where the
band-pass that follows removes it.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from lsemvae.ecg.errors import LengthError, RateError, SampleError
from lsemvae.ecg.fir import kaiser_beta, kaiser_length

FloatArray = npt.NDArray[np.float64]

MIN_RATE_HZ: Final = 100.0  # half of it must leave room above 40 Hz for a transition band
MAX_RATE_HZ: Final = 1000.0
PASS_HZ: Final = 40.0  # the upper edge of the front-end's pass-band
# Kaiser's formula promises a little too much for windows of six to thirty samples. Designed for 80 dB, every rate from
# 128 to 1000 Hz folds back at most -66 dB (1 mV becomes 0.5 uV) and errs at most 5e-4 of the amplitude up to 40 Hz.
ATTENUATION_DB: Final = 80.0
# Rates in use at one time are few; a long training run must not grow the cache.
_CACHE_ENTRIES: Final = 32


def check_rate(fs_hz: float) -> float:
    """Return a rate that can be resampled, or raise RateError."""
    if isinstance(fs_hz, bool) or not isinstance(fs_hz, int | float | np.integer | np.floating):
        raise RateError(f"found sampling rate {fs_hz!r}, expected a number of Hz")
    if not MIN_RATE_HZ <= fs_hz <= MAX_RATE_HZ:
        raise RateError(f"found sampling rate {fs_hz:g} Hz, expected {MIN_RATE_HZ:g} to {MAX_RATE_HZ:g} Hz")
    return float(fs_hz)


def output_length(n_in: int, *, fs_in_hz: float, fs_out_hz: float) -> int:
    """Return the samples that `n_in` samples become: the duration times the new rate, to the nearest whole number."""
    return math.floor(n_in * fs_out_hz / fs_in_hz + 0.5)


def resample(
    x: npt.ArrayLike,
    *,
    fs_in_hz: float,
    fs_out_hz: float = 250.0,
    pass_hz: float = PASS_HZ,
    attenuation_db: float = ATTENUATION_DB,
) -> FloatArray:
    """Return a signal at another rate, without delay.

    Parameters
    ----------
    x
        `[..., time]`, finite real numbers, any unit.
    fs_in_hz, fs_out_hz
        Rates from 100 to 1000 Hz; any ratio.
    pass_hz
        Frequency up to which the signal is kept; below half of either rate.
    attenuation_db
        Design attenuation of the window.

    Returns
    -------
    ndarray
        float64 `[..., time]`, same unit; a plain copy where the rates are equal. Ends are continued
        point-symmetrically.
    """
    signal = finite_signal(x)
    fs_in, fs_out = check_rate(fs_in_hz), check_rate(fs_out_hz)
    if fs_in == fs_out:
        return signal.copy()
    if min(fs_in, fs_out) <= 2 * pass_hz:
        raise RateError(
            f"found a rate of {min(fs_in, fs_out):g} Hz, expected more than {2 * pass_hz:g} Hz to keep {pass_hz:g} Hz"
        )
    first, weights = _polyphase(fs_in, fs_out, signal.shape[-1], pass_hz, attenuation_db)
    pad = weights.shape[0]
    extended = odd_extend(signal, n_before=pad, n_after=pad)
    out = np.zeros((*signal.shape[:-1], weights.shape[1]))
    for tap, weight in enumerate(weights):
        out += extended[..., first + tap] * weight
    return out


def finite_signal(x: npt.ArrayLike) -> FloatArray:
    """Return `[..., time]` as float64; SampleError for NaN, infinity or no numbers, LengthError for no samples."""
    array = np.asarray(x)
    if array.dtype.kind not in "fiu" or array.ndim == 0:
        raise SampleError(
            f"found samples of type {array.dtype} and shape {array.shape}, expected real numbers over time"
        )
    if array.size == 0:
        raise LengthError(f"found 0 samples (shape {array.shape}), expected at least 1")
    signal = array.astype(np.float64)
    bad = signal.size - int(np.count_nonzero(np.isfinite(signal)))
    if bad:
        raise SampleError(f"found {bad} samples that are NaN or infinite, expected 0")
    return signal


def odd_extend(x: FloatArray, *, n_before: int, n_after: int) -> FloatArray:
    """Return `[..., time]` continued point-symmetrically about its first and last sample: level and slope go on."""
    head, tail = _reflections(x, n_before, n_after)
    return np.concatenate([2 * x[..., :1] - head, x, 2 * x[..., -1:] - tail], axis=-1)


def mirror_extend(x: FloatArray, *, n_before: int, n_after: int) -> FloatArray:
    """Return `[..., time]` continued by its mirror image about its first and last sample: the level goes on."""
    head, tail = _reflections(x, n_before, n_after)
    return np.concatenate([head, x, tail], axis=-1)


def _reflections(x: FloatArray, n_before: int, n_after: int) -> tuple[FloatArray, FloatArray]:
    """Return what lies behind the first and before the last sample, backwards."""
    needed = max(n_before, n_after)
    if x.shape[-1] <= needed:
        raise LengthError(f"found {x.shape[-1]} samples, expected at least {needed + 1} to continue the ends")
    return np.flip(x[..., 1 : n_before + 1], -1), np.flip(x[..., -1 - n_after : -1], -1)


@lru_cache(maxsize=_CACHE_ENTRIES)
def _polyphase(
    fs_in: float, fs_out: float, n_in: int, pass_hz: float, attenuation_db: float
) -> tuple[npt.NDArray[np.intp], FloatArray]:
    """Return for each output sample its first input sample in the extended signal and, `[tap, output]`, the weights."""
    narrow = min(fs_in, fs_out)
    half = kaiser_length(attenuation_db, transition=(narrow - 2 * pass_hz) / fs_in) / 2
    n_out = output_length(n_in, fs_in_hz=fs_in, fs_out_hz=fs_out)
    centre = np.arange(n_out) * (fs_in / fs_out)
    n_taps = 2 * math.ceil(half)
    first = np.ceil(centre - half).astype(np.intp)
    lag = (first + np.arange(n_taps)[:, None]) - centre
    window = np.i0(kaiser_beta(attenuation_db) * np.sqrt(np.clip(1 - (lag / half) ** 2, 0, None)))
    weights = np.where(np.abs(lag) <= half, np.sinc(lag * (narrow / fs_in)) * window, 0.0)
    weights /= weights.sum(axis=0)
    first += n_taps  # the extension puts n_taps samples before the signal
    weights.setflags(write=False)
    first.setflags(write=False)
    return first, weights
