"""Synthetic ECGs, whose every property is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lsemvae.ecg import (
    Calibration,
    DecisionRule,
    EcgRecord,
    FrontendSpec,
    QualityReport,
    Reason,
    record_from_physical,
    select_leads,
)

# Height (mV) in I and II, centre (s after the beat's start) and width (s) of P, Q, R, S, T.
WAVES = (
    (0.06, 0.10, 0.16, 0.025),
    (-0.05, -0.08, 0.265, 0.010),
    (0.60, 0.95, 0.30, 0.012),
    (-0.12, -0.18, 0.335, 0.012),
    (0.15, 0.25, 0.56, 0.055),
)


def synthetic_ecg(
    *, fs_hz: float = 500.0, seconds: float = 10.0, rate_bpm: float = 66.0, phase_s: float = 0.0
) -> np.ndarray:
    """Leads I and II in mV, [2, time]: five Gaussian waves a beat."""
    t_s = np.arange(round(seconds * fs_hz)) / fs_hz
    period_s = 60.0 / rate_bpm
    beat_s = (t_s + phase_s) % period_s
    out = np.zeros((2, t_s.size))
    for height_i, height_ii, centre_s, width_s in WAVES:
        bump = np.exp(-0.5 * ((beat_s - centre_s) / width_s) ** 2)
        out += np.array([[height_i], [height_ii]]) * bump
    return out


@pytest.fixture
def ecg() -> Callable[..., np.ndarray]:
    return synthetic_ecg


@pytest.fixture
def make_record() -> Callable[..., EcgRecord]:
    """A record of the synthetic ECG; the six limb leads unless other leads are asked for."""

    def make(
        *,
        leads: tuple[str, ...] = ("I", "II", "III", "aVR", "aVL", "aVF"),
        fs_hz: float = 500.0,
        seconds: float = 10.0,
        noise_mv: float = 0.005,
        change: Callable[[np.ndarray], np.ndarray] | None = None,
        **fields: object,
    ) -> EcgRecord:
        rng = np.random.default_rng(7)
        i_ii = synthetic_ecg(fs_hz=fs_hz, seconds=seconds)
        i_ii = i_ii + rng.normal(0, noise_mv, i_ii.shape)
        mv = select_leads(i_ii, leads=("I", "II"), wanted=leads)
        mv = mv if change is None else change(mv)
        return record_from_physical(mv, unit="mV", fs_hz=fs_hz, leads=leads, **fields)  # type: ignore[arg-type]

    return make


@pytest.fixture(params=["odd", "mirror"])
def spec(request: pytest.FixtureRequest) -> FrontendSpec:
    """The base preset with either continuation of the ends."""
    return FrontendSpec(edges=request.param)


@pytest.fixture
def good_quality() -> QualityReport:
    return QualityReport(acceptable=True, reasons=(), leads=(), details={})


@pytest.fixture
def bad_quality() -> QualityReport:
    return QualityReport(acceptable=False, reasons=(Reason.NOISE, Reason.GAP), leads=(), details={})


@pytest.fixture
def rule() -> DecisionRule:
    return DecisionRule(
        primary="RHS",
        calibrations={"RHS": Calibration(1.0, 0.0), "RVH": Calibration(0.5, -1.0)},
        thresholds={"RHS": 0.3},
        abstain_band=(0.25, 0.35),
        max_uncertainty=2.0,
        interval_logit_sd=0.4,
    )
