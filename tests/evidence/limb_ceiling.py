"""What the limb leads cannot hold about right bundle branch block, in figures.

    python tests/evidence/limb_ceiling.py --data DIR --predictions FOLDER --json OUT [--store STORE]

DIR is the development folder (metadata.csv, signals), FOLDER holds recorded predictions (`lsemvae.evaluate.predictions`).
The record store is made in a temporary folder (about two minutes) unless one is named. Three questions:

1. How does AUROC split into complete and incomplete block, with twelve leads and with six?
2. How much of V1-V3 can be computed from I and II, and how much of what is read in V1?
3. How well can incomplete block be read from what the limb leads offer by hand?

Everything fitted is judged on patients it has not seen. Recordings of PTB-XL whose gain is known (they have chest leads).
The labels are statements that ECG readers made from the same ECG; none is a catheter, echo or electrophysiology finding.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.report import without_folders
from lsemvae.data.convert import convert_folder
from lsemvae.data.folder import EcgFolder
from lsemvae.data.splits import group_folds
from lsemvae.data.store import RecordStore, open_store
from lsemvae.ecg.leads import LEADS
from lsemvae.evaluate.floor import hand_features
from lsemvae.evaluate.metrics import Estimate, auroc
from lsemvae.evaluate.predictions import PredictionTable, load_all
from lsemvae.evaluate.resampling import auroc_draws, interval, over_seeds, patient_weights
from lsemvae.evaluate.truth import aligned, join_truth

FS_HZ = 250.0
WINDOW_S = 0.2
"""Half of the window around a sample: a whole QRS complex fits in either half."""
TAP_STEP = 2
"""Every second sample of the window, 8 ms: the front-end passes 40 Hz."""
RIDGE = 1e-3
"""Of the mean squared tap. Fixed beforehand; with a million samples and a hundred taps it only keeps the equations solvable."""
BEAT_S = (-0.1, 0.15)
"""Of the median beat around the QRS peak."""
TERMINAL_S = (0.02, 0.08)
"""After the QRS peak: where r' stands in V1."""
CHEST = ("V1", "V2", "V3")
READ_IN_V1 = ("m_R_V1", "m_S_V1", "m_RS_V1")
LABELS = ("RBBB_any", "CRBBB", "IRBBB")
LABEL_STATEMENT = (
    "CRBBB, IRBBB and RBBB_any are statements of ECG readers (PTB-XL), made from the same twelve-lead ECG. "
    "None is pulmonary hypertension."
)
N_GROUPS = 3
N_DRAWS = 1000


@dataclass(frozen=True)
class Cohort:
    """Recordings with chest leads and a known gain, in the order of the store.

    Attributes
    ----------
    store, rows
        The record store and the indices of the recordings in it.
    meta
        Their rows of metadata.csv.
    group
        Cross-validation group `[record]`, disjoint by patient.
    patient
        str `[record]`.
    complete, incomplete, neither
        Whether a reader stated that block, or for both that there is none `[record]`.
    """

    store: RecordStore
    rows: np.ndarray
    meta: list[dict[str, str]]
    group: np.ndarray
    patient: np.ndarray
    complete: np.ndarray
    incomplete: np.ndarray
    neither: np.ndarray


def cohort_of(store: RecordStore, folder: EcgFolder) -> Cohort:
    """The recordings that all three questions are asked of."""
    rows = np.flatnonzero((store.fold > 0) & store.gain_known.astype(bool) & store.present.all(1))
    by_uid = {row["uid"]: row for row in folder.rows}
    meta = [by_uid[str(uid)] for uid in store.uid[rows]]
    folds = store.fold[rows].astype(int)
    groups = group_folds(sorted(set(folds.tolist())), N_GROUPS)
    group = np.array([next(g for g, members in enumerate(groups) if fold in members) for fold in folds])
    stated = {name: np.array([float(row[f"y_{name}"] or "nan") for row in meta]) for name in LABELS}
    complete, incomplete = stated["CRBBB"], stated["IRBBB"]
    neither = (complete == 0) & (incomplete == 0)
    return Cohort(store, rows, meta, group, store.patient[rows], complete == 1, incomplete == 1, neither)


def estimate(y: np.ndarray, p: np.ndarray, patients: np.ndarray) -> dict[str, Any]:
    """AUROC with its 95 % interval over patients; `p` `[record]` or `[seed, record]`."""
    if not (y == 1).any() or not (y == 0).any():
        return {"auroc": None, "low": None, "high": None, "positives": int((y == 1).sum()), "n": len(y)}
    weights = patient_weights(patients, n=N_DRAWS)
    value = float(np.mean([auroc(y, one) for one in np.atleast_2d(p)]))
    found: Estimate = interval(value, over_seeds(lambda one: auroc_draws(y, one, weights), p))
    three = {
        name: round(getattr(found, key), 4) for name, key in (("auroc", "value"), ("low", "low"), ("high", "high"))
    }
    return {**three, "positives": int((y == 1).sum()), "n": len(y)}


def split_auroc(table: PredictionTable, cohort: Cohort) -> dict[str, Any]:
    """For each lead set and output: complete against none, incomplete against none, on the same recordings everywhere."""
    uid = cohort.store.uid[cohort.rows]
    logits = aligned(table, uid)
    out: dict[str, Any] = {}
    for s, lead_set in enumerate(table.lead_sets):
        for k, label in enumerate(table.labels):
            scored = np.isfinite(logits[:, s, :, k]).all(0)
            if label not in LABELS or not scored.any():
                continue
            for kind, positive in (("CRBBB", cohort.complete), ("IRBBB", cohort.incomplete)):
                keep = scored & (positive | cohort.neither)
                figures = estimate(positive[keep].astype(float), logits[:, s, keep, k], cohort.patient[keep])
                out[f"{lead_set} leads, output {label}: {kind} against none"] = figures
    return out


@dataclass
class Moments:
    """Sums of a least-squares problem: `xx` `[tap, tap]`, `xy` `[tap, lead]`, `y`, `yy` `[lead]`, `n` samples."""

    xx: np.ndarray
    xy: np.ndarray
    y: np.ndarray
    yy: np.ndarray
    n: float

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.xx + other.xx, self.xy + other.xy, self.y + other.y, self.yy + other.yy, self.n + other.n)


def moments(x: np.ndarray, y: np.ndarray) -> Moments:
    """Of taps `[sample, tap]` and targets `[sample, lead]`; the taps get a constant."""
    x = np.concatenate([x, np.ones((len(x), 1), x.dtype)], 1).astype(np.float64)
    y = y.astype(np.float64)
    return Moments(x.T @ x, x.T @ y, y.sum(0), (y**2).sum(0), float(len(x)))


def solve(train: Moments) -> np.ndarray:
    """Ridge coefficients `[tap, lead]`; the constant is not shrunk."""
    penalty = np.full(len(train.xx), RIDGE * np.trace(train.xx[:-1, :-1]) / (len(train.xx) - 1))
    penalty[-1] = 0.0
    return np.asarray(np.linalg.solve(train.xx + np.diag(penalty), train.xy))


def squares(test: Moments, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared error and squared deviation from the mean `[lead]`, from sums alone: `|y - x b|^2 = yy - 2 b xy + b xx b`."""
    error = test.yy - 2 * (b * test.xy).sum(0) + (b * (test.xx @ b)).sum(0)
    return error, test.yy - test.y**2 / test.n


def held_out_r2(parts: Sequence[Moments]) -> np.ndarray:
    """Explained share of variance `[lead]` pooled over groups, each judged by what the others fit."""
    both = []
    for g, test in enumerate(parts):
        others = [part for k, part in enumerate(parts) if k != g]
        both.append(squares(test, solve(sum(others[1:], others[0]))))
    error, total = np.sum(both, axis=0)
    return np.asarray(1 - error / total)


def taps(two: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Windows of I and II `[2, time]` around the samples `at`: `[sample, tap]`."""
    half = round(WINDOW_S * FS_HZ)
    offsets = np.arange(-half, half + 1, TAP_STEP)
    return two[:, at[:, None] + offsets].transpose(1, 0, 2).reshape(len(at), -1)


def chest_from_limb(cohort: Cohort) -> dict[str, Any]:
    """R2 of V1-V3 computed from I and II, sample by sample: over whole recordings, and within QRS complexes only."""
    half, wanted = round(WINDOW_S * FS_HZ), ("I", "II", *CHEST)
    whole: list[list[Moments]] = [[] for _ in range(N_GROUPS)]
    complexes: list[list[Moments]] = [[] for _ in range(N_GROUPS)]
    for row, group in zip(cohort.rows, cohort.group, strict=True):
        x = cohort.store.millivolts([row], leads=wanted)[0]
        at = np.arange(half, x.shape[1] - half, 4)
        near = qrs_samples(x[:2], peaks_of(x[:2]))
        near = near[(near >= half) & (near < x.shape[1] - half)]
        for where, samples in ((whole, at), (complexes, near)):
            if len(samples):
                where[group].append(moments(taps(x[:2], samples), x[2:, samples].T))
    out = {}
    for name, groups in (("whole recording", whole), ("QRS complexes", complexes)):
        found = held_out_r2([sum(parts[1:], parts[0]) for parts in groups])
        out[name] = {lead: round(float(value), 4) for lead, value in zip(CHEST, found, strict=True)}
    return out


def peaks_of(two: np.ndarray) -> np.ndarray:
    """Samples of the QRS peaks: largest slope of the heart vector (I, II), half a second apart at least."""
    slope = np.convolve(np.sqrt((np.diff(two, axis=1) ** 2).sum(0)), np.ones(15) / 15, mode="same")
    apart, bar = round(0.3 * FS_HZ), 0.4 * np.quantile(slope, 0.98)
    found: list[int] = []
    for k in np.argsort(-slope):
        if slope[k] < bar:
            break
        if all(abs(k - other) >= apart for other in found):
            found.append(int(k))
    size = np.hypot(*two)
    reach = round(0.06 * FS_HZ)
    return np.array(sorted(max(0, k - reach) + int(size[max(0, k - reach) : k + reach].argmax()) for k in found), int)


def qrs_samples(two: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """Every second sample within 60 ms of a peak."""
    reach = round(0.06 * FS_HZ)
    around = (peaks[:, None] + np.arange(-reach, reach + 1, 2)).ravel()
    return np.unique(around[(around >= 0) & (around < two.shape[1])])


def median_beat(x: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """`[lead, sample]` over `BEAT_S` around the peaks; NaN where no beat lies wholly inside."""
    low, high = (round(s * FS_HZ) for s in BEAT_S)
    inside = peaks[(peaks + low >= 0) & (peaks + high < x.shape[1])]
    if not len(inside):
        return np.full((len(x), high - low), np.nan)
    return np.asarray(np.median(x[:, inside[:, None] + np.arange(low, high)], axis=1))


def beats_of(cohort: Cohort) -> np.ndarray:
    """Median beats `[record, 12, sample]` in mV, aligned on the QRS peak of I and II."""
    beats = []
    for row in cohort.rows:
        x = cohort.store.millivolts([row])[0]
        beats.append(median_beat(x, peaks_of(x[:2])))
    return np.stack(beats)


def read_in_v1(cohort: Cohort, beats: np.ndarray) -> dict[str, Any]:
    """R2 of what is measured in V1, computed from the median beat of I and II by ridge regression."""
    limb = beats[:, :2].reshape(len(beats), -1)
    start = round((TERMINAL_S[0] - BEAT_S[0]) * FS_HZ)
    stop = round((TERMINAL_S[1] - BEAT_S[0]) * FS_HZ)
    targets = {name: np.array([float(row[name] or "nan") for row in cohort.meta]) for name in READ_IN_V1}
    targets["terminal peak of V1, 20-80 ms after the QRS peak, mV"] = beats[:, LEADS.index("V1"), start:stop].max(1)
    out = {}
    for name, y in targets.items():
        keep = np.isfinite(y) & np.isfinite(limb).all(1)
        parts = [
            moments(limb[keep & (cohort.group == g)], y[keep & (cohort.group == g), None]) for g in range(N_GROUPS)
        ]
        out[name] = {"r2": round(float(held_out_r2(parts)[0]), 4), "n": int(keep.sum())}
    return out


def by_hand(cohort: Cohort, beats: np.ndarray) -> dict[str, Any]:
    """AUROC of CRBBB and IRBBB against none by linear and boosted models, on limb features and, for scale, with V1."""
    limb = beats[:, :2].reshape(len(beats), -1)[:, ::3]
    hand = hand_features(cohort.meta)
    inputs = {
        "limb: nine measurements, age, sex": hand,
        "limb: these and the median beat of I and II": np.concatenate([hand, limb], 1),
        "with V1: these and the median beat of V1": np.concatenate([hand, limb, beats[:, LEADS.index("V1"), ::3]], 1),
    }
    out: dict[str, Any] = {}
    for kind, positive in (("CRBBB", cohort.complete), ("IRBBB", cohort.incomplete)):
        keep = positive | cohort.neither
        y = positive[keep].astype(float)
        for name, features in inputs.items():
            for model, make in (("logistic regression", _linear), ("gradient boosting", _boosted)):
                p = _held_out(make, features[keep], y, cohort.group[keep])
                out[f"{kind} against none, {name}, {model}"] = estimate(y, p, cohort.patient[keep])
    return out


def _linear() -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression(C=0.1, max_iter=3000))


def _boosted() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=150, learning_rate=0.05, max_leaf_nodes=8, l2_regularization=1.0, random_state=0
    )


def _held_out(make: Callable[[], Any], x: np.ndarray, y: np.ndarray, group: np.ndarray) -> np.ndarray:
    p = np.full(len(y), np.nan)
    for g in range(N_GROUPS):
        test = group == g
        p[test] = make().fit(x[~test], y[~test]).predict_proba(x[test])[:, 1]
    return p


def analyse(folder: EcgFolder, store: RecordStore, tables: Sequence[PredictionTable]) -> dict[str, Any]:
    """Answers to the three questions, as JSON-able data."""
    join_truth(folder, tables, LABELS)  # refuses tables of other recordings or other folds
    cohort = cohort_of(store, folder)
    beats = beats_of(cohort)
    return {
        "labels": LABEL_STATEMENT,
        "recordings": {
            "n": len(cohort.rows), "patients": len(set(cohort.patient.tolist())),
            "CRBBB": int(cohort.complete.sum()), "IRBBB": int(cohort.incomplete.sum()), "none": int(cohort.neither.sum()),
        },
        "1 auroc of recorded predictions": {table.name: split_auroc(table, cohort) for table in tables},
        "2 chest leads from I and II, R2 out of sample": {
            f"sample by sample, windows of +-{WINDOW_S:g} s": chest_from_limb(cohort),
            "from the median beat": read_in_v1(cohort, beats),
        },
        "3 auroc by hand": by_hand(cohort, beats),
    }  # fmt: skip


def main(words: Sequence[str]) -> int:
    """Run the analysis and write the JSON file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="development folder with metadata.csv")
    parser.add_argument("--predictions", type=Path, required=True, help="folder of recorded predictions")
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    parser.add_argument("--store", type=Path, help="record store of the same folder [made anew]")
    asked = parser.parse_args(words)
    folder, tables = EcgFolder(asked.data), list(load_all(asked.predictions).values())
    with tempfile.TemporaryDirectory() as scratch:
        store = open_store(asked.store) if asked.store else convert_folder(asked.data, Path(scratch) / "store")
        found = analyse(folder, store, tables)
    found["command"] = without_folders("python tests/evidence/limb_ceiling.py " + " ".join(words))
    asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
