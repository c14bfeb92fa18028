"""The border of a strict-integer model: millivolts to INT8 going in, INT8 to logits coming out.

Inside a microcontroller these few lines are the host's, so they are kept as plain as they are there: one multiplication,
one rounding and, for the input, one remembered remainder for each lead.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from export.errors import ExportModelError
from export.gates.outputs import Run
from lsemvae.screen.runtime.contract import RuntimeOutput
from lsemvae.screen.runtime.tflite import Kernels, open_interpreter

_LOW: Final = -128
_HIGH: Final = 127


@dataclass(frozen=True, slots=True)
class QuantizedIo:
    """One INT8 input or output: `real = scale * (integer - zero_point)`; real is mV, logit or log standard deviation."""

    name: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int

    @property
    def real_range(self) -> tuple[float, float]:
        """Smallest and largest value that can be told apart; beyond them the tensor saturates."""
        return self.scale * (_LOW - self.zero_point), self.scale * (_HIGH - self.zero_point)

    def to_dict(self) -> dict[str, Any]:
        """Return the tensor for JSON."""
        return {**asdict(self), "shape": list(self.shape), "dtype": "int8", "real_range": list(self.real_range)}


def quantize_nearest(values: np.ndarray, io: QuantizedIo) -> np.ndarray:
    """Return real values of any shape as INT8: `clip(round(value / scale) + zero_point)`, ties to even."""
    steps = np.rint(np.asarray(values, np.float64) / io.scale) + io.zero_point
    integers: np.ndarray = np.clip(steps, _LOW, _HIGH).astype(np.int8)
    return integers


def quantize_ecg(ecg: np.ndarray, io: QuantizedIo) -> np.ndarray:
    """Return `[1, lead, time]` mV as INT8, each lead with its rounding error carried to the next sample.

    `v[t] = x[t] / scale + e[t-1]`, `q[t] = round(v[t])`, `e[t] = v[t] - q[t]`: quantization with error feedback (Spang and
    Schultheiss 1962, first order). It moves the rounding noise from the ECG's band up to where the front-end left nothing.
    Where a sample saturates nothing is carried, so a spike leaves no echo.
    """
    low, high = _LOW - io.zero_point, _HIGH - io.zero_point
    leads = []
    for lead in np.asarray(ecg, np.float64).reshape(-1, ecg.shape[-1]):
        carried, integers = 0.0, []
        for sample_mv in lead.tolist():  # plain numbers are faster than elements of an array
            wanted = sample_mv / io.scale + carried
            step = round(wanted)
            inside = min(max(step, low), high)
            carried = wanted - step if inside == step else 0.0
            integers.append(inside + io.zero_point)
        leads.append(integers)
    return np.array(leads, np.int8).reshape(ecg.shape)


def dequantize(integers: np.ndarray, io: QuantizedIo) -> np.ndarray:
    """Return INT8 values as float32: `scale * (integer - zero_point)`."""
    real: np.ndarray = np.float32(io.scale) * (integers.astype(np.float32) - np.float32(io.zero_point))
    return real


def read_interface(signature: Any) -> tuple[QuantizedIo, dict[str, QuantizedIo]]:
    """Return the input and the outputs (by name) of a signature runner of a strict-integer model."""
    inputs, outputs = (
        {name: _spec(name, detail) for name, detail in details.items()}
        for details in (signature.get_input_details(), signature.get_output_details())
    )
    if set(inputs) != {"ecg"} or set(outputs) != {"logits", "uncertainty"}:
        raise ExportModelError(
            f"the model has inputs {sorted(inputs)} and outputs {sorted(outputs)}; "
            "expected 'ecg' and 'logits', 'uncertainty'"
        )
    return inputs["ecg"], outputs


def _spec(name: str, detail: dict[str, Any]) -> QuantizedIo:
    scale, zero_point = detail["quantization"]
    if detail["dtype"] is not np.int8 or not scale > 0:
        raise ExportModelError(
            f"{name} is {np.dtype(detail['dtype']).name} with scale {scale:g}; expected int8 with a positive scale",
            advice="Make the file with the recipe static_wi8_ai8_all.",
        )
    return QuantizedIo(name, tuple(int(size) for size in detail["shape"]), float(scale), int(zero_point))


def signature_runner(model: Path | bytes, *, kernels: Kernels = "xnnpack") -> Any:
    """Return LiteRT's runner of the file's signature, on one thread."""
    _, interpreter = open_interpreter(model.read_bytes() if isinstance(model, Path) else model, kernels=kernels)
    return interpreter.get_signature_runner()


def strict_interface(model: Path | bytes) -> tuple[QuantizedIo, dict[str, QuantizedIo]]:
    """Return the input and the outputs (by name) of a strict-integer file."""
    return read_interface(signature_runner(model))


def strict_run(model: Path | bytes, *, kernels: Kernels = "xnnpack", feedback: bool = True) -> Run:
    """Return how to ask a strict-integer file in mV for logits, as `file_run` does of the other files.

    `feedback` chooses `quantize_ecg` for the input, otherwise `quantize_nearest`.
    """
    signature = signature_runner(model, kernels=kernels)
    ecg_io, outputs_io = read_interface(signature)
    quantize = quantize_ecg if feedback else quantize_nearest

    def run(ecg: np.ndarray) -> RuntimeOutput:
        found = signature(ecg=quantize(ecg, ecg_io))
        logits, uncertainty = (dequantize(found[name], outputs_io[name]) for name in ("logits", "uncertainty"))
        return RuntimeOutput(logits=logits[0], uncertainty=float(uncertainty[0, 0]))

    return run
