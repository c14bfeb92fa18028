"""Discrimination and calibration of probabilities, with bootstrap intervals that resample patients.

All functions take `y` (0/1) and `p` (probabilities or any score) as float arrays `[record]`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

N_BOOTSTRAP = 1000
# With fewer positives (or negatives) than this an AUROC interval says nothing: the row is left empty.
MIN_CLASS: Final = 5

Metric = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval; NaN throughout where it cannot be computed."""

    value: float
    low: float
    high: float

    def text(self, digits: int = 3) -> str:
        """Return `0.912 (0.874-0.944)`, or a dash."""
        if math.isnan(self.value):
            return "-"
        return f"{self.value:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"


def auroc(y: np.ndarray, p: np.ndarray) -> float:
    """Return the area under the ROC curve as the share of (positive, negative) pairs in order, ties half (Mann and Whitney 1947)."""
    positive, negative = p[y == 1], np.sort(p[y == 0])
    if not len(positive) or not len(negative):
        return math.nan
    below = np.searchsorted(negative, positive, side="left") + np.searchsorted(negative, positive, side="right")
    return float(below.mean() / (2 * len(negative)))


def auprc(y: np.ndarray, p: np.ndarray) -> float:
    """Return the average precision: precision at each distinct score, weighted by the recall gained there."""
    if not (y == 1).any():
        return math.nan
    order = np.argsort(-p, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(p[order])), len(p) - 1)  # the last recording of each distinct score
    hits = np.cumsum(y[order])[ends]
    return float(np.sum(np.diff(hits, prepend=0.0) / hits[-1] * hits / (ends + 1)))


def brier(y: np.ndarray, p: np.ndarray) -> float:
    """Return the mean squared error of a probability (Brier 1950)."""
    return float(np.mean((p - y) ** 2))


def expected_calibration_error(y: np.ndarray, p: np.ndarray, n_bins: int = 10) -> float:
    """Return the weighted gap between mean probability and frequency over bins of equal count."""
    order = np.argsort(p, kind="stable")
    gaps = [
        len(part) / len(p) * abs(float(p[part].mean() - y[part].mean()))
        for part in np.array_split(order, n_bins)
        if len(part)
    ]
    return float(sum(gaps))


def sensitivity(y: np.ndarray, called: np.ndarray) -> float:
    """Return the share of positives that are called."""
    return float(called[y == 1].mean()) if (y == 1).any() else math.nan


def specificity(y: np.ndarray, called: np.ndarray) -> float:
    """Return the share of negatives that are not called."""
    return float(1 - called[y == 0].mean()) if (y == 0).any() else math.nan


def bootstrap(
    metric: Metric, y: np.ndarray, p: np.ndarray, *, patients: np.ndarray, n: int = N_BOOTSTRAP, seed: int = 0
) -> Estimate:
    """Return the percentile interval of `metric` over resampled patients (all recordings of a patient go together)."""
    if min((y == 1).sum(), (y == 0).sum()) < MIN_CLASS:
        return Estimate(math.nan, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    draws = [metric(y[rows], p[rows]) for rows in _resamples(patients, n, rng)]
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return Estimate(metric(y, p), float(low), float(high))


def _resamples(patients: np.ndarray, n: int, rng: np.random.Generator) -> list[np.ndarray]:
    _, inverse = np.unique(patients, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(inverse))[:-1])
    return [np.concatenate([members[k] for k in rng.integers(0, len(members), len(members))]) for _ in range(n)]


def paired_difference(
    metric: Metric,
    y: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    *,
    patients: np.ndarray,
    n: int = N_BOOTSTRAP,
    seed: int = 0,
) -> Estimate:
    """Return the interval of `metric(a) - metric(b)` on the same resampled patients: an interval around zero is no difference."""
    if min((y == 1).sum(), (y == 0).sum()) < MIN_CLASS:
        return Estimate(math.nan, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    draws = [metric(y[r], a[r]) - metric(y[r], b[r]) for r in _resamples(patients, n, rng)]
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return Estimate(metric(y, a) - metric(y, b), float(low), float(high))


@dataclass(frozen=True, slots=True)
class LabelReport:
    """One row of a results table."""

    label: str
    n: int
    positives: int
    auroc: Estimate
    auprc: float
    brier: float
    ece: float
    sensitivity: Estimate
    specificity: Estimate

    def to_dict(self) -> dict[str, object]:
        """Return the figures, JSON-able; NaN becomes null."""

        def clean(x: float) -> float | None:
            return None if math.isnan(x) else round(x, 5)

        def three(e: Estimate) -> list[float | None]:
            return [clean(e.value), clean(e.low), clean(e.high)]

        return {
            "label": self.label,
            "n": self.n,
            "positives": self.positives,
            "auroc": three(self.auroc),
            "auprc": clean(self.auprc),
            "brier": clean(self.brier),
            "ece": clean(self.ece),
            "sensitivity": three(self.sensitivity),
            "specificity": three(self.specificity),
        }


def report_label(label: str, y: np.ndarray, p: np.ndarray, *, threshold: float, patients: np.ndarray) -> LabelReport:
    """Return all figures of one label over the recordings where both the label and a finite probability exist.

    A NaN `threshold` is an output without an operating point: sensitivity and specificity are left empty.
    """
    keep = np.isfinite(y) & np.isfinite(p)
    y, p, who = y[keep], p[keep], patients[keep]

    def at_threshold(rate: Metric) -> Estimate:
        if math.isnan(threshold):
            return Estimate(math.nan, math.nan, math.nan)
        return bootstrap(lambda a, b: rate(a, b >= threshold), y, p, patients=who)

    empty = len(y) == 0
    return LabelReport(
        label=label,
        n=len(y),
        positives=int((y == 1).sum()),
        auroc=bootstrap(auroc, y, p, patients=who),
        auprc=math.nan if empty else auprc(y, p),
        brier=math.nan if empty else brier(y, p),
        ece=math.nan if empty else expected_calibration_error(y, p),
        sensitivity=at_threshold(sensitivity),
        specificity=at_threshold(specificity),
    )
