"""What the INT8 form of a student says about recordings, without making a bundle: calibration is fitted on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from export.gates.gates import GateThresholds
from export.int8.recipe import DEFAULT_RECIPE, load_recipe
from export.job import CALIBRATION_FILE, ExportJob, Progress
from export.steps import convert, score_file
from export.student_run.data import data_from_store
from export.student_run.graph import build_graph
from export.student_run.identity import load_identity
from export.student_run.source import load_decision, load_run
from lsemvae.data.store import RecordStore
from lsemvae.train.batches import rows_with
from lsemvae.train.run import read_json


def int8_scores(
    run_dir: Path, store: RecordStore, rows: np.ndarray, *, gates: GateThresholds, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """Logits `[record, label]` and uncertainty `[record]` of the INT8 TFLite file, float64; NaN where a lead is absent.

    The file is made as an export makes it, on the run's own calibration recordings, and stays in the run's work folder.
    """
    job = _job(run_dir, store, gates, progress)
    job.work.mkdir(parents=True, exist_ok=True)
    graph = build_graph(job.source.student, n_leads=job.shape["n_leads"], n_samples=job.shape["n_samples"])
    files = convert(job, graph, "tflite")
    read = np.isin(rows, rows_with(store, rows, job.source.leads))
    said = score_file(job, files.shipped, store.millivolts(rows[read], leads=job.source.leads))
    logits, doubt = np.full((len(rows), len(job.source.labels)), np.nan), np.full(len(rows), np.nan)
    logits[read], doubt[read] = said.logits, said.uncertainty[:, 0]
    return logits, doubt


def _job(run_dir: Path, store: RecordStore, gates: GateThresholds, progress: Progress) -> ExportJob:
    source = load_run(run_dir)
    chosen = run_dir / CALIBRATION_FILE
    return ExportJob(
        run_dir=run_dir,
        out=run_dir,
        targets=("tflite",),
        recipe=load_recipe(DEFAULT_RECIPE),
        source=source,
        decision=load_decision(run_dir, source.labels),
        identity=load_identity(run_dir, source.labels),
        data=data_from_store(
            store,
            leads=source.leads,
            labels=source.labels,
            spec=source.frontend,
            left_out=source.run.get("folds_left_out", ()),
            calibration_ids=read_json(chosen) if chosen.is_file() else None,
        ),
        gates=gates,
        force=False,
        progress=progress,
        store=store,
    )
