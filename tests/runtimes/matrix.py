"""The matrix: which runtimes run which file, what each is compared with, and how far apart two of them may be.

A runtime computes the INT8 layers with one of three families of kernels. Inside a family the integers are equal and
only the float layers differ, in the last bits of float32. Between families a convolution may land on the neighbouring
int8 step, and that travels through the layers behind it. docs/explanation/runtimes.md explains each tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from enum import StrEnum
from typing import Final

import numpy as np

from export.gates.outputs import Outputs
from export.gates.parity import outcomes, probabilities
from lsemvae.screen.manifest import Manifest

# XNNPACK is what the clinic runs, and what calibration and thresholds were fitted on: everything is held against it.
REFERENCE: Final = "ai-edge-litert, XNNPACK"
BUILTIN: Final = "ai-edge-litert, builtin kernels"
PLAIN: Final = "ai-edge-litert, reference kernels"
LEGACY: Final = "tflite-runtime 2.14"
LITERT_JS: Final = "LiteRT.js"
LITERT_JS_COMPAT: Final = "LiteRT.js without relaxed SIMD"
ORT: Final = "onnxruntime"
ORT_WEB: Final = "onnxruntime-web"

TFLITE_RUNTIMES: Final = (REFERENCE, BUILTIN, PLAIN, LEGACY, LITERT_JS, LITERT_JS_COMPAT)
ONNX_RUNTIMES: Final = (ORT, ORT_WEB)
RUNTIMES: Final = (*TFLITE_RUNTIMES, *ONNX_RUNTIMES)


@dataclass(frozen=True, slots=True)
class Difference:
    """How far two runtimes are apart on the same recordings; as a tolerance, how far they may be.

    Attributes
    ----------
    max_dp, mean_dp
        Calibrated probabilities, over all recordings and outputs.
    max_dlogodds
        Calibrated log odds (slope x logit + intercept): sees what a probability near 0 hides.
    max_duncertainty
        The model's (log) uncertainty.
    """

    max_dp: float
    mean_dp: float
    max_dlogodds: float
    max_duncertainty: float

    def beyond(self, tolerance: Difference) -> dict[str, tuple[float, float]]:
        """Return the quantities that are not within tolerance, with both sides; NaN is never within."""
        pairs = zip(fields(self), astuple(self), astuple(tolerance), strict=True)
        return {field.name: (found, allowed) for field, found, allowed in pairs if not found <= allowed}


class Kinship(StrEnum):
    """Why two runtimes may differ."""

    SAME_KERNELS = "same kernels"
    DENSE = "same convolutions, another dense layer"
    FIXED_POINT = "another rounding of sums"
    OTHER_FILE = "another file"


# By recipe (`provenance.recipe` of the manifest): what is INT8 decides how far rounding travels. At most about twice what
# was seen on 229 recordings; docs/explanation/runtimes.md says why each is what it is, and shows what was seen.
TOLERANCES: Final[Mapping[str, Mapping[Kinship, Difference]]] = {
    "static_wi8_ai8_encoder": {
        Kinship.SAME_KERNELS: Difference(max_dp=4e-7, mean_dp=1.4e-8, max_dlogodds=6e-6, max_duncertainty=2e-7),
        Kinship.DENSE: Difference(max_dp=6e-3, mean_dp=2e-5, max_dlogodds=0.06, max_duncertainty=7e-4),
        Kinship.FIXED_POINT: Difference(max_dp=0.04, mean_dp=1.3e-3, max_dlogodds=0.25, max_duncertainty=6e-3),
        Kinship.OTHER_FILE: Difference(max_dp=0.05, mean_dp=1.5e-3, max_dlogodds=0.25, max_duncertainty=2.8e-3),
    },
    "static_wi8_ai8_trunk": {
        Kinship.SAME_KERNELS: Difference(max_dp=5e-7, mean_dp=2.4e-8, max_dlogodds=7e-6, max_duncertainty=2e-7),
        Kinship.DENSE: Difference(max_dp=5e-7, mean_dp=2.4e-8, max_dlogodds=7e-6, max_duncertainty=2e-7),
        Kinship.FIXED_POINT: Difference(max_dp=0.01, mean_dp=5e-4, max_dlogodds=0.13, max_duncertainty=3.6e-3),
        Kinship.OTHER_FILE: Difference(max_dp=6e-3, mean_dp=8e-5, max_dlogodds=0.05, max_duncertainty=2e-3),
    },
}

# Outcomes between families: a recording on the very edge of a limit may fall to either side. The export gate's own bar.
MIN_OUTCOMES_EQUAL: Final = 0.995


@dataclass(frozen=True, slots=True)
class Pair:
    """Two runtimes that must agree, and what they share."""

    candidate: str
    reference: str
    kinship: Kinship

    @property
    def name(self) -> str:
        """The pair as one line."""
        return f"{self.candidate} against {self.reference}"

    def tolerance(self, manifest: Manifest) -> Difference:
        """Return how far the two may be apart for a bundle's recipe."""
        return TOLERANCES[str(manifest.provenance["recipe"])][self.kinship]

    @property
    def min_outcomes_equal(self) -> float:
        """Share of recordings whose outcome must be the same: all of them where the kernels are."""
        return 1.0 if self.kinship is Kinship.SAME_KERNELS else MIN_OUTCOMES_EQUAL


PAIRS: Final = (
    Pair(BUILTIN, REFERENCE, Kinship.FIXED_POINT),
    Pair(PLAIN, REFERENCE, Kinship.FIXED_POINT),
    Pair(LEGACY, REFERENCE, Kinship.FIXED_POINT),
    Pair(LITERT_JS, REFERENCE, Kinship.SAME_KERNELS),
    Pair(LITERT_JS_COMPAT, REFERENCE, Kinship.SAME_KERNELS),
    Pair(ORT, REFERENCE, Kinship.OTHER_FILE),
    Pair(ORT_WEB, REFERENCE, Kinship.OTHER_FILE),
    Pair(LEGACY, BUILTIN, Kinship.SAME_KERNELS),
    Pair(PLAIN, BUILTIN, Kinship.DENSE),
    Pair(ORT_WEB, ORT, Kinship.SAME_KERNELS),
)


def difference(candidate: Outputs, reference: Outputs, *, manifest: Manifest) -> Difference:
    """Measure how far two sets of outputs for the same recordings are apart."""
    labels = [output.label for output in manifest.outputs]
    rule = manifest.decision
    dp = np.abs(np.subtract(*(probabilities(o.logits, labels=labels, rule=rule) for o in (candidate, reference))))
    slope = np.array([rule.calibrations[label].slope for label in labels])
    dlogodds = np.abs(slope * (candidate.logits.astype(np.float64) - reference.logits))
    duncertainty = np.abs(candidate.uncertainty.astype(np.float64) - reference.uncertainty)
    return Difference(float(dp.max()), float(dp.mean()), float(dlogodds.max()), float(duncertainty.max()))


def decided(outputs: Outputs, *, manifest: Manifest) -> list[str]:
    """Return the outcome of each recording by the bundle's rule."""
    labels = [output.label for output in manifest.outputs]
    return [str(outcome) for outcome in outcomes(outputs, labels=labels, rule=manifest.decision)]
