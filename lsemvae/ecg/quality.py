"""The quality gate: may this recording be judged at all?

The gate looks at the stretch that the front-end would use: the first 10 s without gap or lead-off, or the longest
such stretch where none is long enough. It sees the raw counts (limits, flat lines), the millivolts (drift, noise,
Einthoven) and the band-passed signal (amplitude, beats). It never raises because of what a signal holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lsemvae.ecg import measures
from lsemvae.ecg.frontend import BASE, bandpass, free_runs
from lsemvae.ecg.leads import (
    LIMB_LEADS,
    MEASURED_LEADS,
    canonical_leads,
    derive_limb_leads,
    estimate_i_ii,
)
from lsemvae.ecg.reasons import Reason, advice
from lsemvae.ecg.resample import MAX_RATE_HZ, MIN_RATE_HZ, resample
from lsemvae.ecg.runs import Interval
from lsemvae.ecg.thresholds import QualityThresholds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lsemvae.ecg.record import EcgRecord

__all__ = ["LeadQuality", "QualityReport", "QualityThresholds", "Reason", "advice", "assess"]

FloatArray = npt.NDArray[np.float64]

# Shorter stretches say nothing: the filter alone spans 4.3 s.
_LEAST_JUDGED_S: Final = 4.5
_FS_HZ: Final = BASE.fs_hz


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadQuality:
    """What was measured on one lead, and what is wrong with it."""

    lead: str
    rms_mv: float
    noise_mv: float
    baseline_mv: float
    flat_fraction: float
    saturated_fraction: float
    reasons: tuple[Reason, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return {
            "lead": self.lead,
            "rms_mv": self.rms_mv,
            "noise_mv": self.noise_mv,
            "baseline_mv": self.baseline_mv,
            "flat_fraction": self.flat_fraction,
            "saturated_fraction": self.saturated_fraction,
            "reasons": [reason.value for reason in self.reasons],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityReport:
    """Verdict of the gate; `acceptable` is True exactly where there is no reason."""

    acceptable: bool
    reasons: tuple[Reason, ...]
    leads: tuple[LeadQuality, ...]
    details: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return {
            "acceptable": self.acceptable,
            "reasons": [reason.value for reason in self.reasons],
            "leads": [lead.to_dict() for lead in self.leads],
            "details": dict(self.details),
        }


def assess(
    record: EcgRecord, *, thresholds: QualityThresholds | None = None, leads: Sequence[str] = LIMB_LEADS
) -> QualityReport:
    """Return the quality of a recording.

    Parameters
    ----------
    record
        The recording; judged by its counts, so before any filter.
    thresholds
        Limits; None takes the defaults.
    leads
        Leads to judge. Those that the record does not hold are passed over (derived leads say nothing new), but I and
        II must be present or derivable.

    Returns
    -------
    QualityReport
        Reasons in the order of :class:`Reason`; figures of every judged lead.
    """
    limits = thresholds or QualityThresholds()
    wanted = [lead for lead in record.leads if lead in canonical_leads(leads)]
    reasons = _contact_reasons(record, limits)
    run = max(
        free_runs(record, leads=wanted or MEASURED_LEADS),
        key=lambda r: (_usable(r, record, limits), -r.start),
        default=None,
    )
    details = {"duration_s": record.duration_s, "received_s": record.received_samples / record.fs_hz}
    judged: tuple[LeadQuality, ...] = ()
    if run is not None and wanted and Reason.RATE not in reasons and run.n_samples >= _LEAST_JUDGED_S * record.fs_hz:
        window = Interval(run.start, min(run.stop, run.start + round(BASE.duration_s * record.fs_hz)))
        judged, more, figures = _judge(record, window, tuple(wanted), limits)
        reasons |= more
        details |= figures
    reasons |= {reason for lead in judged for reason in lead.reasons}
    ordered = tuple(reason for reason in Reason if reason in reasons)
    return QualityReport(acceptable=not ordered, reasons=ordered, leads=judged, details=MappingProxyType(details))


def _usable(run: Interval, record: EcgRecord, limits: QualityThresholds) -> int:
    """Return a stretch's length in samples, but no more than the window: of several long enough the first is taken."""
    return min(run.n_samples, math.ceil(limits.min_duration_s * record.fs_hz))


def _contact_reasons(record: EcgRecord, limits: QualityThresholds) -> set[Reason]:
    """Return what is wrong before any sample is looked at."""
    reasons = set()
    least = limits.min_duration_s * record.fs_hz - 1e-6
    if not MIN_RATE_HZ <= record.fs_hz <= MAX_RATE_HZ:
        reasons.add(Reason.RATE)
    if len([lead for lead in record.leads if lead in LIMB_LEADS]) < 2:
        reasons.add(Reason.MISSING_LEAD)
    if record.received_samples < least:
        reasons.add(Reason.TOO_SHORT)
    if record.n_samples >= least and not _has_free(record, least):
        if not _has_free(record.with_(lead_off=()), least):
            reasons.add(Reason.GAP)
        if record.lead_off and (not record.gaps or not _has_free(record.with_(gaps=()), least)):
            reasons.add(Reason.LEAD_OFF)
    return reasons


def _has_free(record: EcgRecord, least: float) -> bool:
    return any(run.n_samples >= least for run in free_runs(record, leads=record.leads))


def _judge(
    record: EcgRecord, window: Interval, leads: tuple[str, ...], limits: QualityThresholds
) -> tuple[tuple[LeadQuality, ...], set[Reason], dict[str, float]]:
    """Return the verdict by lead, the reasons that concern all leads, and the figures behind them."""
    rows = [record.leads.index(lead) for lead in leads]
    counts = record.samples[rows, window.start : window.stop]
    raw_mv = counts.astype(np.float64) * (record.lsb_uv * 1e-3)
    slow_mv = resample(raw_mv, fs_in_hz=record.fs_hz, fs_out_hz=_FS_HZ)
    filtered_mv = bandpass(slow_mv)
    limb = [k for k, lead in enumerate(leads) if lead in LIMB_LEADS]
    figures = _figures(filtered_mv[limb], slow_mv[limb], tuple(leads[k] for k in limb))
    judged = _judge_leads(record, window, leads, limits, (counts, raw_mv, slow_mv, filtered_mv))
    return judged, _limb_reasons(figures, limits, gain_known=record.gain_known), figures


def _figures(filtered_mv: FloatArray, slow_mv: FloatArray, limb: tuple[str, ...]) -> dict[str, float]:
    """Return the figures that concern the limb leads together; of all six, however many were measured."""
    if len(limb) < 2:
        return {}
    six_mv = derive_limb_leads(*estimate_i_ii(filtered_mv, leads=limb)).astype(np.float64)
    level_mv = slow_mv - slow_mv.mean(axis=-1, keepdims=True)
    return {
        "limb_rms_mv": float(np.sqrt(np.mean(six_mv**2))),
        "beat_contrast": measures.beat_contrast(six_mv, fs_hz=_FS_HZ),
        "einthoven_mv": measures.limb_contradiction_mv(level_mv, leads=limb),
    }


def _limb_reasons(figures: Mapping[str, float], limits: QualityThresholds, *, gain_known: bool) -> set[Reason]:
    reasons = set()
    if not all(math.isfinite(value) for value in figures.values()):
        reasons.add(Reason.NON_FINITE)
    if figures.get("einthoven_mv", 0.0) > limits.max_einthoven_mv:
        reasons.add(Reason.EINTHOVEN)
    if gain_known and not limits.min_rms_mv <= figures.get("limb_rms_mv", limits.min_rms_mv) <= limits.max_rms_mv:
        reasons.add(Reason.AMPLITUDE)
    if figures.get("beat_contrast", math.inf) < limits.min_beat_contrast:
        reasons.add(Reason.NO_BEATS)
    return reasons


def _judge_leads(
    record: EcgRecord,
    window: Interval,
    leads: tuple[str, ...],
    limits: QualityThresholds,
    signals: tuple[npt.NDArray[np.int16], FloatArray, FloatArray, FloatArray],
) -> tuple[LeadQuality, ...]:
    counts, raw_mv, slow_mv, filtered_mv = signals
    stuck = measures.saturated_mask(counts, fs_hz=record.fs_hz, lsb_mv=record.lsb_uv * 1e-3)
    for run in record.saturated:
        stuck[:, max(0, run.start - window.start) : max(0, run.stop - window.start)] = True
    columns = {
        "rms_mv": measures.rms_mv(filtered_mv),
        "noise_mv": measures.noise_mv(slow_mv, fs_hz=_FS_HZ),
        "baseline_mv": np.ptp(measures.drift_mv(slow_mv, fs_hz=_FS_HZ), axis=-1),
        "flat_fraction": measures.flat_fraction(raw_mv, fs_hz=record.fs_hz),
        "saturated_fraction": stuck.mean(axis=-1),
    }
    return tuple(
        LeadQuality(lead=lead, reasons=_lead_reasons(figures, limits), **figures)
        for k, lead in enumerate(leads)
        for figures in [{name: float(values[k]) for name, values in columns.items()}]
    )


def _lead_reasons(figures: Mapping[str, float], limits: QualityThresholds) -> tuple[Reason, ...]:
    broken = (
        (Reason.FLAT, figures["flat_fraction"] > limits.max_flat_fraction),
        (Reason.SATURATED, figures["saturated_fraction"] > limits.max_saturated_fraction),
        (Reason.NOISE, figures["noise_mv"] > limits.max_noise_mv),
        (Reason.BASELINE, figures["baseline_mv"] > limits.max_baseline_mv),
        (Reason.NON_FINITE, not all(math.isfinite(value) for value in figures.values())),
    )
    return tuple(reason for reason, found in broken if found)
