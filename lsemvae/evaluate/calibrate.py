"""From held-out logits to probabilities and to the decision rule that travels in the bundle; three calibrators compared.

Only predictions on recordings that the predicting model has not seen may enter here (cross-validation), so that neither
the slope nor the threshold is fitted on a memory of the training data.

Temperature: Guo et al., ICML 2017. Platt scaling: Platt 1999. Isotonic: Zadrozny and Elkan, KDD 2002.
Platt is the shipped one, chosen beforehand: two numbers in the manifest, monotone, safe outside the range it was fitted on.
Another is called better only where the 95 % interval of the paired Brier difference lies below zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lsemvae.ecg.errors import SampleError
from lsemvae.ecg.rule import Calibration, DecisionRule
from lsemvae.evaluate.metrics import Estimate, expected_calibration_error
from lsemvae.evaluate.resampling import EMPTY, enough, interval, log_losses, mean_draws, over_seeds

# Operating point: one false call in ten. Negatives are many, so the threshold is stable; sensitivity is then reported.
TARGET_SPECIFICITY: Final = 0.90
# Below this a calibrated probability no longer follows the logit.
MIN_SLOPE: Final = 1e-3
# The most uncertain 1 % of held-out recordings sets the limit above which the screen abstains.
UNCERTAINTY_QUANTILE: Final = 0.99

Probability = Callable[[np.ndarray], np.ndarray]
Fit = Callable[[np.ndarray, np.ndarray], Probability]
SHIPPED: Final = "platt"

# Beyond these the logits carry either everything or nothing, and the search would run to an end of the axis.
_TEMPERATURES: Final = (0.05, 20.0)
_GOLDEN: Final = (math.sqrt(5) - 1) / 2
# Each step of the search leaves 62 % of the range: after 60 it is as narrow as a float.
_GOLDEN_STEPS: Final = 60


def platt(y: np.ndarray, logit: np.ndarray) -> Calibration:
    """Return slope and intercept of a logistic regression of `y` on the logit (Platt 1999), with his smoothed targets.

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


def apply_platt(calibration: Calibration, logit: np.ndarray) -> np.ndarray:
    """Return calibrated probabilities `[record]`."""
    return 1 / (1 + np.exp(-(calibration.slope * logit + calibration.intercept)))


def threshold_at_specificity(y: np.ndarray, p: np.ndarray, target: float = TARGET_SPECIFICITY) -> float:
    """Return the negatives' probability at which at least `target` of them stay uncalled (called means p >= threshold).

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
    """Return the root mean variance of the calibrated logit between models `[model, record]` that saw different patients.

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
    """Return the rule from held-out `y`, `logits` `[record, label]` and `uncertainty` `[record]`."""
    calibrations = {}
    for k, label in enumerate(labels):
        try:
            calibrations[label] = platt(y[:, k], logits[:, k])
        except SampleError as error:
            raise SampleError(f"{label}: {error}", advice=error.advice) from error
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


def fit_temperature(y: np.ndarray, logit: np.ndarray) -> Probability:
    """Fit one temperature T > 0: p = sigmoid(logit / T), by golden section on the log loss, which is convex in 1/T."""

    def loss(log_t: float) -> float:
        return float(np.mean(np.logaddexp(0, np.where(y == 1, -logit, logit) / math.exp(log_t))))

    low, high = map(math.log, _TEMPERATURES)
    for _ in range(_GOLDEN_STEPS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    temperature = math.exp((low + high) / 2)
    return lambda x: sigmoid(x / temperature)


def fit_platt(y: np.ndarray, logit: np.ndarray) -> Probability:
    """Fit slope and intercept, as `platt`."""
    found = platt(y, logit)
    return lambda x: sigmoid(found.slope * x + found.intercept)


def fit_isotonic(y: np.ndarray, logit: np.ndarray) -> Probability:
    """Fit a monotone step function, held inside 1/(n+2) and its complement so that no log loss is infinite (Laplace)."""
    from sklearn.isotonic import IsotonicRegression

    least = 1 / (len(y) + 2)
    fit = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(logit, y)
    return lambda x: np.asarray(fit.predict(x), dtype=np.float64)


METHODS: Mapping[str, Fit] = {"temperature": fit_temperature, "platt": fit_platt, "isotonic": fit_isotonic}


def fold_groups(fold: np.ndarray, groups: Sequence[Sequence[int]]) -> np.ndarray:
    """Return the index of the group that each recording's fold is in, int `[record]`; a fold in no group is refused."""
    out = np.full(len(fold), -1)
    for k, folds in enumerate(groups):
        out[np.isin(fold, list(folds))] = k
    if (out < 0).any():
        raise SampleError(
            f"found folds {sorted(set(fold[out < 0].tolist()))}, expected only those of the groups {list(groups)}",
            advice="Name every fold in exactly one group.",
        )
    return out


def crossfit(y: np.ndarray, logit: np.ndarray, group: np.ndarray, fit: Fit) -> np.ndarray:
    """Return probabilities `[record]`, those of a group from a calibrator fitted on the other groups' held-out logits.

    NaN where the logit is, and throughout a group whose others hold one answer only.
    """
    out = np.full(len(y), np.nan)
    for here, others in _turns(y, logit, group):
        if len(np.unique(y[others])) == 2:
            out[here] = fit(y[others], logit[others])(logit[here])
    return out


def crossfit_thresholds(
    y: np.ndarray, p: np.ndarray, group: np.ndarray, target: float = TARGET_SPECIFICITY
) -> np.ndarray:
    """Return the operating point of each recording `[record]`: what keeps `target` specificity in the other groups.

    `p` is the uncalibrated sigmoid of the logit. Platt's slope is above zero, so calling by it and calling by the calibrated
    probability at the calibrated threshold are one.
    """
    out = np.full(len(y), np.nan)
    for here, others in _turns(y, p, group):
        if (y[others] == 0).any():
            out[here] = threshold_at_specificity(y[others], p[others], target)
    return out


@dataclass(frozen=True, slots=True)
class CalibrationRow:
    """One method: calibration figures with intervals, and differences to the shipped method (below zero is better).

    ECE stands without an interval: it sums absolute gaps, so resamples of a well calibrated score all lie above it.
    """

    method: str
    brier: Estimate
    ece: float
    log_loss: Estimate
    brier_difference: Estimate
    log_loss_difference: Estimate

    @property
    def verdict(self) -> str:
        """Better, worse or none against the shipped method, by the interval of the paired Brier difference."""
        if self.method == SHIPPED:
            return "shipped"
        if math.isnan(self.brier_difference.value):
            return "-"
        if self.brier_difference.high < 0:
            return "better"
        return "worse" if self.brier_difference.low > 0 else "none"


def compare_calibrations(
    y: np.ndarray, logits: np.ndarray, group: np.ndarray, *, weights: np.ndarray
) -> list[CalibrationRow]:
    """Return a row per method for cross-fitted probabilities of `logits` `[seed, record]`, over recordings all methods score."""
    scored = {
        name: np.stack([crossfit(y, one, group, fit) for one in np.atleast_2d(logits)]) for name, fit in METHODS.items()
    }
    keep = np.isfinite(y) & np.all([np.isfinite(p).all(0) for p in scored.values()], axis=0)
    y, w = y[keep], weights[:, keep]
    if not enough(y):
        return [CalibrationRow(name, EMPTY, math.nan, EMPTY, EMPTY, EMPTY) for name in METHODS]
    squares, nats = {}, {}
    for name, p in scored.items():
        safe = np.clip(p[:, keep], 1e-12, 1 - 1e-12)  # a saturated sigmoid; 27.6 nats is as wrong as a float can say
        squares[name] = over_seeds(lambda one: (one - y) ** 2, p[:, keep])
        nats[name] = over_seeds(lambda one: log_losses(y, one), safe)

    def mean(values: np.ndarray) -> Estimate:
        return interval(float(values.mean()), mean_draws(values, w))

    return [
        CalibrationRow(
            method=name,
            brier=mean(squares[name]),
            ece=float(np.mean([expected_calibration_error(y, one) for one in scored[name][:, keep]])),
            log_loss=mean(nats[name]),
            brier_difference=mean(squares[name] - squares[SHIPPED]),
            log_loss_difference=mean(nats[name] - nats[SHIPPED]),
        )
        for name in METHODS
    ]


def _turns(y: np.ndarray, score: np.ndarray, group: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return for each group its scored recordings, and the labelled, scored recordings of the others."""
    scored = np.isfinite(score)
    return [(scored & (group == k), scored & np.isfinite(y) & (group != k)) for k in np.unique(group)]


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x)) without overflow, float64."""
    return np.asarray(np.exp(-np.logaddexp(0, -x)), dtype=np.float64)
