"""What a stored operating point means to whoever is told the answer: sensitivity, specificity, predictive values.

A predictive value depends on how common the finding is among those who are recorded. The share in a study is no clinic's
share, so predictive values are given at stated prevalences by Bayes' rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lsemvae.evaluate.metrics import Estimate
from lsemvae.evaluate.resampling import EMPTY, enough, interval, mean_draws, over_seeds

# A general clinic, a clinic for breathlessness, a clinic that patients are referred to: a range, not a measurement.
PREVALENCES: Final = (0.05, 0.10, 0.25)


@dataclass(frozen=True, slots=True)
class OperatingFigures:
    """Rates at an operating point with intervals from patient bootstrap; predictive values by prevalence."""

    sensitivity: Estimate
    specificity: Estimate
    ppv: Mapping[float, Estimate]
    npv: Mapping[float, Estimate]


def ppv(sensitivity: np.ndarray, specificity: np.ndarray, prevalence: float) -> np.ndarray:
    """Return the positive predictive value at `prevalence`; NaN where nobody is called."""
    hits, false = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    return _share(hits, hits + false)


def npv(sensitivity: np.ndarray, specificity: np.ndarray, prevalence: float) -> np.ndarray:
    """Return the negative predictive value at `prevalence`; NaN where everybody is called."""
    clear, missed = specificity * (1 - prevalence), (1 - sensitivity) * prevalence
    return _share(clear, clear + missed)


def operating_figures(
    y: np.ndarray,
    p: np.ndarray,
    threshold: float | np.ndarray,
    *,
    weights: np.ndarray,
    prevalences: Sequence[float] = PREVALENCES,
) -> OperatingFigures:
    """Return the figures of calling `p >= threshold`; `p` is `[record]` or `[seed, record]`, `threshold` a number or like `p`.

    Predictive values are computed in every draw from that draw's sensitivity and specificity, so their intervals carry
    what is not known about both.
    """
    if not enough(y):
        none = dict.fromkeys(prevalences, EMPTY)
        return OperatingFigures(EMPTY, EMPTY, none, none)
    called = np.atleast_2d(p >= threshold).astype(np.float64)
    one = np.ones((1, len(y)), np.float32)

    def rates(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        hit = over_seeds(lambda c: mean_draws(c, w, of=y == 1), called)
        return hit, 1 - over_seeds(lambda c: mean_draws(c, w, of=y == 0), called)

    at, drawn = rates(one), rates(weights)
    return OperatingFigures(
        sensitivity=interval(float(at[0][0]), drawn[0]),
        specificity=interval(float(at[1][0]), drawn[1]),
        ppv={share: interval(float(ppv(*at, share)[0]), ppv(*drawn, share)) for share in prevalences},
        npv={share: interval(float(npv(*at, share)[0]), npv(*drawn, share)) for share in prevalences},
    )


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=np.asarray(whole) > 0)
