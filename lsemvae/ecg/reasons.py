"""Why a recording gets no result, and what an operator can do about it."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class Reason(StrEnum):
    """Reason of an abstention; the values are stable across releases."""

    FLAT = "FLAT"
    SATURATED = "SATURATED"
    LEAD_OFF = "LEAD_OFF"
    GAP = "GAP"
    TOO_SHORT = "TOO_SHORT"
    NOISE = "NOISE"
    BASELINE = "BASELINE"
    EINTHOVEN = "EINTHOVEN"
    AMPLITUDE = "AMPLITUDE"
    NON_FINITE = "NON_FINITE"
    NO_BEATS = "NO_BEATS"
    MISSING_LEAD = "MISSING_LEAD"
    RATE = "RATE"
    DEVICE = "DEVICE"
    UNCERTAIN = "UNCERTAIN"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    GAPS_UNKNOWN = "GAPS_UNKNOWN"
    UNCALIBRATED = "UNCALIBRATED"


_ADVICE: Final[Mapping[Reason, str]] = MappingProxyType(
    {
        Reason.FLAT: "A lead shows no signal: let every electrode touch moist skin, and record again.",
        Reason.SATURATED: "A lead hit the limit of the device: reattach the electrodes, wait for a calm trace.",
        Reason.LEAD_OFF: "An electrode lost contact: hold all contacts firmly for 10 seconds and record again.",
        Reason.GAP: "Part of the recording was lost on its way: bring the device nearer and record again.",
        Reason.TOO_SHORT: "The recording is shorter than 10 seconds: hold still until the countdown ends.",
        Reason.NOISE: "Muscle or mains noise: rest the arms, move away from mains cables, record again.",
        Reason.BASELINE: "The trace drifts strongly: sit still, breathe calmly, press evenly, record again.",
        Reason.EINTHOVEN: "The limb leads contradict each other: attach the electrodes as marked, record again.",
        Reason.AMPLITUDE: "The signal is too large or too small for a heart: check the file's unit or the contacts.",
        Reason.NON_FINITE: "The recording holds values that are no numbers: export it again or repeat the recording.",
        Reason.NO_BEATS: "No heartbeat can be seen: check that the electrodes are on a person, record again.",
        Reason.MISSING_LEAD: "Two limb leads, best I and II, are needed: choose a recording or a device that has them.",
        Reason.RATE: "The sampling rate is outside 100 to 1000 Hz: set the device to a rate in this range.",
        Reason.DEVICE: "This device or source is not approved for this model: use an approved device.",
        Reason.UNCERTAIN: "The model is not sure enough: record again, or refer for a 12-lead ECG.",
        Reason.GAPS_UNKNOWN: "This device cannot show lost samples: use a device that numbers them.",
        Reason.UNCALIBRATED: "The scale of this device is not known: give it, or use a device that states it.",
        Reason.OUT_OF_RANGE: "This recording is unlike those the model knows: record again, or refer for 12 leads.",
    }
)


def advice(reason: Reason | str) -> str:
    """Return one sentence for the operator; a reason given as text must be a known value."""
    return _ADVICE[Reason(reason)]
