"""Numbers about a stretch of ECG that the quality gate judges. Pure functions of arrays `[lead, time]`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from lsemvae.ecg.fir import baseline
from lsemvae.ecg.leads import LIMB_LEADS, LIMB_MATRIX
from lsemvae.ecg.resample import mirror_extend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lsemvae.ecg.record import Int16Array

FloatArray = npt.NDArray[np.float64]

# A lead is judged flat over 1.6 s: at 40 beats a minute such a stretch still holds a QRS complex.
FLAT_BLOCK_S: Final = 1.6
FLAT_STEP_S: Final = 0.2
# Smaller than the noise of any electrode on skin in such a stretch, larger than the rounding of a disconnected input.
FLAT_RANGE_MV: Final = 0.02
# Equal counts in a row that mean a limit and not chance: a QRS peak in 5 uV counts stays equal for 10 ms at most.
STUCK_S: Final = 0.04
# Away from the lead's median by this much; a quiet baseline may stay at the lowest count of a lead, but not that far
# out.
STUCK_LEVEL_MV: Final = 1.0
INT16_RAILS: Final = (-32768, 32767)
# Drift is judged a little above the filter's pass-band edge of 0.5 Hz, because swings up to there reach the model:
# the average passes half of 0.5 Hz and nothing of 1 Hz, so a regular heartbeat (60 a minute and more) adds next to
# nothing.
DRIFT_ZERO_HZ: Final = 1.0
# Noise is what a 60 ms Hann average takes away: muscle (20-150 Hz) and mains. Blocks of 100 ms, because the median of
# such blocks passes over the QRS complexes, which fill fewer than a third of them.
NOISE_SMOOTH_HZ: Final = 33.0
NOISE_BLOCK_S: Final = 0.1
# The QRS envelope: slope of the heart vector averaged over 80 ms, about the width of a QRS complex.
ENVELOPE_S: Final = 0.08
# Every stretch of 1.6 s holds a beat down to 40 a minute.
BEAT_BLOCK_S: Final = 1.6


def flat_fraction(x_mv: FloatArray, *, fs_hz: float) -> FloatArray:
    """Return for each lead the part of the time without signal: inside 1.6 s that range over less than 20 uV."""
    steps = _blocks(x_mv, round(FLAT_STEP_S * fs_hz))
    width = min(round(FLAT_BLOCK_S / FLAT_STEP_S), steps.shape[1])
    highest = np.lib.stride_tricks.sliding_window_view(steps.max(axis=-1), width, axis=1).max(axis=-1)
    lowest = np.lib.stride_tricks.sliding_window_view(steps.min(axis=-1), width, axis=1).min(axis=-1)
    flat = np.zeros(steps.shape[:2], dtype=np.bool_)
    for k in range(width):
        flat[:, k : k + highest.shape[1]] |= highest - lowest < FLAT_RANGE_MV
    return np.asarray(flat.mean(axis=-1), dtype=np.float64)


def saturated_mask(counts: Int16Array, *, fs_hz: float, lsb_mv: float) -> npt.NDArray[np.bool_]:
    """Return where a lead is at a limit of the device, `[lead, time]`.

    A limit is the largest or smallest int16, or 40 ms without change at the lead's own extreme, 1 mV off its median.
    """
    rails = (counts == INT16_RAILS[0]) | (counts == INT16_RAILS[1])
    median = np.median(counts, axis=-1, keepdims=True)
    far = np.abs(counts - median) * lsb_mv > STUCK_LEVEL_MV
    extreme = (counts == counts.max(axis=-1, keepdims=True)) | (counts == counts.min(axis=-1, keepdims=True))
    return np.asarray(rails | _long_runs(extreme & far, max(2, round(STUCK_S * fs_hz))), dtype=np.bool_)


def drift_mv(x_mv: FloatArray, *, fs_hz: float) -> FloatArray:
    """Return the slow part of each lead: a Hann average over 2 s."""
    return _smooth(x_mv, baseline(fs_hz=fs_hz, pass_hz=DRIFT_ZERO_HZ))


def noise_mv(x_mv: FloatArray, *, fs_hz: float) -> FloatArray:
    """Return for each lead the noise between beats: the median, over blocks of 100 ms, of the rms above about 20 Hz."""
    rough = x_mv - _smooth(x_mv, baseline(fs_hz=fs_hz, pass_hz=NOISE_SMOOTH_HZ))
    blocks = _blocks(rough, round(NOISE_BLOCK_S * fs_hz))
    return np.asarray(np.median(np.sqrt(np.mean(blocks**2, axis=-1)), axis=-1), dtype=np.float64)


def rms_mv(x_mv: FloatArray) -> FloatArray:
    """Return the root mean square of each lead."""
    return np.asarray(np.sqrt(np.mean(x_mv**2, axis=-1)), dtype=np.float64)


def limb_contradiction_mv(x_mv: FloatArray, *, leads: Sequence[str]) -> float:
    """Return in mV the largest deviation of a limb lead from its prediction by the other limb leads.

    For each lead the root mean square of the difference to its least-squares prediction from the other limb leads:
    the residual of the two-dimensional fit over one less the lead's leverage (Allen 1974, PRESS). 0.0 where there are
    only two leads.
    """
    if len(leads) <= 2:
        return 0.0
    matrix = LIMB_MATRIX[[LIMB_LEADS.index(lead) for lead in leads]]
    fit = matrix @ np.linalg.pinv(matrix)
    residual = rms_mv(x_mv - fit @ x_mv)
    return float(np.max(residual / (1.0 - np.diag(fit))))


def beat_contrast(filtered_mv: FloatArray, *, fs_hz: float) -> float:
    """Return how far the QRS envelope's peaks stand above its typical value; about 2 for noise, 0.0 for no signal.

    The envelope is the length of the slope of all leads together, averaged over 80 ms. Peaks: the median over blocks
    of 1.6 s of the block's largest value. Typical: the median over time.
    """
    slope = np.sqrt(np.sum(np.diff(filtered_mv, axis=-1) ** 2, axis=0))
    width = max(1, round(ENVELOPE_S * fs_hz))
    envelope = np.convolve(slope, np.full(width, 1 / width), mode="valid")
    typical = float(np.median(envelope))
    if typical <= 0.0:
        return 0.0
    return float(np.median(_blocks(envelope[None], round(BEAT_BLOCK_S * fs_hz)).max(axis=-1))) / typical


def _blocks(x: FloatArray, length: int) -> FloatArray:
    """Return `[lead, block, length]` without the rest; a signal shorter than a block is one block."""
    length = min(length, x.shape[-1])
    count = x.shape[-1] // length
    return x[:, : count * length].reshape(x.shape[0], count, length)


def _long_runs(mask: npt.NDArray[np.bool_], least: int) -> npt.NDArray[np.bool_]:
    """Return the mask without runs shorter than `least`."""
    if mask.shape[-1] < least:
        return np.zeros_like(mask)
    sums = np.cumsum(np.pad(mask, ((0, 0), (1, 0))), axis=-1, dtype=np.int64)
    starts = (sums[:, least:] - sums[:, :-least]) == least
    spread = np.zeros(mask.shape, dtype=np.int64)
    spread[:, : starts.shape[1]] += starts
    ends = np.zeros(mask.shape, dtype=np.int64)
    ends[:, least:] = starts[:, : mask.shape[-1] - least]
    return np.asarray(np.cumsum(spread - ends, axis=-1) > 0, dtype=np.bool_)


def _smooth(x: FloatArray, taps: FloatArray) -> FloatArray:
    """Return each lead averaged with symmetric taps, mirrored at its ends; its mean where it is too short for that."""
    half = taps.size // 2
    if x.shape[-1] <= half:
        return np.broadcast_to(x.mean(axis=-1, keepdims=True), x.shape)
    extended = mirror_extend(x, n_before=half, n_after=half)
    return np.stack([np.convolve(row, taps, mode="valid") for row in extended])
