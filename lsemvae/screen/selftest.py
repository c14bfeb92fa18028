"""The last check of a bundle: does this machine, with this runtime, compute what the laboratory computed?"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from lsemvae.ecg import frontend
from lsemvae.ecg.errors import BundleSelfTestError, EcgError
from lsemvae.screen.bundle import Bundle

if TYPE_CHECKING:
    from lsemvae.screen.runtime.contract import Runtime

GOLDEN_FILE: Final = "golden.npz"
# The uncertainty is a mean over many numbers, so kernels agree on it closely (0.004 between the shipped model's two
# runtimes), while golden recordings spread over 0.4: wider, and a model whose uncertainty is dead would pass.
UNCERTAINTY_TOLERANCE: Final = 0.05

# The front-end is double precision inside and float32 outside, so two platforms may differ in the last bit: 4.8e-7 mV
# at the 5 mV clip. Twice that is still a thousand times finer than the recorder's own step of 1 uV.
FRONTEND_TOLERANCE_MV: Final = 1e-6

_FIELDS: Final = ("ecg", "logits", "uncertainty", "raw_mv", "raw_fs_hz", "frontend_out")


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What the self-test measured: largest deviations from the golden file, and the tolerance for the logits."""

    recordings: int
    max_logit_error: float
    max_uncertainty_error: float
    logit_tolerance: float
    max_frontend_error_mv: float

    def to_dict(self) -> dict[str, float]:
        """Return plain values for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


def self_test(bundle: Bundle, runtime: Runtime) -> SelfTest:
    """Run the golden recordings through front-end and model and compare.

    Raises
    ------
    BundleSelfTestError
        The front-end's coefficients or output, or a model output, differ by more than the manifest allows.
    """
    golden = _load_golden(bundle)
    manifest = bundle.manifest
    if manifest.frontend.sha256() != manifest.coeff_sha256:
        raise BundleSelfTestError(
            f"The front-end's coefficients hash to {manifest.frontend.sha256()}; "
            f"the manifest says {manifest.coeff_sha256}."
        )
    try:
        filtered = frontend.apply_array(golden["raw_mv"], fs_hz=float(golden["raw_fs_hz"]), spec=manifest.frontend)
    except (EcgError, ValueError, TypeError) as error:
        raise BundleSelfTestError(f"The golden recording cannot be run through the front-end: {error}") from error
    frontend_error = _deviation("front-end (mV)", filtered, golden["frontend_out"], FRONTEND_TOLERANCE_MV)

    tolerance = manifest.parity.get("golden_tolerance")
    if not isinstance(tolerance, int | float) or not 0 < tolerance < np.inf:
        raise BundleSelfTestError(
            f"The manifest's parity.golden_tolerance is {tolerance!r}; expected a positive number."
        )
    outputs = [runtime.run(ecg[np.newaxis].astype(np.float32, copy=False)) for ecg in golden["ecg"]]
    logits = np.stack([output.logits for output in outputs])
    uncertainty = np.array([[output.uncertainty] for output in outputs])
    return SelfTest(
        recordings=len(outputs),
        max_logit_error=_deviation("logits", logits, golden["logits"], float(tolerance)),
        max_uncertainty_error=_deviation(
            "uncertainty", uncertainty, golden["uncertainty"], min(float(tolerance), UNCERTAINTY_TOLERANCE)
        ),
        logit_tolerance=float(tolerance),
        max_frontend_error_mv=frontend_error,
    )


def _load_golden(bundle: Bundle) -> dict[str, NDArray[Any]]:
    """Return the arrays of the golden file, each in the shape that the manifest promises."""
    content = bundle.files.get(GOLDEN_FILE)
    if content is None:
        raise BundleSelfTestError(f"The bundle has no {GOLDEN_FILE}, so it cannot be tested on this machine.")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            golden = {name: archive[name] for name in _FIELDS}
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise BundleSelfTestError(f"{GOLDEN_FILE} cannot be read: {error}.") from error
    count, outputs = len(golden["ecg"]), len(bundle.manifest.outputs)
    expected = {
        "ecg": (count, *bundle.manifest.input.shape[1:]),
        "logits": (count, outputs),
        "uncertainty": (count, 1),
    }
    for name, shape in expected.items():
        if golden[name].shape != shape or count == 0:
            raise BundleSelfTestError(f"{GOLDEN_FILE}: {name!r} has shape {golden[name].shape}; expected {shape}.")
    return golden


def _deviation(what: str, found: NDArray[Any], expected: NDArray[Any], tolerance: float) -> float:
    """Return the largest absolute difference; NaN on either side counts as a difference."""
    if found.shape != expected.shape:
        raise BundleSelfTestError(f"Golden {what}: shape {found.shape}; expected {expected.shape}.")
    largest = float(np.max(np.abs(found.astype(np.float64) - expected)))
    if not largest <= tolerance:
        raise BundleSelfTestError(
            f"Golden {what}: computed values differ by {largest:.3g}; allowed is {tolerance:.3g}."
        )
    return largest
