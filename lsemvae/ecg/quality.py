"""The quality gate: may this recording be judged at all?

The gate judges the window that the model sees (:func:`lsemvae.ecg.window.choose_window`): its raw counts (limits, flat
lines), the millivolts (drift, noise, Einthoven) and the band-passed signal (amplitude, beats). Where no window is long
enough for the model, the longest is judged, so that the operator learns more than "too short". It never raises because
of what a signal holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lsemvae.ecg import measures
from lsemvae.ecg.frontend import BASE, bandpass
from lsemvae.ecg.leads import LIMB_LEADS, derive_limb_leads, estimate_i_ii
from lsemvae.ecg.reasons import Reason
from lsemvae.ecg.resample import MAX_RATE_HZ, MIN_RATE_HZ, output_length, resample
from lsemvae.ecg.thresholds import QualityThresholds
from lsemvae.ecg.window import Window, choose_window, free_runs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lsemvae.ecg.record import EcgRecord
    from lsemvae.ecg.runs import Interval

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
    record: EcgRecord, window: Window | None = None, *, thresholds: QualityThresholds | None = None
) -> QualityReport:
    """Return the quality of a recording.

    Parameters
    ----------
    record
        The recording; judged by its counts, so before any filter.
    window
        What the model will see of it, from :func:`lsemvae.ecg.window.choose_window`; exactly this is judged. None
        takes the window of a model for the six limb leads. Leads that the record does not hold are passed over, since
        what is derived from two limb leads says nothing new.
    thresholds
        Limits; None takes the defaults.

    Returns
    -------
    QualityReport
        Reasons in the order of :class:`Reason`; figures of every judged lead.
    """
    limits = thresholds or QualityThresholds()
    seen = window or choose_window(record, leads=LIMB_LEADS)
    reasons = _contact_reasons(record, seen, limits)
    details = {"duration_s": record.duration_s, "received_s": record.received_samples / record.fs_hz}
    judged: tuple[LeadQuality, ...] = ()
    stretch = seen.stretch if seen.judged and Reason.RATE not in reasons else None
    if stretch is not None and stretch.n_samples >= _LEAST_JUDGED_S * record.fs_hz:
        judged, figures = _judge(record, seen, stretch, limits)
        details |= figures
        broken = (
            (Reason.NON_FINITE, not all(math.isfinite(value) for value in figures.values())),
            (Reason.EINTHOVEN, figures.get("einthoven_mv", 0.0) > limits.max_einthoven_mv),
            (
                Reason.AMPLITUDE,
                record.gain_known
                and not limits.min_rms_mv <= figures.get("limb_rms_mv", limits.min_rms_mv) <= limits.max_rms_mv,
            ),
            (Reason.NO_BEATS, figures.get("beat_contrast", math.inf) < limits.min_beat_contrast),
        )
        reasons |= {reason for reason, found in broken if found}
        reasons |= {reason for lead in judged for reason in lead.reasons}
    ordered = tuple(reason for reason in Reason if reason in reasons)
    return QualityReport(acceptable=not ordered, reasons=ordered, leads=judged, details=MappingProxyType(details))


def _contact_reasons(record: EcgRecord, window: Window, limits: QualityThresholds) -> set[Reason]:
    """Return what is wrong before any sample is looked at."""
    least = limits.min_duration_s * record.fs_hz - 1e-6

    def has_free(part: EcgRecord) -> bool:
        return any(run.n_samples >= least for run in free_runs(part, leads=window.leads))

    reasons = set()
    if not MIN_RATE_HZ <= record.fs_hz <= MAX_RATE_HZ:
        reasons.add(Reason.RATE)
    if len([lead for lead in record.leads if lead in LIMB_LEADS]) < 2:
        reasons.add(Reason.MISSING_LEAD)
    if record.received_samples < least:
        reasons.add(Reason.TOO_SHORT)
    if record.n_samples >= least and not has_free(record):
        if not has_free(record.with_(lead_off=())):
            reasons.add(Reason.GAP)
        if record.lead_off and (not record.gaps or not has_free(record.with_(gaps=()))):
            reasons.add(Reason.LEAD_OFF)
    return reasons


def _judge(
    record: EcgRecord, window: Window, stretch: Interval, limits: QualityThresholds
) -> tuple[tuple[LeadQuality, ...], dict[str, float]]:
    """Return the verdict on each lead, and the figures that concern the limb leads together.

    As in the front-end, the filter sees the whole undisturbed stretch, and the window is cut from what it returns.
    """
    rows = [record.leads.index(lead) for lead in window.judged]
    stretch_mv = record.samples[rows, stretch.start : stretch.stop].astype(np.float64)
    stretch_mv *= record.lsb_uv * 1e-3
    slow_mv = resample(stretch_mv, fs_in_hz=record.fs_hz, fs_out_hz=_FS_HZ)
    before = window.start - stretch.start
    first = round(before * _FS_HZ / record.fs_hz)
    cut = slice(first, first + output_length(window.n_samples, fs_in_hz=record.fs_hz, fs_out_hz=_FS_HZ))
    filtered_mv, slow_mv = bandpass(slow_mv)[:, cut], slow_mv[:, cut]
    raw_mv = stretch_mv[:, before : before + window.n_samples]

    counts = record.samples[rows, window.start : window.stop]
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
    judged = []
    for k, lead in enumerate(window.judged):
        values = {name: float(column[k]) for name, column in columns.items()}
        broken = (
            (Reason.FLAT, values["flat_fraction"] > limits.max_flat_fraction),
            (Reason.SATURATED, values["saturated_fraction"] > limits.max_saturated_fraction),
            (Reason.NOISE, values["noise_mv"] > limits.max_noise_mv),
            (Reason.BASELINE, values["baseline_mv"] > limits.max_baseline_mv),
            (Reason.NON_FINITE, not all(math.isfinite(value) for value in values.values())),
        )
        judged.append(LeadQuality(lead=lead, reasons=tuple(reason for reason, found in broken if found), **values))

    limb = [k for k, lead in enumerate(window.judged) if lead in LIMB_LEADS]
    if len(limb) < 2:
        return tuple(judged), {}
    names = tuple(window.judged[k] for k in limb)
    # Of all six limb leads, however many were measured.
    six_mv = derive_limb_leads(*estimate_i_ii(filtered_mv[limb], leads=names)).astype(np.float64)
    level_mv = slow_mv[limb] - slow_mv[limb].mean(axis=-1, keepdims=True)
    return tuple(judged), {
        "limb_rms_mv": float(np.sqrt(np.mean(six_mv**2))),
        "beat_contrast": measures.beat_contrast(six_mv, fs_hz=_FS_HZ),
        "einthoven_mv": measures.limb_contradiction_mv(level_mv, leads=names),
    }
