"""The front-end: one function from a record to what a model sees.

Training, export calibration and the clinic call the same numpy code: millivolts, 250 Hz, zero-phase FIR 0.5-40 Hz, a
10 s window of 2,500 samples, clipped to 5 mV. Its specification and the hash of its coefficients travel in the
bundle. Up to the clipping the map from samples to result is linear.

Response of the `base` preset (1,065 taps, 4.3 s): within 0.25 dB from 0.5 to 40 Hz, at least 31 dB down at 0.05 Hz
and below, exactly nothing at 0 Hz, at least 45 dB down from 50 Hz upward.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt

from lsemvae.ecg.errors import LengthError, ManifestError, SampleError
from lsemvae.ecg.fir import band_pass
from lsemvae.ecg.leads import select_leads
from lsemvae.ecg.resample import (
    ATTENUATION_DB,
    check_rate,
    finite_signal,
    mirror_extend,
    odd_extend,
    output_length,
    resample,
)
from lsemvae.ecg.window import TOLERATED_SHORTFALL, Window, choose_window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lsemvae.ecg.record import EcgRecord

Float32Array = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]

_CACHE_ENTRIES: Final = 32

Edges = Literal["odd", "mirror"]
_EXTENDERS: Final = MappingProxyType({"odd": odd_extend, "mirror": mirror_extend})


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendSpec:
    """What the front-end does, in numbers.

    Attributes
    ----------
    name
        Name of the preset.
    fs_hz, n_samples
        Rate and length of the result.
    pass_low_hz, pass_high_hz
        Pass-band of the filter (gain within 0.5 dB).
    stop_high_hz
        Frequency from which the filter suppresses by `attenuation_db`.
    attenuation_db
        Stop-band attenuation of the low-pass.
    resample_db
        Design attenuation of the resampler's window.
    clip_mv
        Largest absolute value of the result. A QRS complex rarely passes 3 mV; open electrodes reach 100 mV.
    edges
        How the filter continues a signal beyond its ends: "odd" (point-symmetric) or "mirror". Both keep the map
        linear.
    """

    name: str = "base"
    fs_hz: float = 250.0
    n_samples: int = 2500
    pass_low_hz: float = 0.5
    pass_high_hz: float = 40.0
    stop_high_hz: float = 50.0
    attenuation_db: float = 45.0
    resample_db: float = ATTENUATION_DB
    clip_mv: float = 5.0
    edges: Edges = "mirror"

    def __post_init__(self) -> None:
        """Refuse numbers that make no filter; whole rates become float so that equal specifications hash alike."""
        for name in (
            "fs_hz",
            "pass_low_hz",
            "pass_high_hz",
            "stop_high_hz",
            "attenuation_db",
            "resample_db",
            "clip_mv",
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise ManifestError(f"found {name} {value!r}, expected a number above 0")
            object.__setattr__(self, name, float(value))
        if isinstance(self.n_samples, bool) or not isinstance(self.n_samples, int) or self.n_samples < 1:
            raise ManifestError(f"found n_samples {self.n_samples!r}, expected a whole number above 0")
        if self.edges not in _EXTENDERS:
            raise ManifestError(f"found edges {self.edges!r}, expected one of {', '.join(_EXTENDERS)}")
        check_rate(self.fs_hz)
        if not self.pass_low_hz < self.pass_high_hz < self.stop_high_hz <= self.fs_hz / 2:
            raise ManifestError(
                f"found band edges {self.pass_low_hz:g}, {self.pass_high_hz:g}, {self.stop_high_hz:g} Hz "
                f"at {self.fs_hz:g} Hz, expected pass_low < pass_high < stop_high <= half the rate"
            )

    @property
    def duration_s(self) -> float:
        """Length of the window in seconds."""
        return self.n_samples / self.fs_hz

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FrontendSpec:
        """Return the specification of a mapping.

        Every field must be there and no other, because a guessed filter is a wrong one.
        """
        expected = {f.name for f in fields(cls)}
        if set(values) != expected:
            raise ManifestError(f"found front-end fields {sorted(values)}, expected {sorted(expected)}")
        return cls(**values)

    def sha256(self) -> str:
        """Return the hash of the coefficients (little-endian float64) and then the specification (canonical JSON)."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(coefficients(self).astype("<f8").tobytes() + text.encode("ascii")).hexdigest()


BASE: Final = FrontendSpec()


@lru_cache(maxsize=_CACHE_ENTRIES)
def coefficients(spec: FrontendSpec = BASE) -> FloatArray:
    """Return the taps of the band-pass: float64, odd number, symmetric, read-only, summing to exactly zero."""
    taps = band_pass(
        fs_hz=spec.fs_hz,
        pass_low_hz=spec.pass_low_hz,
        pass_high_hz=spec.pass_high_hz,
        stop_high_hz=spec.stop_high_hz,
        attenuation_db=spec.attenuation_db,
    )
    taps.setflags(write=False)
    return taps


def bandpass(x: npt.ArrayLike, *, spec: FrontendSpec = BASE) -> FloatArray:
    """Return a signal, already at `spec.fs_hz`, filtered with zero phase.

    Parameters
    ----------
    x
        `[..., time]`, any unit, longer than half the filter (about 2.1 s).

    Returns
    -------
    ndarray
        float64, same shape and unit. Ends are continued as `spec.edges` says.
    """
    signal = finite_signal(x)
    half = coefficients(spec).size // 2
    extended = _EXTENDERS[spec.edges](signal, n_before=half, n_after=half)
    n_fft = _fft_length(extended.shape[-1])
    spectrum = np.fft.rfft(extended, n_fft, axis=-1) * _response(spec, n_fft)
    filtered: FloatArray = np.fft.irfft(spectrum, n_fft, axis=-1)[..., half : half + signal.shape[-1]]
    return filtered


def apply_array(x_mv: npt.ArrayLike, *, fs_hz: float, spec: FrontendSpec = BASE) -> Float32Array:
    """Return what a model sees of an array of voltages.

    The whole signal is resampled and filtered, then the first `spec.n_samples` are kept.

    Parameters
    ----------
    x_mv
        Millivolts `[..., lead, time]`; leads are treated alike, so their order is the caller's.
    fs_hz
        Rate of `x_mv`, 100 to 1000 Hz.

    Returns
    -------
    ndarray
        float32 `[..., lead, spec.n_samples]` in mV at `spec.fs_hz`, within +-`spec.clip_mv`.

    Raises
    ------
    LengthError
        If the signal is more than 1 % shorter than the window.
    SampleError
        If the array is one-dimensional or holds NaN or infinity.
    """
    signal = finite_signal(x_mv)
    if signal.ndim < 2:
        raise SampleError(f"found samples of shape {signal.shape}, expected (lead, time)")
    return _window(_filtered(signal, fs_hz=check_rate(fs_hz), spec=spec), start=0, spec=spec)


def apply(
    record: EcgRecord, *, leads: Sequence[str], spec: FrontendSpec = BASE, start_s: float | None = None
) -> Float32Array:
    """Return what a model sees of a record: its leads in mV, filtered, cut to the first undisturbed window.

    Parameters
    ----------
    record
        The recording.
    leads
        Wanted leads; rows of the result.
    start_s
        Begin of the window in seconds; None takes the first that is possible.

    Returns
    -------
    ndarray
        float32 `[len(leads), spec.n_samples]` in mV at `spec.fs_hz`, within +-`spec.clip_mv`.

    Raises
    ------
    RateError
        If the record's rate is outside 100 to 1000 Hz.
    LengthError
        If no undisturbed window is there.
    LeadError
        If a wanted lead is neither recorded nor derivable.
    """
    check_rate(record.fs_hz)
    window = choose_window(record, leads=leads, duration_s=spec.duration_s, start_s=start_s)
    return apply_window(record, window, spec=spec)


def apply_window(record: EcgRecord, window: Window, *, spec: FrontendSpec = BASE) -> Float32Array:
    """Return what a model sees of a record through a window chosen for `spec`; result and errors are those of `apply`.

    Leads are taken by name; missing limb leads are derived. The undisturbed stretch around the window (the whole
    record, where it has neither gap nor lead-off) is resampled and filtered, then the window is cut, so the filter
    never sees a fill value.
    """
    fs_hz = check_rate(record.fs_hz)
    stretch = window.stretch
    if stretch is None or not window.enough:
        longest = stretch.n_samples if stretch else 0
        raise LengthError(
            f"found at most {longest / fs_hz:.2f} s without interruption in {record.duration_s:.2f} s, "
            f"expected {window.least / fs_hz:.2f} s (gaps: {len(record.gaps)}, lead-off: {len(record.lead_off)})"
        )
    mv = record.samples[:, stretch.start : stretch.stop] * (record.lsb_uv * 1e-3)
    chosen = select_leads(mv, leads=record.leads, wanted=window.leads).astype(np.float64, copy=False)
    start = round((window.start - stretch.start) * spec.fs_hz / fs_hz)
    return _window(_filtered(chosen, fs_hz=fs_hz, spec=spec), start=start, spec=spec)


def _filtered(x_mv: FloatArray, *, fs_hz: float, spec: FrontendSpec) -> FloatArray:
    """Return `[..., time]` resampled and band-passed; refuse what is more than 1 % shorter than the window."""
    n_out = output_length(x_mv.shape[-1], fs_in_hz=fs_hz, fs_out_hz=spec.fs_hz)
    least = spec.n_samples * (1 - TOLERATED_SHORTFALL)
    if n_out < least - 1e-9:
        raise LengthError(f"found {x_mv.shape[-1] / fs_hz:.2f} s, expected at least {least / spec.fs_hz:.2f} s")
    evened = resample(
        x_mv, fs_in_hz=fs_hz, fs_out_hz=spec.fs_hz, pass_hz=spec.pass_high_hz, attenuation_db=spec.resample_db
    )
    return bandpass(evened, spec=spec)


def _window(filtered: FloatArray, *, start: int, spec: FrontendSpec) -> Float32Array:
    """Return the window from `start`, clipped; up to 1 % that is missing at its end is continued point-symmetrically."""
    window = filtered[..., start : start + spec.n_samples]
    short = spec.n_samples - window.shape[-1]
    if short:
        window = odd_extend(window, n_before=0, n_after=short)
    return np.clip(window, -spec.clip_mv, spec.clip_mv).astype(np.float32)


@lru_cache(maxsize=_CACHE_ENTRIES)
def _response(spec: FrontendSpec, n_fft: int) -> FloatArray:
    """Return the filter's spectrum about its centre tap; real, because the taps are symmetric."""
    taps = coefficients(spec)
    centred = np.zeros(n_fft)
    centred[: taps.size] = taps
    response = np.fft.rfft(np.roll(centred, -(taps.size // 2))).real.copy()
    response.setflags(write=False)
    return response


def _fft_length(n: int) -> int:
    """Return the smallest product of 2, 3 and 5 that is at least `n`: lengths the FFT takes fast."""
    best = 1 << (n - 1).bit_length()
    for threes in (1, 3, 9, 27):
        for fives in (1, 5, 25, 125):
            odd = threes * fives
            twos = max(0, (-(-n // odd) - 1).bit_length())
            best = min(best, odd << twos)
    return best
