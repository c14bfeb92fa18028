"""Score recordings with finished bundles, through the very code that runs in the clinic.

This module stands between the rooms, as the command line does: it reads with `lsemvae.data` and screens with `edge_app`.
A folder of cross-validation bundles (`folds.json`) scores each recording with the bundle that has not seen its fold.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lsemvae.data.folder import EcgFolder
from lsemvae.data.labels import PRIMARY_LABEL, PRIMARY_NAME, label_values, metadata_column, prediction_column
from lsemvae.ecg.errors import EcgError, FormatError
from lsemvae.ecg.rule import DecisionRule

if TYPE_CHECKING:
    from edge_app.screening import Screener, ScreenResult

FOLDS_FILE = "folds.json"
OpenScreener = Callable[[Path | None], "Screener"]


@dataclass(frozen=True)
class Prediction:
    """One recording: outcome, reasons, calibrated probabilities (NaN where the model could not run), uncertainty."""

    uid: str
    outcome: str
    reasons: tuple[str, ...]
    probabilities: Mapping[str, float]
    uncertainty: float


@dataclass(frozen=True)
class Scores:
    """Predictions beside their metadata rows, the labels of the bundle and its decision rule."""

    rows: list[dict[str, str]]
    predictions: list[Prediction]
    labels: tuple[str, ...]
    rule: DecisionRule
    label_statement: str

    def probabilities(self, label: str) -> np.ndarray:
        """Calibrated probabilities `[record]` of one label."""
        return np.array([p.probabilities.get(label, np.nan) for p in self.predictions])

    def truth(self, label: str, *, every_negative: bool = False) -> np.ndarray:
        """Label `[record]`: 1, 0 or NaN; `every_negative` also counts negatives where no axis was stated."""
        if every_negative:
            texts = [row.get(metadata_column(label), "") for row in self.rows]
            return np.array([float(t) if t not in ("", "nan") else np.nan for t in texts])
        return np.array([float(label_values(row, (label,))[0]) for row in self.rows])

    @property
    def patients(self) -> np.ndarray:
        """Patient keys `[record]`; a recording without one is its own patient."""
        return np.array([row.get("patient") or row["uid"] for row in self.rows])

    def outcome_counts(self) -> dict[str, int]:
        """How often each outcome came."""
        names = [p.outcome for p in self.predictions]
        return {name: names.count(name) for name in ("DETECTED", "NOT DETECTED", "ABSTAIN", "ERROR")}


def _prediction(uid: str, result: ScreenResult) -> Prediction:
    decision = result.decision
    reasons = decision.reasons or ((decision.error_code,) if decision.error_code else ())
    uncertainty = decision.uncertainty if decision.uncertainty is not None else np.nan
    return Prediction(uid, decision.outcome.value, tuple(reasons), dict(decision.probabilities), float(uncertainty))


def _screeners(bundle: Path | None, open_screener: OpenScreener) -> tuple[dict[int, Screener], Screener]:
    """Screener by test fold (empty for a single bundle) and the one for everything else."""
    index = bundle / FOLDS_FILE if bundle is not None and bundle.is_dir() else None
    if index is None or not index.is_file():
        return {}, open_screener(bundle)
    assert bundle is not None
    by_fold: dict[int, Screener] = {}
    for name, folds in sorted(json.loads(index.read_text(encoding="utf-8")).items()):
        screener = open_screener(bundle / name)
        by_fold.update({int(fold): screener for fold in folds})
    return by_fold, next(iter(by_fold.values()))


def score_folder(
    data: Path,
    *,
    bundle: Path | None,
    split: str,
    open_screener: OpenScreener,
    known_gain: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Screen every recording of `split`; cross-validation bundles score only recordings that carry a fold.

    `known_gain` leaves out recordings whose overall gain is not known: their amplitudes are made up.
    """
    folder = EcgFolder(data)
    by_fold, single = _screeners(bundle, open_screener)
    rows = [row for row in folder.select(split) if not by_fold or row.get("strat_fold")]
    rows = [row for row in rows if not known_gain or row.get("gain_known", "1") not in ("0", "0.0")]
    if not rows:
        raise FormatError(
            f"{data}: found no recording with a fold in split {split!r}, expected some for cross-validation bundles",
            advice="Score recordings without folds with a single bundle.",
        )
    _check_folds(rows, by_fold)
    kept, predictions = [], []
    for done, row in enumerate(_by_shard(rows), 1):
        screener = by_fold[int(float(row["strat_fold"]))] if by_fold else single
        kept.append(row)
        predictions.append(_score_row(folder, row, screener))
        if progress:
            progress(done, len(rows))
    manifest = single.bundle.manifest
    return Scores(kept, predictions, manifest.labels, manifest.decision, manifest.label_statement)


def _check_folds(rows: Iterable[dict[str, str]], by_fold: Mapping[int, Screener]) -> None:
    unknown = sorted({int(float(row["strat_fold"])) for row in rows} - set(by_fold)) if by_fold else []
    if unknown:
        raise FormatError(
            f"found folds {unknown}, expected only {sorted(by_fold)}, which these bundles left out in training",
            advice="Score the other folds with bundles that have not seen them.",
        )


def _by_shard(rows: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    return sorted(rows, key=lambda row: (row["file"], int(row["row"])))


def _score_row(folder: EcgFolder, row: dict[str, str], screener: Screener) -> Prediction:
    try:
        record = folder.record(row)
    except EcgError as error:
        return Prediction(row["uid"], "ERROR", (error.code,), {}, np.nan)
    return _prediction(row["uid"], screener.screen(record))


def write_predictions(path: Path, scores: Scores) -> None:
    """One row per recording: uid, outcome, reasons, a `p_<label>` column per output, uncertainty.

    The primary output stands under its label (`p_RHS`) and, the same number, under its name (`p_right_heart_strain`).
    """
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        columns = [prediction_column(label) for label in scores.labels]
        named = [prediction_column(PRIMARY_NAME)] if PRIMARY_LABEL in scores.labels else []
        writer.writerow(["uid", "outcome", "reasons", *columns, *named, "uncertainty"])
        for p in scores.predictions:
            values = [p.probabilities.get(label, np.nan) for label in scores.labels]
            repeated = [p.probabilities.get(PRIMARY_LABEL, np.nan)] * len(named)
            writer.writerow([p.uid, p.outcome, ";".join(p.reasons), *map(_cell, [*values, *repeated, p.uncertainty])])
    part.replace(path)


def _cell(value: float) -> str:
    return "" if not np.isfinite(value) else f"{value:.6f}"


def reports(scores: Scores, labels: Sequence[str] | None = None) -> list[dict[str, object]]:
    """One results row per label that the folder states, as JSON-able dictionaries (`metrics.LabelReport`)."""
    from lsemvae.evaluate.metrics import report_label

    out: list[dict[str, object]] = []
    for label in labels or scores.labels:
        p, threshold = scores.probabilities(label), scores.rule.thresholds[label]
        for every in (False, True) if label == PRIMARY_LABEL else (False,):
            y = scores.truth(label, every_negative=every)
            if not np.isfinite(y).any():
                continue
            row = report_label(label, y, p, threshold=threshold, patients=scores.patients).to_dict()
            out.append({**row, "negatives": "all" if every or label != PRIMARY_LABEL else "axis stated"})
    return out
