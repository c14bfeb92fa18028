"""What a loaded model is: the signature it is held to, the check of its inputs and outputs, and the interface of a runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from lsemvae.ecg.errors import BundleSelfTestError, InferenceError, RuntimeMissingError

# The outputs of every model, in the order that sorting their names gives in each format (output_0 < output_1, and
# logits < uncertainty).
OUTPUT_ROLES: Final = ("logits", "uncertainty")


@dataclass(frozen=True, slots=True)
class RuntimeOutput:
    """Raw model output: logits float32 ``[K]`` in the order of the manifest's outputs, and the (log) uncertainty."""

    logits: NDArray[np.float32]
    uncertainty: float


@dataclass(frozen=True, slots=True)
class Signature:
    """Shapes that the manifest promises: input ``[1, lead, time]``, logits ``[1, K]``, uncertainty ``[1, 1]``."""

    input_shape: tuple[int, ...]
    logits_shape: tuple[int, int]
    uncertainty_shape: tuple[int, int] = (1, 1)

    def output_shape(self, role: str) -> tuple[int, int]:
        """Return the promised shape of "logits" or "uncertainty"."""
        return self.logits_shape if role == "logits" else self.uncertainty_shape


class Runtime(Protocol):
    """A loaded model."""

    @property
    def name(self) -> str:
        """Name of the runtime, e.g. ``ai_edge_litert``."""

    @property
    def version(self) -> str:
        """Version of the runtime."""

    def run(self, ecg: NDArray[np.float32]) -> RuntimeOutput:
        """Compute the outputs for one recording, float32 ``[1, lead, time]`` in mV."""


def missing_runtime(tried: Sequence[str], *, install: str) -> RuntimeMissingError:
    """Say which modules were looked for and what installs them."""
    return RuntimeMissingError(
        f"No runtime for the model is installed; looked for: {', '.join(tried)}.",
        advice=f"Install one, for example: pip install '{install}'",
    )


def assign_outputs(shapes: Mapping[str, Sequence[Any]], signature: Signature) -> dict[str, str]:
    """Say which of the model's outputs is which.

    By name where the model has outputs called ``logits`` and ``uncertainty``, else by the order of the sorted names.
    The position in the file says nothing: converters reorder outputs.

    Parameters
    ----------
    shapes
        Output name to shape as the model declares it.
    signature
        What the manifest promises.

    Returns
    -------
    dict
        "logits" and "uncertainty" to the output's name.

    Raises
    ------
    BundleSelfTestError
        Another number of outputs, or another shape.
    """
    if len(shapes) != len(OUTPUT_ROLES):
        raise BundleSelfTestError(f"The model has {len(shapes)} outputs; expected {len(OUTPUT_ROLES)}: {OUTPUT_ROLES}.")
    names = dict(zip(OUTPUT_ROLES, sorted(shapes), strict=True))
    if set(shapes) == set(OUTPUT_ROLES):
        names = {role: role for role in OUTPUT_ROLES}
    for role, name in names.items():
        check_shape(f"output {name!r} ({role})", shapes[name], signature.output_shape(role))
    return names


def check_shape(what: str, found: Sequence[Any], expected: Sequence[int]) -> None:
    """Refuse a tensor whose shape is not the promised one; a size left open (a name, None or -1) is refused too."""
    sizes = tuple(int(size) if isinstance(size, int | np.integer) else size for size in found)
    if sizes != tuple(expected):
        raise BundleSelfTestError(f"The model's {what} has shape {sizes}; the manifest promises {tuple(expected)}.")


def check_dtype(what: str, found: Any) -> None:
    """Refuse a tensor that is not float32: integers inside the model stay inside."""
    if found != np.float32:
        raise BundleSelfTestError(f"The model's {what} is {np.dtype(found).name}; expected float32.")


def check_input(ecg: NDArray[np.float32], signature: Signature) -> None:
    """Refuse an input that the model was not made for; in an integer model NaN would become a number like any other."""
    if ecg.shape != signature.input_shape or ecg.dtype != np.float32:
        raise InferenceError(
            f"The model input is {ecg.dtype} {ecg.shape}; expected float32 {signature.input_shape}.",
        )
    if not np.isfinite(ecg).all():
        raise InferenceError("The model input holds NaN or infinite values; expected finite millivolts.")


def read_output(logits: NDArray[Any], uncertainty: NDArray[Any], signature: Signature) -> RuntimeOutput:
    """Check the computed arrays once more and take them out of the runtime's memory."""
    for role, array in (("logits", logits), ("uncertainty", uncertainty)):
        if array.shape != signature.output_shape(role):
            raise InferenceError(f"The model returned {role} {array.shape}; expected {signature.output_shape(role)}.")
    return RuntimeOutput(logits=np.array(logits[0], dtype=np.float32), uncertainty=float(uncertainty[0, 0]))
