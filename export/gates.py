"""The bars that a converted model must clear before it may be put into a bundle."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class GateThresholds:
    """How far a converted model may be from the trained one.

    Attributes
    ----------
    max_auroc_change
        Largest |difference| of the AUROC of each gated output, to fp32 and between TFLite and ONNX.
    gated_labels
        Outputs whose AUROC is gated beside the primary one, where the model has them.
    min_positives
        Below this many positive validation recordings an AUROC says nothing and is reported without a gate.
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
        An agreement of 99 % cannot be told from fewer than a hundred recordings.
    max_golden_tolerance
        Kernels of one runtime differ by single INT8 steps (0.1-0.25 logit seen); more means a broken kernel or file.
    max_latency_ratio
        INT8 time over fp32 time of the same runtime on this host; None measures without a gate.
    """

    max_auroc_change: float = 0.005
    gated_labels: tuple[str, ...] = ("RHS", "RBBB_any")
    min_positives: int = 5
    min_decision_agreement: float = 0.99
    max_p99_dp: float = 0.05
    max_fp32_dlogit: float = 1e-3
    max_p99_duncertainty: float = 0.1
    min_validation_records: int = 100
    max_golden_tolerance: float = 0.5
    max_latency_ratio: float | None = 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return the thresholds for JSON."""
        return asdict(self)
