"""From held-out logits to the decision rule that travels in the bundle.

Only predictions on recordings that the predicting model has not seen may enter here (cross-validation), so that neither
the slope nor the threshold is fitted on a memory of the training data.
"""

from __future__ import annotations

import math

import numpy as np

from lsemvae.ecg.errors import SampleError
from lsemvae.ecg.rule import Calibration, DecisionRule

TARGET_SPECIFICITY = 0.90
"""Operating point: one false call in ten. Negatives are many, so the threshold is stable; sensitivity is then reported."""

MIN_SLOPE = 1e-3
"""Below this a calibrated probability no longer follows the logit."""

UNCERTAINTY_QUANTILE = 0.99
"""The most uncertain 1 % of held-out recordings sets the limit above which the screen abstains."""


def platt(y: np.ndarray, logit: np.ndarray) -> Calibration:
    """Slope and intercept of a logistic regression of `y` on the logit (Platt 1999), with his smoothed targets.

    A logit that ranks no better than chance carries nothing: its slope is held at `MIN_SLOPE`, so that the probability
    stays at the share of positives instead of turning the answer round.
    """
    from sklearn.linear_model import LogisticRegression

    keep = np.isfinite(y) & np.isfinite(logit)
    y, logit = y[keep], logit[keep]
    n_pos, n_neg = int((y == 1).sum()), int((y == 0).sum())
    if min(n_pos, n_neg) < 1:
        raise SampleError(
            f"found {n_pos} positives and {n_neg} negatives, expected at least one of each to calibrate",
            advice="Leave more folds out, so that the held-out recordings hold both answers of each label.",
        )
    high, low = (n_pos + 1) / (n_pos + 2), 1 / (n_neg + 2)
    soft = np.where(y == 1, high, low)
    x = np.concatenate([logit, logit])[:, None]
    fit = LogisticRegression(C=1e6).fit(x, np.repeat([1, 0], len(y)), sample_weight=np.concatenate([soft, 1 - soft]))
    slope, intercept = float(fit.coef_[0, 0]), float(fit.intercept_[0])
    if slope < MIN_SLOPE:
        share = float(soft.mean())
        return Calibration(slope=MIN_SLOPE, intercept=math.log(share / (1 - share)) - MIN_SLOPE * float(logit.mean()))
    return Calibration(slope=slope, intercept=intercept)


def _named(label: str, y: np.ndarray, logit: np.ndarray) -> Calibration:
    try:
        return platt(y, logit)
    except SampleError as error:
        raise SampleError(f"{label}: {error}", advice=error.advice) from error


def apply_platt(calibration: Calibration, logit: np.ndarray) -> np.ndarray:
    """Calibrated probabilities `[record]`."""
    return 1 / (1 + np.exp(-(calibration.slope * logit + calibration.intercept)))


def threshold_at_specificity(y: np.ndarray, p: np.ndarray, target: float = TARGET_SPECIFICITY) -> float:
    """The negatives' probability at which at least `target` of them stay uncalled (called means p >= threshold).

    Where too many negatives share that probability, the threshold stands just above them.
    """
    negatives = np.sort(p[(y == 0) & np.isfinite(p)])
    if not len(negatives):
        raise SampleError("found no negatives, expected some to set an operating point")
    uncalled = math.ceil(target * len(negatives))
    at = negatives[min(uncalled, len(negatives) - 1)]
    too_few = np.searchsorted(negatives, at, side="left") < uncalled
    return float(np.nextafter(at, 1.0) if too_few else at)


def spread_between_models(logits: np.ndarray) -> float:
    """Root mean variance of the calibrated logit between models `[model, record]` that saw different patients.

    Recordings that a model could not read (NaN) do not count.
    """
    scored = logits[:, np.isfinite(logits).all(0)]
    return float(np.sqrt(np.mean(np.var(scored, axis=0, ddof=1))))


def fit_rule(
    labels: tuple[str, ...],
    y: np.ndarray,
    logits: np.ndarray,
    uncertainty: np.ndarray,
    *,
    primary: str,
    logit_sd: float,
) -> DecisionRule:
    """The rule from held-out `y`, `logits` `[record, label]` and `uncertainty` `[record]`."""
    calibrations = {label: _named(label, y[:, k], logits[:, k]) for k, label in enumerate(labels)}
    if calibrations[primary].slope <= MIN_SLOPE:
        raise SampleError(
            f"found that {primary} ranks held-out recordings no better than chance, expected a model that has learned it",
            advice="Train longer, or look at the labels: a bundle that decides by chance is not written.",
        )
    thresholds = {
        label: threshold_at_specificity(y[:, k], apply_platt(calibrations[label], logits[:, k]))
        for k, label in enumerate(labels)
    }
    limit = float(np.quantile(uncertainty[np.isfinite(uncertainty)], UNCERTAINTY_QUANTILE))
    at = thresholds[primary]
    return DecisionRule(
        primary=primary,
        calibrations=calibrations,
        thresholds=thresholds,
        abstain_band=(at, at),
        max_uncertainty=limit,
        interval_logit_sd=logit_sd,
    )
