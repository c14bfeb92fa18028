"""Weighted bootstrap, DeLong, Holm, predictive values: against brute force, against the plain bootstrap, by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from lsemvae.evaluate.delong import components, delong_test, holm, midranks
from lsemvae.evaluate.metrics import auroc, bootstrap, paired_difference
from lsemvae.evaluate.operating import npv, operating_figures, ppv
from lsemvae.evaluate.resampling import auprc_draws, auroc_draws, interval, mean_draws, over_seeds, patient_weights


def _cohort(n: int = 240, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """y, two correlated scores with ties, patients with up to several recordings."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.3).astype(float)
    shared = rng.normal(size=n)
    a = np.round(1.2 * y + shared + 0.4 * rng.normal(size=n), 1)
    b = np.round(0.8 * y + shared + 0.4 * rng.normal(size=n), 1)
    return y, a, b, rng.integers(0, n * 3 // 4, n).astype(str)


def test_weights_make_the_draws_of_the_plain_bootstrap() -> None:
    y, a, _, patients = _cohort()
    weights = patient_weights(patients, n=200, seed=3)
    found = interval(auroc(y, a), auroc_draws(y, a, weights))
    plain = bootstrap(auroc, y, a, patients=patients, n=200, seed=3)
    np.testing.assert_allclose([found.value, found.low, found.high], [plain.value, plain.low, plain.high], atol=1e-12)


def test_paired_draws_are_those_of_the_plain_paired_bootstrap() -> None:
    y, a, b, patients = _cohort()
    w = patient_weights(patients, n=150, seed=1)
    found = interval(auroc(y, a) - auroc(y, b), auroc_draws(y, a, w) - auroc_draws(y, b, w))
    plain = paired_difference(auroc, y, a, b, patients=patients, n=150, seed=1)
    np.testing.assert_allclose([found.value, found.low, found.high], [plain.value, plain.low, plain.high], atol=1e-12)


def test_all_recordings_of_a_patient_are_drawn_together() -> None:
    weights = patient_weights(np.array(["a", "b", "a", "c", "b"]), n=50)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, 1], weights[:, 4])
    assert set(weights[:, [0, 1, 3]].sum(1)) == {3.0}


def test_weighted_metrics_are_those_of_repeated_recordings() -> None:
    y, a, _, _ = _cohort(80)
    counts = np.random.default_rng(0).integers(0, 4, (1, 80)).astype(np.float32)
    again = np.repeat(np.arange(80), counts[0].astype(int))
    assert auroc_draws(y, a, counts)[0] == pytest.approx(roc_auc_score(y[again], a[again]), abs=1e-12)
    assert auprc_draws(y, a, counts)[0] == pytest.approx(average_precision_score(y[again], a[again]), abs=1e-7)
    assert mean_draws(a, counts)[0] == pytest.approx(a[again].mean(), rel=1e-5)
    assert mean_draws(a, counts, of=y == 1)[0] == pytest.approx(a[again][y[again] == 1].mean(), rel=1e-5)


def test_a_draw_without_positives_has_no_figure() -> None:
    y = np.array([1.0, 0, 0])
    weights = np.array([[0.0, 2, 1], [1, 1, 1]], np.float32)
    draws = auroc_draws(y, np.array([3.0, 1, 2]), weights)
    assert math.isnan(draws[0])
    assert draws[1] == 1.0


def test_several_seeds_are_averaged_in_every_draw() -> None:
    y, a, b, patients = _cohort()
    w = patient_weights(patients, n=20)
    both = over_seeds(lambda one: auroc_draws(y, one, w), np.stack([a, b]))
    np.testing.assert_allclose(both, (auroc_draws(y, a, w) + auroc_draws(y, b, w)) / 2)


def test_midranks_share_ties() -> None:
    np.testing.assert_array_equal(midranks(np.array([3.0, 1, 3, 2])), [3.5, 1, 3.5, 2])


def test_delong_components_are_the_placements_of_every_pair() -> None:
    y, a, _, _ = _cohort(60)
    positive, negative = a[y == 1], a[y == 0]
    kernel = (positive[:, None] > negative[None, :]) + 0.5 * (positive[:, None] == negative[None, :])
    v10, v01 = components(y, a)
    np.testing.assert_allclose(v10, kernel.mean(1), atol=1e-12)
    np.testing.assert_allclose(v01, kernel.mean(0), atol=1e-12)
    assert v10.mean() == pytest.approx(roc_auc_score(y, a))


@pytest.mark.promise(104)
def test_delong_variance_is_that_of_the_covariance_matrices_by_brute_force() -> None:
    y, a, b, _ = _cohort(70)

    def placements(p: np.ndarray) -> tuple[list[float], list[float]]:
        pos, neg = p[y == 1], p[y == 0]
        wins = {
            (i, j): float(pos[i] > neg[j]) + 0.5 * float(pos[i] == neg[j])
            for i, j in itertools.product(range(len(pos)), range(len(neg)))
        }
        v10 = [sum(wins[i, j] for j in range(len(neg))) / len(neg) for i in range(len(pos))]
        return v10, [sum(wins[i, j] for i in range(len(pos))) / len(pos) for j in range(len(neg))]

    (a10, a01), (b10, b01) = placements(a), placements(b)
    s10, s01 = np.cov([a10, b10]), np.cov([a01, b01])
    contrast = np.array([1.0, -1.0])
    variance = contrast @ (s10 / len(a10) + s01 / len(a01)) @ contrast
    found = delong_test(y, a, b)
    assert found.standard_error == pytest.approx(math.sqrt(variance))
    assert found.difference == pytest.approx(roc_auc_score(y, a) - roc_auc_score(y, b))


@pytest.mark.promise(104)
def test_delong_agrees_with_the_bootstrap_where_every_patient_has_one_recording() -> None:
    y, a, b, _ = _cohort(500, seed=4)
    w = patient_weights(np.arange(500), n=1500)
    spread = np.std(auroc_draws(y, a, w) - auroc_draws(y, b, w), ddof=1)
    assert delong_test(y, a, b).standard_error == pytest.approx(spread, rel=0.08)


@pytest.mark.promise(104)
def test_delong_rejects_a_true_null_as_often_as_it_says() -> None:
    rejected = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        y = np.repeat([1.0, 0], [40, 80])
        shared = y + rng.normal(size=120)
        rejected += delong_test(y, shared + rng.normal(size=120), shared + rng.normal(size=120)).p_value < 0.05
    assert 5 <= rejected <= 27, "15 are expected of 300; outside 5 to 27 with probability below 0.003"


def test_delong_of_a_score_with_itself_and_of_too_few() -> None:
    y, a, _, _ = _cohort()
    assert delong_test(y, a, a).p_value == 1.0
    assert math.isnan(delong_test(np.array([1.0, 0, 0]), np.arange(3.0), np.arange(3.0)).p_value)


def test_holm_by_hand() -> None:
    adjusted = holm(np.array([0.04, 0.01, np.nan, 0.03, 0.005]))
    np.testing.assert_allclose(adjusted, [0.06, 0.03, np.nan, 0.06, 0.02])
    assert holm(np.array([0.9, 0.8])).max() == 1.0


def test_predictive_values_by_hand() -> None:
    hit, clear = np.array([0.8]), np.array([0.9])
    assert ppv(hit, clear, 0.1)[0] == pytest.approx(0.08 / (0.08 + 0.09))
    assert npv(hit, clear, 0.1)[0] == pytest.approx(0.81 / (0.81 + 0.02))
    assert math.isnan(ppv(np.array([0.0]), np.array([1.0]), 0.1)[0]), "nobody is called"


def test_at_the_samples_own_prevalence_predictive_values_are_the_samples_own() -> None:
    y, a, _, patients = _cohort(400)
    called = a >= 0.7
    share = float(y.mean())
    found = operating_figures(y, a, 0.7, weights=patient_weights(patients, n=200), prevalences=(share,))
    assert found.ppv[share].value == pytest.approx(y[called].mean(), abs=1e-5)
    assert found.npv[share].value == pytest.approx(1 - y[~called].mean(), abs=1e-5)
    assert found.ppv[share].low < found.ppv[share].value < found.ppv[share].high
    assert found.sensitivity.value == pytest.approx(called[y == 1].mean(), abs=1e-6)


def test_an_operating_point_may_differ_by_recording_and_too_few_positives_give_a_dash() -> None:
    y = np.repeat([1.0, 0], [6, 20])
    p = np.full(26, 0.5)
    at = np.where(np.arange(26) % 2, 0.4, 0.6)
    w = patient_weights(np.arange(26), n=50)
    assert operating_figures(y, p, at, weights=w).sensitivity.value == 0.5
    assert math.isnan(operating_figures(y[2:], p[2:], at[2:], weights=w[:, 2:]).specificity.value)
