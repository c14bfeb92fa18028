"""The folded graph as a float32 `.tflite` file, converted by litert-torch in a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import lsemvae.model
from export.convert.environment import require, versions
from export.errors import ExportConversionError
from lsemvae.formats.whole import write_whole

# One conversion takes 10 s on an idle machine and 80 s on a busy one; ten minutes means that it hangs.
TIMEOUT_S: Final = 600
_LOG_TAIL_LINES: Final = 6
_RUN_FILES: Final = ("config.json", "model.safetensors")
_CODE: Final = ("../student_run/graph.py", "tflite_worker.py")
_MODEL_CODE: Final = ("student.py", "heads.py", "encoder.py")


def converted_once(run_dir: Path, out: Path, *, log: Path) -> Path:
    """Return `out` as `export_tflite` writes it; a file made from the same weights, code and converter is kept.

    Beside the file lies a note of what it was made from. A file without one, or with another, is made again.
    """
    note = out.with_suffix(".json")
    key = conversion_key(run_dir)
    if out.is_file() and note.is_file():
        try:
            noted = json.loads(note.read_text(encoding="utf-8"))
        except ValueError:
            noted = None
        if noted == {**key, "sha256": _sha256(out)}:
            return out
    note.unlink(missing_ok=True)
    export_tflite(run_dir, out, log=log)
    write_whole(note, json.dumps({**key, "sha256": _sha256(out)}, indent=1, sort_keys=True))
    return out


def conversion_key(run_dir: Path) -> dict[str, object]:
    """Return what a conversion depends on: weights, configuration, the code of the graph, and the converter's versions."""
    here, model = Path(__file__).parent, Path(str(lsemvae.model.__file__)).parent
    return {
        "run": {name: _sha256(run_dir / name) for name in _RUN_FILES if (run_dir / name).is_file()},
        "code": {path.name: _sha256(path) for path in (*(here / n for n in _CODE), *(model / n for n in _MODEL_CODE))},
        "versions": versions(),
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def export_tflite(run_dir: Path, out: Path, *, log: Path) -> Path:
    """Write the student of `run_dir` as a float32 `.tflite` file; what the converter says is appended to `log`.

    The file keeps the module paths as tensor names, because the quantization recipe selects by them. It is not the
    file that ships: see `export.convert.tflite_file.strip_names`.
    """
    require("litert_torch")
    command = [sys.executable, "-m", "export.convert.tflite_worker", str(run_dir.resolve()), str(out.resolve())]
    # The caller's import paths, so that both processes see the same packages.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        with log.open("ab") as noise:
            done = subprocess.run(
                command, stdout=noise, stderr=subprocess.STDOUT, env=environment, timeout=TIMEOUT_S, check=False
            )
    except subprocess.TimeoutExpired as error:
        raise ExportConversionError(f"the TFLite conversion took more than {TIMEOUT_S} s; log: {log}") from error
    if done.returncode != 0 or not out.is_file():
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL_LINES:])
        raise ExportConversionError(
            f"the TFLite conversion ended with status {done.returncode}, expected 0; log: {log}\n{tail}"
        )
    return out
