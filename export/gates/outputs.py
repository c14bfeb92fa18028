"""What a model says about recordings: asked as the clinic asks it, one recording at a time on one thread, by the clinic's runtimes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.errors import ExportModelError
from lsemvae.screen.runtime.contract import RuntimeOutput, Signature
from lsemvae.screen.runtime.load import FORMATS, load_model
from lsemvae.screen.runtime.tflite import Kernels

# One recording `[1, lead, time]` in mV to what the model says of it.
Run = Callable[[np.ndarray], RuntimeOutput]


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """What a model says about `n` recordings: `logits [n, K]` and `uncertainty [n, 1]`, float32."""

    logits: np.ndarray
    uncertainty: np.ndarray

    def finite(self) -> bool:
        """Return whether every number is finite."""
        return bool(np.isfinite(self.logits).all() and np.isfinite(self.uncertainty).all())


def run_all(run: Run, ecg: np.ndarray) -> Outputs:
    """Return what a model says about `ecg` `[n, lead, time]` mV, asked for one recording after the other."""
    said = [run(record[None]) for record in ecg]
    return Outputs(
        logits=np.stack([one.logits for one in said]).astype(np.float32),
        uncertainty=np.array([[one.uncertainty] for one in said], dtype=np.float32),
    )


def torch_run(graph: Any) -> Run:
    """Return how to ask an `ExportGraph`."""
    import torch

    def run(ecg: np.ndarray) -> RuntimeOutput:
        with torch.inference_mode():
            logits, uncertainty = graph(torch.from_numpy(np.ascontiguousarray(ecg)))
        return RuntimeOutput(logits=logits.numpy()[0], uncertainty=float(uncertainty[0, 0]))

    return run


def file_run(model: Path, signature: Signature, *, kernels: Kernels = "xnnpack") -> Run:
    """Return how to ask a `.tflite` or `.onnx` file that keeps to `signature`; `kernels` is for TFLite only."""
    for format_ in FORMATS:
        if model.suffix == f".{format_}":
            return load_model(model.read_bytes(), format_, signature, kernels=kernels).run
    raise ExportModelError(f"{model.name} has suffix {model.suffix!r}; expected .tflite or .onnx")
