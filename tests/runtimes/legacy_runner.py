"""Runs `.tflite` files in an environment that holds tflite-runtime and numpy 1, and nothing of this project.

`python legacy_runner.py FOLDER`: reads ecg.npy and job.json (file name -> number of recordings), writes answers.npz.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import tflite_runtime
from tflite_runtime.interpreter import Interpreter


def answers(model: Path, ecg: np.ndarray) -> np.ndarray:
    """Return `[recording, K + 1]`: the logits, then the uncertainty."""
    interpreter = Interpreter(model_path=str(model), num_threads=1)
    interpreter.allocate_tensors()
    signature = interpreter.get_signature_runner()
    rows = []
    for record in ecg:
        output = signature(ecg=record[None])
        rows.append(np.concatenate([output["logits"], output["uncertainty"]], axis=1)[0])
    return np.stack(rows)


def main(folder: Path) -> None:
    """Answer the job that lies in `folder`."""
    ecg = np.load(folder / "ecg.npy", allow_pickle=False)
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    found = {"versions": np.array([tflite_runtime.__version__, np.__version__])}
    found.update((name, answers(folder / name, ecg[:count])) for name, count in job.items())
    np.savez(folder / "answers.npz", allow_pickle=False, **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
