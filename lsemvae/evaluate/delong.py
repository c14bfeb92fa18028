"""DeLong's test of two correlated AUROCs, by midranks.

DeLong, DeLong and Clarke-Pearson, Biometrics 44:837 (1988); the O(n log n) form is Sun and Xu, IEEE Signal Processing
Letters 21:1389 (2014). It takes recordings as independent; where a patient has several, the patient bootstrap decides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np


@dataclass(frozen=True, slots=True)
class DeLong:
    """Difference of two AUROCs `a - b`, its standard error, and the two-sided p value of no difference."""

    difference: float
    standard_error: float
    p_value: float


def midranks(x: np.ndarray) -> np.ndarray:
    """Return ranks from 1 with ties at their mean rank, float64 `[record]`."""
    ordered = np.sort(x)
    return (np.searchsorted(ordered, x, "left") + np.searchsorted(ordered, x, "right") + 1) / 2


def components(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return structural components V10 `[positive]` and V01 `[negative]`; the mean of either is the AUROC.

    `p` is `[record]` or `[seed, record]`; components are linear in the AUROC, so those of the mean over seeds are the mean.
    """
    positives, negatives = y == 1, y == 0
    m, n = int(positives.sum()), int(negatives.sum())
    scored = positives | negatives
    v10, v01 = np.zeros(m), np.zeros(n)
    scores = np.atleast_2d(p)
    for one in scores:
        all_ranks = np.empty(len(y))
        all_ranks[scored] = midranks(one[scored])
        v10 += (all_ranks[positives] - midranks(one[positives])) / n
        v01 += 1 - (all_ranks[negatives] - midranks(one[negatives])) / m
    return v10 / len(scores), v01 / len(scores)


def delong_test(y: np.ndarray, a: np.ndarray, b: np.ndarray) -> DeLong:
    """Test AUROC(a) against AUROC(b), paired on the same recordings; NaN with fewer than two of either answer."""
    if min(int((y == 1).sum()), int((y == 0).sum())) < 2:
        return DeLong(math.nan, math.nan, math.nan)
    (a10, a01), (b10, b01) = components(y, a), components(y, b)
    d10, d01 = a10 - b10, a01 - b01
    difference = float(d10.mean())
    error = math.sqrt(float(d10.var(ddof=1)) / len(d10) + float(d01.var(ddof=1)) / len(d01))
    if error == 0:  # the two rank every pair alike, or differ by the same in every pair
        return DeLong(difference, 0.0, 1.0 if difference == 0 else 0.0)
    return DeLong(difference, error, 2 * NormalDist().cdf(-abs(difference) / error))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return adjusted p values of a family (Holm, Scand J Stat 6:65, 1979); NaN is no member of the family and stays NaN."""
    p = np.asarray(p_values, dtype=np.float64)
    out = np.full(p.shape, np.nan)
    members = np.flatnonzero(np.isfinite(p))
    order = members[np.argsort(p[members], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    out[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return out
