"""From one folded graph to the model files of each target, audited; with them what INT8 says of recordings, without a bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from export.convert.environment import require_target
from export.convert.noise import noise_to
from export.convert.tflite_file import strip_names
from export.convert.to_onnx import export_onnx
from export.convert.to_tflite import converted_once
from export.errors import ExportConversionError
from export.gates.audit import AuditReport, require_clean
from export.gates.audit_onnx import audit_onnx
from export.gates.audit_tflite import audit_tflite
from export.gates.gates import GateThresholds, require_size
from export.gates.outputs import Outputs, file_run, run_all
from export.int8.bias_correction import logit_shift, shifted_onnx, shifted_tflite
from export.int8.quantize_onnx import quantize_onnx
from export.int8.quantize_tflite import collect_ranges, quantize_tflite, ranges_sha256
from export.int8.recipe import load_recipe
from export.job import LOG_FILE, WORK_FOLDER, ExportJob, ExportRequest, Progress
from export.strict.build import STRICT_RECIPE, StrictFiles, export_strict
from export.student_run.graph import ExportGraph, build_graph
from export.student_run.identity import load_identity
from export.student_run.packaged import work_folder
from export.student_run.source import load_decision, load_run
from lsemvae.data.store import RecordStore
from lsemvae.formats.whole import write_whole
from lsemvae.train.batches import rows_with

_AUDITS: Final = {"tflite": audit_tflite, "onnx": audit_onnx}
# Shortening names must change nothing; a handful of recordings would show any mix-up of tensors.
_STRIP_CHECK_RECORDS: Final = 8
NAMED: Final = "model.named.tflite"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of one target, with their audits; `int8` is None for a float bundle."""

    target: str
    fp32: Path
    int8: Path | None
    audits: Mapping[str, AuditReport]
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shipped(self) -> Path:
        """The file that goes into the bundle."""
        return self.int8 or self.fp32

    @property
    def shipped_name(self) -> str:
        """The shipped file by the name that parity reports use."""
        return f"{self.target}_{'int8' if self.int8 else 'fp32'}"

    @property
    def named(self) -> dict[str, Path]:
        """The files by the names that parity reports use."""
        files = {f"{self.target}_fp32": self.fp32}
        return files if self.int8 is None else {**files, f"{self.target}_int8": self.int8}


def convert(job: ExportJob, graph: ExportGraph, target: str) -> ModelFiles:
    """Convert, quantize where the job says so, and audit one target."""
    work, log, recipe, ecg = job.work, job.log, job.recipe, job.data.calibration
    int8: Path | None = None
    notes: dict[str, Any] = {}
    if target == "onnx":
        job.progress("converting to ONNX")
        fp32 = export_onnx(graph, work / "model.fp32.onnx", log=log, **job.shape)
        if recipe is not None:
            job.progress(f"quantizing ONNX on {len(ecg)} recordings")
            int8 = quantize_onnx(fp32, work / "model.int8.onnx", recipe=recipe, ecg=ecg, log=log)
            notes = {"onnx_logit_shift": _bias_corrected(job, fp32, int8, shifted_onnx)}
    else:
        job.progress("converting to TFLite (in its own process; a conversion of the same weights is used again)")
        named = converted_once(job.weights, work / NAMED, log=log)
        fp32 = _stripped(job, named, work / "model.fp32.tflite")
        if recipe is not None:
            job.progress(f"quantizing TFLite on {len(ecg)} recordings")
            ranges = collect_ranges(named, ecg, recipe=recipe, log=log)
            made = quantize_tflite(named, work / "model.named.int8.tflite", recipe=recipe, ranges=ranges, log=log)
            shift = _bias_corrected(job, fp32, made, shifted_tflite)
            int8 = _stripped(job, made, work / "model.int8.tflite")
            notes = {"ranges_sha256": ranges_sha256(ranges), "tflite_logit_shift": shift}
    audits = {
        f"{target}_{kind}": _AUDITS[target](
            path.read_bytes(),
            int8=kind == "int8",
            region=recipe.region if recipe else "encoder",
            n_labels=len(job.source.labels),
            **job.shape,
        )
        for kind, path in (("fp32", fp32), ("int8", int8))
        if path is not None
    }
    files = ModelFiles(target, fp32, int8, audits, notes)
    for name, path in files.named.items():
        require_clean(audits[name])
        require_size(path, most=job.gates.max_int8_bytes if name.endswith("int8") else None)
        job.progress(f"{name}: {path.stat().st_size / 1024:.0f} KiB, audit clean")
    return files


def _bias_corrected(
    job: ExportJob, fp32: Path, int8: Path, shifted: Callable[[bytes, np.ndarray], bytes]
) -> list[float] | None:
    """Take the mean shift of the logits back in the file `int8`; return it, or None where the recipe does not ask for it."""
    if job.recipe is None or not job.recipe.bias_correction:
        return None
    of_float, of_int8 = (score_file(job, path, job.data.calibration).logits for path in (fp32, int8))
    shift = logit_shift(fp32=of_float, int8=of_int8)
    int8.write_bytes(shifted(int8.read_bytes(), shift))
    return [float(value) for value in shift]


def _stripped(job: ExportJob, named: Path, out: Path) -> Path:
    """Write a `.tflite` file with short names to `out`, and check that it computes the same bits."""
    out.write_bytes(strip_names(named.read_bytes()))
    ecg = job.data.validation[:_STRIP_CHECK_RECORDS]
    before, after = (score_file(job, path, ecg) for path in (named, out))
    if not (np.array_equal(before.logits, after.logits) and np.array_equal(before.uncertainty, after.uncertainty)):
        raise ExportConversionError(f"{out.name} computes other numbers than {named.name}; expected equal bits")
    return out


def convert_strict(job: ExportJob) -> StrictFiles | None:
    """Make the strict-integer form from the float conversion that is there; None where it was not asked for."""
    if not job.request.strict:
        return None
    job.progress(f"strict-integer form: calibrating on {len(job.data.calibration)} recordings")
    files = export_strict(
        job.work / NAMED,
        job.data.calibration,
        recipe=load_recipe(STRICT_RECIPE),
        leads=job.source.leads,
        labels=job.source.labels,
        out=job.work,
        log=job.log,
        statement=job.identity.label_statement,
        spec=job.source.frontend,
    )
    require_size(files.model, most=job.gates.max_int8_bytes)
    job.progress(f"{files.model.name}: {files.model.stat().st_size / 1024:.0f} KiB, every operator INT8")
    return files


def score_file(job: ExportJob, model: Path, ecg: np.ndarray) -> Outputs:
    """Return what a model file says about recordings; what its runtime says on loading goes to the log."""
    with noise_to(job.log):
        return run_all(file_run(model, job.signature), ecg)


def float_files(run_dir: Path, *, progress: Progress) -> dict[str, Path]:
    """Return the paths of the float `.tflite` and `.onnx` files of a run by target; they are made where they are not there.

    Raises
    ------
    ExportError
        If a converter is missing or the run is no student's.
    """
    for target in ("tflite", "onnx"):
        require_target(target, int8=False)
    work = work_folder(run_dir, name=WORK_FOLDER)
    work.mkdir(parents=True, exist_ok=True)
    log = work / LOG_FILE
    progress("float forms of the student (converted once)")
    named = converted_once(run_dir, work / NAMED, log=log)
    tflite = work / "model.fp32.tflite"
    write_whole(tflite, strip_names(named.read_bytes()))
    source = load_run(run_dir)
    n_leads, n_samples = len(source.leads), source.n_samples
    graph = build_graph(source.student, n_leads=n_leads, n_samples=n_samples)
    onnx = export_onnx(graph, work / "model.fp32.onnx", n_leads=n_leads, n_samples=n_samples, log=log)
    return {"tflite": tflite, "onnx": onnx}


def int8_scores(
    run_dir: Path, store: RecordStore, rows: np.ndarray, *, gates: GateThresholds, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits `[record, label]` and uncertainty `[record]` of the INT8 TFLite file, float64; NaN where a lead is absent.

    The file is made as an export makes it, on the run's own calibration recordings, and stays in the run's work folder: a rule
    of decision can be fitted on what ships before there is a bundle.
    """
    request = ExportRequest(run_dir=run_dir, out=run_dir, data=store, target="tflite", gates=gates)
    source = load_run(run_dir)
    job = ExportJob(
        request=request,
        recipe=load_recipe(request.recipe),
        source=source,
        decision=load_decision(run_dir, source.labels),
        identity=load_identity(run_dir, source.labels),
        data=request.recordings(source),
        progress=progress,
    )
    job.work.mkdir(parents=True, exist_ok=True)
    files = convert(job, job.graph(source.student), "tflite")
    read = np.isin(rows, rows_with(store, rows, source.leads))
    said = score_file(job, files.shipped, store.millivolts(rows[read], leads=source.leads))
    logits, doubt = np.full((len(rows), len(source.labels)), np.nan), np.full(len(rows), np.nan)
    logits[read], doubt[read] = said.logits, said.uncertainty[:, 0]
    return logits, doubt
