"""The gates inside an export: parity on validation recordings, latency on this host, golden outputs of every kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from export.convert.noise import noise_to
from export.errors import ExportGateError
from export.gates import golden
from export.gates.latency import Latency, measure, require_latency
from export.gates.outputs import Outputs, file_run, run_all, torch_run
from export.gates.parity import REFERENCE, TUNED, ParityReport, compare_all
from export.gates.refit import Refit, settle
from export.job import ExportJob
from export.steps import ModelFiles, score_file
from export.strict.build import StrictFiles
from export.strict.interface import strict_run
from export.student_run.graph import ExportGraph
from lsemvae.screen.runtime.tflite import KERNELS

STRICT: Final = "tflite_strict"
# Twice what the kernels differ by here: another CPU may round once more at the same places.
_GOLDEN_MARGIN: Final = 2.0
_LEAST_GOLDEN_TOLERANCE: Final = 0.01
# The reference kernels take 20 ms a recording; this many show the largest difference well enough for twice the margin.
_GOLDEN_CHECK_RECORDS: Final = 128


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What every file said about the validation recordings, the rule that ships, and the parity under that rule."""

    outputs: Mapping[str, Outputs]
    refit: Refit
    parity: ParityReport


def judge(
    job: ExportJob,
    graph: ExportGraph,
    models: Sequence[ModelFiles],
    *,
    tuned: ExportGraph | None = None,
    strict: StrictFiles | None = None,
) -> Judged:
    """Score the validation recordings with every file and hold the results against those of `graph`, the trained model.

    `tuned` is the graph of the files where it is another one: the student fine-tuned for INT8. `strict` is judged like any
    other INT8 file.
    Nothing is refused here: the caller may have a cure for what the parity report says (`require_parity` refuses).
    """
    job.progress(f"comparing with the trained model on {len(job.data.validation)} validation recordings")
    outputs = {REFERENCE: run_all(torch_run(graph), job.data.validation)}
    if tuned is not None:
        outputs[TUNED] = run_all(torch_run(tuned), job.data.validation)
    for files in models:
        for name, path in files.named.items():
            outputs[name] = score_file(job, path, job.data.validation)
    if strict is not None:
        with noise_to(job.log):
            outputs[STRICT] = run_all(strict_run(strict.model), job.data.validation)
    shipped = tuple(files.shipped_name for files in models)
    refit = settle(job.decision, outputs, shipped=shipped, data=job.data, labels=job.source.labels)
    job.progress(refit.said)
    rule = refit.decision.rule
    found = compare_all(outputs, labels=job.source.labels, truth=job.data.truth, rule=rule, gates=job.gates)
    for line in found.lines():
        job.progress(line)
    return Judged(outputs, refit, found)


def time_models(job: ExportJob, models: Sequence[ModelFiles]) -> tuple[Latency, ...]:
    """Measure INT8 against fp32 on each runtime that got an INT8 file."""
    ecg, measured = job.data.validation[:1], []
    for files in models:
        if files.int8 is None:
            continue
        with noise_to(job.log):
            fp32, int8 = (file_run(path, job.signature) for path in (files.fp32, files.int8))
            found = measure(files.target, fp32=fp32, int8=int8, ecg=ecg)
        job.progress(found.text())
        measured.append(require_latency(found, max_ratio=job.gates.max_latency_ratio))
    return tuple(measured)


def make_golden(job: ExportJob, models: Sequence[ModelFiles]) -> tuple[bytes, float]:
    """Return `golden.npz` and how far another kernel or runtime may be from it."""
    ecg = golden.golden_inputs(leads=job.source.leads, spec=job.source.frontend)
    probe = np.concatenate([ecg, job.data.validation[:_GOLDEN_CHECK_RECORDS]])
    with noise_to(job.log):
        # TFLite's reference kernels come first, they define the golden outputs; ONNX Runtime has one set of kernels.
        said = [
            run_all(file_run(files.shipped, job.signature, kernels=kernels), probe)
            for files in models
            for kernels in (reversed(KERNELS) if files.target == "tflite" else KERNELS[:1])
        ]
    reference = said[0]
    spread = max(
        float(np.abs(getattr(reference, name) - getattr(other, name)).max())
        for other in said
        for name in ("logits", "uncertainty")
    )
    tolerance = max(_LEAST_GOLDEN_TOLERANCE, _GOLDEN_MARGIN * spread)
    if not tolerance <= job.gates.max_golden_tolerance:
        raise ExportGateError(
            f"the kernels of this machine differ by {spread:.3f} logit on the golden recordings; "
            f"expected at most {job.gates.max_golden_tolerance / _GOLDEN_MARGIN:g}"
        )
    arrays = golden.golden_arrays(
        ecg=ecg,
        logits=reference.logits[: len(ecg)],
        uncertainty=reference.uncertainty[: len(ecg)],
        spec=job.source.frontend,
    )
    return golden.npz_bytes(arrays), tolerance
