"""The record: what was measured, in counts, with everything needed to read it.

A record cannot be built without the size of one count (`lsb_uv`), a rate and lead names. Time that was lost stays
visible: samples inside `gaps` hold zeros and count as time, so received samples plus declared gaps equal the elapsed
time times the rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lsemvae.ecg.errors import FormatError, LeadError, LengthError, RateError, SampleError, UnitError
from lsemvae.ecg.leads import canonical_leads
from lsemvae.ecg.runs import Interval, LeadOff, StartTime, checked_lead_off, checked_runs, cut_run, cut_runs
from lsemvae.ecg.source import OF_A_FILE, SourceInfo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Int16Array = npt.NDArray[np.int16]

# Slower cannot hold a QRS complex, faster is no surface ECG; both point to a wrong number. The front-end takes
# 100..1000 Hz of it.
MIN_FS_HZ: Final = 50.0
MAX_FS_HZ: Final = 2000.0
# 24-bit converters reach 0.02 uV a count, coarse archives 10 uV; beyond these bounds a unit was mistaken.
MIN_LSB_UV: Final = 1e-3
MAX_LSB_UV: Final = 1e3
_INT16_MAX: Final = 32767
# One count per microvolt is the resolution of PTB-XL and finer than any reader's eye; doubled until the signal fits.
_FIRST_LSB_UV: Final = 1.0
# Case matters: "mV" is a thousandth of a volt, "MV" is refused.
UV_PER_UNIT: Final[Mapping[str, float]] = MappingProxyType({"uV": 1.0, "mV": 1e3, "V": 1e6})
# Other spellings of the same units: micro sign, Greek mu.
_SPELLINGS: Final[Mapping[str, str]] = MappingProxyType({"\u00b5V": "uV", "\u03bcV": "uV"})


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class EcgRecord:
    """One recording.

    Attributes
    ----------
    samples
        int16 `[lead, time]`, read-only. Millivolts are `samples * lsb_uv / 1000`, less the offset.
    lsb_uv
        Size of one count in microvolts.
    fs_hz
        Sampling rate.
    leads
        Canonical lead names of the rows, each once.
    offset_uv
        Constant (electrode potential) that was taken off each lead before it became int16; zeros where None was taken.
    start
        Time of the first sample, or None.
    gaps
        Runs that were never received; sorted, disjoint; the samples there are zeros.
    lead_off
        Runs without electrode contact, by lead.
    device, record_id
        Names; empty where unknown.
    gain_known
        False where the overall amplitude is arbitrary; amplitude is then never judged.
    saturated
        Runs in which the device reported an overloaded input; sorted, disjoint.
    source
        What the device or file can know: scale, lost samples, time, and whether it proved who it is.
    """

    samples: Int16Array
    lsb_uv: float
    fs_hz: float
    leads: tuple[str, ...]
    offset_uv: tuple[float, ...] = ()
    start: StartTime | None = None
    gaps: tuple[Interval, ...] = ()
    lead_off: tuple[LeadOff, ...] = ()
    device: str = ""
    record_id: str = ""
    gain_known: bool = True
    saturated: tuple[Interval, ...] = field(default=())
    source: SourceInfo = OF_A_FILE

    def __post_init__(self) -> None:
        """Check every field against the others; names become canonical, samples a read-only copy."""
        put = object.__setattr__
        put(self, "leads", canonical_leads(self.leads))
        put(self, "samples", _checked_samples(self.samples, len(self.leads)))
        put(self, "lsb_uv", check_lsb_uv(self.lsb_uv))
        put(self, "fs_hz", check_fs_hz(self.fs_hz))
        offsets = tuple(self.offset_uv) or (0.0,) * len(self.leads)
        if len(offsets) != len(self.leads):
            raise UnitError(f"found {len(offsets)} offsets, expected {len(self.leads)}, one for each lead")
        if any(_real(value) is None for value in offsets):
            raise UnitError(f"found offsets {offsets!r}, expected finite microvolts")
        put(self, "offset_uv", tuple(float(value) for value in offsets))
        if not isinstance(self.device, str) or not isinstance(self.record_id, str):
            raise FormatError(f"found device {self.device!r} and record_id {self.record_id!r}, expected text")
        if not isinstance(self.source, SourceInfo):
            raise FormatError(f"found source {self.source!r}, expected a SourceInfo")
        if self.gain_known and not self.source.calibrated:
            raise FormatError("found a known gain from a source that is not calibrated, expected gain_known=False")
        if not isinstance(self.gain_known, bool):
            raise FormatError(f"found gain_known {self.gain_known!r}, expected True or False")
        put(self, "gaps", checked_runs(self.gaps, "gap", self.n_samples))
        put(self, "saturated", checked_runs(self.saturated, "saturated run", self.n_samples))
        put(self, "lead_off", checked_lead_off(self.lead_off, self.leads, self.n_samples))
        if any(self.samples[:, gap.start : gap.stop].any() for gap in self.gaps):
            raise SampleError(
                "found values inside a declared gap, expected zeros there",
                advice="Fill gaps with zeros, or do not declare them.",
            )

    @property
    def n_leads(self) -> int:
        """Number of leads."""
        return int(self.samples.shape[0])

    @property
    def n_samples(self) -> int:
        """Length in samples per lead, gaps included."""
        return int(self.samples.shape[1])

    @property
    def duration_s(self) -> float:
        """Elapsed time in seconds, gaps included."""
        return self.n_samples / self.fs_hz

    @property
    def received_samples(self) -> int:
        """Samples per lead that were really received."""
        return self.n_samples - sum(gap.n_samples for gap in self.gaps)

    def to_mv(self, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
        """Return the samples in millivolts, `[lead, time]`, without the offset."""
        return (self.samples * (self.lsb_uv * 1e-3)).astype(dtype)

    def slice(self, start: int, stop: int) -> EcgRecord:
        """Return samples `[start, stop)` as a record; runs are cut to fit, the start time stays only with the start."""
        if not 0 <= start < stop <= self.n_samples:
            raise LengthError(f"found slice {start}..{stop}, expected a part of 0..{self.n_samples}")
        return replace(
            self,
            samples=self.samples[:, start:stop],
            start=self.start if start == 0 else None,
            gaps=cut_runs(self.gaps, start, stop),
            saturated=cut_runs(self.saturated, start, stop),
            lead_off=tuple(LeadOff(off.lead, *run) for off in self.lead_off if (run := cut_run(off, start, stop))),
        )

    def with_(self, **changes: Any) -> EcgRecord:
        """Return a copy with some fields changed; everything is checked again."""
        unknown = sorted(set(changes) - {f.name for f in fields(self)})
        if unknown:
            raise FormatError(f"found unknown fields {unknown}, expected some of {[f.name for f in fields(self)]}")
        return replace(self, **changes)


def record_from_physical(
    x: npt.ArrayLike,
    *,
    unit: str | None,
    fs_hz: float,
    leads: Sequence[str],
    lsb_uv: float | None = None,
    **fields: Any,
) -> EcgRecord:
    """Return a record of floating-point voltages.

    Parameters
    ----------
    x
        Floating-point values `[lead, time]`. Integer arrays are refused: counts belong to :class:`EcgRecord` with
        their `lsb_uv`.
    unit
        "uV", "mV" or "V".
    fs_hz, leads
        Sampling rate, and lead names of the rows.
    lsb_uv
        Size of one count. None takes 1 uV, doubled until the largest value fits into 16 bits.
    **fields
        Further fields of :class:`EcgRecord` (start, gaps, device, ...).

    Raises
    ------
    UnitError
        If the unit is missing or unknown, or if the values do not fit into 16 bits.
    SampleError
        If the values are integers, not finite, or not `[lead, time]`.
    """
    scale_uv = microvolts_per(unit)
    array = np.asarray(x)
    if array.dtype.kind != "f":
        raise SampleError(
            f"found samples of type {array.dtype}, expected floating-point voltages",
            advice="Build EcgRecord from integer counts with their count size in microvolts.",
        )
    if array.ndim != 2:
        raise SampleError(f"found samples of shape {array.shape}, expected (lead, time)")
    if array.size == 0:
        raise LengthError(f"found 0 samples (shape {array.shape}), expected at least 1")
    bad = int(array.size - np.count_nonzero(np.isfinite(array)))
    if bad:
        raise SampleError(f"found {bad} samples that are NaN or infinite, expected 0")
    with np.errstate(over="ignore"):  # refused below
        values_uv = array.astype(np.float64) * scale_uv
    largest_uv = float(np.max(np.abs(values_uv)))
    lsb = _FIRST_LSB_UV if lsb_uv is None else check_lsb_uv(lsb_uv)
    while lsb_uv is None and largest_uv / lsb >= _INT16_MAX + 0.5 and lsb * 2 <= MAX_LSB_UV:
        lsb *= 2
    if largest_uv / lsb >= _INT16_MAX + 0.5 or not np.isfinite(largest_uv):
        raise UnitError(
            f"found a value of {largest_uv:g} uV, expected at most {_INT16_MAX * lsb:g} uV at {lsb:g} uV per count",
            advice="Check the unit of the samples, or leave the count size open.",
        )
    counts = np.clip(np.rint(values_uv / lsb), -_INT16_MAX, _INT16_MAX).astype(np.int16)
    return EcgRecord(samples=counts, lsb_uv=lsb, fs_hz=fs_hz, leads=tuple(leads), **fields)


def check_lsb_uv(lsb_uv: object) -> float:
    """Return a count size in microvolts, or raise UnitError."""
    value = _real(lsb_uv)
    if value is None or not MIN_LSB_UV <= value <= MAX_LSB_UV:
        raise UnitError(f"found count size {lsb_uv!r}, expected {MIN_LSB_UV:g} to {MAX_LSB_UV:g} uV per count")
    return value


def check_fs_hz(fs_hz: object) -> float:
    """Return a sampling rate in Hz, or raise RateError."""
    value = _real(fs_hz)
    if value is None or not MIN_FS_HZ <= value <= MAX_FS_HZ:
        raise RateError(f"found sampling rate {fs_hz!r}, expected {MIN_FS_HZ:g} to {MAX_FS_HZ:g} Hz")
    return value


def _real(value: object) -> float | None:
    """Return a finite number as float, None for anything else (bool and text included)."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return None
    return float(value) if math.isfinite(value) else None


def _checked_samples(samples: Int16Array, n_leads: int) -> Int16Array:
    """Return the array itself where nobody can write to it, else a read-only native copy."""
    array = np.asarray(samples)
    if array.dtype.newbyteorder("=") != np.int16:
        raise SampleError(
            f"found samples of type {array.dtype}, expected int16 counts",
            advice="Use record_from_physical for values in uV, mV or V.",
        )
    if array.ndim != 2:
        raise SampleError(f"found samples of shape {array.shape}, expected (lead, time)")
    if array.shape[0] != n_leads or n_leads == 0:
        raise LeadError(
            f"found {n_leads} lead names for samples of shape {array.shape}, expected one name for each row"
        )
    if array.shape[1] == 0:
        raise LengthError("found 0 samples, expected at least 1")
    owner = array.base if isinstance(array.base, np.ndarray) else array
    if array.dtype.isnative and not array.flags.writeable and not owner.flags.writeable:
        return array
    copy = np.array(array, dtype=np.int16, order="C")
    copy.setflags(write=False)
    return copy


def microvolts_per(unit: str | None) -> float:
    """Return the microvolts in one `unit` ("uV", "mV" or "V"), or raise UnitError."""
    scale_uv = UV_PER_UNIT.get(_SPELLINGS.get(unit, unit)) if isinstance(unit, str) else None
    if scale_uv is None:
        raise UnitError(f"found unit {unit!r}, expected one of {', '.join(UV_PER_UNIT)}")
    return scale_uv
