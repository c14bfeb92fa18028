"""The checks pass for a map that is right and fail for one that is not; sums and intervals are what they say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from lsemvae.ecg.errors import LeadError, LengthError
from lsemvae.explain.attribution import Explained, attribute, explained, path_gradients
from lsemvae.explain.sanity import (
    Subject,
    average_ranks,
    correlation,
    deletion,
    limb_identifiability,
    most,
    randomised_weights,
    with_random_weights,
    without,
)
from lsemvae.explain.summary import summarise, wave_sums
from lsemvae.explain.waves import WAVES
from tests.explain.test_attribution import tiny_lsemvae
from tests.explain.toy import ecg

STEPS = 64


@pytest.fixture(scope="module")
def subjects(toy_student: Explained) -> list[Subject]:
    data = ecg(24, seed=11)
    tall = data.x[data.tall > 1.0]
    maps = [attribute(x, explained=toy_student, label="TALL_II").values for x in tall]
    return [Subject(f"p{k}", x, values) for k, (x, values) in enumerate(zip(tall, maps, strict=True))]


def test_deletion_passes_for_the_map_of_the_model(subjects: list[Subject], toy_student: Explained) -> None:
    for fill in ("baseline", "line"):
        found = deletion(subjects, explained=toy_student, label="TALL_II", fill=fill)
        assert found.passes
        assert found.attributed.value > 3 * found.elsewhere.value
        assert found.to_dict()["passes"] is True


@pytest.mark.promise(109)
def test_deletion_fails_for_a_map_that_points_elsewhere(subjects: list[Subject], toy_student: Explained) -> None:
    wrong = [dataclasses.replace(s, values=1.0 / (1e-3 + np.abs(s.values).sum(0, keepdims=True))) for s in subjects]
    assert not deletion(wrong, explained=toy_student, label="TALL_II", fill="baseline").passes


@pytest.mark.promise(109)
def test_random_weights_give_another_map(subjects: list[Subject], toy_student: Explained) -> None:
    found = randomised_weights(subjects, explained=toy_student, label="TALL_II", part="all", n_steps=STEPS)
    assert found.passes is True
    assert found.given_voltage.high < 0.3


def test_a_map_that_does_not_depend_on_training_fails(subjects: list[Subject], toy_student: Explained) -> None:
    forgotten = with_random_weights(toy_student, part="all", seed=0)
    same = [
        dataclasses.replace(
            s,
            values=s.x_mv
            * path_gradients(torch.from_numpy(s.x_mv)[None], explained=forgotten, output=0, n_steps=STEPS),
        )
        for s in subjects[:3]
    ]
    found = randomised_weights(same, explained=toy_student, label="TALL_II", part="all", n_steps=STEPS, seed=0)
    assert found.plain.value == pytest.approx(1.0)
    assert found.passes is False


def test_a_random_read_out_is_reported_without_a_verdict(subjects: list[Subject], toy_student: Explained) -> None:
    found = randomised_weights(subjects[:2], explained=toy_student, label="TALL_II", part="read_out", n_steps=8)
    assert found.passes is None


@pytest.mark.parametrize("part", ["read_out", "all"])
def test_random_weights_leave_the_model_alone(part: str, toy_student: Explained) -> None:
    before = {k: v.clone() for k, v in toy_student.model.state_dict().items()}
    other = with_random_weights(toy_student, part=part, seed=1).model.state_dict()
    assert all(torch.equal(before[k], v) for k, v in toy_student.model.state_dict().items())
    assert not torch.equal(other["head.logits.weight"], before["head.logits.weight"])
    body = [k for k in before if k.startswith("encoder.body") and k.endswith("0.weight")]
    assert body
    assert all(torch.equal(other[k], before[k]) == (part == "read_out") for k in body)


def test_limb_maps_differ_and_are_one_on_i_and_ii() -> None:
    on_two = explained(tiny_lsemvae(), channels=("I", "II"))
    found = limb_identifiability(ecg(1, n_samples=2500).x[0], explained=on_two, label="TALL_II", n_steps=16)
    assert found.largest_difference > 0.3
    assert found.channel_difference < 1e-9
    assert found.shares["from I and II"]["aVF"] == pytest.approx(0.0, abs=1e-12)
    assert all(sum(row.values()) == pytest.approx(1.0) for row in found.shares.values())


def test_a_student_has_no_limb_split(toy_student: Explained) -> None:
    with pytest.raises(LeadError, match="found a student"):
        limb_identifiability(ecg(1).x[0], explained=toy_student, label="TALL_II")


def test_ranks_are_spearmans() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 200), rng.integers(0, 9, 200)  # many ties
    assert correlation(average_ranks(a), average_ranks(b)) == pytest.approx(spearmanr(a, b).statistic)


def test_what_is_taken_away_is_the_most_attributed_tenth() -> None:
    mask = most(np.arange(50.0))
    assert np.flatnonzero(mask).tolist() == [45, 46, 47, 48, 49]
    x = np.stack([np.arange(50.0), np.full(50, 2.0)]).astype(np.float32)
    middle = np.zeros(50, bool)
    middle[10:20] = True
    assert np.array_equal(without(x, middle, fill="line"), x)  # straight lines bridge straight lines
    zeroed = without(x, middle, fill="baseline")
    assert not zeroed[:, middle].any()
    assert np.array_equal(zeroed[:, ~middle], x[:, ~middle])
    with pytest.raises(ValueError, match="expected baseline or line"):
        without(x, middle, fill="mean")


def test_wave_sums_add_up() -> None:
    values = np.array([[1.0, -2.0, 3.0, 0.0], [0.0, 0.0, -4.0, 0.0]])
    codes = np.array([0, 1, 1, 3], np.int8)
    sums = wave_sums(values, x_mv=np.ones((2, 4)), codes=codes, channels=("I", "II"))
    assert sums.share[0].tolist() == pytest.approx([0.1, 0.5, 0.0, 0.0])
    assert sums.share.sum() == pytest.approx(1.0)
    assert sums.net_logit[0].tolist() == [1.0, 1.0, 0.0, 0.0]
    assert sums.net_logit.sum() == values.sum()
    assert sums.time_share.tolist() == [0.25, 0.5, 0.0, 0.25]
    assert sums.to_dict()["share"]["II"]["QRS"] == pytest.approx(0.4)
    with pytest.raises(LengthError):
        wave_sums(values, x_mv=np.ones((2, 5)), codes=codes, channels=("I", "II"))


def test_a_summary_is_the_mean_with_an_interval_over_patients() -> None:
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 4, 400).astype(np.int8)
    sums = [
        wave_sums(rng.normal(size=(2, 400)) ** 3, x_mv=rng.normal(size=(2, 400)), codes=codes, channels=("I", "II"))
        for _ in range(20)
    ]
    own = summarise(sums, patients=np.arange(20))
    mean = np.mean([s.share.sum(0) for s in sums], axis=0)
    assert [own.by_wave[w].value for w in WAVES] == pytest.approx(mean.tolist())
    assert sum(e.value for e in own.by_channel.values()) == pytest.approx(1.0)
    assert all(e.low <= e.value <= e.high for e in own.by_wave.values())
    shared = summarise(sums, patients=np.repeat(np.arange(4), 5))
    assert shared.n_patients == 4
    assert shared.by_wave["P"].value == pytest.approx(own.by_wave["P"].value)
    with pytest.raises(LengthError, match="a patient for each"):
        summarise(sums, patients=np.arange(3))
