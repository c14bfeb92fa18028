"""Calibrators and conformal sets: fitted on other folds only, compared by paired intervals, coverage as promised."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lsemvae.ecg.errors import SampleError
from lsemvae.evaluate.calibrate import (
    METHODS,
    compare_calibrations,
    crossfit,
    crossfit_thresholds,
    fit_isotonic,
    fit_temperature,
    fold_groups,
    sigmoid,
)
from lsemvae.evaluate.conformal import conformal_figures, conformal_sets, crossfit_sets, p_values
from lsemvae.evaluate.resampling import patient_weights


def _logits(n: int, *, seed: int = 0, slope: float = 1.0, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """y drawn with probability sigmoid(slope * logit + shift)."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 2, n)
    return (rng.random(n) < sigmoid(slope * logit + shift)).astype(float), logit


def test_temperature_finds_the_temperature_that_made_the_labels() -> None:
    y, logit = _logits(20_000, slope=0.5)
    np.testing.assert_allclose(fit_temperature(y, logit)(logit), sigmoid(logit / 2), atol=0.02)


def test_temperature_is_where_its_log_loss_is_least() -> None:
    y, logit = _logits(400, slope=0.7, shift=0.3)
    p = fit_temperature(y, logit)(logit)
    found = np.median(logit[np.abs(logit) > 0.1] / np.log(p / (1 - p))[np.abs(logit) > 0.1])

    def loss(t: float) -> float:
        return float(np.mean(np.logaddexp(0, np.where(y == 1, -logit, logit) / t)))

    assert loss(found) <= min(loss(found * 1.02), loss(found / 1.02))


def test_isotonic_is_monotone_and_never_certain() -> None:
    y, logit = _logits(300)
    p = fit_isotonic(y, logit)(np.linspace(-50, 50, 500))
    assert (np.diff(p) >= 0).all()
    assert p[0] >= 1 / 302
    assert p[-1] <= 1 - 1 / 302


@pytest.mark.promise(105)
@pytest.mark.parametrize("name", list(METHODS))
def test_a_groups_probabilities_do_not_depend_on_its_own_labels(name: str) -> None:
    y, logit = _logits(300)
    group = np.arange(300) % 3
    flipped = np.where(group == 1, 1 - y, y)
    before, after = (crossfit(truth, logit, group, METHODS[name]) for truth in (y, flipped))
    np.testing.assert_array_equal(before[group == 1], after[group == 1])
    assert not np.array_equal(before[group == 0], after[group == 0])


def test_operating_points_come_from_the_other_groups_and_keep_their_specificity() -> None:
    y, logit = _logits(3000)
    group = np.arange(3000) % 3
    p = sigmoid(logit)
    at = crossfit_thresholds(y, p, group)
    for k in range(3):
        others = (group != k) & (y == 0)
        assert np.mean(p[others] < at[group == k][0]) == pytest.approx(0.9, abs=0.002)
    assert np.mean((p < at)[y == 0]) == pytest.approx(0.9, abs=0.02)


def test_unscored_recordings_stay_unscored() -> None:
    y, logit = _logits(90)
    logit[::10] = np.nan
    assert np.isnan(crossfit(y, logit, np.arange(90) % 3, METHODS["platt"])).nonzero()[0].tolist() == list(
        range(0, 90, 10)
    )


def test_each_fold_needs_a_group() -> None:
    assert fold_groups(np.array([1, 9, 4]), [(1, 2), (4,), (9,)]).tolist() == [0, 2, 1]
    with pytest.raises(SampleError, match=r"found folds \[9\]"):
        fold_groups(np.array([1, 9]), [(1, 2)])


def test_the_shipped_method_stays_unless_another_is_better_by_its_interval() -> None:
    y, logit = _logits(2000, slope=0.4, shift=-1.5)
    rows = {
        r.method: r
        for r in compare_calibrations(y, logit, np.arange(2000) % 3, weights=patient_weights(np.arange(2000), n=200))
    }
    assert rows["platt"].verdict == "shipped"
    assert rows["temperature"].verdict == "worse", "one temperature cannot move the share of positives"
    assert rows["temperature"].brier_difference.low > 0
    assert rows["temperature"].ece > 3 * rows["platt"].ece


def test_isotonic_is_better_where_the_truth_is_a_step() -> None:
    rng = np.random.default_rng(2)
    logit = rng.normal(0, 2, 3000)
    y = (rng.random(3000) < np.where(np.abs(logit) < 1.5, 0.5, np.where(logit > 0, 0.98, 0.02))).astype(float)
    rows = {
        r.method: r
        for r in compare_calibrations(y, logit, np.arange(3000) % 3, weights=patient_weights(np.arange(3000), n=200))
    }
    assert rows["isotonic"].verdict == "better"
    assert rows["isotonic"].brier_difference.high < 0


def test_too_few_positives_give_empty_rows() -> None:
    y, logit = np.zeros(60), np.arange(60.0)
    y[:4] = 1
    rows = compare_calibrations(y, logit, np.arange(60) % 3, weights=np.ones((5, 60), np.float32))
    assert all(math.isnan(row.brier.value) for row in rows)
    assert {row.verdict for row in rows} == {"shipped", "-"}


def test_conformal_p_value_counts_the_new_recording_with_the_held_out_ones() -> None:
    np.testing.assert_allclose(p_values(np.array([1.0, 2, 3]), np.array([0.0, 2, 4])), [4 / 4, 3 / 4, 1 / 4])


@pytest.mark.promise(105)
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2])
def test_either_answer_is_kept_with_probability_1_minus_alpha(alpha: float) -> None:
    kept: list[tuple[float, float]] = []
    for seed in range(60):
        y, logit = _logits(1200, seed=seed, shift=-2.0)
        sets = conformal_sets(y[:600], logit[:600], logit[600:], alpha=alpha)
        new = y[600:]
        kept.append((sets[new == 0, 0].mean(), sets[new == 1, 1].mean()))
    for mean in np.mean(kept, axis=0):
        assert 1 - alpha - 0.012 < mean < 1 - alpha + 0.022, "at least 1 - alpha, and at most 1/(n+1) above it"


def test_a_score_that_separates_gives_single_answers_and_noise_gives_both_or_none() -> None:
    y, _ = _logits(900)
    group = np.arange(900) % 3
    sharp = crossfit_sets(y, 10 * y + np.random.default_rng(0).normal(size=900), group, alpha=0.1)
    blind = crossfit_sets(y, np.random.default_rng(1).normal(size=900), group, alpha=0.1)
    # With alpha 0.1 a tenth of each class is outside its own set even where the classes are apart.
    assert set(sharp.sum(1)) <= {0.0, 1.0}
    assert 1.7 < blind.sum(1).mean() < 1.9


def test_too_few_held_out_positives_keep_yes_in_every_set() -> None:
    y = np.repeat([1.0, 0], [5, 100])
    score = np.concatenate([np.full(5, 9.0), np.random.default_rng(0).normal(size=100)])
    assert conformal_sets(y, score, np.array([-99.0]), alpha=0.1)[0].tolist() == [True, True], (
        "5 cannot rule out at 1 in 10"
    )


def test_measured_coverage_is_that_of_the_sets_by_hand() -> None:
    y, logit = _logits(600, shift=-1)
    group, weights = np.arange(600) % 3, patient_weights(np.arange(600), n=100)
    sets = crossfit_sets(y, logit, group, alpha=0.1)
    f = conformal_figures(y, logit, group, weights=weights)
    assert f.coverage_positive.value == pytest.approx(sets[y == 1, 1].mean())
    assert f.coverage_negative.value == pytest.approx(sets[y == 0, 0].mean())
    assert f.coverage.value == pytest.approx(sets[np.arange(600), y.astype(int)].mean())
    assert f.mean_size.value == pytest.approx(sets.sum(1).mean())
    shares = (f.empty, f.only_negative, f.only_positive, f.both)
    assert sum(e.value for e in shares) == pytest.approx(1)
    assert f.coverage.low <= f.coverage.value <= f.coverage.high


def test_sets_without_one_of_the_answers_are_refused() -> None:
    with pytest.raises(SampleError, match="found 0 positives and 3 negatives"):
        conformal_sets(np.zeros(3), np.arange(3.0), np.zeros(1))
    with pytest.raises(SampleError, match="found alpha 1"):
        conformal_sets(np.array([0.0, 1]), np.arange(2.0), np.zeros(1), alpha=1.0)
