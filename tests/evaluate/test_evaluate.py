"""Figures: against scikit-learn and by hand; the floor; calibration that uses held-out data only; the card."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from lsemvae.ecg.errors import FormatError, SampleError
from lsemvae.evaluate.calibrate import apply_platt, fit_rule, platt, spread_between_models, threshold_at_specificity
from lsemvae.evaluate.card import LABEL_STATEMENT, CardFacts, render_card
from lsemvae.evaluate.floor import floor_probabilities, hand_features
from lsemvae.evaluate.metrics import (
    auprc,
    auroc,
    bootstrap,
    brier,
    expected_calibration_error,
    paired_difference,
    report_label,
)
from lsemvae.evaluate.plots import draw_curves

RNG = np.random.default_rng(0)


def _sample(n: int = 1500, slope: float = 2.0, shift: float = -1.0) -> tuple[np.ndarray, np.ndarray]:
    logit = RNG.normal(0, 1, n)
    p = 1 / (1 + np.exp(-(slope * logit + shift)))
    return (RNG.random(n) < p).astype(float), logit


@pytest.mark.promise(79)
def test_platt_finds_the_slope_and_intercept_that_made_the_labels() -> None:
    y, logit = _sample(20_000)
    found = platt(y, logit)
    assert found.slope == pytest.approx(2.0, abs=0.12)
    assert found.intercept == pytest.approx(-1.0, abs=0.08)
    assert expected_calibration_error(y, apply_platt(found, logit)) < 0.02


@pytest.mark.promise(79)
def test_a_label_that_ranks_backwards_stays_at_its_share_and_a_primary_one_is_refused() -> None:
    y, logit = _sample()
    p = apply_platt(platt(1 - y, logit), logit)
    np.testing.assert_allclose(p, (1 - y).mean(), atol=0.01)
    with pytest.raises(SampleError, match="A ranks held-out recordings no better than chance"):
        fit_rule(("A",), (1 - y)[:, None], logit[:, None], logit, primary="A", logit_sd=0.0)


def test_unlabelled_recordings_do_not_calibrate() -> None:
    y, logit = _sample()
    holes = y.copy()
    holes[::3] = np.nan
    assert platt(holes, logit) == platt(np.delete(y, np.s_[::3]), np.delete(logit, np.s_[::3]))


@pytest.mark.promise(79)
def test_threshold_keeps_the_target_specificity() -> None:
    y, logit = _sample()
    at = threshold_at_specificity(y, logit, 0.9)
    assert (logit[y == 0] < at).mean() >= 0.9
    assert (logit[y == 0] < np.nextafter(at, -np.inf) - 1e-3).mean() < 0.9 + 1e-2


@pytest.mark.parametrize("n", [1, 7, 10, 30, 99])
def test_defect_threshold_keeps_the_target_specificity_also_where_probabilities_are_equal(n: int) -> None:
    y = np.zeros(n)
    for p in (np.full(n, 0.25), np.round(np.linspace(0.1, 0.4, n), 1), np.linspace(0.1, 0.4, n)):
        at = threshold_at_specificity(y, p, 0.9)
        assert (p < at).mean() >= 0.9
        lower = p[p < at]
        assert not len(lower) or (p < lower.max()).mean() < 0.9, "the next lower probability would call too many"


def test_defect_calibration_names_the_label_that_has_one_answer_only() -> None:
    y, logit = _sample(200)
    both = np.stack([y, np.zeros(200)], 1)
    with pytest.raises(SampleError, match="RAE: found 0 positives and 200 negatives") as caught:
        fit_rule(("RHS", "RAE"), both, np.stack([logit, logit], 1), logit, primary="RHS", logit_sd=0.0)
    assert "held-out" in caught.value.advice


def test_defect_a_recording_that_a_model_cannot_read_does_not_spoil_the_spread() -> None:
    draws = RNG.normal(0, 0.7, (3, 20_000))
    draws[1, :50] = np.nan
    assert spread_between_models(draws) == pytest.approx(0.7, rel=0.02)


def test_an_output_without_an_operating_point_has_no_sensitivity() -> None:
    y, logit = _sample(400)
    report = report_label("RHS", y, logit, threshold=math.nan, patients=np.arange(400)).to_dict()
    assert report["sensitivity"] == report["specificity"] == [None, None, None]
    assert report["auroc"][0] is not None  # type: ignore[index]


def test_auroc_and_auprc_are_those_of_scikit_learn_also_with_ties() -> None:
    for k in range(20):
        rng = np.random.default_rng(k)
        y, p = (rng.random(80) < 0.3).astype(float), np.round(rng.random(80), 1 + k % 3)
        assert auroc(y, p) == pytest.approx(roc_auc_score(y, p))
        assert auprc(y, p) == pytest.approx(average_precision_score(y, p))
    assert math.isnan(auprc(np.zeros(5), np.arange(5.0)))
    assert math.isnan(auroc(np.ones(5), np.arange(5.0)))


@pytest.mark.slow
@pytest.mark.promise(78)
def test_interval_holds_the_truth_about_95_times_in_100() -> None:
    truth = 0.7602  # Phi(1 / sqrt 2): two normal distributions one standard deviation apart
    hits = 0
    for k in range(150):
        rng = np.random.default_rng(5000 + k)
        y = (rng.random(200) < 0.4).astype(float)
        p = y + rng.normal(0, 1.0, 200)
        e = bootstrap(auroc, y, p, patients=np.arange(200), n=200, seed=k)
        hits += e.low <= truth <= e.high
    assert 0.90 <= hits / 150 <= 0.99


@pytest.mark.promise(78)
def test_patients_are_resampled_whole() -> None:
    y, logit = _sample(300)
    twice = bootstrap(auroc, np.tile(y, 2), np.tile(logit, 2), patients=np.tile(np.arange(300), 2), n=300)
    once = bootstrap(auroc, y, logit, patients=np.arange(300), n=300)
    assert twice.high - twice.low == pytest.approx(once.high - once.low, rel=0.15)


@pytest.mark.promise(78)
def test_a_model_does_not_differ_from_itself_and_does_from_noise() -> None:
    y, logit = _sample(600)
    who = np.arange(600)
    same = paired_difference(auroc, y, logit, logit, patients=who, n=100)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert paired_difference(auroc, y, logit, RNG.normal(size=600), patients=who, n=100).low > 0


@pytest.mark.promise(78)
def test_too_few_positives_give_no_interval() -> None:
    y = np.zeros(50)
    y[:3] = 1
    assert math.isnan(bootstrap(auroc, y, RNG.random(50), patients=np.arange(50)).value)


def test_report_counts_only_what_is_labelled_and_scored() -> None:
    y, logit = _sample(400)
    p = 1 / (1 + np.exp(-logit))
    y[:10], p[10:20] = np.nan, np.nan
    report = report_label("RHS", y, p, threshold=0.5, patients=np.arange(400))
    assert report.n == 380
    assert report.auroc.value == pytest.approx(roc_auc_score(y[20:], p[20:]))
    assert report.brier == pytest.approx(brier(y[20:], p[20:]))
    assert report.to_dict()["auroc"][0] == round(report.auroc.value, 5)  # type: ignore[index]


def test_the_rule_puts_the_least_certain_percent_aside() -> None:
    y, logit = _sample(2000)
    doubt = RNG.random(2000)
    rule = fit_rule(("A", "B"), np.stack([y, y], 1), np.stack([logit, logit], 1), doubt, primary="A", logit_sd=0.3)
    assert rule.max_uncertainty is not None
    assert (doubt > rule.max_uncertainty).mean() == pytest.approx(0.01, abs=0.002)
    assert rule.abstain_band[0] == rule.abstain_band[1] == rule.thresholds["A"]


def test_spread_between_models_is_their_standard_deviation() -> None:
    draws = RNG.normal(0, 0.7, (3, 20_000))
    assert spread_between_models(draws) == pytest.approx(0.7, rel=0.02)


def _row(axis: float, age: str = "60") -> dict[str, str]:
    return {"m_hr": "70", "m_rr_cv": "0.1", "m_beat_corr": "0.99", "m_qrs_ms": "90", "m_S_I": "0.1", "m_R_aVR": "0.1",
            "m_P_II": "0.1", "m_qrs_axis": str(axis), "age": age, "sex": "F"}  # fmt: skip


@pytest.mark.promise(80)
def test_the_floor_learns_the_axis_and_never_sees_its_own_fold() -> None:
    axis = RNG.uniform(-90, 180, 600)
    y = (axis > 90).astype(float)
    folds = np.arange(600) % 3 + 1
    p = floor_probabilities(hand_features([_row(a) for a in axis]), y, folds, [(1,), (2,), (3,)])
    assert auroc(y, p) > 0.97
    broken = y.copy()
    broken[folds == 1] = 1 - broken[folds == 1]
    q = floor_probabilities(hand_features([_row(a) for a in axis]), broken, folds, [(1,), (2,), (3,)])
    np.testing.assert_allclose(q[folds == 1], p[folds == 1])


def test_the_floor_is_empty_where_the_other_folds_hold_one_answer_only() -> None:
    y, folds = np.array([1.0, 0, 0, 0, 0, 0]), np.array([1, 1, 2, 2, 2, 2])
    p = floor_probabilities(hand_features([_row(a) for a in range(6)]), y, folds, [(1,), (2,)])
    assert np.isnan(p[:2]).all()
    assert np.isfinite(p[2:]).all()


def test_defect_a_measurement_that_is_no_number_is_named() -> None:
    with pytest.raises(FormatError, match="found m_hr 'fast', expected a number or nothing"):
        hand_features([{**_row(30.0), "m_hr": "fast"}])


def test_missing_measurements_are_imputed_not_invented_as_zero() -> None:
    features = hand_features([_row(30.0, age=""), _row(30.0)])
    assert np.isnan(features[0, 9])
    assert features[1, 9] == 60


@pytest.mark.promise(37)
def test_card_says_first_that_labels_are_not_pulmonary_hypertension() -> None:
    y, logit = _sample(300)
    row = report_label("RHS", y, 1 / (1 + np.exp(-logit)), threshold=0.5, patients=np.arange(300)).to_dict()
    facts = CardFacts(
        version="0.1.0", n_parameters=1, n_train=2, n_patients=2, rows=[{**row, "negatives": "axis stated"}],
        floor={"RHS/axis stated": {"auroc": [0.8, 0.7, 0.9], "difference": [0.1, 0.0, 0.2]}},
        outcomes={"DETECTED": 1, "NOT DETECTED": 3, "ABSTAIN": 0, "ERROR": 0},
        teacher_rows=[{**row, "leads": "12"}], command="lsemvae evaluate X", cv_folds=[(1,), (2,)], data_sha256="ab" * 32,
    )  # fmt: skip
    text = render_card(facts)
    assert text.splitlines()[0] == f"**{LABEL_STATEMENT}**"
    assert "not pulmonary hypertension" in text.splitlines()[0]
    assert "0.800 (0.700 to 0.900)" in text
    assert "NOT DETECTED 3 (75.0 %)" in text


def test_curves_are_a_picture(tmp_path) -> None:  # type: ignore[no-untyped-def]
    y, logit = _sample(300)
    draw_curves(tmp_path / "c.png", {"RHS": (y, 1 / (1 + np.exp(-logit)))}, title="t")
    assert (tmp_path / "c.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
