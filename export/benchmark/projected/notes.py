"""Sentences that go with a projection wherever it is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from export.benchmark.projected.data import percent
from export.benchmark.projected.ratios import decode_width, largest_weights

if TYPE_CHECKING:
    from export.benchmark.devices import Device
    from export.benchmark.projected.fit import LatencyFit


def notes_for(device: Device, fit: LatencyFit, *, extrapolated: bool, weights: int) -> list[str]:
    """Return the notes of a projection.

    Parameters
    ----------
    extrapolated
        Whether the model is smaller than every calibration model.
    weights
        Number of weights of the model.
    """
    notes = [
        f"No {device.title.split(' (')[0]} was used. Instructions were counted under an emulated Cortex-A72; no time of the "
        "emulator goes in.",
        f"T4[ms] = {fit.line.slope_ms:.3f} * Minsn + {fit.line.constant_ms:.2f} from {len(fit.points)} published "
        f"{fit.precision} models on a Raspberry Pi 4; leave-one-out rms {percent(fit.loo_rms)}, worst {percent(fit.loo_worst)}.",
        "One thread is derived from published ratios of one thread to four; no time is below what decoding "
        f"{decode_width()} instructions a cycle allows."
        if device.name == "pi4"
        else "Two steps, from the Raspberry Pi 4 and from there to this board: read the range, not the value.",
        "Not covered: thermal throttling, SD card, Bluetooth and screen at the same time, front-end and program around "
        "the model.",
    ]
    if extrapolated:
        notes.insert(2, _downward_note(fit))
    if weights > largest_weights(fit.precision):
        notes.append(
            f"The model has {weights:,} weights, the largest calibration model {largest_weights(fit.precision):,}: "
            "reading them from memory may cost more than the fit knows."
        )
    return notes


def _downward_note(fit: LatencyFit) -> str:
    furthest = max(fit.downward, key=lambda check: check.reach)
    return (
        f"Extrapolated: the smallest calibration model has {fit.calibrated_minsn[0]:.2f} million instructions. Fits without "
        f"the small models miss those by {percent(fit.downward_worst)} at most, {furthest.reach:.1f} times below their own "
        "smallest; the range is wider by that."
    )
