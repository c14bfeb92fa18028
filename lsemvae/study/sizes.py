"""Student sizes: distil, export and score each size on each group, and write the points of the Pareto plot.

The files behind the plot come from the exporter itself: INT8 bytes, and the median latency that its gate measured on this machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

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
from lsemvae.study.table import TableJob, record_logits, scored_rows, two_lead_row
from lsemvae.train.checkpoint import load_student
from lsemvae.train.distill import distill, student_for
from lsemvae.train.pipeline import QUICK, FoldPlan
from lsemvae.train.recipes import DISTILL
from lsemvae.train.run import git_revision, read_object, versions, write_json

# `xl` is left out: its file is far above the 300 KiB that a bundle's model may have.
SWEPT: Final = SIZES[:4]
# No file of the sweep ships: a size whose INT8 form misses a bar of a bundle by little still belongs into the plot.
SWEEP_GATES: Final = replace(GateThresholds(), min_decision_agreement=0.99, max_int8_bytes=None)
PARETO_LABELS: Final = ("RHS", "RBBB_any", "CRBBB", "LVH", "MI", "AFIB", "NORM")


def int8_row(store: RecordStore, plans: Sequence[FoldPlan], bundles: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of the store and logits `[lead_set, record, label]` of INT8 models on I and II, each on its group."""
    parts = []
    for plan, bundle in zip(plans, bundles, strict=True):
        ecg = store.millivolts(scored_rows(store, plan), leads=("I", "II"))
        signature = Signature((1, *ecg.shape[1:]), (1, store.labels.shape[1]))
        parts.append(run_all(file_run(bundle / "model.tflite", signature), ecg).logits)
    return two_lead_row(store, plans, parts)


def pareto_row(
    name: str, store: RecordStore, rows: np.ndarray, logits: np.ndarray, bundles: Sequence[Path], student: Path
) -> dict[str, Any]:
    """Return one point of the plot: parameters, INT8 KiB and ms (medians over groups), AUROC with intervals."""
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
    # A smoke test gives the student more than the one epoch of other rows, or no decision rule can be fitted.
    epochs = QUICK[-1] if job.epochs else DISTILL.epochs
    points = []
    for size in sizes:
        students, bundles = [], []
        for plan in job.plans:
            student, teacher = job.out / "sizes" / size / plan.name, job.out / "cv" / plan.name / "finetune"
            distill(
                job.store,
                teacher,
                student,
                plan.train,
                student=student_for(job.store, teacher, size),
                train=replace(DISTILL, epochs=epochs),
                left_out=plan.left_out,
            )
            if not (student / "decision.json").is_file():
                calibrate_run(student, job.store)
            students.append(student)
        for student in students:
            bundle = student.with_name(student.name + "-bundle")
            if not (bundle / "manifest.json").is_file():
                export_run(
                    student,
                    target="tflite",
                    int8=True,
                    out=bundle,
                    data=job.store,
                    key=key,
                    gates=gates or SWEEP_GATES,
                    progress=job.say,
                )
            bundles.append(bundle)
        rows, logits = int8_row(job.store, job.plans, bundles)
        about = {
            "group": "sizes",
            "title": f"Student `{size}` on I and II, INT8",
            "budget": f"{epochs} epochs of distillation from the full-size teacher",
            "git_revision": git_revision(),
            "versions": versions(),
        }
        path = job.out / "predictions" / f"student_{size}_int8.npz"
        record_logits(path, job.store, rows, logits[None], seeds=(0,), about=about)
        points.append(pareto_row(size, job.store, rows, logits, bundles, students[0]))
        job.say(f"size {size}: {points[-1]['int8_kib']} KiB, {points[-1]['latency_ms']} ms")
    path = job.out / "extras" / "pareto.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, points)
    return path
