"""The float forms of a run's student: what INT8 is compared with in a benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from export.convert import tflite_file
from export.convert.environment import require_target
from export.convert.to_onnx import export_onnx
from export.convert.to_tflite import converted_once
from export.job import LOG_FILE, WORK_FOLDER, Progress
from export.student_run.graph import build_graph
from export.student_run.packaged import work_folder
from export.student_run.source import load_run

_NAMED: Final = "model.named.tflite"


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
    named = converted_once(run_dir, work / _NAMED, log=log)
    tflite = work / "model.fp32.tflite"
    tflite.write_bytes(tflite_file.strip_names(named.read_bytes()))
    source = load_run(run_dir)
    n_leads, n_samples = len(source.leads), source.n_samples
    graph = build_graph(source.student, n_leads=n_leads, n_samples=n_samples)
    onnx = export_onnx(graph, work / "model.fp32.onnx", n_leads=n_leads, n_samples=n_samples, log=log)
    return {"tflite": tflite, "onnx": onnx}
