"""Score recordings with finished bundles, through the very code that runs in the clinic.

It reads with `lsemvae.data` and screens with `lsemvae.screen`.
A folder of cross-validation bundles (`folds.json`) scores each recording with the bundle that has not seen its fold.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lsemvae.data.cells import gain_is_known, whole
from lsemvae.data.folder import EcgFolder, by_shard
from lsemvae.data.labels import PRIMARY_LABEL, PRIMARY_NAME, label_values, prediction_column, stated
from lsemvae.ecg.errors import EcgError, FormatError, StoreError
from lsemvae.ecg.rule import DecisionRule
from lsemvae.formats.whole import whole_file

if TYPE_CHECKING:
    from lsemvae.screen.screener import Screener

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
    """Predictions beside their metadata rows, the labels of the bundle and its decision rule.

    `possibly_seen` counts recordings of a fold that the bundle did not leave out in training: if they come from its training
    data, figures on them are not held out.
    """

    rows: list[dict[str, str]]
    predictions: list[Prediction]
    labels: tuple[str, ...]
    rule: DecisionRule
    label_statement: str
    possibly_seen: int = 0

    def probabilities(self, label: str) -> np.ndarray:
        """Return calibrated probabilities `[record]` of one label."""
        return np.array([p.probabilities.get(label, np.nan) for p in self.predictions])

    def truth(self, label: str, *, every_negative: bool = False) -> np.ndarray:
        """Return a label `[record]`: 1, 0 or NaN; `every_negative` also counts negatives where no axis was stated."""
        if every_negative:
            return np.array([stated(row, label) for row in self.rows])
        return np.array([float(label_values(row, (label,))[0]) for row in self.rows])

    @property
    def patients(self) -> np.ndarray:
        """Patient keys `[record]`; a recording without one is its own patient."""
        return np.array([row.get("patient") or row["uid"] for row in self.rows])

    def outcome_counts(self) -> dict[str, int]:
        """Return how often each outcome came."""
        names = [p.outcome for p in self.predictions]
        return {name: names.count(name) for name in ("DETECTED", "NOT DETECTED", "ABSTAIN", "ERROR")}


def _screeners(bundle: Path | None, open_screener: OpenScreener) -> tuple[dict[int, Screener], Screener]:
    """Return the screener by test fold (empty for a single bundle) and the one for everything else."""
    index = bundle / FOLDS_FILE if bundle is not None and bundle.is_dir() else None
    if index is None or not index.is_file():
        return {}, open_screener(bundle)
    by_fold: dict[int, Screener] = {}
    for name, folds in sorted(read_folds(index).items()):
        screener = open_screener(index.parent / name)
        # folds.json carries no signature, the manifest does: where that states what was left out, both must agree.
        signed = screener.bundle.manifest.provenance.get("folds_left_out")
        if signed is not None and sorted(signed) != sorted(folds):
            raise FormatError(
                f"{FOLDS_FILE}: found folds {sorted(folds)} for {name}, expected {sorted(signed)}, which its signed manifest "
                "says it left out",
                advice="Copy the folder again: a bundle must not score recordings that it was trained on.",
            )
        by_fold.update(dict.fromkeys(folds, screener))
    first = next(iter(by_fold.values()))
    one = first.bundle.manifest
    for screener in by_fold.values():  # pooled figures take outputs and operating points from one manifest
        two = screener.bundle.manifest
        if one.labels != two.labels or one.decision.to_dict() != two.decision.to_dict():
            raise FormatError(
                "found cross-validation bundles with different outputs or decision rules, expected one rule for all",
                advice="Export the bundles of one cross-validation together (lsemvae reproduce).",
            )
    return by_fold, first


def read_folds(index: Path) -> dict[str, list[int]]:
    """Read folds.json: bundle name -> folds that it left out; FormatError unless each fold has exactly one bundle."""
    advice = "Copy the folder again: folds.json maps the name of each bundle to the folds that it left out in training."
    try:
        found = json.loads(index.read_text(encoding="utf-8"))
    except ValueError as error:  # not UTF-8, or no JSON
        raise FormatError(
            f"{index}: found a file that is no JSON ({error}), expected an object", advice=advice
        ) from error
    if not isinstance(found, dict) or not found:
        raise FormatError(f"{index}: found {found!r}, expected an object with a name for each bundle", advice=advice)
    for name, folds in found.items():
        whole_numbers = isinstance(folds, list) and all(type(fold) is int and fold > 0 for fold in folds)
        if not whole_numbers or not folds or name in ("", ".", "..") or Path(name).name != name:
            raise FormatError(
                f"{index}: found {name!r}: {folds!r}, expected the name of a bundle beside it and its folds from 1",
                advice=advice,
            )
    every = sorted(fold for folds in found.values() for fold in folds)
    if len(set(every)) != len(every):
        raise FormatError(f"{index}: found folds {every}, expected each fold once", advice=advice)
    return found


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
    rows = by_shard(_to_score(folder, split, with_fold=bool(by_fold), known_gain=known_gain))
    folds = [_fold(row) for row in rows]
    if by_fold and (unknown := sorted(set(folds) - set(by_fold))):
        raise FormatError(
            f"found folds {unknown}, expected only {sorted(by_fold)}, which these bundles left out in training",
            advice="Score the other folds with bundles that have not seen them.",
        )
    manifest = single.bundle.manifest
    left_out = manifest.provenance.get("folds_left_out", ())
    seen = 0 if by_fold else sum(fold > 0 and fold not in left_out for fold in folds)
    scores = Scores(rows, [], manifest.labels, manifest.decision, manifest.label_statement, seen)
    for label in scores.labels:  # a cell that is no label is found now, not after an hour of scoring
        scores.truth(label, every_negative=True)
    for done, row in enumerate(rows, 1):
        screener = by_fold[_fold(row)] if by_fold else single
        scores.predictions.append(_score_row(folder, row, screener))
        if progress:
            progress(done, len(rows))
    return scores


def _fold(row: Mapping[str, str]) -> int:
    """Return the stratified fold of a recording, 0 where it has none."""
    return whole(row, "strat_fold", missing=0)


def _to_score(folder: EcgFolder, split: str, *, with_fold: bool, known_gain: bool) -> list[dict[str, str]]:
    chosen = folder.select(split)
    folded = [row for row in chosen if not with_fold or _fold(row)]
    rows = [row for row in folded if not known_gain or gain_is_known(row)]
    if not folded:
        raise FormatError(
            f"{folder.root}: found no recording with a fold in split {split!r}, expected some for cross-validation bundles",
            advice="Score recordings without folds with a single bundle.",
        )
    if not rows:
        raise FormatError(
            f"{folder.root}: found {len(folded)} recordings in split {split!r}, none of known gain, expected some",
            advice="Leave out --known-gain, or choose another --split.",
        )
    return rows


def _score_row(folder: EcgFolder, row: dict[str, str], screener: Screener) -> Prediction:
    try:
        record = folder.record(row)
    except EcgError as error:
        return Prediction(row["uid"], "ERROR", (error.code,), {}, np.nan)
    decision = screener.screen(record).decision
    # the reason of an ERROR is its stable code, not its sentence
    reasons = (decision.error_code,) if decision.error_code else tuple(decision.reasons)
    uncertainty = float(decision.uncertainty if decision.uncertainty is not None else np.nan)
    return Prediction(row["uid"], decision.outcome.value, reasons, dict(decision.probabilities), uncertainty)


def write_predictions(path: Path, scores: Scores) -> None:
    """Write one row per recording: uid, outcome, reasons, a `p_<label>` column per output, uncertainty.

    The primary output stands under its label (`p_RHS`) and, the same number, under its name (`p_right_heart_strain`).
    The file is there as a whole or not at all.
    """
    check_writable(path)
    named = [PRIMARY_NAME] if PRIMARY_LABEL in scores.labels else []
    columns = [prediction_column(label) for label in (*scores.labels, *named)]
    try:
        with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(["uid", "outcome", "reasons", *columns, "uncertainty"])
            for p in scores.predictions:
                values = [
                    p.probabilities.get(label, np.nan) for label in (*scores.labels, *[PRIMARY_LABEL for _ in named])
                ]
                cells = [f"{value:.6f}" if np.isfinite(value) else "" for value in (*values, p.uncertainty)]
                writer.writerow([p.uid, p.outcome, ";".join(p.reasons), *cells])
    except OSError as error:
        raise _not_writable(path, error.strerror or type(error).__name__) from error


def check_writable(path: Path) -> None:
    """Raise StoreError unless a file can be written at `path`; asked before the work whose result goes there."""
    if path.is_dir():
        raise _not_writable(path, "it is a folder")
    if not path.parent.is_dir():
        raise _not_writable(path, f"there is no folder {path.parent}")
    part = path.with_name(path.name + ".part")
    try:
        part.touch()
        part.unlink()
    except OSError as error:
        raise _not_writable(path, error.strerror or type(error).__name__) from error


def _not_writable(path: Path, why: str) -> StoreError:
    return StoreError(
        f"{path}: found no way to write there ({why}), expected a file in a folder that exists and is writable",
        advice="Make the folder, free some space, or choose another path.",
    )


def reports(scores: Scores, labels: Sequence[str] | None = None) -> list[dict[str, object]]:
    """Return one results row per label that the folder states, as JSON-able dictionaries (`metrics.LabelReport`)."""
    from lsemvae.evaluate.metrics import report_label

    out: list[dict[str, object]] = []
    for label in labels or scores.labels:
        p, threshold = scores.probabilities(label), scores.rule.thresholds.get(label, math.nan)
        for every in (False, True) if label == PRIMARY_LABEL else (False,):
            y = scores.truth(label, every_negative=every)
            if not np.isfinite(y).any():
                continue
            row = report_label(label, y, p, threshold=threshold, patients=scores.patients).to_dict()
            out.append({**row, "negatives": "all" if every or label != PRIMARY_LABEL else "axis stated"})
    return out
