"""Golden signals: waveforms of our own making that every installation must turn into the same numbers.

They are sums of Gaussians (the idea of McSharry et al., IEEE TBME 50:289, 2003), projected from a dipole in the frontal
plane onto leads I and II. No recording of a person is in them, so they touch no licence and nobody's privacy. They are
deterministic: a table of cases, no random numbers.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from lsemvae.ecg.frontend import FrontendSpec, apply_array
from lsemvae.ecg.leads import LIMB_LEADS, derive_limb_leads, select_leads

RAW_FS_HZ: Final = 500.0
_LEAD_I_DEG: Final = 0.0
_LEAD_II_DEG: Final = 60.0
# Stored on a 1 uV grid, as a device would: it also lets the file compress.
_GRID_PER_MV: Final = 1000.0


@dataclass(frozen=True, slots=True)
class GoldenCase:
    """One synthetic person; amplitudes in mV, times in seconds, angles of the frontal plane in degrees."""

    name: str
    rate_bpm: float = 70.0
    qrs_axis_deg: float = 50.0
    qrs_mv: float = 1.1
    qrs_width_s: float = 0.011
    p_mv: float = 0.13
    t_mv: float = 0.28
    irregularity: float = 0.0
    drift_mv: float = 0.08
    mains_mv: float = 0.01


CASES: Final = (
    GoldenCase("normal"),
    GoldenCase("right axis, peaked P", qrs_axis_deg=125.0, p_mv=0.30, t_mv=0.15, rate_bpm=84.0),
    GoldenCase("wide QRS, left axis", qrs_axis_deg=-45.0, qrs_width_s=0.030, t_mv=-0.25),
    GoldenCase("irregular, no P", p_mv=0.0, irregularity=0.22, rate_bpm=95.0),
    GoldenCase("low voltage", qrs_mv=0.28, p_mv=0.05, t_mv=0.08, drift_mv=0.02),
    GoldenCase("tall QRS", qrs_mv=3.2, t_mv=-0.5, rate_bpm=62.0),
    GoldenCase("fast", rate_bpm=145.0, qrs_axis_deg=75.0, p_mv=0.1),
    GoldenCase("drift and mains", drift_mv=0.6, mains_mv=0.08),
)


def limb_leads_mv(case: GoldenCase, *, fs_hz: float = RAW_FS_HZ, duration_s: float = 10.0) -> np.ndarray:
    """Return the six limb leads of a case, float32 `[6, time]` in mV on a 1 uV grid."""
    t_s = np.arange(round(fs_hz * duration_s)) / fs_hz
    x, y = np.zeros_like(t_s), np.zeros_like(t_s)  # the dipole along lead I, and along aVF
    for beat_s in _beats(case, duration_s):
        for amplitude_mv, angle_deg, centre_s, width_s in _waves(case):
            wave = amplitude_mv * np.exp(-0.5 * ((t_s - beat_s - centre_s) / width_s) ** 2)
            x += wave * np.cos(np.deg2rad(angle_deg))
            y += wave * np.sin(np.deg2rad(angle_deg))
    drift = case.drift_mv * np.sin(2 * np.pi * 0.21 * t_s) + case.mains_mv * np.sin(2 * np.pi * 50.0 * t_s)
    lead_i, lead_ii = (
        x * np.cos(np.deg2rad(angle)) + y * np.sin(np.deg2rad(angle)) + share * drift
        for angle, share in ((_LEAD_I_DEG, 1.0), (_LEAD_II_DEG, 0.6))
    )
    grid = [np.round(lead * _GRID_PER_MV) / _GRID_PER_MV for lead in (lead_i, lead_ii)]
    return np.asarray(derive_limb_leads(*grid), dtype=np.float32)


def _beats(case: GoldenCase, duration_s: float) -> list[float]:
    interval_s, beats, beat_s = 60.0 / case.rate_bpm, [], -0.4
    while beat_s < duration_s + 1.0:
        beats.append(beat_s)
        # The golden angle spreads the intervals evenly without ever repeating: irregular and deterministic.
        beat_s += interval_s * (1.0 + case.irregularity * np.sin(2.399963 * len(beats)))
    return beats


def _waves(case: GoldenCase) -> tuple[tuple[float, float, float, float], ...]:
    axis, width_s, qt_s = case.qrs_axis_deg, case.qrs_width_s, 0.30 * np.sqrt(60.0 / case.rate_bpm)
    return (
        (case.p_mv, 60.0, -0.16, 0.022),
        (-0.15 * case.qrs_mv, axis, -2.2 * width_s, 0.8 * width_s),
        (case.qrs_mv, axis, 0.0, width_s),
        (-0.25 * case.qrs_mv, axis - 15.0, 2.4 * width_s, width_s),
        (case.t_mv, axis - 10.0, qt_s, 0.05),
    )


def golden_inputs(*, leads: tuple[str, ...], spec: FrontendSpec) -> np.ndarray:
    """Return what the model sees of all cases, float32 `[n, lead, n_samples]` mV, through the run-time front-end."""
    seen = [apply_array(limb_leads_mv(case), fs_hz=RAW_FS_HZ, spec=spec) for case in CASES]
    return np.stack([select_leads(x, leads=LIMB_LEADS, wanted=leads) for x in seen]).astype(np.float32)


def golden_arrays(
    *, ecg: np.ndarray, logits: np.ndarray, uncertainty: np.ndarray, spec: FrontendSpec
) -> dict[str, np.ndarray]:
    """Return the arrays of `golden.npz`: model inputs and outputs, and one raw recording with its front-end output."""
    raw_mv = limb_leads_mv(CASES[-1])
    return {
        "ecg": ecg.astype(np.float32),
        "logits": logits.astype(np.float32),
        "uncertainty": uncertainty.astype(np.float32),
        "raw_mv": raw_mv,
        "raw_fs_hz": np.asarray(RAW_FS_HZ),
        "frontend_out": apply_array(raw_mv, fs_hz=RAW_FS_HZ, spec=spec),
    }


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return a compressed `.npz` without pickled objects; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
