"""Runs both shipped files on the processor that this process sees; it may be an emulated one.

`python processor_runner.py FOLDER`: reads ecg.npy, model.tflite, model.onnx and sums.onnx, writes answers.npz. No number
here is a time: an emulator says what is computed, not how fast.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter

# Session option of onnxruntime: on x86 without VNNI take INT8 kernels that do not add products in 16 bits.
PRECISE = "session.x64quantprecision"
LARGEST_UINT8 = 255


def litert(model: Path, ecg: np.ndarray) -> np.ndarray:
    """Return `[recording, K + 1]`: the logits, then the uncertainty."""
    interpreter = Interpreter(model_path=str(model), num_threads=1)
    interpreter.allocate_tensors()
    signature = interpreter.get_signature_runner()
    found = [signature(ecg=record[None]) for record in ecg]
    return np.concatenate([np.concatenate([one["logits"], one["uncertainty"]], axis=1) for one in found])


def onnx(model: Path, ecg: np.ndarray) -> np.ndarray:
    """Return `[recording, K + 1]`, with the option above."""
    run = session(model, precise=True)
    found = [run.run(["logits", "uncertainty"], {"ecg": record[None]}) for record in ecg]
    return np.concatenate([np.concatenate(one, axis=1) for one in found])


def sums(model: Path, *, precise: bool) -> np.ndarray:
    """Return what a product of matrices gives for a row of the largest bytes."""
    run = session(model, precise=precise)
    width = run.get_inputs()[0].shape[1]
    (found,) = run.run(None, {run.get_inputs()[0].name: np.full((1, width), LARGEST_UINT8, np.uint8)})
    return np.asarray(found)


def session(model: Path, *, precise: bool) -> Any:
    """Return a session on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    options.add_session_config_entry(PRECISE, str(int(precise)))
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def main(folder: Path) -> None:
    """Answer with both runtimes."""
    ecg = np.load(folder / "ecg.npy", allow_pickle=False)
    np.savez(
        folder / "answers.npz",
        litert=litert(folder / "model.tflite", ecg),
        onnx=onnx(folder / "model.onnx", ecg),
        sums=sums(folder / "sums.onnx", precise=False),
        sums_precise=sums(folder / "sums.onnx", precise=True),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
