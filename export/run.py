"""One export from a run folder to a signed bundle, gates included."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from export import report
from export.errors import ExportError, ExportGateError, ExportTargetError
from export.gates.gates import GateThresholds, require_bundle_size
from export.gates.latency import Latency
from export.gates.parity import ParityReport, require_parity
from export.int8.recipe import DEFAULT_RECIPE
from export.job import CALIBRATION_FILE, ExportJob, ExportRequest, Progress, plan_export
from export.judge import Judged, judge, make_golden, time_models
from export.page.page import page_bytes
from export.release.bundle import MODEL_FILES, build_manifest, check_private, signed_files, write_bundle
from export.release.signing import DEFAULT_KEY, SigningKey, load_or_create_key
from export.steps import ModelFiles, convert, convert_strict
from export.strict.build import StrictFiles
from export.student_run.data import ExportData
from export.student_run.identity import load_identity
from export.student_run.packaged import is_packaged
from export.student_run.source import card_files, load_run
from lsemvae.data.store import RecordStore
from lsemvae.formats.whole import write_whole
from lsemvae.train.qat import needs_qat, quantization_aware
from lsemvae.train.run import folds_left_out

QAT_FOLDER: Final = "qat"
PAGE_FILE: Final = "report.html"


@dataclass(frozen=True, slots=True, eq=False)
class ExportResult:
    """What came of an export. After a dry run only `plan` is filled and nothing was written."""

    out: Path
    plan: dict[str, Any]
    dry_run: bool
    sizes: dict[str, int] = field(default_factory=dict)
    key_id: str = ""
    bundle_id: str = ""
    bundle_version: str = ""
    golden_tolerance: float = 0.0
    seconds: float = 0.0
    log: Path | None = None
    parity: ParityReport | None = None
    latencies: tuple[Latency, ...] = ()

    @property
    def total_bytes(self) -> int:
        """Size of the bundle."""
        return sum(self.sizes.values())

    def text(self) -> str:
        """Return the result for a terminal: sizes, parity, and where things lie."""
        if self.dry_run:
            return "\n".join(["dry run, nothing written", *(f"  {name}: {value}" for name, value in self.plan.items())])
        rows = [f"  {name:<14}{size / 1024:8.1f} KiB" for name, size in sorted(self.sizes.items())]
        compared = self.parity.lines() if self.parity else ()
        return "\n".join(
            [
                f"bundle {self.bundle_id} {self.bundle_version} in {self.out}, signed by {self.key_id}",
                *rows,
                f"  {'together':<14}{self.total_bytes / 1024:8.1f} KiB, made in {self.seconds:.0f} s",
                *(f"  {line}" for line in compared),
                *(f"  {latency.text()}" for latency in self.latencies),
                f"log: {self.log}",
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the result for JSON."""
        return {
            "out": str(self.out),
            "dry_run": self.dry_run,
            "plan": self.plan,
            "id": self.bundle_id,
            "version": self.bundle_version,
            "key_id": self.key_id,
            "sizes": self.sizes,
            "total_bytes": self.total_bytes,
            "parity": self.parity.to_dict() if self.parity else None,
            "latency": [latency.to_dict() for latency in self.latencies],
            "golden_tolerance": self.golden_tolerance,
            "seconds": self.seconds,
            "log": str(self.log) if self.log else None,
        }


def export_run(
    run_dir: Path,
    *,
    target: str = "all",
    int8: bool = True,
    out: Path,
    data: RecordStore | ExportData,
    key: Path | str = DEFAULT_KEY,
    force: bool = False,
    dry_run: bool = False,
    recipe: str | Path = DEFAULT_RECIPE,
    gates: GateThresholds | None = None,
    qat: bool = False,
    strict: bool = False,
    progress: Progress | None = None,
) -> ExportResult:
    """Export a trained student as a signed bundle.

    Parameters
    ----------
    run_dir
        Run folder of `lsemvae distill` with a `decision.json`. Work files and the log go to its folder `export/`.
    target
        `tflite`, `onnx` or `all`.
    int8
        Quantize as `recipe` says, a name or a JSON file; otherwise the bundle holds float models.
    out
        Folder of the bundle; it must not exist, unless `force` replaces an older bundle there.
    data
        A record store (`packaged_recordings()` for the packaged student), or calibration and validation recordings as arrays.
    key
        Name of a signing key (made on first use) or path of one.
    gates
        The bars; None takes the usual ones.
    qat
        Where an output loses more AUROC in INT8 than the gate allows, fine-tune the student for INT8 and export that.
    strict
        Also make the strict-integer form for microcontrollers, with its interface in `strict.json`.
    dry_run
        Check everything that can be checked without converting, and return the plan.

    Raises
    ------
    ExportError
        With code and advice; `out` is then as it was before.
    """
    started = time.monotonic()
    request = ExportRequest(
        run_dir=run_dir,
        out=out,
        data=data,
        target=target,
        int8=int8,
        recipe=recipe,
        gates=gates or GateThresholds(),
        force=force,
        qat=qat,
        strict=strict,
    )
    job = plan_export(request, progress=progress)
    if dry_run:
        return ExportResult(out, plan_dict(job), dry_run=True)
    signing = load_or_create_key(key)
    with _alone(job):
        result = _export(job, signing)
    return replace(result, seconds=time.monotonic() - started)


def default_out(run_dir: Path) -> Path:
    """Return where a bundle goes when nobody says: `ID-VERSION` in the current folder."""
    identity = load_identity(run_dir, load_run(run_dir).labels)
    return Path(f"{identity.id}-{identity.version}")


def _export(job: ExportJob, key: SigningKey) -> ExportResult:
    """Convert, judge, put together and sign; what is refused raises before anything is written to `out`."""
    job, models, strict, judged = _converted(job)
    try:
        parity = require_parity(judged.parity)
    except ExportGateError as error:  # the page that shows why stays among the work files
        facts = report.page_facts(job, judged, report.report_dict(job, models, judged, (), golden_tolerance=None))
        page = job.work / PAGE_FILE
        page.write_bytes(page_bytes(facts))
        raise ExportGateError(str(error), advice=f"{error.advice} The whole comparison is in {page}.") from None
    latencies = time_models(job, models)
    golden_npz, tolerance = make_golden(job, models)
    found = report.report_dict(job, models, judged, latencies, golden_tolerance=tolerance)
    made_with = report.recipe_dict(job, models) if job.recipe is not None else None
    files = {MODEL_FILES[m.target]: m.shipped.read_bytes() for m in models} | card_files(job.run_dir)
    files["golden.npz"] = golden_npz
    files["report.json"] = report.json_bytes(found)
    files[PAGE_FILE] = page_bytes(report.page_facts(job, judged, found, recipe=made_with))
    if made_with is not None:
        write_whole(job.work / CALIBRATION_FILE, report.json_bytes(list(job.data.calibration_ids)))
        files["recipe.json"] = report.json_bytes(made_with)
    files |= {path.name: path.read_bytes() for path in ((strict.model, strict.spec) if strict else ())}
    manifest = build_manifest(
        files,
        source=job.source,
        decision=judged.refit.decision,
        identity=job.identity,
        parity=report.manifest_parity(parity, models, golden_tolerance=tolerance),
        provenance=report.provenance(job, judged.refit),
        created_utc=report.utc_now(),
        key_id=key.key_id,
    )
    whole = signed_files(files, manifest, key)
    n_bytes = sum(map(len, whole.values()))
    check_private(whole, extra=(job.run_dir, job.work))
    require_bundle_size(n_bytes, most=job.gates.max_bundle_bytes)
    out = job.request.out
    write_bundle(out, whole, force=job.request.force)
    job.progress(f"bundle {manifest.id} {manifest.version} in {out}: {n_bytes / 1024:.0f} KiB")
    return ExportResult(
        out=out,
        plan=plan_dict(job),
        dry_run=False,
        sizes={name: len(content) for name, content in whole.items()},
        key_id=key.key_id,
        bundle_id=manifest.id,
        bundle_version=manifest.version,
        golden_tolerance=tolerance,
        log=job.log,
        parity=parity,
        latencies=latencies,
    )


def _converted(job: ExportJob) -> tuple[ExportJob, list[ModelFiles], StrictFiles | None, Judged]:
    """Convert and judge; where the export may fine-tune for INT8 and an output needs it, do both again.

    The reference stays the student as it was trained: fine-tuning must not move the bar that it is held against.
    """
    trained = job.graph(job.source.student)
    models = [convert(job, trained, one) for one in job.targets]
    strict = convert_strict(job)
    judged = judge(job, trained, models, strict=strict)
    lost, store = [], job.request.data
    if job.request.qat:
        bars = job.gates
        lost = needs_qat(judged.parity, max_loss=bars.max_auroc_change, min_positives=bars.min_positives)
    if not lost:
        return job, models, strict, judged
    if isinstance(store, ExportData):
        raise ExportError("quantization-aware fine-tuning found no record store; expected the one of the run")
    left_out = tuple(folds_left_out(job.run_dir))
    rows = np.flatnonzero((store.fold > 0) & ~np.isin(store.fold, left_out))
    job.progress(f"{', '.join(lost)} lose AUROC in INT8: quantization-aware fine-tuning on {len(rows)} recordings")
    weights = job.work / QAT_FOLDER
    shutil.rmtree(weights, ignore_errors=True)
    quantization_aware(store, job.run_dir, weights, rows, left_out=left_out)
    job = replace(job, weights_dir=weights)
    tuned = job.graph(load_run(weights).student)
    models = [convert(job, tuned, one) for one in job.targets]
    strict = convert_strict(job)
    return job, models, strict, judge(job, trained, models, tuned=tuned, strict=strict)


@contextmanager
def _alone(job: ExportJob) -> Iterator[None]:
    """Begin an empty log and hold it: two exports of one run would judge one's files and ship the other's."""
    try:
        job.work.mkdir(parents=True, exist_ok=True)
        log = job.log.open("ab")
    except OSError as error:
        raise ExportTargetError(
            f"the run folder cannot be written: {error}", advice="Copy the run to a folder of your own, then export it."
        ) from error
    with log:
        try:
            if sys.platform != "win32":  # which locks ranges of bytes, and would keep the converter from writing
                import fcntl

                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until this process ends, however it ends
        except OSError as error:
            raise ExportTargetError(
                f"found another export of {job.run_dir} at work, expected none", advice="Wait until it has ended."
            ) from error
        log.truncate(0)
        yield


def plan_dict(job: ExportJob) -> dict[str, Any]:
    """Return what the job will do, for a dry run and for the record."""
    return {
        "run": "packaged student" if is_packaged(job.run_dir) else str(job.run_dir),
        "out": str(job.request.out),
        "targets": list(job.targets),
        "recipe": job.recipe.name if job.recipe else None,
        "leads": list(job.source.leads),
        "outputs": list(job.source.labels),
        "calibration_records": len(job.data.calibration) if job.recipe else 0,
        "validation_records": len(job.data.validation),
        "held_out_records": 0 if job.data.held_out is None else int(job.data.held_out.sum()),
        "qat": job.request.qat,
        "strict": job.request.strict,
        "id": job.identity.id,
        "version": job.identity.version,
        "gates": job.gates.to_dict(),
    }
