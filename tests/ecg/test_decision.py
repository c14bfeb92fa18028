"""The decision: exactly four outcomes, and NOT DETECTED only from finite numbers of an acceptable recording."""

from __future__ import annotations

import itertools
import json
import math
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsemvae.ecg import (
    Calibration,
    Decision,
    DecisionRule,
    InferenceError,
    LinkError,
    ManifestError,
    Outcome,
    QualityReport,
    Reason,
    decide,
    error_decision,
)
from lsemvae.ecg.rule import sigmoid

ODD_FLOATS = [
    0.0, -0.0, 5e-324, -5e-324, 2.2e-308, 1e-45, 1.0, -1.0, 40.0, -40.0, 800.0, -800.0, 1e308, -1e308,
    float("nan"), -float("nan"), struct.unpack("<d", b"\x01\0\0\0\0\0\xf0\x7f")[0], float("inf"), -float("inf"),
]  # fmt: skip

GOOD = QualityReport(acceptable=True, reasons=(), leads=(), details={})
BAD = QualityReport(acceptable=False, reasons=(Reason.NOISE, Reason.GAP), leads=(), details={})
PLAIN = DecisionRule(primary="RHS", calibrations={"RHS": Calibration(1.0, 0.0)}, thresholds={"RHS": 0.5})


@pytest.mark.promise(18)
def test_there_are_exactly_four_outcomes() -> None:
    assert [outcome.value for outcome in Outcome] == ["DETECTED", "NOT DETECTED", "ABSTAIN", "ERROR"]
    assert str(Outcome.NOT_DETECTED) == "NOT DETECTED"


@pytest.mark.parametrize(
    ("logit", "outcome"), [(0.0, "DETECTED"), (1e-9, "DETECTED"), (-1e-9, "NOT DETECTED"), (-9.0, "NOT DETECTED")]
)
def test_at_or_above_the_threshold_is_detected(logit: float, outcome: str) -> None:
    assert decide({"RHS": logit}, quality=GOOD, uncertainty=None, rule=PLAIN).outcome == outcome


@pytest.mark.parametrize(
    ("p", "outcome"),
    [(0.20, Outcome.NOT_DETECTED), (0.2501, Outcome.ABSTAIN), (0.3499, Outcome.ABSTAIN), (0.351, Outcome.DETECTED)],
)
def test_band_around_the_threshold_abstains(p: float, outcome: Outcome, rule: DecisionRule) -> None:
    logits = {"RHS": math.log(p / (1 - p)), "RVH": 0.0}
    decision = decide(logits, quality=GOOD, uncertainty=0.1, rule=rule)
    assert decision.outcome == outcome
    assert (decision.reasons == ("UNCERTAIN",)) == (outcome == Outcome.ABSTAIN)


def test_empty_band_abstains_nowhere() -> None:
    rule = replace(PLAIN, abstain_band=(0.5, 0.5))
    assert decide({"RHS": 0.0}, quality=GOOD, uncertainty=None, rule=rule).outcome == Outcome.DETECTED


@pytest.mark.parametrize(
    ("uncertainty", "outcome"), [(2.0, Outcome.DETECTED), (2.0001, Outcome.ABSTAIN), (-5.0, Outcome.DETECTED)]
)
def test_large_uncertainty_abstains(uncertainty: float, outcome: Outcome, rule: DecisionRule) -> None:
    logits = {"RHS": 3.0, "RVH": 0.0}
    assert decide(logits, quality=GOOD, uncertainty=uncertainty, rule=rule).outcome == outcome


def test_missing_uncertainty_is_an_error_where_the_rule_needs_it(rule: DecisionRule) -> None:
    decision = decide({"RHS": 3.0, "RVH": 0.0}, quality=GOOD, uncertainty=None, rule=rule)
    assert (decision.outcome, decision.error_code) == (Outcome.ERROR, "E_INFERENCE")


def test_probability_interval_and_columns(rule: DecisionRule) -> None:
    decision = decide({"RHS": 1.0, "RVH": 4.0}, quality=GOOD, uncertainty=0.5, rule=rule)
    assert decision.label == "RHS"
    assert decision.probability == pytest.approx(1 / (1 + math.exp(-1)))
    assert decision.interval == pytest.approx((sigmoid(1 - 1.96 * 0.4), sigmoid(1 + 1.96 * 0.4)))
    assert decision.probabilities == {"RHS": decision.probability, "RVH": pytest.approx(sigmoid(0.5 * 4 - 1))}
    assert decision.uncertainty == 0.5
    assert decision.error_code is None
    assert "no diagnosis" in decision.advice


@pytest.mark.promise(23)
def test_not_detected_says_that_it_does_not_rule_out_disease() -> None:
    assert "not rule out" in decide({"RHS": -9.0}, quality=GOOD, uncertainty=None, rule=PLAIN).advice


def test_bad_recording_abstains_with_reasons_and_advice_but_keeps_the_columns() -> None:
    decision = decide({"RHS": -9.0}, quality=BAD, uncertainty=None, rule=PLAIN)
    assert decision.outcome == Outcome.ABSTAIN
    assert decision.reasons == ("NOISE", "GAP")
    assert "Muscle" in decision.advice
    assert "lost on its way" in decision.advice
    assert decision.probability is None
    assert decision.interval is None
    assert decision.probabilities["RHS"] == pytest.approx(sigmoid(-9.0))


def test_bad_recording_without_inference_abstains() -> None:
    decision = decide(None, quality=BAD, uncertainty=None, rule=PLAIN)
    assert (decision.outcome, decision.reasons, dict(decision.probabilities)) == (Outcome.ABSTAIN, ("NOISE", "GAP"), {})


def test_good_recording_without_inference_is_an_error() -> None:
    decision = decide(None, quality=GOOD, uncertainty=None, rule=PLAIN)
    assert (decision.outcome, decision.error_code) == (Outcome.ERROR, "E_INFERENCE")


def test_unacceptable_without_reason_still_abstains() -> None:
    report = QualityReport(acceptable=False, reasons=(), leads=(), details={})
    assert decide({"RHS": -9.0}, quality=report, uncertainty=None, rule=PLAIN).outcome == Outcome.ABSTAIN


@pytest.mark.promise(19)
@pytest.mark.parametrize("quality", [GOOD, BAD], ids=["good", "bad"])
@pytest.mark.parametrize(("logit", "uncertainty"), list(itertools.product(ODD_FLOATS, [*ODD_FLOATS, None])))
def test_exhaustive_on_odd_floats(logit: float, uncertainty: float | None, quality: QualityReport) -> None:
    for make in (float, np.float64, np.float32):
        with np.errstate(over="ignore"):
            value = make(logit)
        decision = decide({"RHS": value}, quality=quality, uncertainty=uncertainty, rule=PLAIN)
        finite = math.isfinite(value) and (uncertainty is None or math.isfinite(uncertainty))
        assert decision.outcome in set(Outcome)
        if not finite:
            assert (decision.outcome, decision.error_code) == (Outcome.ERROR, "E_INFERENCE")
        elif not quality.acceptable:
            assert decision.outcome == Outcome.ABSTAIN
        else:
            assert decision.outcome == (Outcome.DETECTED if value >= 0 else Outcome.NOT_DETECTED) or abs(value) < 1e-15
        json.dumps(decision.to_dict(), allow_nan=False)


@pytest.mark.promise(20)
@given(
    logit=st.floats(),
    uncertainty=st.none() | st.floats(),
    slope=st.floats(1e-3, 1e3),
    intercept=st.floats(-1e3, 1e3),
    threshold=st.floats(0.001, 0.999),
    acceptable=st.booleans(),
)
def test_not_detected_only_from_finite_numbers_of_an_acceptable_recording(
    logit: float, uncertainty: float | None, slope: float, intercept: float, threshold: float, acceptable: bool
) -> None:
    rule = DecisionRule(
        primary="x", calibrations={"x": Calibration(slope, intercept)}, thresholds={"x": threshold}, max_uncertainty=1.0
    )
    decision = decide({"x": logit}, quality=GOOD if acceptable else BAD, uncertainty=uncertainty, rule=rule)
    if decision.outcome in (Outcome.NOT_DETECTED, Outcome.DETECTED):
        assert acceptable
        assert math.isfinite(logit)
        assert uncertainty is not None
        assert uncertainty <= 1.0
        assert decision.probability is not None
        assert 0 <= decision.probability <= 1
        assert (decision.probability >= threshold) == (decision.outcome == Outcome.DETECTED)
    if not math.isfinite(logit):
        assert decision.outcome == Outcome.ERROR


def test_overflow_in_calibration_is_an_error() -> None:
    rule = DecisionRule(primary="x", calibrations={"x": Calibration(10.0, 0.0)}, thresholds={"x": 0.5})
    for logit in (1e308, -1e308):
        decision = decide({"x": logit}, quality=GOOD, uncertainty=None, rule=rule)
        assert (decision.outcome, decision.error_code) == (Outcome.ERROR, "E_INFERENCE")


@pytest.mark.promise(19)
def test_one_bad_number_among_further_outputs_is_an_error(rule: DecisionRule) -> None:
    decision = decide({"RHS": -9.0, "RVH": float("nan")}, quality=GOOD, uncertainty=0.1, rule=rule)
    assert decision.outcome == Outcome.ERROR
    assert "RVH" in decision.reasons[0]


@pytest.mark.parametrize("logits", [{}, {"RHS": -9.0}, {"RVH": -9.0}, {"RHS": -9.0, "RVH": 0.0, "MI": 0.0}])
def test_missing_or_foreign_outputs_are_an_error(logits: dict[str, float], rule: DecisionRule) -> None:
    decision = decide(logits, quality=GOOD, uncertainty=0.1, rule=rule)
    assert (decision.outcome, decision.error_code) == (Outcome.ERROR, "E_INFERENCE")


@pytest.mark.parametrize("value", [None, "-9", True, [-9.0], np.array([-9.0]), 1j])
def test_no_number_is_an_error(value: Any) -> None:
    assert decide({"RHS": value}, quality=GOOD, uncertainty=None, rule=PLAIN).outcome == Outcome.ERROR


@pytest.mark.parametrize("value", [-9, np.int32(-9), np.float32(-9), np.float16(-9)])
def test_any_real_number_type_is_taken(value: Any) -> None:
    assert decide({"RHS": value}, quality=GOOD, uncertainty=None, rule=PLAIN).outcome == Outcome.NOT_DETECTED


@pytest.mark.promise(22)
def test_error_decision_carries_code_and_advice() -> None:
    decision = error_decision(LinkError("found silence, expected frames"))
    assert (decision.outcome, decision.error_code) == (Outcome.ERROR, "E_LINK")
    assert decision.reasons == ("found silence, expected frames",)
    assert "received is kept" in decision.advice


@pytest.mark.promise(22)
def test_foreign_exception_shows_its_type_and_not_its_text() -> None:
    decision = error_decision(KeyError("Mrs Smith"))
    assert (decision.outcome, decision.error_code, decision.reasons) == (Outcome.ERROR, "E_ECG", ("KeyError",))
    assert "Smith" not in json.dumps(decision.to_dict())


def test_decision_is_json_and_frozen() -> None:
    decision = decide({"RHS": 1.0}, quality=GOOD, uncertainty=0.5, rule=PLAIN)
    assert json.loads(json.dumps(decision.to_dict()))["outcome"] == "DETECTED"
    with pytest.raises(AttributeError):
        decision.outcome = Outcome.ERROR  # type: ignore[misc]
    with pytest.raises(TypeError):
        decision.probabilities["RHS"] = 0.0  # type: ignore[index]
    assert Decision(outcome=Outcome.ABSTAIN).to_dict()["probabilities"] == {}


# the rule ------------------------------------------------------------------------------------------------------------


@given(st.floats(-1e300, 1e300))
def test_sigmoid_stays_inside_and_is_symmetric(logit: float) -> None:
    assert 0.0 <= sigmoid(logit) <= 1.0
    assert sigmoid(logit) + sigmoid(-logit) == pytest.approx(1.0)


def test_rule_round_trip(rule: DecisionRule) -> None:
    assert DecisionRule.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule


def test_rule_cannot_be_changed(rule: DecisionRule) -> None:
    with pytest.raises(TypeError):
        rule.thresholds["RHS"] = 0.9  # type: ignore[index]


@pytest.mark.parametrize(
    "change",
    [
        {"primary": "MI"},
        {"thresholds": {}},
        {"thresholds": {"RHS": 0.0}},
        {"thresholds": {"RHS": 1.0}},
        {"thresholds": {"RHS": float("nan")}},
        {"thresholds": {"RHS": 0.5, "MI": 0.5}},
        {"abstain_band": (0.4, 0.3)},
        {"abstain_band": (-0.1, 0.3)},
        {"abstain_band": (0.1,)},
        {"max_uncertainty": float("inf")},
        {"interval_logit_sd": -1.0},
        {"interval_logit_sd": float("nan")},
        {"interval_logit_sd": True},
    ],
)
def test_rule_that_cannot_decide_is_refused(change: dict[str, Any], rule: DecisionRule) -> None:
    with pytest.raises(ManifestError, match="expected"):
        replace(rule, **change)


@pytest.mark.parametrize(
    ("slope", "intercept"), [(0.0, 0.0), (-1.0, 0.0), (float("nan"), 0.0), (1.0, float("inf")), ("1", 0.0)]
)
def test_calibration_that_turns_the_answer_round_is_refused(slope: Any, intercept: Any) -> None:
    with pytest.raises(ManifestError):
        Calibration(slope, intercept)


@pytest.mark.parametrize(
    "change",
    [
        {"more": 1},
        {"calibrations": {"RHS": {"slope": 1.0}}},
        {"calibrations": []},
        {"abstain_band": 0.5},
        {"thresholds": 3},
    ],
)
def test_rule_of_the_wrong_shape_is_refused(change: dict[str, Any], rule: DecisionRule) -> None:
    with pytest.raises(ManifestError):
        DecisionRule.from_dict({**rule.to_dict(), **change})


def test_rule_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(ManifestError):
        DecisionRule.from_dict([1])  # type: ignore[arg-type]


def test_calibrated_logit_that_is_not_finite_raises() -> None:
    with pytest.raises(InferenceError):
        Calibration(1.0, 0.0).apply(float("nan"))
