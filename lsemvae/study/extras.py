"""What the report shows beside the table: reconstruction by lead, the latent space, and the shipped models.

Everything here scores the cross-validated chains of `lsemvae reproduce` on the groups that they have not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from lsemvae.data.store import RecordStore
from lsemvae.ecg.leads import LEADS
from lsemvae.evaluate.heldout import student_logits, teacher_logits
from lsemvae.evaluate.predictions import LEAD_SETS
from lsemvae.evaluate.resampling import patient_weights
from lsemvae.model.lsemvae import LsEmvae
from lsemvae.study.sizes import int8_row
from lsemvae.study.table import TableJob, record_logits, scored_rows, two_lead_row
from lsemvae.train.batches import LEAD_SUBSETS, in_batches, subset_mask
from lsemvae.train.checkpoint import load_lsemvae
from lsemvae.train.pipeline import FoldPlan
from lsemvae.train.run import git_revision, write_json

_N_BOOTSTRAP: Final = 1000


@torch.no_grad()
def reconstruction_r2(model: LsEmvae, store: RecordStore, rows: np.ndarray) -> np.ndarray:
    """Return R2 `[record, lead]` of each lead, drawn from the mean of the posterior of all leads.

    R2 is 1 - residual / variance about the lead's mean; NaN for a lead without signal.
    """
    parts = []
    leads = torch.arange(len(LEADS))
    for batch in in_batches(store, rows):
        drawn = model.decoder(model.posterior(batch.x, batch.present).mean, leads)
        residual = (batch.x - drawn).square().sum(-1)
        total = (batch.x - batch.x.mean(-1, keepdim=True)).square().sum(-1)
        parts.append(torch.where(total > 0, 1 - residual / total, torch.nan).numpy())
    return np.concatenate(parts)


def median_interval(values: np.ndarray, patients: np.ndarray) -> list[float]:
    """Return the median over recordings and its 95 % percentile interval over resampled patients."""
    known = np.isfinite(values)
    counts = patient_weights(patients[known], n=_N_BOOTSTRAP).astype(int)
    draws = [float(np.median(np.repeat(values[known], count))) for count in counts]
    low, high = np.percentile(draws, [2.5, 97.5])
    return [round(float(v), 4) for v in (np.nanmedian(values), low, high)]


def decoder_row(name: str, store: RecordStore, plans: Sequence[FoldPlan], root: Path) -> dict[str, Any]:
    """Return the row of decoder.json for the models in `root/<group>/pretrain`, each on the group it has not seen."""
    values, patients = [], []
    for plan in plans:
        rows = scored_rows(store, plan)
        values.append(reconstruction_r2(load_lsemvae(root / plan.name / "pretrain")[0], store, rows))
        patients.append(store.patient[rows])
    r2, who = np.concatenate(values), np.concatenate(patients)
    return {
        "name": name,
        "n": len(r2),
        "r2": {lead: median_interval(r2[:, k], who) for k, lead in enumerate(LEADS)},
    }


@torch.no_grad()
def latent_arrays(store: RecordStore, plan: FoldPlan, root: Path) -> dict[str, np.ndarray]:
    """Return uid and summary means float32 `[record, summary]` under twelve and six leads, from one group's model."""
    model, _ = load_lsemvae(root / plan.name / "finetune")
    rows = scored_rows(store, plan)
    out: dict[str, np.ndarray] = {"uid": store.uid[rows]}
    chosen = {name: leads for name, leads, _ in LEAD_SUBSETS}
    for key, name in (("twelve", "12"), ("six", "6")):
        mask = subset_mask(chosen[name])
        parts = [model.screen(batch.x, batch.present & mask).summary_mean.numpy() for batch in in_batches(store, rows)]
        out[key] = np.concatenate(parts).astype(np.float32)
    return out


def teacher_row(store: RecordStore, plans: Sequence[FoldPlan], root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of the store and logits `[lead_set, record, label]` of the LS-EMVAEs in `root/<group>/finetune`."""
    chosen = {name: leads for name, leads, _ in LEAD_SUBSETS}
    parts = []
    for plan in plans:
        rows = scored_rows(store, plan)
        run = root / plan.name / "finetune"
        parts.append(np.stack([teacher_logits(run, store, rows, chosen[name]) for name in LEAD_SETS]))
    return np.concatenate([scored_rows(store, plan) for plan in plans]), np.concatenate(parts, 1)


def student_row(store: RecordStore, plans: Sequence[FoldPlan], runs: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of the store and logits `[lead_set, record, label]` of float32 students on leads I and II."""
    parts = [student_logits(run, store, scored_rows(store, plan))[0] for run, plan in zip(runs, plans, strict=True)]
    return two_lead_row(store, plans, parts)


def record_chain(job: TableJob, bundles: Sequence[Path]) -> None:
    """Record the chains of the shipped bundle as rows of their own (another budget), and the extras of the report.

    `bundles` are those of the cross-validation, in the order of the groups.
    """
    root, extras = job.out / "cv", job.out / "extras"
    extras.mkdir(parents=True, exist_ok=True)
    students = [root / plan.name / "student" for plan in job.plans]
    for name, title, (rows, logits) in (
        ("base_full", "LS-EMVAE `base`, full size and budget", teacher_row(job.store, job.plans, root)),
        ("student_fp32", "Shipped student on I and II, fp32", student_row(job.store, job.plans, students)),
        ("student_int8", "Shipped student on I and II, INT8", int8_row(job.store, job.plans, bundles)),
    ):
        about = {"group": "shipped", "title": title, "budget": "of the shipped bundle", "git_revision": git_revision()}
        record_logits(job.out / "predictions" / f"{name}.npz", job.store, rows, logits[None], seeds=(0,), about=about)
    write_json(extras / "decoder.json", [decoder_row("base_full", job.store, job.plans, root)])
    np.savez(extras / "latent.npz", **latent_arrays(job.store, job.plans[0], root))  # type: ignore[arg-type]
