"""The decision rule of a bundle: calibration, operating points, abstention."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lsemvae.ecg.errors import InferenceError, ManifestError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Calibration:
    """Platt scaling of one output: probability = sigmoid(slope * logit + intercept) (Platt 1999)."""

    slope: float
    intercept: float

    def __post_init__(self) -> None:
        """Refuse a slope that is not above zero (it would turn the answer round) and numbers that are not finite."""
        object.__setattr__(self, "slope", _finite(self.slope, "slope"))
        object.__setattr__(self, "intercept", _finite(self.intercept, "intercept"))
        if self.slope <= 0:
            raise ManifestError(f"found calibration slope {self.slope!r}, expected a number above 0")

    def apply(self, logit: float) -> float:
        """Return the calibrated logit, or raise InferenceError if it is not finite."""
        value = self.slope * logit + self.intercept
        if not math.isfinite(value):
            raise InferenceError(f"found calibrated logit {value!r} (logit {logit!r}), expected a finite number")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRule:
    """How logits become one of four outcomes.

    Attributes
    ----------
    primary
        Label that decides.
    calibrations
        Calibration of every output.
    thresholds
        Operating point of each label as calibrated probability; at or above it the label counts as detected.
    abstain_band
        Calibrated probabilities `[low, high)` of the primary label that abstain; empty where low equals high.
    max_uncertainty
        Largest uncertainty that still gives an answer; None asks for none.
    interval_logit_sd
        Standard deviation of the calibrated logit; the interval is sigmoid(logit -+ 1.96 sd).
    """

    primary: str
    calibrations: Mapping[str, Calibration]
    thresholds: Mapping[str, float]
    abstain_band: tuple[float, float] = (0.0, 0.0)
    max_uncertainty: float | None = None
    interval_logit_sd: float = 0.0

    def __post_init__(self) -> None:
        """Check every number; mappings become read-only copies."""
        put = object.__setattr__
        put(self, "calibrations", MappingProxyType(dict(self.calibrations)))
        thresholds = {label: _finite(value, f"threshold of {label}") for label, value in self.thresholds.items()}
        for label, value in thresholds.items():
            if not 0 < value < 1:
                raise ManifestError(f"found threshold {value!r} for {label}, expected a probability between 0 and 1")
        put(self, "thresholds", MappingProxyType(thresholds))
        if len(self.abstain_band) != 2:
            raise ManifestError(f"found abstain_band {self.abstain_band!r}, expected two probabilities")
        low, high = (
            _finite(p, f"abstain_band {end}") for end, p in zip(("low", "high"), self.abstain_band, strict=True)
        )
        if not 0 <= low <= high <= 1:
            raise ManifestError(f"found abstain_band {self.abstain_band!r}, expected 0 <= low <= high <= 1")
        put(self, "abstain_band", (low, high))
        put(self, "interval_logit_sd", _finite(self.interval_logit_sd, "interval_logit_sd"))
        if self.max_uncertainty is not None:
            put(self, "max_uncertainty", _finite(self.max_uncertainty, "max_uncertainty"))
        if self.interval_logit_sd < 0:
            raise ManifestError(f"found interval_logit_sd {self.interval_logit_sd!r}, expected 0 or more")
        if self.primary not in self.calibrations or self.primary not in self.thresholds:
            raise ManifestError(
                f"found primary label {self.primary!r}, expected one with calibration ({', '.join(self.calibrations)}) "
                f"and threshold ({', '.join(self.thresholds)})"
            )
        stray = sorted(set(self.thresholds) - set(self.calibrations))
        if stray:
            raise ManifestError(
                f"found thresholds without calibration {stray}, expected some of {sorted(self.calibrations)}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return {
            "primary": self.primary,
            "calibrations": {k: {"slope": c.slope, "intercept": c.intercept} for k, c in self.calibrations.items()},
            "thresholds": dict(self.thresholds),
            "abstain_band": list(self.abstain_band),
            "max_uncertainty": self.max_uncertainty,
            "interval_logit_sd": self.interval_logit_sd,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DecisionRule:
        """Return the rule of a mapping; every field must be there and no other."""
        expected = {"primary", "calibrations", "thresholds", "abstain_band", "max_uncertainty", "interval_logit_sd"}
        if not isinstance(values, dict) or set(values) != expected:
            found = sorted(values) if isinstance(values, dict) else values
            raise ManifestError(f"found decision fields {found!r}, expected {sorted(expected)}")
        try:
            calibrations = {str(k): Calibration(**c) for k, c in values["calibrations"].items()}
            return cls(**{**values, "calibrations": calibrations, "abstain_band": tuple(values["abstain_band"])})
        except (TypeError, AttributeError, ValueError) as error:
            raise ManifestError(
                f"found a decision rule of the wrong shape ({error}), expected numbers by label"
            ) from error


def sigmoid(logit: float) -> float:
    """Return 1 / (1 + exp(-logit)) without overflow."""
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    odds = math.exp(logit)
    return odds / (1.0 + odds)


def _finite(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ManifestError(f"found {name} {value!r}, expected a finite number")
    return float(value)
