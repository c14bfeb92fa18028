"""Student sizes: distil, export and score each size on each group, and what the Pareto plot shows of them.

The files behind the plot come from the exporter itself: INT8 bytes, and the median latency that its gate measured on this machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from export.gates.gates import GateThresholds
from export.gates.outputs import file_run, run_all
from export.run import export_run
from lsemvae.data.store import RecordStore
from lsemvae.evaluate.heldout import calibrate_run
from lsemvae.evaluate.metrics import auroc, bootstrap
from lsemvae.evaluate.predictions import LEAD_SETS
from lsemvae.model.student_sizes import SIZES, student_cost
from lsemvae.screen.runtime.contract import Signature
from lsemvae.study.table import TableJob, record_logits, scored_rows
from lsemvae.train.checkpoint import load_student
from lsemvae.train.distill import DISTILL, distill, student_for
from lsemvae.train.pipeline import QUICK, FoldPlan
from lsemvae.train.run import git_revision, read_object, versions, write_json

SWEPT = SIZES[:4]
"""`xl` is left out: its file is far above the 300 KiB that a bundle's model may have."""
SWEEP_GATES = replace(GateThresholds(), min_decision_agreement=0.99, max_int8_bytes=None)
"""No file of the sweep ships: a size whose INT8 form misses a bar of a bundle by little still belongs into the plot."""
PARETO_LABELS = ("RHS", "RBBB_any", "CRBBB", "LVH", "MI", "AFIB", "NORM")


def int8_row(store: RecordStore, plans: Sequence[FoldPlan], bundles: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the store and logits `[lead_set, record, label]` of INT8 `.tflite` models on I and II, each on its own group."""
    rows = np.concatenate([scored_rows(store, plan) for plan in plans])
    parts = []
    for plan, bundle in zip(plans, bundles, strict=True):
        ecg = store.millivolts(scored_rows(store, plan), leads=("I", "II"))
        signature = Signature((1, *ecg.shape[1:]), (1, store.labels.shape[1]))
        parts.append(run_all(file_run(bundle / "model.tflite", signature), ecg).logits)
    logits = np.concatenate(parts)
    out = np.full((len(LEAD_SETS), *logits.shape), np.nan)
    for name in ("6", "I+II"):
        out[LEAD_SETS.index(name)] = logits
    return rows, out


def pareto_row(
    name: str, store: RecordStore, rows: np.ndarray, logits: np.ndarray, bundles: Sequence[Path], student: Path
) -> dict[str, Any]:
    """One point of the plot: parameters, INT8 KiB and milliseconds (medians over the groups), AUROC with intervals of `PARETO_LABELS`."""
    reports = [read_object(bundle / "report.json") for bundle in bundles]
    scores = logits[LEAD_SETS.index("6")]
    auc = {}
    for label in PARETO_LABELS:
        k = store.label_names.index(label)
        y = store.labels[rows, k]
        known = np.isfinite(y)
        e = bootstrap(auroc, y[known], scores[known, k], patients=store.patient[rows][known])
        if np.isfinite(e.value):
            auc[label] = [round(v, 4) for v in (e.value, e.low, e.high)]
    return {
        "name": name,
        "n_parameters": student_cost(load_student(student)[0]).parameters,
        "int8_kib": round(float(np.median([r["sizes"]["tflite_int8"] for r in reports])) / 1024, 1),
        "latency_ms": round(float(np.median([r["latency"][0]["int8_p50_ms"] for r in reports])), 4),
        "auroc": auc,
    }


def run_sizes(job: TableJob, *, key: str, sizes: Sequence[str] = SWEPT, gates: GateThresholds | None = None) -> Path:
    """Distil every size from the teachers in `OUT/cv`, record its INT8 logits and write `OUT/extras/pareto.json`."""
    points = []
    for size in sizes:
        students = [_student(job, size, plan) for plan in job.plans]
        bundles = [_exported(job, student, key, gates or SWEEP_GATES) for student in students]
        rows, logits = int8_row(job.store, job.plans, bundles)
        about = {
            "group": "sizes",
            "title": f"Student `{size}` on I and II, INT8",
            "budget": f"{_epochs(job)} epochs of distillation from the full-size teacher",
            "git_revision": git_revision(),
            "versions": versions(),
        }
        path = job.out / "predictions" / f"student_{size}_int8.npz"
        record_logits(path, job.store, rows, logits[None], seeds=(0,), about=about)
        points.append(pareto_row(size, job.store, rows, logits, bundles, students[0]))
        job.say(f"size {size}: {points[-1]['int8_kib']} KiB, {points[-1]['latency_ms']} ms")
    (job.out / "extras").mkdir(parents=True, exist_ok=True)
    write_json(job.out / "extras/pareto.json", points)
    return job.out / "extras/pareto.json"


def _epochs(job: TableJob) -> int:
    """A smoke test gives the student more than the one epoch of other rows, or no decision rule can be fitted."""
    return QUICK[-1] if job.epochs else DISTILL.epochs


def _student(job: TableJob, size: str, plan: FoldPlan) -> Path:
    out, teacher = job.out / "sizes" / size / plan.name, job.out / "cv" / plan.name / "finetune"
    distill(
        job.store, teacher, out, plan.train, student=student_for(job.store, teacher, size),
        train=replace(DISTILL, epochs=_epochs(job)), left_out=plan.left_out,
    )  # fmt: skip
    if not (out / "decision.json").is_file():
        calibrate_run(out, job.store)
    return out


def _exported(job: TableJob, student: Path, key: str, gates: GateThresholds) -> Path:
    bundle = student.with_name(student.name + "-bundle")
    if not (bundle / "manifest.json").is_file():
        export_run(
            student, target="tflite", int8=True, out=bundle, data=job.store, key=key, gates=gates, progress=job.say
        )
    return bundle
