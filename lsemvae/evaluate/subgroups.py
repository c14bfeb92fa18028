"""The same figures by sex, age band and gain: where they differ, and where too few are there to say."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lsemvae.evaluate.metrics import Estimate, auroc
from lsemvae.evaluate.operating import operating_figures
from lsemvae.evaluate.resampling import EMPTY, auroc_draws, enough, interval, mean_draws, over_seeds
from lsemvae.evaluate.truth import Truth

AGE_BANDS = (
    (0.0, 50.0, "age < 50"),
    (50.0, 65.0, "age 50 to 64"),
    (65.0, 80.0, "age 65 to 79"),
    (80.0, math.inf, "age >= 80"),
)
"""Half-open `[low, high)` in years."""


@dataclass(frozen=True, slots=True)
class SubgroupRow:
    """One part of the recordings; estimates are empty (a dash) with fewer than five positives or negatives."""

    kind: str
    name: str
    n: int
    positives: int
    auroc: Estimate
    sensitivity: Estimate
    specificity: Estimate
    abstained: Estimate


def subgroup_masks(truth: Truth) -> list[tuple[str, str, np.ndarray]]:
    """(kind, name, bool `[record]`) of every subgroup; persons of unknown sex or age are in none of those."""
    parts = [("all", "all", np.ones(len(truth.uid), bool))]
    parts += [("sex", name, truth.sex == code) for code, name in (("F", "women"), ("M", "men"))]
    parts += [("age", name, (truth.age >= low) & (truth.age < high)) for low, high, name in AGE_BANDS]
    parts += [("gain", "gain known", truth.gain_known), ("gain", "gain not known", ~truth.gain_known)]
    return parts


def subgroup_rows(
    truth: Truth,
    label: str,
    p: np.ndarray,
    threshold: float | np.ndarray,
    *,
    weights: np.ndarray,
    abstained: np.ndarray | None = None,
) -> list[SubgroupRow]:
    """Figures of `p` (`[record]` or `[seed, record]`) at `threshold`; `abstained` is 1, 0 or NaN `[record]` where recorded.

    AUROC is over recordings with a label and a score; the abstention rate is over all with a recorded outcome.
    """
    y, p = truth.of(label), np.atleast_2d(p)
    at = np.broadcast_to(threshold, p.shape)
    scored = np.isfinite(y) & np.isfinite(p).all(0) & np.isfinite(at).all(0)
    out = []
    for kind, name, mask in subgroup_masks(truth):
        if not mask.any():
            continue
        keep = mask & scored
        figures = operating_figures(y[keep], p[:, keep], at[:, keep], weights=weights[:, keep])
        out.append(
            SubgroupRow(
                kind, name, int(keep.sum()), int((y[keep] == 1).sum()),
                _auroc(y[keep], p[:, keep], weights[:, keep]),
                figures.sensitivity, figures.specificity, _abstention(abstained, mask, weights),
            )
        )  # fmt: skip
    return out


def _auroc(y: np.ndarray, p: np.ndarray, weights: np.ndarray) -> Estimate:
    if not enough(y):
        return EMPTY
    value = float(np.mean([auroc(y, one) for one in p]))
    return interval(value, over_seeds(lambda one: auroc_draws(y, one, weights), p))


def _abstention(abstained: np.ndarray | None, mask: np.ndarray, weights: np.ndarray) -> Estimate:
    if abstained is None:
        return EMPTY
    keep = mask & np.isfinite(abstained)
    if not keep.any():
        return EMPTY
    return interval(float(abstained[keep].mean()), mean_draws(abstained[keep], weights[:, keep]))
