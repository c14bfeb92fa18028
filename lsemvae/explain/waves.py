"""Where P, QRS and T lie in leads I and II, for one purpose: to sum attribution over them.

The boundaries are never shown as measurements. How well they agree with cardiologists is in docs/explanation/explain.md.

The two leads are turned into the frontal heart vector, whose length does not depend on the axis (Einthoven 1912)::

    x = I ;  y = (2 II - I) / sqrt(3)

QRS: the vector's speed, averaged over 80 ms as in `lsemvae.ecg.measures.beat_contrast`, peaks at each beat; the complex
reaches outward from there to where the speed falls to its quiet level. P and T: the largest deflection in a window before and
after, measured from a baseline through the PR segments (Meyer and Keiser 1977), bounded where the steepest tangent on
each side meets that baseline (Lepeschkin and Surawicz 1952).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from lsemvae.ecg.errors import SampleError
from lsemvae.ecg.measures import BEAT_BLOCK_S, ENVELOPE_S

FloatArray = npt.NDArray[np.float64]
Kind = Literal["P", "QRS", "T"]
# The classes of `wave_codes`, by code; `between` is everything that is no wave: PR and ST segment, baseline.
WAVES: Final = ("P", "QRS", "T", "between")

# A beat's peak stands above this part of the typical largest one: small beats are kept, T waves are slower.
BEAT_LEVEL: Final = 0.45
# The ventricles answer no sooner (Pan and Tompkins 1985 take 200 ms; T waves that pass the level come up to 240 ms on).
REFRACTORY_S: Final = 0.24
# A pause of 1.66 typical intervals hides a beat, looked for at half the level (Pan and Tompkins 1985).
PAUSE: Final = 1.66
# Speed counts as quiet below this part of the complex's peak speed, for this long.
QUIET_LEVEL: Final = 0.07
QUIET_S: Final = 0.012
# Half of the widest complex looked for: bundle branch block rarely passes 200 ms.
QRS_REACH_S: Final = 0.14
# A PR interval of more than 300 ms is a marked first-degree block; 200 ms is the usual limit of normal.
P_REACH_S: Final = 0.30
# QT up to 0.55 sqrt(RR / 1 s) seconds: beyond any but the longest (Bazett 1920; 0.46 is the upper normal limit).
QT_BAZETT_S: Final = 0.55
# T cannot end later than this part of the interval to the next beat, which leaves room for the next P wave.
T_LAST_PART: Final = 0.75
# The mean over beats keeps this part of the height that single beats have before the complex, or those are no P waves but
# what fibrillation, flutter or noise happens to show there.
P_COHERENCE: Final = 0.6
P_SMOOTH_S: Final = 0.04
T_SMOOTH_S: Final = 0.1
# Smaller deflections are not told from noise at 40 Hz bandwidth.
P_LEAST_MV: Final = 0.03
T_LEAST_MV: Final = 0.04
# The steepest tangent of a wave is sought this far from its peak.
P_SIDE_S: Final = 0.08
T_SIDE_S: Final = 0.16


@dataclass(frozen=True, slots=True)
class Wave:
    """One wave: `onset` and `offset` are its first and last sample, `peak` lies between."""

    kind: Kind
    onset: int
    peak: int
    offset: int


def delineate(i_ii_mv: npt.ArrayLike, *, fs_hz: float) -> tuple[Wave, ...]:
    """Return the waves of leads I and II in order of time; empty where no beat is found.

    Parameters
    ----------
    i_ii_mv
        Front-end output `[2, time]` of leads I and II in mV.
    fs_hz
        Its rate.
    """
    vector = frontal_vector(i_ii_mv)
    beats = find_beats(vector, fs_hz=fs_hz)
    complexes = [_qrs(vector, beat, fs_hz=fs_hz) for beat in beats]
    if not complexes:
        return ()
    # Straight lines through the levels at the QRS onsets, where the PR segments end; level beyond the outermost.
    time, onsets = np.arange(vector.shape[1]), np.array([w.onset for w in complexes])
    level = vector - np.stack([np.interp(time, onsets, row[onsets]) for row in vector])
    t_waves = _t_waves(_smooth(level, T_SMOOTH_S, fs_hz), complexes, fs_hz=fs_hz)
    p_waves = _p_waves(_smooth(level, P_SMOOTH_S, fs_hz), complexes, t_waves, fs_hz=fs_hz)
    found = [*p_waves, *complexes, *(wave for wave in t_waves if wave)]
    return tuple(sorted(found, key=lambda wave: wave.onset))


def wave_codes(waves: tuple[Wave, ...], *, n_samples: int) -> npt.NDArray[np.int8]:
    """Return the class of each sample `[time]` as an index into `WAVES`; where waves overlap, QRS wins, then T."""
    codes = np.full(n_samples, WAVES.index("between"), dtype=np.int8)
    for kind in ("P", "T", "QRS"):
        for wave in waves:
            if wave.kind == kind:
                codes[max(wave.onset, 0) : wave.offset + 1] = WAVES.index(kind)
    return codes


def frontal_vector(i_ii_mv: npt.ArrayLike) -> FloatArray:
    """Return orthogonal components `[2, time]` in mV of the heart vector in the frontal plane, from leads I and II."""
    x = np.asarray(i_ii_mv, dtype=np.float64)
    if x.ndim != 2 or x.shape[0] != 2 or not np.isfinite(x).all():
        raise SampleError(f"found samples of shape {x.shape}, expected (2, time) of finite numbers: leads I and II")
    return np.stack([x[0], (2.0 * x[1] - x[0]) / np.sqrt(3.0)])


def find_beats(vector: FloatArray, *, fs_hz: float) -> list[int]:
    """Return the samples where the speed of the heart vector, averaged over 80 ms, peaks: one in each QRS complex."""
    envelope = _average(_speed(vector, fs_hz=fs_hz), round(ENVELOPE_S * fs_hz))
    width = min(round(BEAT_BLOCK_S * fs_hz), envelope.size)
    blocks = envelope[: envelope.size // width * width].reshape(-1, width)
    level = BEAT_LEVEL * float(np.median(blocks.max(axis=1)))
    if level <= 0.0:
        return []
    apart = round(REFRACTORY_S * fs_hz)
    beats = _peaks(envelope, level=level, apart=apart, taken=[])
    if len(beats) < 3:
        return beats
    typical = float(np.median(np.diff(beats)))
    for before, after in pairwise(tuple(beats)):
        if after - before > PAUSE * typical:
            found = _peaks(envelope[before:after], level=level / 2, apart=apart, taken=[0, after - before])
            beats += [before + k for k in found]
    return sorted(beats)


def _peaks(envelope: FloatArray, *, level: float, apart: int, taken: list[int]) -> list[int]:
    """Return local maxima of at least `level`, the highest first, none within `apart` samples of another or of `taken`."""
    inner = envelope[1:-1]
    candidates = np.flatnonzero((inner >= envelope[:-2]) & (inner > envelope[2:]) & (inner >= level)) + 1
    kept: list[int] = []
    for k in candidates[np.argsort(-envelope[candidates], kind="stable")]:
        if all(abs(int(k) - other) >= apart for other in (*kept, *taken)):
            kept.append(int(k))
    return sorted(kept)


def _qrs(vector: FloatArray, beat: int, *, fs_hz: float) -> Wave:
    """Return the complex around a beat: outward from the fastest sample until the vector has been quiet for a while."""
    speed = _average(_speed(vector, fs_hz=fs_hz), 3)
    reach, quiet = round(QRS_REACH_S * fs_hz), max(1, round(QUIET_S * fs_hz))
    near = slice(max(beat - quiet * 3, 0), beat + quiet * 3 + 1)
    fastest = near.start + int(np.argmax(speed[near]))
    calm = speed < QUIET_LEVEL * speed[fastest]
    onset = fastest - _until_calm(calm[max(fastest - reach, 0) : fastest + 1][::-1], quiet)
    offset = fastest + _until_calm(calm[fastest : fastest + reach + 1], quiet)
    length = np.hypot(*vector[:, onset : offset + 1])
    return Wave("QRS", onset, onset + int(np.argmax(length)), offset)


def _until_calm(calm: npt.NDArray[np.bool_], quiet: int) -> int:
    """Return the steps until `quiet` calm samples in a row begin; where there are none, to the last sample."""
    if calm.size < quiet:
        return max(calm.size - 1, 0)
    runs = np.lib.stride_tricks.sliding_window_view(calm, quiet).all(axis=1)
    return int(np.argmax(runs)) if runs.any() else calm.size - 1


def _t_waves(level: FloatArray, complexes: list[Wave], *, fs_hz: float) -> list[Wave | None]:
    """Return the T wave of each complex, None where none stands out or the recording ends before it."""
    steps = np.diff([wave.onset for wave in complexes]) / fs_hz
    typical_s = float(np.median(steps)) if steps.size else 1.0
    rr = [*steps.tolist(), typical_s]  # nobody knows when the beat after the last one comes
    waves: list[Wave | None] = []
    for qrs, rr_s in zip(complexes, rr, strict=True):
        start = qrs.offset + round(0.04 * fs_hz)
        longest = min(QT_BAZETT_S * float(np.sqrt(rr_s)), T_LAST_PART * rr_s)
        stop = min(qrs.onset + round(longest * fs_hz), level.shape[1])
        side = round(T_SIDE_S * fs_hz)
        waves.append(_deflection(level, start, stop, kind="T", least_mv=T_LEAST_MV, side=side, floor=qrs.offset + 1))
    return waves


def _p_waves(level: FloatArray, complexes: list[Wave], t_waves: list[Wave | None], *, fs_hz: float) -> list[Wave]:
    """Return the P waves before the complexes, where one stands out after the T wave of the beat before."""
    found: list[Wave] = []
    last = 0
    if not _coherent(level, complexes, reach=round(P_REACH_S * fs_hz)):
        return found
    for k, qrs in enumerate(complexes):
        if k:
            t = t_waves[k - 1]
            last = (t.offset if t else complexes[k - 1].offset + round(0.1 * fs_hz)) + 1
        start, stop = max(qrs.onset - round(P_REACH_S * fs_hz), last), qrs.onset - round(0.012 * fs_hz)
        side = round(P_SIDE_S * fs_hz)
        wave = _deflection(level, start, stop, kind="P", least_mv=P_LEAST_MV, side=side, floor=last)
        if wave is not None:
            found.append(Wave("P", wave.onset, wave.peak, min(wave.offset, qrs.onset - 1)))
    return found


def _coherent(level: FloatArray, complexes: list[Wave], *, reach: int) -> bool:
    """Return whether what stands before the complexes keeps its place from beat to beat; two beats and fewer count as so."""
    stack = [level[:, w.onset - reach : w.onset] for w in complexes if w.onset >= reach]
    if len(stack) < 3:
        return True
    near = np.stack(stack)[:, :, reach // 3 :]  # the last 200 ms: what lies before is often a T wave
    single = np.median(np.hypot(near[:, 0], near[:, 1]).max(axis=1))
    return bool(np.hypot(*near.mean(axis=0)).max() >= P_COHERENCE * single)


def _deflection(
    level: FloatArray, start: int, stop: int, *, kind: Kind, least_mv: float, side: int, floor: int
) -> Wave | None:
    """Return the largest deflection of `level` `[2, time]` within `[start, stop)`, bounded by tangents; None where none stands out."""
    if stop - start < 5:
        return None
    length = np.hypot(*level[:, start:stop])
    inner = length[1:-1]
    tops = np.flatnonzero((inner >= length[:-2]) & (inner >= length[2:])) + 1
    if not tops.size:
        return None
    peak = start + int(tops[np.argmax(length[tops])])
    height = float(np.hypot(*level[:, peak]))
    if height < least_mv:
        return None
    # Seen along its own direction at the peak a wave is one curve with a sign.
    curve = level[:, peak] @ level / height
    before, after = max(peak - side, floor, 0), min(peak + side + 1, curve.size)
    onset = max(_foot(curve[before : peak + 1][::-1], peak, -1), before)
    offset = min(_foot(curve[peak:after], peak, 1), after - 1)
    return Wave(kind, onset, peak, offset)


def _foot(falling: FloatArray, peak: int, direction: int) -> int:
    """Return the sample where the steepest tangent of a curve that starts at its peak meets zero."""
    if falling.size < 3:
        return peak + direction * (falling.size - 1)
    slope = np.gradient(falling)
    steepest = int(np.argmin(slope))
    if slope[steepest] >= 0.0:
        return peak + direction * (falling.size - 1)
    return peak + direction * round(steepest + float(max(falling[steepest], 0.0) / -slope[steepest]))


def _speed(vector: FloatArray, *, fs_hz: float) -> FloatArray:
    """Return the length of the vector's rate of change `[time]` in mV/s."""
    return np.asarray(np.hypot(*(np.gradient(vector, axis=-1) * fs_hz)), dtype=np.float64)


def _average(x: FloatArray, width: int) -> FloatArray:
    """Return the centred moving average `[time]` over an odd number of samples, at least `width`."""
    width |= 1
    return np.convolve(np.pad(x, width // 2, mode="edge"), np.full(width, 1.0 / width), mode="valid")


def _smooth(x: FloatArray, seconds: float, fs_hz: float) -> FloatArray:
    """Return each row averaged with a Hann window of this length."""
    taps = np.hanning((round(seconds * fs_hz) | 1) + 2)[1:-1]
    half = taps.size // 2
    padded = np.pad(x, ((0, 0), (half, half)), mode="edge")
    return np.stack([np.convolve(row, taps / taps.sum(), mode="valid") for row in padded])
