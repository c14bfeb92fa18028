"""Held-out logits of cross-validated models: what calibration is fitted on and what the teacher's table shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lsemvae.data.labels import PRIMARY_LABEL
from lsemvae.data.store import RecordStore
from lsemvae.ecg.errors import FormatError
from lsemvae.ecg.leads import LEADS
from lsemvae.ecg.rule import DecisionRule
from lsemvae.evaluate.calibrate import fit_rule
from lsemvae.evaluate.metrics import report_label
from lsemvae.train.batches import LEAD_SUBSETS, load_batch, rows_with, subset_mask
from lsemvae.train.checkpoint import load_lsemvae, load_student
from lsemvae.train.pipeline import FoldPlan
from lsemvae.train.run import check_labels, check_same_folds, folds_left_out, write_json

_BATCH = 64
_OF_RANKS = ("label", "n", "positives", "auroc", "auprc")


@torch.no_grad()
def student_logits(run_dir: Path, store: RecordStore, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return logits `[record, label]` and uncertainty `[record]` of a student, float64; NaN where one of its leads is absent."""
    student, config = load_student(run_dir)
    leads = tuple(config["leads"])
    logits, doubt = [], []
    for k in range(0, len(rows), _BATCH):
        x = torch.from_numpy(store.millivolts(rows[k : k + _BATCH], leads=leads))
        a, u = student(x)
        logits.append(a.numpy())
        doubt.append(u.numpy()[:, 0])
    read = np.isin(rows, rows_with(store, rows, leads))
    out = np.concatenate(logits).astype(np.float64), np.concatenate(doubt).astype(np.float64)
    for values in out:
        values[~read] = np.nan
    return out


@torch.no_grad()
def teacher_logits(run_dir: Path, store: RecordStore, rows: np.ndarray, leads: Sequence[str]) -> np.ndarray:
    """Return logits `[record, label]` of an LS-EMVAE that sees only `leads`; NaN where a recording has none of them."""
    model, _ = load_lsemvae(run_dir)
    mask = subset_mask(tuple(leads), LEADS)
    parts = []
    for k in range(0, len(rows), _BATCH):
        batch = load_batch(store, rows[k : k + _BATCH])
        seen = batch.present & mask
        some = seen.any(1)
        logits = torch.full((len(seen), len(model.config.labels)), float("nan"))
        if bool(some.any()):
            logits[some] = model(batch.x[some], seen[some])
        parts.append(logits.numpy())
    return np.concatenate(parts).astype(np.float64)


def pooled(
    store: RecordStore, plans: Sequence[FoldPlan], score: Callable[[FoldPlan, np.ndarray], np.ndarray], *, width: int
) -> np.ndarray:
    """Return scores `[record, width]` of every record by the model that has not seen its fold; NaN where no model scored it."""
    out = np.full((len(store), width), np.nan)
    for plan in plans:
        out[plan.test] = score(plan, plan.test)
    return out


def teacher_table(
    store: RecordStore, plans: Sequence[FoldPlan], root: Path, labels: Sequence[str]
) -> list[dict[str, Any]]:
    """Return AUROC rows of the cross-validated teachers for each lead set, on recordings whose gain is known.

    The teachers are not calibrated: figures that need a probability or a threshold are not in the rows.
    """
    known = store.gain_known.astype(bool) & (store.fold > 0)
    table: list[dict[str, Any]] = []
    for name, leads, _ in LEAD_SUBSETS:

        def score(plan: FoldPlan, rows: np.ndarray, leads: tuple[str, ...] = leads) -> np.ndarray:
            return teacher_logits(root / plan.name / "finetune", store, rows, leads)

        logits = pooled(store, plans, score, width=len(store.label_names))
        for label in labels:
            k = store.label_names.index(label)
            report = report_label(
                label,
                store.labels[known, k].astype(float),
                logits[known, k],
                threshold=math.nan,
                patients=store.patient[known],
            )
            ranks = {key: value for key, value in report.to_dict().items() if key in _OF_RANKS}
            table.append({**ranks, "leads": name})
    return table


def calibrate_run(run_dir: Path, store: RecordStore) -> DecisionRule:
    """Fit the decision rule of one student on the folds it left out and write `decision.json` into its run folder."""
    store.check_frontend()
    left_out = folds_left_out(run_dir)
    check_same_folds(run_dir, store)
    rows = np.flatnonzero(np.isin(store.fold, left_out) & store.gain_known.astype(bool))
    if not len(rows):
        raise FormatError(
            f"{run_dir}: found no recording of folds {left_out} in the store, expected held-out ones to calibrate on",
            advice="Train the three stages with --leave-out, for example --leave-out 9.",
        )
    labels = tuple(load_student(run_dir)[1]["labels"])
    check_labels(store.label_names, labels, of=str(store.root))
    logits, doubt = student_logits(run_dir, store, rows)
    primary = PRIMARY_LABEL if PRIMARY_LABEL in labels else labels[0]
    rule = fit_rule(labels, store.labels[rows].astype(float), logits, doubt, primary=primary, logit_sd=0.0)
    write_json(run_dir / "decision.json", {"decision": rule.to_dict(), "performance": []})
    return rule
