"""Running the converted files as the clinic will: one recording at a time, one thread, without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from export.errors import ExportModelError

# The reference kernels are plain C++ loops: slow, the same everywhere. XNNPACK is what runs in the clinic.
TFLITE_KERNELS: Final = ("xnnpack", "builtin", "reference")
Run = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """What a model says about `n` recordings: `logits [n, K]` and `uncertainty [n, 1]`, float32."""

    logits: np.ndarray
    uncertainty: np.ndarray

    def finite(self) -> bool:
        """Return whether every number is finite."""
        return bool(np.isfinite(self.logits).all() and np.isfinite(self.uncertainty).all())


def run_all(run: Run, ecg: np.ndarray) -> Outputs:
    """Score `ecg` `[n, lead, time]` mV one recording at a time."""
    pairs = [run(record[None]) for record in ecg]
    return Outputs(
        logits=np.concatenate([logits for logits, _ in pairs]).astype(np.float32),
        uncertainty=np.concatenate([uncertainty for _, uncertainty in pairs]).astype(np.float32),
    )


def torch_run(graph: Any) -> Run:
    """Return a runner of an `ExportGraph`."""
    import torch

    def run(ecg: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            logits, uncertainty = graph(torch.from_numpy(np.ascontiguousarray(ecg)))
        return logits.numpy(), uncertainty.numpy()

    return run


def tflite_run(model: Path | bytes, *, kernels: str = "xnnpack") -> Run:
    """Return a runner of a `.tflite` file; outputs are taken by the names of the signature, never by position."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolvers = {
        "xnnpack": OpResolverType.AUTO,
        "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        "reference": OpResolverType.BUILTIN_REF,
    }
    content = model.read_bytes() if isinstance(model, Path) else model
    interpreter = Interpreter(model_content=content, num_threads=1, experimental_op_resolver_type=resolvers[kernels])
    interpreter.allocate_tensors()
    signature = interpreter.get_signature_runner()

    def run(ecg: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outputs = signature(ecg=ecg)
        return outputs["logits"].copy(), outputs["uncertainty"].copy()

    return run


def onnx_run(model: Path | bytes) -> Run:
    """Return a runner of an `.onnx` file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    if not _has_vnni():  # as the clinic runs it, see lsemvae.screen.runtime.onnx: x86 without VNNI overflows 16 bits
        options.add_session_config_entry("session.x64quantprecision", "1")
    content = model.read_bytes() if isinstance(model, Path) else model
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(ecg: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, uncertainty = session.run(["logits", "uncertainty"], {"ecg": ecg})
        return logits, uncertainty

    return run


def _has_vnni() -> bool:
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), "")
    return bool({"avx512_vnni", "avx_vnni"} & set(flags.split()))


def file_run(model: Path) -> Run:
    """Return a runner by the file's suffix."""
    if model.suffix == ".tflite":
        return tflite_run(model)
    if model.suffix == ".onnx":
        return onnx_run(model)
    raise ExportModelError(f"{model.name} has suffix {model.suffix!r}; expected .tflite or .onnx")
