"""Bootstrap over patients as weights: one draw counts each recording 0, 1, 2, ... times, and every metric takes the counts.

The same weights serve every row of a table, so differences between rows are paired draw by draw.
Scores `p` are `[record]` or `[seed, record]`; with several seeds a metric is the mean of the seeds' metrics in each draw.
An interval is therefore about patients, not about seeds: the spread over seeds is shown beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from lsemvae.evaluate.metrics import MIN_CLASS, N_BOOTSTRAP, Estimate

EMPTY = Estimate(math.nan, math.nan, math.nan)
_PERCENTILES = (2.5, 97.5)


def patient_weights(patients: np.ndarray, *, n: int = N_BOOTSTRAP, seed: int = 0) -> np.ndarray:
    """Return, float32 `[draw, record]`, how often each recording's patient was drawn.

    The same draws as `metrics.bootstrap` makes with this seed.
    """
    _, inverse = np.unique(patients, return_inverse=True)
    n_patients = int(inverse.max()) + 1 if len(inverse) else 0
    rng = np.random.default_rng(seed)
    out = np.empty((n, len(inverse)), np.float32)
    for k in range(n):
        out[k] = np.bincount(rng.integers(0, n_patients, n_patients), minlength=n_patients)[inverse]
    return out


def interval(value: float, draws: np.ndarray) -> Estimate:
    """Return a figure with the 2.5 and 97.5 percentiles of its draws; draws without the figure (NaN) do not count."""
    if math.isnan(value) or not np.isfinite(draws).any():
        return EMPTY
    low, high = np.nanpercentile(draws, _PERCENTILES)
    return Estimate(float(value), float(low), float(high))


def enough(y: np.ndarray) -> bool:
    """Return whether `y` holds enough of both answers for an interval that says something."""
    return min(int((y == 1).sum()), int((y == 0).sum())) >= MIN_CLASS


def over_seeds(metric: Callable[[np.ndarray], np.ndarray], p: np.ndarray) -> np.ndarray:
    """Return the mean over seeds of `metric(p[seed])`; `p` is `[record]` or `[seed, record]`."""
    return np.mean([metric(one) for one in np.atleast_2d(p)], axis=0)


def auroc_draws(y: np.ndarray, p: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the AUROC `[draw]` of one score under each row of `weights`; ties count half (Mann and Whitney 1947, weighted)."""
    order = np.argsort(p[y == 0], kind="stable")
    negatives = p[y == 0][order]
    below = np.zeros((len(weights), len(negatives) + 1), np.float32)  # counts below 2**24 are exact
    np.cumsum(weights[:, y == 0][:, order], axis=1, out=below[:, 1:])
    positive, w_pos = p[y == 1], weights[:, y == 1]
    left, right = np.searchsorted(negatives, positive, "left"), np.searchsorted(negatives, positive, "right")
    won = (w_pos * (below[:, left] + below[:, right])).sum(1, dtype=np.float64) / 2
    pairs = w_pos.sum(1, dtype=np.float64) * below[:, -1]
    return _ratio(won, pairs)


def auprc_draws(y: np.ndarray, p: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the average precision `[draw]`: precision at each distinct score, weighted by the recall gained there."""
    order = np.argsort(-p, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(p[order])), len(p) - 1)
    ordered = weights[:, order]
    called = np.cumsum(ordered, axis=1)[:, ends].astype(np.float64)
    hits = np.cumsum(ordered * (y[order] == 1), axis=1)[:, ends].astype(np.float64)
    precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
    return _ratio((np.diff(hits, axis=1, prepend=0.0) * precision).sum(1), hits[:, -1])


def mean_draws(values: np.ndarray, weights: np.ndarray, *, of: np.ndarray | None = None) -> np.ndarray:
    """Return the weighted mean `[draw]` of `values` `[record]`, over the recordings where `of` holds; NaN in a draw without any."""
    if of is None:
        return _ratio(weights @ values.astype(np.float32), weights.sum(1))
    return _ratio(weights @ np.where(of, values, 0.0).astype(np.float32), weights @ of.astype(np.float32))


def log_losses(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return the negative log likelihood of each recording, nats; `p` must lie strictly between 0 and 1."""
    return -np.log(np.where(y == 1, p, 1 - p))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    above = np.asarray(above, dtype=np.float64)
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=np.asarray(below) > 0)
