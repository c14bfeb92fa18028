"""What an export leaves behind in words: `report.json`, `recipe.json`, the manifest's parity and provenance."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any, Final

import numpy as np

from export.convert.environment import versions
from export.gates.latency import Latency
from export.gates.parity import REFERENCE, ParityReport, probabilities
from export.gates.refit import Refit
from export.job import ExportJob
from export.judge import Judged
from export.page.facts import PageFacts
from export.steps import ModelFiles

_RUN_FIELDS: Final = ("git_revision", "data_sha256", "seed", "folds_left_out", "versions")


def json_bytes(value: Any) -> bytes:
    """Return readable JSON; NaN is refused."""
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def utc_now() -> str:
    """Return the time as `2026-01-31T12:00:00Z`; `SOURCE_DATE_EPOCH` sets it for a reproducible bundle."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def report_dict(
    job: ExportJob,
    models: Sequence[ModelFiles],
    judged: Judged,
    latencies: Sequence[Latency],
    *,
    golden_tolerance: float | None,
) -> dict[str, Any]:
    """Return `report.json`: sizes, audits, parity, latency and what they rest on."""
    return {
        "schema": "lsemvae-export-report/1",
        "recipe": job.recipe.name if job.recipe else None,
        "sizes": {name: path.stat().st_size for files in models for name, path in files.named.items()},
        "audit": {name: report.to_dict() for files in models for name, report in files.audits.items()},
        "parity": judged.parity.to_dict(),
        "decision": judged.refit.to_dict(),
        "qat": job.weights_dir is not None,
        "latency": [latency.to_dict() for latency in latencies],
        "golden_tolerance": golden_tolerance,
        "data": _data_dict(job),
        "versions": versions(),
    }


def recipe_dict(job: ExportJob, models: Sequence[ModelFiles]) -> dict[str, Any]:
    """Return `recipe.json`: the recipe, what it was calibrated on, and the hashes of what it made.

    The ids of the recordings stay in the run folder: a bundle goes to strangers, and an id may be a hospital number.
    """
    calibration = job.data.calibration
    return {
        "recipe": job.recipe.to_dict() if job.recipe else None,
        "calibration": {
            "records": len(calibration),
            "ids_sha256": job.data.calibration_sha256,
            "input_min_mv": float(calibration.min()),
            "input_max_mv": float(calibration.max()),
            **{key: value for files in models for key, value in files.notes.items()},
        },
        "made": {f"{f.target}_int8": hashlib.sha256(f.int8.read_bytes()).hexdigest() for f in models if f.int8},
        "versions": versions(),
    }


def page_facts(
    job: ExportJob, judged: Judged, found: dict[str, Any], *, recipe: dict[str, Any] | None = None
) -> PageFacts:
    """Return what the HTML page of an export shows; `found` is its `report_dict`."""
    rule, labels = judged.refit.decision.rule, job.source.labels
    shares = {name: probabilities(out.logits, labels=labels, rule=rule) for name, out in judged.outputs.items()}
    return PageFacts(
        report=found,
        id=job.identity.id,
        version=job.identity.version,
        label_statement=job.identity.label_statement,
        intended_use=job.identity.intended_use,
        labels=labels,
        p_fp32=shares[REFERENCE],
        p_files={c.candidate: shares[c.candidate] for c in judged.parity.comparisons if c.reference == REFERENCE},
        not_for=job.identity.not_for,
        thresholds=rule.thresholds,
        recipe=recipe,
        notes=(judged.refit.said,),
    )


def manifest_parity(parity: ParityReport, models: Sequence[ModelFiles], *, golden_tolerance: float) -> dict[str, Any]:
    """Return what a host needs of the parity: the tolerance of the self-test, the agreement of each shipped file."""
    rows = {}
    for name in (files.shipped_name for files in models):
        found = parity.comparison(name)
        rows[name] = {
            "n": found.n,
            "decision_agreement": found.decision_agreement,
            "p99_dp": found.p99_dp,
            "max_dlogit": found.max_dlogit,
            "max_auroc_change": found.max_auroc_change(min_positives=parity.thresholds.min_positives),
        }
    return {"golden_tolerance": golden_tolerance, "reference": "torch fp32", **rows}


def provenance(job: ExportJob, refit: Refit) -> dict[str, Any]:
    """Return how the model came about, without a path of any machine."""
    run = job.source.run
    return {
        **{name: run[name] for name in _RUN_FIELDS if name in run},
        "command": without_folders(str(run.get("command", ""))),
        "recipe": job.recipe.name if job.recipe else None,
        "decision": refit.to_dict(),
        "qat": job.weights_dir is not None,
        "export_versions": versions(),
        **_data_dict(job),
    }


def without_folders(command: str) -> str:
    """Return a command line in which every path is cut to its last part."""
    try:
        words = shlex.split(command)
    except ValueError:
        return ""
    return shlex.join(PurePath(word).name if "/" in word or "\\" in word else word for word in words)


def _data_dict(job: ExportJob) -> dict[str, Any]:
    return {
        "calibration_records": len(job.data.calibration),
        "calibration_ids_sha256": job.data.calibration_sha256,
        "calibration_clipped": job.data.clipped_records(job.source.frontend.clip_mv),
        "validation_records": len(job.data.validation),
        "validation_unseen_in_training": job.data.n_unseen,
        "validation_positives": {
            name: int(np.nansum(job.data.truth[:, k])) for k, name in enumerate(job.source.labels)
        },
        "store_sha256": job.data.source_sha256,
    }
