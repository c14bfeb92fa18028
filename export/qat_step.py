"""Quantization-aware fine-tuning inside an export: asked for, and only where an output loses AUROC in INT8."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Final

import numpy as np

from export.errors import ExportError
from export.gates.parity import ParityReport
from export.job import ExportJob
from lsemvae.train.qat import needs_qat, quantization_aware
from lsemvae.train.run import folds_left_out

QAT_FOLDER: Final = "qat"


def outputs_in_need(job: ExportJob, parity: ParityReport) -> list[str]:
    """Return the outputs that lose more than the bar, where the export was asked to mend that; else an empty list."""
    if not job.qat:
        return []
    return needs_qat(parity, max_loss=job.gates.max_auroc_change, min_positives=job.gates.min_positives)


def fine_tuned(job: ExportJob, lost: list[str]) -> ExportJob:
    """Return the job with the weights of a student that was fine-tuned for INT8 on the recordings it was trained on."""
    if job.store is None:
        raise ExportError("quantization-aware fine-tuning found no record store; expected the one of the run")
    left_out = tuple(folds_left_out(job.run_dir))
    rows = np.flatnonzero((job.store.fold > 0) & ~np.isin(job.store.fold, left_out))
    job.progress(f"{', '.join(lost)} lose AUROC in INT8: quantization-aware fine-tuning on {len(rows)} recordings")
    out = job.work / QAT_FOLDER
    shutil.rmtree(out, ignore_errors=True)
    quantization_aware(job.store, job.run_dir, out, rows, left_out=left_out)
    return replace(job, weights_dir=out)
