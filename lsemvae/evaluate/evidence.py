"""Every figure of the evidence table, from recorded predictions and joined truth, on the same resampled patients.

Figures are on recordings of known gain; right-heart negatives count only where an axis was stated (`data.labels`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from lsemvae.data.folder import EcgFolder
from lsemvae.data.labels import LABELS
from lsemvae.data.splits import group_folds
from lsemvae.ecg.errors import FormatError
from lsemvae.evaluate.calibrate import fold_groups
from lsemvae.evaluate.delong import delong_test
from lsemvae.evaluate.metrics import N_BOOTSTRAP, Estimate, auroc
from lsemvae.evaluate.predictions import PredictionTable
from lsemvae.evaluate.resampling import EMPTY, auroc_draws, enough, interval, over_seeds, patient_weights
from lsemvae.evaluate.truth import Truth, aligned, join_truth

TABLE_LABELS = ("RHS", "RBBB_any", "IRBBB", "CRBBB", "RVH", "RAE", "LVH", "MI", "AFIB", "NORM")
# As `lsemvae.train.pipeline` cuts nine folds, where a row does not state its own groups (`about["fold_groups"]`).
N_FOLD_GROUPS: Final = 3


@dataclass(frozen=True, slots=True)
class RowFigure:
    """AUROC of one row: recordings, positives, mean over seeds with its interval over patients, SD over seeds."""

    n: int
    positives: int
    auroc: Estimate
    seed_sd: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Paired difference of two AUROCs: interval over patients, DeLong's p value, recordings, positives."""

    difference: Estimate
    p_value: float
    n: int
    positives: int

    @property
    def verdict(self) -> str:
        """`better`, `none`, `worse`, or a dash where there is no interval."""
        if math.isnan(self.difference.value):
            return "-"
        if self.difference.low > 0:
            return "better"
        return "worse" if self.difference.high < 0 else "none"


NOT_COMPARED = Comparison(EMPTY, math.nan, 0, 0)


@dataclass
class Evidence:
    """Rows, truth and one set of bootstrap weights.

    Attributes
    ----------
    tables
        Recorded predictions by row name.
    truth
        Truth of every recording scored by any row and of known gain, in one order.
    reference
        The row that others are compared with.
    weights
        `[draw, record]`, the same for every figure.
    """

    tables: Mapping[str, PredictionTable]
    truth: Truth
    reference: str
    weights: np.ndarray
    _aligned: dict[str, np.ndarray] = field(default_factory=dict)
    _draws: dict[tuple[str, str, str, bytes], np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.reference not in self.tables:
            raise FormatError(
                f"found the rows {', '.join(self.tables)}, expected among them the reference {self.reference}",
                advice="Name another row with --reference.",
            )

    def scores(self, row: str, lead_set: str, label: str) -> np.ndarray:
        """Return logits float64 `[seed, record]` in the order of `truth`, of the seeds that were run; `[0, record]` for none."""
        table = self.tables[row]
        if not table.has(lead_set, label):
            return np.empty((0, len(self.truth.uid)))
        if row not in self._aligned:
            self._aligned[row] = aligned(table, self.truth.uid)
        logits = self._aligned[row][:, table.lead_sets.index(lead_set), :, table.labels.index(label)]
        return logits[np.isfinite(logits).any(1)].astype(np.float64)

    def figure(self, row: str, lead_set: str, label: str) -> RowFigure:
        """Return the AUROC of one row under one lead set."""
        p, y = self.scores(row, lead_set, label), self.truth.of(label)
        keep = _finite(y, p)
        n, positives = int(keep.sum()), int((y[keep] == 1).sum())
        if not len(p) or not enough(y[keep]):
            return RowFigure(n, positives, EMPTY, math.nan)
        by_seed = [auroc(y[keep], one[keep]) for one in p]
        spread = float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else math.nan
        draws = self._auroc_draws(row, lead_set, label, keep)
        return RowFigure(n, positives, interval(float(np.mean(by_seed)), draws), spread)

    def compare(self, a: tuple[str, str], b: tuple[str, str], label: str) -> Comparison:
        """Return the difference of `(row, lead set)` a minus b over the recordings that both score."""
        y, pa, pb = self.truth.of(label), self.scores(*a, label), self.scores(*b, label)
        if not len(pa) or not len(pb):
            return NOT_COMPARED
        keep = _finite(y, pa) & _finite(y, pb)
        n, positives = int(keep.sum()), int((y[keep] == 1).sum())
        if not enough(y[keep]):
            return Comparison(EMPTY, math.nan, n, positives)
        test = delong_test(y[keep], pa[:, keep], pb[:, keep])
        draws = self._auroc_draws(*a, label, keep) - self._auroc_draws(*b, label, keep)
        return Comparison(interval(test.difference, draws), test.p_value, n, positives)

    def against_reference(self, row: str, lead_set: str, label: str) -> Comparison:
        """Return `row` minus the reference under one lead set."""
        if row == self.reference:
            return NOT_COMPARED
        return self.compare((row, lead_set), (self.reference, lead_set), label)

    def twelve_minus_six(self, row: str, label: str) -> Comparison:
        """Return what the chest leads add for one row."""
        return self.compare((row, "12"), (row, "6"), label)

    def groups(self, row: str) -> np.ndarray:
        """Return the cross-validation group `[record]` of each recording of `truth` for one row."""
        stated = self.tables[row].about.get("fold_groups")
        return fold_groups(self.truth.fold, stated or group_folds(self.truth.fold.tolist(), N_FOLD_GROUPS))

    def _auroc_draws(self, row: str, lead_set: str, label: str, keep: np.ndarray) -> np.ndarray:
        key = (row, lead_set, label, np.packbits(keep).tobytes())
        if key not in self._draws:
            y, p, w = self.truth.of(label)[keep], self.scores(row, lead_set, label)[:, keep], self.weights[:, keep]
            self._draws[key] = over_seeds(lambda one: auroc_draws(y, one, w), p)
        return self._draws[key]


def gather(
    tables: Mapping[str, PredictionTable],
    folder: EcgFolder,
    *,
    reference: str,
    n_bootstrap: int = N_BOOTSTRAP,
    known_gain: bool = True,
    labels: Sequence[str] = LABELS,
) -> Evidence:
    """Join truth to the rows; `known_gain` leaves out recordings whose amplitude is not in true millivolts."""
    truth = join_truth(folder, list(tables.values()), labels)
    if known_gain:
        truth = truth.part(truth.gain_known)
    if not len(truth.uid):
        raise FormatError(
            f"{folder.root}: found no recording of known gain among the predictions, expected some",
            advice="Record predictions on recordings whose gain is known.",
        )
    return Evidence(tables, truth, reference, patient_weights(truth.patient, n=n_bootstrap))


def _finite(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    return np.isfinite(y) & np.isfinite(p).all(0)
