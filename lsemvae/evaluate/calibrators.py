"""Three ways from a logit to a probability, compared without letting any of them see what it is scored on.

Temperature: Guo et al., ICML 2017. Platt scaling: Platt 1999 (`calibrate.platt`). Isotonic: Zadrozny and Elkan, KDD 2002.
Platt is the shipped one, chosen beforehand: two numbers in the manifest, monotone, safe outside the range it was fitted on.
Another is called better only where the 95 % interval of the paired Brier difference lies below zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lsemvae.ecg.errors import SampleError
from lsemvae.evaluate.calibrate import TARGET_SPECIFICITY, platt, threshold_at_specificity
from lsemvae.evaluate.metrics import Estimate, expected_calibration_error
from lsemvae.evaluate.resampling import EMPTY, enough, interval, log_losses, mean_draws, over_seeds

Probability = Callable[[np.ndarray], np.ndarray]
Fit = Callable[[np.ndarray, np.ndarray], Probability]
SHIPPED = "platt"

_TEMPERATURES = (0.05, 20.0)
"""Beyond these the logits carry either everything or nothing, and the search would run to an end of the axis."""
_GOLDEN = (math.sqrt(5) - 1) / 2


def fit_temperature(y: np.ndarray, logit: np.ndarray) -> Probability:
    """One temperature T > 0: p = sigmoid(logit / T), by golden section on the log loss, which is convex in 1/T."""
    temperature = _golden_section(
        lambda t: float(np.mean(np.logaddexp(0, np.where(y == 1, -logit, logit) / math.exp(t)))),
        *map(math.log, _TEMPERATURES),
    )
    return lambda x: sigmoid(x / math.exp(temperature))


def fit_platt(y: np.ndarray, logit: np.ndarray) -> Probability:
    """Slope and intercept: `calibrate.platt`."""
    found = platt(y, logit)
    return lambda x: sigmoid(found.slope * x + found.intercept)


def fit_isotonic(y: np.ndarray, logit: np.ndarray) -> Probability:
    """A monotone step function, held inside 1/(n+2) and its complement so that no log loss is infinite (Laplace)."""
    from sklearn.isotonic import IsotonicRegression

    least = 1 / (len(y) + 2)
    fit = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(logit, y)
    return lambda x: np.asarray(fit.predict(x), dtype=np.float64)


METHODS: Mapping[str, Fit] = {"temperature": fit_temperature, "platt": fit_platt, "isotonic": fit_isotonic}


def fold_groups(fold: np.ndarray, groups: Sequence[Sequence[int]]) -> np.ndarray:
    """Index of the group each recording's fold is in, int `[record]`; a fold in no group is refused."""
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
    """Probabilities `[record]`, those of a group from a calibrator fitted on the other groups' held-out logits.

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
    """Operating point of each recording `[record]`: what keeps `target` specificity in the other groups.

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
    """A row per method for cross-fitted probabilities of `logits` `[seed, record]`, over recordings all methods score."""
    scored = {
        name: np.stack([crossfit(y, one, group, fit) for one in np.atleast_2d(logits)]) for name, fit in METHODS.items()
    }
    keep = np.isfinite(y) & np.all([np.isfinite(p).all(0) for p in scored.values()], axis=0)
    y, w = y[keep], weights[:, keep]
    if not enough(y):
        return [CalibrationRow(name, EMPTY, math.nan, EMPTY, EMPTY, EMPTY) for name in METHODS]
    losses = {name: _losses(y, p[:, keep]) for name, p in scored.items()}
    return [_row(name, y, scored[name][:, keep], losses, w) for name in METHODS]


def _losses(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared error and log loss of each recording, mean over seeds, `[record]` each."""
    safe = np.clip(p, 1e-12, 1 - 1e-12)  # a saturated sigmoid; 27.6 nats is as wrong as a float can say
    return over_seeds(lambda one: (one - y) ** 2, p), over_seeds(lambda one: log_losses(y, one), safe)


def _row(
    name: str,
    y: np.ndarray,
    p: np.ndarray,
    losses: Mapping[str, tuple[np.ndarray, np.ndarray]],
    weights: np.ndarray,
) -> CalibrationRow:
    def mean(values: np.ndarray) -> Estimate:
        return interval(float(values.mean()), mean_draws(values, weights))

    (square, nats), (square_of_shipped, nats_of_shipped) = losses[name], losses[SHIPPED]
    return CalibrationRow(
        method=name,
        brier=mean(square),
        ece=float(np.mean([expected_calibration_error(y, one) for one in p])),
        log_loss=mean(nats),
        brier_difference=mean(square - square_of_shipped),
        log_loss_difference=mean(nats - nats_of_shipped),
    )


def _turns(y: np.ndarray, score: np.ndarray, group: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each group: its scored recordings, and the labelled, scored recordings of the others."""
    scored = np.isfinite(score)
    return [(scored & (group == k), scored & np.isfinite(y) & (group != k)) for k in np.unique(group)]


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)) without overflow, float64."""
    return np.asarray(np.exp(-np.logaddexp(0, -x)), dtype=np.float64)


def _golden_section(loss: Callable[[float], float], low: float, high: float, *, steps: int = 60) -> float:
    for _ in range(steps):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return (low + high) / 2
