"""From logits and quality to exactly one of four outcomes.

DETECTED, NOT DETECTED, ABSTAIN (with reasons) and ERROR (with code and advice). NOT DETECTED is given in one place
only, after every input was found finite, the recording acceptable and the model sure enough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lsemvae.ecg.errors import ADVICE, EcgError, InferenceError
from lsemvae.ecg.reasons import Reason, advice
from lsemvae.ecg.rule import DecisionRule, sigmoid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lsemvae.ecg.quality import QualityReport

# Two-sided 95 % of a normal distribution.
_Z95: Final = 1.96
_DETECTED_ADVICE: Final = "The ECG shows the pattern: a clinician should review it. This is no diagnosis."
_NOT_DETECTED_ADVICE: Final = "The ECG does not show the pattern. This does not rule out disease; symptoms decide."


class Outcome(StrEnum):
    """The four outcomes; there is no fifth."""

    DETECTED = "DETECTED"
    NOT_DETECTED = "NOT DETECTED"
    ABSTAIN = "ABSTAIN"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One outcome with everything that led to it.

    Attributes
    ----------
    outcome, label
        What was decided, about which label; the label is empty where no rule was reached.
    probability, interval
        Calibrated probability of the label and its 95 % interval; None beside ABSTAIN and ERROR, where a number would
        be read as a result.
    probabilities
        Calibrated probability of every output, also beside ABSTAIN where the model ran: for the record, not for the
        screen.
    uncertainty
        The model's own uncertainty, or None.
    reasons
        Why the outcome is ABSTAIN or ERROR.
    error_code, advice
        Stable code of an ERROR; what to do.
    """

    outcome: Outcome
    label: str = ""
    probability: float | None = None
    interval: tuple[float, float] | None = None
    probabilities: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    uncertainty: float | None = None
    reasons: tuple[str, ...] = ()
    error_code: str | None = None
    advice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return {
            "outcome": self.outcome.value,
            "label": self.label,
            "probability": self.probability,
            "interval": None if self.interval is None else list(self.interval),
            "probabilities": dict(self.probabilities),
            "uncertainty": self.uncertainty,
            "reasons": list(self.reasons),
            "error_code": self.error_code,
            "advice": self.advice,
        }


def decide(
    logits: Mapping[str, float] | None, *, quality: QualityReport, uncertainty: float | None, rule: DecisionRule
) -> Decision:
    """Return the one of four outcomes that logits, quality and uncertainty lead to.

    Parameters
    ----------
    logits
        Logit of every output of the rule; None where the model did not run.
    quality
        Report of the quality gate.
    uncertainty
        The model's uncertainty, or None where it has none.
    rule
        Rule from the manifest.

    Returns
    -------
    Decision
        ERROR (E_INFERENCE) if any number is missing or not finite; else ABSTAIN if the recording is not acceptable,
        the uncertainty too large or the probability inside the abstain band; else DETECTED at or above the threshold;
        else NOT DETECTED.
    """
    if logits is None and not quality.acceptable:
        return _abstain(quality.reasons, rule=rule)
    try:
        if logits is None:
            raise InferenceError("found no logits for an acceptable recording, expected one for each output")
        if set(logits) != set(rule.calibrations):
            raise InferenceError(f"found logits for {sorted(logits)}, expected {sorted(rule.calibrations)}")
        calibrated = {
            label: rule.calibrations[label].apply(_number(value, f"logit of {label}"))
            for label, value in logits.items()
        }
        if uncertainty is None and rule.max_uncertainty is not None:
            raise InferenceError(f"found no uncertainty, expected one of at most {rule.max_uncertainty:g}")
        sure = None if uncertainty is None else _number(uncertainty, "uncertainty")
    except InferenceError as error:
        return error_decision(error, label=rule.primary)

    probabilities = {label: sigmoid(logit) for label, logit in calibrated.items()}
    p = probabilities[rule.primary]
    reasons = quality.reasons or (Reason.OUT_OF_RANGE,)
    if quality.acceptable:
        low, high = rule.abstain_band
        too_wide = rule.max_uncertainty is not None and sure is not None and sure > rule.max_uncertainty
        reasons = (Reason.UNCERTAIN,) if too_wide or low <= p < high else ()
    if reasons:
        return _abstain(reasons, rule=rule, probabilities=probabilities, uncertainty=sure)
    half = _Z95 * rule.interval_logit_sd
    detected = p >= rule.thresholds[rule.primary]
    return Decision(
        outcome=Outcome.DETECTED if detected else Outcome.NOT_DETECTED,
        label=rule.primary,
        probability=p,
        interval=(sigmoid(calibrated[rule.primary] - half), sigmoid(calibrated[rule.primary] + half)),
        probabilities=MappingProxyType(probabilities),
        uncertainty=sure,
        advice=_DETECTED_ADVICE if detected else _NOT_DETECTED_ADVICE,
    )


def error_decision(error: BaseException, *, label: str = "") -> Decision:
    """Return the ERROR decision of an exception.

    Of a foreign exception only the type is named: its text may hold personal data.
    """
    if isinstance(error, EcgError):
        return Decision(
            outcome=Outcome.ERROR, label=label, reasons=(str(error),), error_code=error.code, advice=error.advice
        )
    code = EcgError.code
    return Decision(
        outcome=Outcome.ERROR, label=label, reasons=(type(error).__name__,), error_code=code, advice=ADVICE[code]
    )


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise InferenceError(f"found {name} {value!r}, expected a number")
    if not math.isfinite(value):
        raise InferenceError(f"found {name} {value!r}, expected a finite number")
    return float(value)


def _abstain(
    reasons: tuple[Reason, ...],
    *,
    rule: DecisionRule,
    probabilities: Mapping[str, float] | None = None,
    uncertainty: float | None = None,
) -> Decision:
    return Decision(
        outcome=Outcome.ABSTAIN,
        label=rule.primary,
        probabilities=MappingProxyType(dict(probabilities or {})),
        uncertainty=uncertainty,
        reasons=tuple(reason.value for reason in reasons),
        advice=" ".join(advice(reason) for reason in reasons),
    )
