"""The folded graph as a float32 `.tflite` file, converted by litert-torch in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from export.environment import require
from export.errors import ExportConversionError

# One conversion takes 10 s on an idle machine and 80 s on a busy one; ten minutes means that it hangs.
TIMEOUT_S: Final = 600
_LOG_TAIL_LINES: Final = 6


def export_tflite(run_dir: Path, out: Path, *, log: Path) -> Path:
    """Write the student of `run_dir` as a float32 `.tflite` file; what the converter says is appended to `log`.

    The file keeps the module paths as tensor names, because the quantization recipe selects by them. It is not the
    file that ships: see `export.tflite_file.strip_names`.
    """
    require("litert_torch")
    command = [sys.executable, "-m", "export.tflite_worker", str(run_dir.resolve()), str(out.resolve())]
    try:
        with log.open("ab") as noise:
            done = subprocess.run(
                command, stdout=noise, stderr=subprocess.STDOUT, env=_environment(), timeout=TIMEOUT_S, check=False
            )
    except subprocess.TimeoutExpired as error:
        raise ExportConversionError(f"the TFLite conversion took more than {TIMEOUT_S} s; log: {log}") from error
    if done.returncode != 0 or not out.is_file():
        raise ExportConversionError(
            f"the TFLite conversion ended with status {done.returncode}, expected 0; log: {log}\n{_tail(log)}"
        )
    return out


def _environment() -> dict[str, str]:
    """Return the caller's environment with the caller's import paths, so that both see the same packages."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-_LOG_TAIL_LINES:])
