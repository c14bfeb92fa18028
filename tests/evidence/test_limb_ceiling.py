"""The arithmetic behind the limb-lead ceiling: least squares from sums, windows, beats, and the split of AUROC."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lsemvae.evaluate.predictions import PredictionTable
from tests.evidence import limb_ceiling as ceiling


def test_errors_from_sums_are_those_of_the_residuals() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 5)), rng.normal(size=(200, 2)) + 3
    sums = ceiling.moments(x[:120], y[:120]) + ceiling.moments(x[120:], y[120:])
    b = ceiling.solve(sums)
    residual = y - np.column_stack([x, np.ones(200)]) @ b
    error, total = ceiling.squares(sums, b)
    np.testing.assert_allclose(error, (residual**2).sum(0))
    np.testing.assert_allclose(total, ((y - y.mean(0)) ** 2).sum(0))


def test_what_is_a_sum_of_the_taps_is_explained_and_chance_is_not() -> None:
    rng = np.random.default_rng(0)
    parts = []
    for _ in range(3):
        x = rng.normal(size=(400, 6))
        y = np.column_stack([x @ np.arange(6.0) + 7, rng.normal(size=400)])
        parts.append(ceiling.moments(x, y))
    linear, chance = ceiling.held_out_r2(parts)
    assert linear > 0.999
    assert -0.1 < chance < 0.05, "judged out of sample, noise explains nothing"


def test_a_window_reaches_as_far_to_either_side() -> None:
    two = np.stack([np.arange(300.0), -np.arange(300.0)])
    window = ceiling.taps(two, np.array([100, 150]))
    assert window.shape == (2, 2 * 51)
    np.testing.assert_array_equal(window[0, :51], np.arange(50, 151, 2))
    np.testing.assert_array_equal(window[1, 51:], -np.arange(100.0, 201, 2))


def test_peaks_and_median_beat_of_a_train_of_spikes() -> None:
    x, places = np.zeros((2, 2500)), np.arange(120, 2400, 200)
    for place in places:
        x[:, place - 5 : place + 6] += np.outer([1.0, 0.5], np.hanning(11))
    np.testing.assert_array_equal(ceiling.peaks_of(x), places)
    x[:, places[3] + 3] += 9.0  # one wild sample does not move a median
    beat = ceiling.median_beat(x, places)
    assert beat.shape == (2, 63)
    assert int(beat[0].argmax()) == 25
    assert beat.max() == pytest.approx(1.0)
    assert np.isnan(ceiling.median_beat(x, np.array([3]))).all()
    near = ceiling.qrs_samples(x, places)
    assert all(np.abs(places - k).min() <= 15 for k in near)


def test_auroc_splits_by_the_kind_of_block_on_the_same_negatives() -> None:
    """Scores that find every complete block and no incomplete one, with twelve leads; nothing was run with six."""
    n, uid = 60, np.array([f"r{k:02d}" for k in range(60)])
    complete, incomplete = np.arange(n) < 10, (np.arange(n) >= 10) & (np.arange(n) < 20)
    store = dataclasses.make_dataclass("S", ["uid"])(uid)
    cohort = ceiling.Cohort(
        store,
        np.arange(n),
        [],
        np.zeros(n),
        uid,
        complete,
        incomplete,
        ~complete & ~incomplete,  # type: ignore[arg-type]
    )
    logits = np.full((2, 2, n, 1), np.nan)
    rng = np.random.default_rng(0)
    logits[:, 0, :, 0] = rng.normal(size=(2, n)) + 20 * complete
    order = rng.permutation(n)
    table = PredictionTable(
        name="t", lead_sets=("12", "6"), labels=("RBBB_any",), seeds=(0, 1), uid=uid[order], fold=np.ones(n, int),
        logits=logits[:, :, order],
    )  # fmt: skip
    found = ceiling.split_auroc(table, cohort)
    assert set(found) == {f"12 leads, output RBBB_any: {kind} against none" for kind in ("CRBBB", "IRBBB")}
    whole, part = (found[f"12 leads, output RBBB_any: {kind} against none"] for kind in ("CRBBB", "IRBBB"))
    assert (whole["auroc"], whole["positives"], whole["n"]) == (1.0, 10, 50)
    assert 0.25 < part["auroc"] < 0.75
    assert part["low"] < part["auroc"] < part["high"]
