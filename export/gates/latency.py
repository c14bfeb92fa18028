"""Is INT8 worth it on this host? One runtime, one thread, fp32 and INT8 in turns."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from export.errors import ExportGateError
from export.gates.outputs import Run

_WARM_UP: Final = 20
_ROUNDS: Final = 300
# On a busy host the upper half of the times measures the other programs; the tenth percentile measures the model.
_PERCENTILE: Final = 10


@dataclass(frozen=True, slots=True)
class Latency:
    """MEASURED on the exporting host: tenth percentile and median of one inference, in milliseconds."""

    runtime: str
    fp32_p10_ms: float
    fp32_p50_ms: float
    int8_p10_ms: float
    int8_p50_ms: float

    @property
    def ratio(self) -> float:
        """INT8 over fp32."""
        return self.int8_p10_ms / self.fp32_p10_ms

    def text(self) -> str:
        """Return the figures as one line."""
        return f"{self.runtime}: INT8 {self.int8_p10_ms:.2f} ms, fp32 {self.fp32_p10_ms:.2f} ms (MEASURED on this host)"

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for JSON, with the basis that they rest on."""
        return {**asdict(self), "ratio": self.ratio, "basis": "MEASURED", "where": "exporting host, 1 thread"}


def measure(runtime: str, *, fp32: Run, int8: Run, ecg: np.ndarray) -> Latency:
    """Time both models in turns on one recording `[1, lead, time]`, so that other load falls on both alike."""
    for _ in range(_WARM_UP):
        fp32(ecg)
        int8(ecg)
    times_ms = np.array([[_once_ms(fp32, ecg), _once_ms(int8, ecg)] for _ in range(_ROUNDS)])
    (fp32_p10, int8_p10), (fp32_p50, int8_p50) = np.percentile(times_ms, [_PERCENTILE, 50], axis=0)
    return Latency(runtime, float(fp32_p10), float(fp32_p50), float(int8_p10), float(int8_p50))


def _once_ms(run: Run, ecg: np.ndarray) -> float:
    start = time.perf_counter()
    run(ecg)
    return (time.perf_counter() - start) * 1e3


def require_latency(latency: Latency, *, max_ratio: float | None) -> Latency:
    """Return the figures, or raise ExportGateError where INT8 is slower than allowed."""
    if max_ratio is not None and not latency.ratio <= max_ratio:
        raise ExportGateError(
            f"{latency.runtime}: found INT8 {latency.int8_p10_ms:.3f} ms and fp32 {latency.fp32_p10_ms:.3f} ms "
            f"(ratio {latency.ratio:.2f}); expected a ratio of at most {max_ratio:g}",
            advice="Small depthwise networks gain nothing from INT8: widen the convolutions, or export with --fp32.",
        )
    return latency
