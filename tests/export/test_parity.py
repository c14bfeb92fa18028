"""The parity gates: each bar lets the good through and stops what misses it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from export.errors import ExportGateError
from export.gates.gates import GateThresholds
from export.gates.outputs import Outputs
from export.gates.parity import (
    REFERENCE,
    AurocPair,
    compare_all,
    gate_failures,
    outcomes,
    probabilities,
    require_parity,
)
from lsemvae.ecg.rule import Calibration, DecisionRule

LABELS = ("RHS", "RBBB_any", "NORM")
RULE = DecisionRule(
    primary="RHS",
    calibrations={label: Calibration(slope=1.0, intercept=0.0) for label in LABELS},
    thresholds=dict.fromkeys(LABELS, 0.5),
)
GATES = GateThresholds()
N = 600


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return (np.random.default_rng(0).random((N, 3)) < 0.2).astype(float)


@pytest.fixture(scope="module")
def reference(truth: np.ndarray) -> Outputs:
    rng = np.random.default_rng(1)
    logits = (4.0 * truth - 2.0 + rng.normal(0, 1.5, truth.shape)).astype(np.float32)
    return Outputs(logits, rng.normal(0, 0.1, (N, 1)).astype(np.float32))


def judged(candidate: Outputs, reference: Outputs, truth: np.ndarray, name: str = "tflite_int8", **extra: Outputs):
    outputs = {REFERENCE: reference, name: candidate, **extra}
    return compare_all(outputs, labels=LABELS, truth=truth, rule=RULE, gates=GATES)


def noisy(reference: Outputs, sd: float) -> Outputs:
    noise = np.random.default_rng(2).normal(0, sd, reference.logits.shape).astype(np.float32)
    return replace(reference, logits=reference.logits + noise)


def test_equal_outputs_pass_with_nothing_lost(reference: Outputs, truth: np.ndarray) -> None:
    report = require_parity(judged(reference, reference, truth))
    found = report.comparison("tflite_int8")
    assert (found.decision_agreement, found.label_agreement, found.p99_dp, found.max_dlogit) == (1.0, 1.0, 0.0, 0.0)
    assert [pair.change for pair in found.auroc] == [0.0, 0.0, 0.0]


def test_rounding_of_int8_size_passes(reference: Outputs, truth: np.ndarray) -> None:
    assert not judged(noisy(reference, 0.01), reference, truth).failures


@pytest.mark.promise(82)
def test_noise_that_flips_decisions_is_stopped_with_both_sides_named(reference: Outputs, truth: np.ndarray) -> None:
    with pytest.raises(ExportGateError, match=r"agreement of outcomes 0\.\d+; expected at least 0\.99") as caught:
        require_parity(judged(noisy(reference, 1.0), reference, truth))
    assert caught.value.code == "E_EXPORT_GATE"
    assert "Nothing was written" in caught.value.advice


@pytest.mark.promise(82)
def test_shifted_probabilities_are_stopped_even_where_no_decision_flips(truth: np.ndarray) -> None:
    far = Outputs(np.where(truth > 0, 3.0, -3.0).astype(np.float32), np.zeros((N, 1), np.float32))
    failures = judged(replace(far, logits=far.logits * 0.5), far, truth).failures
    assert len(failures) == 1
    assert "99th percentile of |dp|" in failures[0]


@pytest.mark.promise(82)
def test_lost_ranking_is_stopped_for_every_output(reference: Outputs, truth: np.ndarray) -> None:
    def scrambled(column: int) -> tuple[str, ...]:
        logits = reference.logits.copy()
        negatives = np.flatnonzero(logits[:, column] < -0.5)
        logits[negatives, column] = logits[negatives[::-1], column]
        return judged(replace(reference, logits=logits), reference, truth).failures

    for column, label in enumerate(LABELS):
        assert any(f"AUROC of {label}" in failure for failure in scrambled(column))


def test_an_auroc_may_change_by_three_thousandths_and_no_more(reference: Outputs, truth: np.ndarray) -> None:
    found = judged(reference, reference, truth).comparisons[0]
    for change, stopped in ((0.0029, False), (-0.0029, False), (0.0031, True), (-0.0031, True)):
        moved = replace(found, auroc=(AurocPair("RHS", 50, 0.9, 0.9 + change),))
        assert bool(gate_failures(moved, GATES)) is stopped


def test_outcomes_must_agree_on_995_of_a_thousand(reference: Outputs, truth: np.ndarray) -> None:
    found = judged(reference, reference, truth).comparisons[0]
    assert not gate_failures(replace(found, decision_agreement=0.995), GATES)
    (failure,) = gate_failures(replace(found, decision_agreement=0.9949), GATES)
    assert "expected at least 0.995" in failure


def test_outputs_with_too_few_positives_are_named_in_the_text(reference: Outputs, truth: np.ndarray) -> None:
    few = truth.copy()
    few[:, 1] = 0.0
    few[:4, 1] = 1.0
    found = judged(reference, reference, few).comparisons[0]
    assert "too few positives for RBBB_any (4)" in found.text(min_positives=GATES.min_positives)


def test_an_auroc_of_fewer_than_five_positives_is_reported_but_not_gated(reference: Outputs, truth: np.ndarray) -> None:
    few = truth.copy()
    few[:, 1] = 0.0
    few[:4, 1] = 1.0
    found = judged(replace(reference, logits=reference.logits[:, [0, 0, 2]]), reference, few)
    pair = next(pair for pair in found.comparisons[0].auroc if pair.label == "RBBB_any")
    assert pair.positives == 4
    assert abs(pair.change) > GATES.max_auroc_change
    shown = found.comparisons[0].max_auroc_change(min_positives=GATES.min_positives)
    assert shown == max(abs(other.change) for other in found.comparisons[0].auroc if other.label != "RBBB_any")
    assert not any("AUROC of RBBB_any" in failure for failure in found.failures)


def test_unknown_labels_are_left_out_of_the_auroc(reference: Outputs, truth: np.ndarray) -> None:
    partly = truth.copy()
    partly[N // 2 :, 0] = np.nan
    pair = judged(reference, reference, partly).comparisons[0].auroc[0]
    assert (pair.label, pair.positives) == ("RHS", int(truth[: N // 2, 0].sum()))


@pytest.mark.promise(82)
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["tflite_int8", "onnx_fp32"])
def test_a_single_number_that_is_not_finite_is_stopped(
    reference: Outputs, truth: np.ndarray, value: float, name: str
) -> None:
    uncertainty = reference.uncertainty.copy()
    uncertainty[7] = value
    logits = reference.logits.copy()
    logits[3, 1] = value
    for broken in (replace(reference, uncertainty=uncertainty), replace(reference, logits=logits)):
        failures = judged(broken, reference, truth, name).failures
        assert any("NaN or infinite" in failure for failure in failures)


def test_float_files_may_differ_by_rounding_only(reference: Outputs, truth: np.ndarray) -> None:
    assert not judged(noisy(reference, 1e-5), reference, truth, "onnx_fp32").failures
    failures = judged(noisy(reference, 1e-2), reference, truth, "onnx_fp32").failures
    assert any("logit change" in failure and "expected at most 0.001" in failure for failure in failures)


def test_a_float_file_with_another_uncertainty_is_stopped(reference: Outputs, truth: np.ndarray) -> None:
    other = replace(reference, uncertainty=reference.uncertainty + np.float32(0.01))
    (failure,) = judged(other, reference, truth, "onnx_fp32").failures
    assert "uncertainty change of 0.01" in failure


@pytest.mark.promise(93)
def test_an_int8_file_with_a_dead_uncertainty_is_stopped(reference: Outputs, truth: np.ndarray) -> None:
    """No recording abstains by it under this rule, so no outcome tells."""
    dead = replace(reference, uncertainty=np.full_like(reference.uncertainty, reference.uncertainty.mean()))
    (failure,) = judged(dead, reference, truth).failures
    assert "99th percentile of |d uncertainty|" in failure


def test_outputs_in_another_order_are_stopped_in_both_types(reference: Outputs, truth: np.ndarray) -> None:
    swapped = replace(reference, logits=reference.logits[:, [1, 0, 2]])
    for name in ("tflite_int8", "tflite_fp32"):
        assert judged(swapped, reference, truth, name).failures


@pytest.mark.promise(82)
def test_the_two_int8_files_are_held_against_each_other(reference: Outputs, truth: np.ndarray) -> None:
    found = judged(reference, reference, truth, "tflite_int8", onnx_int8=noisy(reference, 1.0))
    assert ("onnx_int8", "tflite_int8") in {(c.candidate, c.reference) for c in found.comparisons}
    assert any(failure.startswith("onnx_int8 against tflite_int8") for failure in found.failures)


def test_outcomes_are_those_of_the_clinics_rule(reference: Outputs) -> None:
    rule = DecisionRule(
        primary="RHS",
        calibrations=RULE.calibrations,
        thresholds=RULE.thresholds,
        abstain_band=(0.4, 0.6),
        max_uncertainty=0.15,
    )
    found = outcomes(reference, labels=LABELS, rule=rule)
    p = probabilities(reference.logits, labels=LABELS, rule=rule)[:, 0]
    unsure = ((p >= 0.4) & (p < 0.6)) | (reference.uncertainty[:, 0] > 0.15)
    assert set(found) == {"DETECTED", "NOT DETECTED", "ABSTAIN"}
    np.testing.assert_array_equal(found == "ABSTAIN", unsure)
    np.testing.assert_array_equal(found == "DETECTED", ~unsure & (p >= 0.5))
