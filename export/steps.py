"""From one folded graph to the model files of each target, audited."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from export.convert import tflite_file
from export.convert.noise import noise_to
from export.convert.to_onnx import export_onnx
from export.convert.to_tflite import converted_once
from export.errors import ExportConversionError
from export.gates.audit import AuditReport, require_clean
from export.gates.audit_onnx import audit_onnx
from export.gates.audit_tflite import audit_tflite
from export.gates.gates import require_size
from export.gates.outputs import Outputs, file_run, run_all
from export.int8.bias_correction import logit_shift, shifted_onnx, shifted_tflite
from export.int8.quantize_onnx import quantize_onnx
from export.int8.quantize_tflite import collect_ranges, quantize_tflite, ranges_sha256
from export.int8.recipe import load_recipe
from export.job import ExportJob
from export.strict.build import STRICT_RECIPE, StrictFiles, export_strict
from export.student_run.graph import ExportGraph

_AUDITS = {"tflite": audit_tflite, "onnx": audit_onnx}
# Shortening names must change nothing; a handful of recordings would show any mix-up of tensors.
_STRIP_CHECK_RECORDS = 8
NAMED = "model.named.tflite"


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
    files = {"tflite": _tflite, "onnx": _onnx}[target](job, graph)
    for name, path in files.named.items():
        require_clean(files.audits[name])
        require_size(path, most=job.gates.max_int8_bytes if name.endswith("int8") else None)
        job.progress(f"{name}: {path.stat().st_size / 1024:.0f} KiB, audit clean")
    return files


def _onnx(job: ExportJob, graph: ExportGraph) -> ModelFiles:
    job.progress("converting to ONNX")
    fp32 = export_onnx(graph, job.work / "model.fp32.onnx", log=job.log, **job.shape)
    int8, notes = None, {}
    if job.recipe is not None:
        job.progress(f"quantizing ONNX on {len(job.data.calibration)} recordings")
        int8 = quantize_onnx(
            fp32, job.work / "model.int8.onnx", recipe=job.recipe, ecg=job.data.calibration, log=job.log
        )
        notes = {"onnx_logit_shift": _bias_corrected(job, fp32, int8, shifted_onnx)}
    return ModelFiles("onnx", fp32, int8, _audited(job, "onnx", fp32, int8), notes)


def _tflite(job: ExportJob, _graph: ExportGraph) -> ModelFiles:
    job.progress("converting to TFLite (in its own process; a conversion of the same weights is used again)")
    named = converted_once(job.weights, job.work / NAMED, log=job.log)
    fp32 = _stripped(job, named, job.work / "model.fp32.tflite")
    if job.recipe is None:
        return ModelFiles("tflite", fp32, None, _audited(job, "tflite", fp32, None))
    job.progress(f"quantizing TFLite on {len(job.data.calibration)} recordings")
    ranges = collect_ranges(named, job.data.calibration, recipe=job.recipe, log=job.log)
    unstripped = quantize_tflite(
        named, job.work / "model.named.int8.tflite", recipe=job.recipe, ranges=ranges, log=job.log
    )
    shift = _bias_corrected(job, fp32, unstripped, shifted_tflite)
    int8 = _stripped(job, unstripped, job.work / "model.int8.tflite")
    notes = {"ranges_sha256": ranges_sha256(ranges), "tflite_logit_shift": shift}
    return ModelFiles("tflite", fp32, int8, _audited(job, "tflite", fp32, int8), notes)


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


def convert_strict(job: ExportJob) -> StrictFiles | None:
    """Make the strict-integer form from the float conversion that is there; None where it was not asked for."""
    if not job.strict:
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


def _stripped(job: ExportJob, named: Path, out: Path) -> Path:
    out.write_bytes(tflite_file.strip_names(named.read_bytes()))
    ecg = job.data.validation[:_STRIP_CHECK_RECORDS]
    before, after = (score_file(job, path, ecg) for path in (named, out))
    if not (np.array_equal(before.logits, after.logits) and np.array_equal(before.uncertainty, after.uncertainty)):
        raise ExportConversionError(f"{out.name} computes other numbers than {named.name}; expected equal bits")
    return out


def _audited(job: ExportJob, target: str, fp32: Path, int8: Path | None) -> dict[str, AuditReport]:
    files = [("fp32", fp32)] + ([("int8", int8)] if int8 is not None else [])
    region = job.recipe.region if job.recipe else "encoder"
    n_leads, n_samples = job.shape["n_leads"], job.shape["n_samples"]
    return {
        f"{target}_{kind}": _AUDITS[target](
            path.read_bytes(), int8=kind == "int8", region=region, n_labels=len(job.source.labels),
            n_leads=n_leads, n_samples=n_samples,
        )
        for kind, path in files
    }  # fmt: skip


def score_file(job: ExportJob, model: Path, ecg: np.ndarray) -> Outputs:
    """Return what a model file says about recordings; what its runtime says on loading goes to the log."""
    with noise_to(job.log):
        return run_all(file_run(model, job.signature), ecg)
