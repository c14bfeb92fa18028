"""Leads by name, limb-lead algebra."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lsemvae.ecg import (
    CHEST_LEADS,
    LEADS,
    LIMB_LEADS,
    MEASURED_LEADS,
    LeadError,
    SampleError,
    canonical_lead,
    canonical_leads,
    derive_limb_leads,
    einthoven_residual,
    estimate_i_ii,
    select_leads,
)

TWO_LEADS = hnp.arrays(np.float64, st.tuples(st.just(2), st.integers(1, 40)), elements=st.floats(-10, 10))


def test_canonical_order() -> None:
    assert LEADS == ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
    assert LIMB_LEADS + CHEST_LEADS == LEADS
    assert MEASURED_LEADS == ("I", "II")


@pytest.mark.parametrize("name", LEADS)
@pytest.mark.parametrize(
    "spelling",
    [
        "{}",
        " {} ",
        "Lead {}",
        "lead_{}",
        "LEAD-{}",
        "MDC_ECG_LEAD_{}",
        "ECG {}",
        "ecg_{}",
        "ECG Lead {}",
        "ecg-lead-{}",
    ],
)
@pytest.mark.parametrize("case", [str, str.lower, str.upper])
def test_spellings(name: str, spelling: str, case: type) -> None:
    assert canonical_lead(case(spelling.format(name))) == name


@pytest.mark.promise(2)
@pytest.mark.parametrize(
    "name", ["", " ", "IV", "V7", "aV", "lead", "MDC_ECG_LEAD_", "I I", "1", "V0", "ＩＩ", "leadlead i", None, 1, b"I"]
)
def test_unknown_name_is_an_error_that_lists_the_known_ones(name: str) -> None:
    with pytest.raises(LeadError) as caught:
        canonical_lead(name)
    assert repr(name) in str(caught.value)
    assert all(lead in str(caught.value) for lead in LEADS)


@pytest.mark.promise(2)
def test_duplicate_name_is_an_error_that_shows_both_spellings() -> None:
    with pytest.raises(LeadError, match=r"aVR twice \(as 'AVR' and as 'Lead avr'\)"):
        canonical_leads(["I", "AVR", "Lead avr"])


def test_one_text_is_not_a_sequence_of_names() -> None:
    with pytest.raises(LeadError, match="one text"):
        canonical_leads("II")


def test_names_keep_their_order() -> None:
    assert canonical_leads(["v6", "avf", "i"]) == ("V6", "aVF", "I")


@pytest.mark.promise(5)
def test_einthoven_and_goldberger_equations() -> None:
    i, ii = np.array([1.0, -2.0]), np.array([0.5, 4.0])
    six = derive_limb_leads(i, ii)
    expected = [i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2]
    np.testing.assert_array_equal(six, expected)


@pytest.mark.promise(5)
@given(TWO_LEADS)
def test_einthoven_law_and_goldberger_sum_hold(x: np.ndarray) -> None:
    six = dict(zip(LIMB_LEADS, derive_limb_leads(x[0], x[1]), strict=True))
    np.testing.assert_allclose(six["I"] + six["III"], six["II"], atol=1e-12)
    np.testing.assert_allclose(six["aVR"] + six["aVL"] + six["aVF"], 0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_type_is_kept(dtype: type) -> None:
    x = np.ones((2, 3), dtype)
    assert derive_limb_leads(x[0], x[1]).dtype == dtype
    assert estimate_i_ii(np.ones((6, 3), dtype), leads=LIMB_LEADS).dtype == dtype
    assert select_leads(x, leads=("I", "II"), wanted=LIMB_LEADS).dtype == dtype


def test_integers_are_not_halved_as_integers() -> None:
    six = derive_limb_leads(np.array([1], np.int16), np.array([2], np.int16))
    assert six[4, 0] == 0.0
    assert six[5, 0] == 1.5


def test_integer_overflow_cannot_happen() -> None:
    six = derive_limb_leads(np.array([-32768], np.int16), np.array([32767], np.int16))
    assert six[2, 0] == 65535.0


def test_derive_refuses_unequal_lengths() -> None:
    with pytest.raises(SampleError, match="equal shapes"):
        derive_limb_leads(np.ones(3), np.ones(4))


@given(TWO_LEADS, st.permutations(LIMB_LEADS))
def test_estimate_recovers_i_and_ii_from_any_order_of_six(x: np.ndarray, order: list[str]) -> None:
    six = derive_limb_leads(x[0], x[1])
    shuffled = six[[LIMB_LEADS.index(name) for name in order]]
    np.testing.assert_allclose(estimate_i_ii(shuffled, leads=order), x, atol=1e-10)


@pytest.mark.promise(5)
@pytest.mark.parametrize("pair", list(itertools.combinations(LIMB_LEADS, 2)), ids="-".join)
def test_any_two_limb_leads_determine_all_six(pair: tuple[str, str]) -> None:
    x = np.random.default_rng(1).normal(size=(2, 50))
    six = derive_limb_leads(x[0], x[1])
    two = six[[LIMB_LEADS.index(name) for name in pair]]
    np.testing.assert_allclose(estimate_i_ii(two, leads=pair), x, atol=1e-12)
    np.testing.assert_allclose(select_leads(two, leads=pair, wanted=LIMB_LEADS), six, atol=1e-12)


def test_estimate_is_exact_where_only_i_and_ii_are_there() -> None:
    x = np.random.default_rng(2).normal(size=(3, 50))
    got = estimate_i_ii(x, leads=("V1", "II", "I"))
    np.testing.assert_array_equal(got, x[[2, 1]])


def test_estimate_averages_noise_by_least_squares() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(2, 4000))
    noisy = derive_limb_leads(x[0], x[1]) + rng.normal(0, 0.1, (6, 4000))
    got = estimate_i_ii(noisy, leads=LIMB_LEADS)
    expected, *_ = np.linalg.lstsq(derive_limb_leads([1.0, 0.0], [0.0, 1.0]), noisy, rcond=None)
    np.testing.assert_allclose(got, expected, atol=1e-12)
    assert np.std(got - x) < 0.08


@pytest.mark.promise(2)
@pytest.mark.parametrize("names", [("I",), ("aVF", "V1"), ("V1", "V2")])
def test_fewer_than_two_limb_leads_are_an_error_that_shows_both_sides(names: tuple[str, ...]) -> None:
    with pytest.raises(LeadError, match=r"found limb leads .*expected at least two of I, II"):
        estimate_i_ii(np.ones((len(names), 4)), leads=names)


@pytest.mark.promise(1)
def test_all_720_orders_of_names_select_the_same_tensor() -> None:
    six = np.random.default_rng(4).normal(size=(6, 7))
    for order in itertools.permutations(range(6)):
        names = [LIMB_LEADS[k] for k in order]
        np.testing.assert_array_equal(select_leads(six[list(order)], leads=names, wanted=LIMB_LEADS), six)


@pytest.mark.promise(1)
@given(st.permutations(LEADS), st.lists(st.sampled_from(LEADS), min_size=1, unique=True))
def test_selection_is_by_name_for_any_order_and_any_choice(order: list[str], wanted: list[str]) -> None:
    x = np.arange(12.0)[:, None] * np.ones(3)
    shuffled = x[[LEADS.index(name) for name in order]]
    got = select_leads(shuffled, leads=order, wanted=wanted)
    np.testing.assert_array_equal(got, x[[LEADS.index(name) for name in wanted]])


def test_present_leads_are_taken_directly_not_estimated() -> None:
    x = np.random.default_rng(5).normal(size=(6, 9))  # breaks Einthoven's law on purpose
    np.testing.assert_array_equal(select_leads(x, leads=LIMB_LEADS, wanted=("II", "I")), x[[1, 0]])


def test_missing_limb_leads_derive_from_measured_i_and_ii() -> None:
    x = np.random.default_rng(6).normal(size=(3, 9))  # a wrong third lead must not leak into aVR
    got = select_leads(x, leads=("I", "II", "III"), wanted=("aVR",))
    np.testing.assert_allclose(got[0], -(x[0] + x[1]) / 2)


@pytest.mark.promise(2)
def test_missing_chest_lead_is_an_error_that_shows_both_sides() -> None:
    with pytest.raises(LeadError, match="found leads I, II, expected also V2, V1") as caught:
        select_leads(np.ones((2, 3)), leads=("I", "II"), wanted=("I", "V2", "V1"))
    assert "cannot be computed" in caught.value.advice


def test_rows_and_names_must_agree() -> None:
    with pytest.raises(SampleError, match=r"found samples of shape \(3, 4\), expected \(2, time\)"):
        select_leads(np.ones((3, 4)), leads=("I", "II"), wanted=("I",))


@pytest.mark.parametrize(
    "bad", [np.array([["a"]]), np.ones((1, 2), complex), np.ones((1, 2), bool), np.ones((1, 2), object)]
)
def test_no_numbers_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(SampleError, match="real numbers"):
        select_leads(bad, leads=("I",), wanted=("I",))


def test_wanted_twice_is_refused() -> None:
    with pytest.raises(LeadError, match="twice"):
        select_leads(np.ones((2, 3)), leads=("I", "II"), wanted=("I", "i"))


@given(TWO_LEADS)
def test_residual_of_consistent_leads_is_nothing(x: np.ndarray) -> None:
    assert einthoven_residual(derive_limb_leads(x[0], x[1]), leads=LIMB_LEADS) < 1e-9


def test_residual_is_the_rms_that_two_signals_cannot_explain() -> None:
    rng = np.random.default_rng(8)
    six = derive_limb_leads(*rng.normal(size=(2, 20000))) + rng.normal(0, 0.1, (6, 20000))
    # six noises less the two fitted: sqrt(4 / 6) of 0.1
    assert einthoven_residual(six, leads=LIMB_LEADS) == pytest.approx(0.1 * np.sqrt(4 / 6), rel=0.02)


def test_residual_of_two_limb_leads_is_zero_by_definition() -> None:
    assert einthoven_residual(np.random.default_rng(9).normal(size=(3, 9)), leads=("I", "aVF", "V1")) == 0.0


def test_residual_ignores_chest_leads() -> None:
    x = np.random.default_rng(10).normal(size=(2, 50))
    twelve = np.vstack([derive_limb_leads(x[0], x[1]), 99 * np.ones((6, 50))])
    assert einthoven_residual(twelve, leads=LEADS) < 1e-9


def test_residual_sees_exchanged_avl_and_avf() -> None:
    x = np.random.default_rng(11).normal(size=(2, 500))
    six = derive_limb_leads(x[0], x[1])
    swapped = ("I", "II", "III", "aVR", "aVF", "aVL")
    assert einthoven_residual(six, leads=swapped) > 0.5


def test_residual_needs_two_limb_leads() -> None:
    with pytest.raises(LeadError, match="at least two"):
        einthoven_residual(np.ones((1, 5)), leads=("I",))
