"""The same figures by sex, age band and gain: where they differ, and where too few are there to say."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lsemvae.evaluate.metrics import Estimate, auroc
from lsemvae.evaluate.operating import operating_figures
from lsemvae.evaluate.resampling import EMPTY, auroc_draws, enough, interval, mean_draws, over_seeds
from lsemvae.evaluate.truth import Truth

# Half-open `[low, high)` in years.
AGE_BANDS = (
    (0.0, 50.0, "age < 50"),
    (50.0, 65.0, "age 50 to 64"),
    (65.0, 80.0, "age 65 to 79"),
    (80.0, math.inf, "age >= 80"),
)


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
    """Return (kind, name, bool `[record]`) of every subgroup; persons of unknown sex or age are in none of those."""
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
    """Return figures of `p` (`[record]` or `[seed, record]`) at `threshold`; `abstained` is 1, 0 or NaN `[record]` where recorded.

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
        here, scores, w = y[keep], p[:, keep], weights[:, keep]
        figures = operating_figures(here, scores, at[:, keep], weights=w)
        area = EMPTY
        if enough(here):
            value = float(np.mean([auroc(here, one) for one in scores]))
            area = interval(value, over_seeds(lambda one, y=here, w=w: auroc_draws(y, one, w), scores))  # type: ignore[misc]
        abstention = EMPTY
        if abstained is not None and (known := mask & np.isfinite(abstained)).any():
            abstention = interval(float(abstained[known].mean()), mean_draws(abstained[known], weights[:, known]))
        rates = (figures.sensitivity, figures.specificity, abstention)
        out.append(SubgroupRow(kind, name, int(keep.sum()), int((here == 1).sum()), area, *rates))
    return out
