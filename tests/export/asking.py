"""Asking model files of the tiny student of this room, as the gates do, also such as lie in memory only."""

from __future__ import annotations

from pathlib import Path

from export.gates.outputs import Run
from lsemvae.screen.runtime.contract import Signature
from lsemvae.screen.runtime.load import load_model
from lsemvae.screen.runtime.tflite import Kernels

PROMISED = Signature((1, 2, 2500), (1, 3))


def tflite_run(model: Path | bytes, *, kernels: Kernels = "xnnpack") -> Run:
    content = model.read_bytes() if isinstance(model, Path) else model
    return load_model(content, "tflite", PROMISED, kernels=kernels).run


def onnx_run(model: Path | bytes) -> Run:
    return load_model(model.read_bytes() if isinstance(model, Path) else model, "onnx", PROMISED).run
