"""Sets instead of calls: class-conditional (Mondrian) split conformal prediction for a yes-or-no label.

Vovk, Lindsay, Nouretdinov and Gammerman, "Mondrian confidence machine" (2003); Vovk, Gammerman and Shafer, "Algorithmic
learning in a random world" (2005), chapter 4. An answer stays in the set while its p value among held-out recordings with
that answer exceeds alpha, so of the positives, and of the negatives, a share of at least 1 - alpha keeps its true answer,
provided new recordings are exchangeable with the held-out ones. {0, 1} says "cannot tell", {} says "like neither".

Cross-fitting over fold groups pools models that saw different patients: exchangeability holds only nearly, which is why
coverage is measured here and not assumed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from lsemvae.ecg.errors import SampleError
from lsemvae.evaluate.metrics import Estimate
from lsemvae.evaluate.resampling import EMPTY, enough, interval, mean_draws, over_seeds

# One true answer in ten may be missing from its set, for either answer: the error rate of the operating point.
ALPHA: Final = 0.10


@dataclass(frozen=True, slots=True)
class ConformalFigures:
    """Coverage of the true answer (all, among positives, among negatives), mean set size, share of each kind of set."""

    alpha: float
    coverage: Estimate
    coverage_positive: Estimate
    coverage_negative: Estimate
    mean_size: Estimate
    empty: Estimate
    only_negative: Estimate
    only_positive: Estimate
    both: Estimate


def p_values(held: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Return the share `[new]` of held-out strangeness at least as large, the new recording counted with it: (1 + #) / (n + 1)."""
    ordered = np.sort(held)
    return (1 + len(held) - np.searchsorted(ordered, new, "left")) / (len(held) + 1)


def conformal_sets(y: np.ndarray, score: np.ndarray, new: np.ndarray, *, alpha: float = ALPHA) -> np.ndarray:
    """Return sets, bool `[new, 2]` (column 0: "no" stays, column 1: "yes" stays) from held-out `y` and `score` `[record]`.

    A high score speaks for yes. Strangeness is the score itself for "no" and its negative for "yes".
    """
    if not 0 < alpha < 1:
        raise SampleError(f"found alpha {alpha}, expected a share between 0 and 1")
    keep = np.isfinite(y) & np.isfinite(score)
    no, yes = score[keep & (y == 0)], score[keep & (y == 1)]
    if not len(no) or not len(yes):
        raise SampleError(
            f"found {len(yes)} positives and {len(no)} negatives, expected some of each to hold answers against",
            advice="Leave more folds out, so that the held-out recordings hold both answers.",
        )
    return np.column_stack([p_values(no, new) > alpha, p_values(-yes, -new) > alpha])


def crossfit_sets(y: np.ndarray, score: np.ndarray, group: np.ndarray, *, alpha: float = ALPHA) -> np.ndarray:
    """Return sets, float `[record, 2]` (1, 0), each group's from the other groups' held-out scores; NaN where the score is."""
    out = np.full((len(y), 2), np.nan)
    for k in np.unique(group):
        here = np.isfinite(score) & (group == k)
        out[here] = conformal_sets(y[group != k], score[group != k], score[here], alpha=alpha)
    return out


def conformal_figures(
    y: np.ndarray, scores: np.ndarray, group: np.ndarray, *, weights: np.ndarray, alpha: float = ALPHA
) -> ConformalFigures:
    """Return measured coverage and size over recordings with a label and every seed's score; `scores` `[seed, record]`."""
    scores = np.atleast_2d(scores)
    keep = np.isfinite(y) & np.isfinite(scores).all(0)
    y, scores, group, weights = y[keep], scores[:, keep], group[keep], weights[:, keep]
    if not enough(y):
        return ConformalFigures(alpha, *[EMPTY] * 8)
    sets = np.stack([crossfit_sets(y, one, group, alpha=alpha) for one in scores])  # [seed, record, 2]
    covered = np.take_along_axis(sets, y.astype(int)[None, :, None], axis=2)[..., 0]
    size = sets.sum(2)

    def mean(values: np.ndarray, of: np.ndarray | None = None) -> Estimate:
        draws = over_seeds(lambda v: mean_draws(v, weights, of=of), values)
        value = float(values.mean() if of is None else values[:, of].mean())
        return EMPTY if math.isnan(value) else interval(value, draws)

    return ConformalFigures(
        alpha=alpha,
        coverage=mean(covered),
        coverage_positive=mean(covered, y == 1),
        coverage_negative=mean(covered, y == 0),
        mean_size=mean(size),
        empty=mean((size == 0).astype(float)),
        only_negative=mean(sets[..., 0] * (1 - sets[..., 1])),
        only_positive=mean(sets[..., 1] * (1 - sets[..., 0])),
        both=mean((size == 2).astype(float)),
    )
