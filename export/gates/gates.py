"""The bars that a converted model must clear before it may be put into a bundle."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from export.errors import ExportGateError


@dataclass(frozen=True, slots=True)
class GateThresholds:
    """How far a converted model may be from the trained one.

    Attributes
    ----------
    max_auroc_change
        Largest |difference| of the AUROC of every output, to fp32 and between TFLite and ONNX.
    min_positives
        Below this many positive validation recordings an AUROC says nothing; the output is reported as not gated.
    min_decision_agreement
        Least share of recordings with the same outcome of the primary output, and of (recording, output) pairs on the
        same side of the threshold.
    max_p99_dp
        Largest 99th percentile of |difference| of calibrated probabilities, over all outputs.
    max_fp32_dlogit
        Float files compute the same graph: only rounding may differ, in the logits and in the uncertainty.
    max_p99_duncertainty
        Largest 99th percentile of |difference| of the uncertainty, the log of a standard deviation: 0.1 is a tenth of
        the posterior width (0.02 seen). A dead output misses it even where hardly any recording abstains by it.
    min_validation_records
        An agreement of 99.5 % cannot be told from fewer than a hundred recordings.
    max_golden_tolerance
        Kernels of one runtime differ by single INT8 steps (0.1-0.25 logit seen); more means a broken kernel or file.
    max_latency_ratio
        INT8 time over fp32 time of the same runtime on this host; None measures without a gate.
    max_int8_bytes
        Largest INT8 model file. None sets no bar.
    max_bundle_bytes
        Largest bundle, all files together. None sets no bar.
    """

    max_auroc_change: float = 0.003
    min_positives: int = 5
    min_decision_agreement: float = 0.995
    max_p99_dp: float = 0.05
    max_fp32_dlogit: float = 1e-3
    max_p99_duncertainty: float = 0.1
    min_validation_records: int = 100
    max_golden_tolerance: float = 0.5
    max_latency_ratio: float | None = 1.0
    max_int8_bytes: int | None = 300 * 1024
    max_bundle_bytes: int | None = 1 << 20

    def to_dict(self) -> dict[str, Any]:
        """Return the thresholds for JSON."""
        return asdict(self)


def require_size(path: Path, *, most: int | None) -> Path:
    """Return the path of a model file, or raise ExportGateError where it is larger than `most` bytes."""
    found = path.stat().st_size
    if most is not None and found > most:
        raise ExportGateError(
            f"{path.name}: found {found / 1024:.0f} KiB; expected at most {most / 1024:.0f} KiB",
            advice="Distil a smaller student (lsemvae distill --size m), or allow more with --max-model-kib.",
        )
    return path


def require_bundle_size(found: int, *, most: int | None) -> int:
    """Return the size of a bundle, or raise ExportGateError where it is larger than `most` bytes."""
    if most is not None and found > most:
        raise ExportGateError(
            f"found a bundle of {found / 1024:.0f} KiB; expected at most {most / 1024:.0f} KiB",
            advice="Export one target (--target tflite), or a smaller student.",
        )
    return found
