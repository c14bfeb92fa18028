"""The front-end: equal to its specification, linear, without delay, by name; bad input never passes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from lsemvae.ecg import (
    BASE,
    LIMB_LEADS,
    EcgRecord,
    FrontendSpec,
    Interval,
    LeadError,
    LeadOff,
    LengthError,
    ManifestError,
    RateError,
    SampleError,
    apply,
    apply_array,
    bandpass,
    choose_window,
    coefficients,
    derive_limb_leads,
)
from lsemvae.ecg.window import free_runs

RATES = [100.0, 128.0, 257.3, 300.0, 333.33, 360.0, 500.0, 512.0, 1000.0]
HALF = coefficients().size // 2
MODES = {"odd": {"reflect_type": "odd"}, "mirror": {"reflect_type": "even"}}


# the filter ----------------------------------------------------------------------------------------------------------


def test_filter_equals_convolution_of_the_extended_signal(spec: FrontendSpec) -> None:
    x = np.random.default_rng(0).normal(size=(2, 2500))
    extended = np.pad(x, ((0, 0), (HALF, HALF)), mode="reflect", **MODES[spec.edges])
    oracle = np.stack([signal.convolve(row, coefficients(spec), mode="valid") for row in extended])
    np.testing.assert_allclose(bandpass(x, spec=spec), oracle, atol=1e-10)


@pytest.mark.promise(11)
def test_filter_equals_scipys_lfilter_with_its_delay_taken_off() -> None:
    x = np.random.default_rng(1).normal(size=4000)
    delayed = signal.lfilter(coefficients(), 1.0, x)
    np.testing.assert_allclose(bandpass(x)[HALF:-HALF], delayed[2 * HALF :], atol=1e-10)


@pytest.mark.parametrize("f_hz", [0.5, 0.67, 1.0, 3.0, 10.0, 25.0, 40.0])
def test_sine_in_the_pass_band_keeps_amplitude_and_phase(f_hz: float, spec: FrontendSpec) -> None:
    x = np.sin(2 * np.pi * f_hz * np.arange(7500) / 250)
    inside = slice(HALF, -HALF)
    gain = np.dot(bandpass(x, spec=spec)[inside], x[inside]) / np.dot(x[inside], x[inside])
    assert abs(20 * np.log10(gain)) < 0.5
    np.testing.assert_allclose(bandpass(x, spec=spec)[inside], gain * x[inside], atol=1e-6)


@pytest.mark.parametrize(("f_hz", "least_db"), [(0.02, 31), (0.05, 31), (50.0, 45), (60.0, 45), (100.0, 45)])
def test_sine_in_the_stop_band_is_suppressed(f_hz: float, least_db: float) -> None:
    x = np.sin(2 * np.pi * f_hz * np.arange(15000) / 250)
    inside = slice(HALF, -HALF)
    ratio = np.abs(bandpass(x)[inside]).max() / np.abs(x[inside]).max()
    assert 20 * np.log10(ratio) < -least_db


@pytest.mark.parametrize("level", [1.0, -300.0, 1e6])
def test_constant_becomes_nothing(level: float, spec: FrontendSpec) -> None:
    assert np.abs(bandpass(np.full((2, 2500), level), spec=spec)).max() <= 1e-12 * abs(level)


def test_straight_line_becomes_nothing_with_point_symmetric_ends() -> None:
    line = np.linspace(-3, 3, 2500)
    assert np.abs(bandpass(line, spec=FrontendSpec(edges="odd"))).max() < 1e-10


def test_step_response_is_point_symmetric_about_the_step() -> None:
    x = np.where(np.arange(5001) >= 2501, 1.0, 0.0)
    x[2500] = 0.5
    y = bandpass(x)
    np.testing.assert_allclose(y[2500 - HALF : 2500], -y[2500 + HALF : 2500 : -1], atol=1e-12)


@given(st.integers(HALF, 2499 - HALF))
@settings(max_examples=20)
def test_impulse_peak_stays_where_it_was(position: int) -> None:
    x = np.zeros(2500)
    x[position] = 1.0
    y = bandpass(x)
    assert int(np.argmax(np.abs(y))) == position
    np.testing.assert_allclose(y[position - 400 : position], y[position + 400 : position : -1], atol=1e-12)


@settings(max_examples=25)
@given(st.floats(-3, 3), st.floats(-3, 3), st.integers(0, 2**31), st.sampled_from(["odd", "mirror"]))
def test_filter_is_linear(a: float, b: float, seed: int, edges: Any) -> None:
    spec = FrontendSpec(edges=edges)
    x, y = np.random.default_rng(seed).normal(size=(2, 2500))
    expected = a * bandpass(x, spec=spec) + b * bandpass(y, spec=spec)
    np.testing.assert_allclose(bandpass(a * x + b * y, spec=spec), expected, atol=1e-10)


@pytest.mark.promise(12)
@given(st.integers(1, 300))
@settings(max_examples=20)
def test_filter_is_shift_invariant_away_from_the_ends(shift: int) -> None:
    x = np.random.default_rng(2).normal(size=3000)
    shifted = bandpass(x[shift:])
    np.testing.assert_allclose(shifted[HALF : 3000 - shift - HALF], bandpass(x)[shift + HALF : 3000 - HALF], atol=1e-10)


def test_signal_shorter_than_half_the_filter_is_refused() -> None:
    with pytest.raises(LengthError, match=f"expected at least {HALF + 1}"):
        bandpass(np.zeros(HALF))


# arrays --------------------------------------------------------------------------------------------------------------


@pytest.mark.promise(12)
@settings(max_examples=20, deadline=None)
@given(st.floats(-2, 2), st.floats(-2, 2), st.sampled_from(RATES), st.integers(0, 2**31))
def test_front_end_is_linear_below_the_clip(a: float, b: float, fs_hz: float, seed: int) -> None:
    x, y = np.random.default_rng(seed).normal(0, 0.1, size=(2, 2, round(10 * fs_hz)))
    expected = a * apply_array(x, fs_hz=fs_hz).astype(float) + b * apply_array(y, fs_hz=fs_hz)
    np.testing.assert_allclose(apply_array(a * x + b * y, fs_hz=fs_hz), expected, atol=2e-6)


@pytest.mark.promise(12)
@pytest.mark.parametrize("fs_hz", RATES)
def test_lag_is_zero_at_every_rate(fs_hz: float, ecg: Callable[..., np.ndarray]) -> None:
    at_250 = ecg(fs_hz=250.0)
    got = apply_array(ecg(fs_hz=fs_hz), fs_hz=fs_hz)
    for lead in range(2):
        correlation = signal.correlate(got[lead], at_250[lead] - at_250[lead].mean(), mode="full")
        assert signal.correlation_lags(2500, 2500)[int(np.argmax(correlation))] == 0


@pytest.mark.parametrize("fs_hz", RATES)
def test_every_rate_gives_the_same_picture(fs_hz: float, ecg: Callable[..., np.ndarray]) -> None:
    reference = apply_array(ecg(fs_hz=250.0), fs_hz=250.0)
    got = apply_array(ecg(fs_hz=fs_hz), fs_hz=fs_hz)
    inside = slice(100, -100)
    assert np.abs(got[:, inside] - reference[:, inside]).max() < 0.02
    assert got.shape == (2, 2500)
    assert got.dtype == np.float32


def test_clip() -> None:
    x = 100 * np.random.default_rng(3).normal(size=(2, 5000))
    got = apply_array(x, fs_hz=500)
    assert np.abs(got).max() == BASE.clip_mv


@pytest.mark.promise(8)
def test_batches_equal_single_recordings() -> None:
    x = np.random.default_rng(4).normal(0, 0.2, size=(3, 6, 5000))
    together = apply_array(x, fs_hz=500)
    for k in range(3):
        np.testing.assert_array_equal(together[k], apply_array(x[k], fs_hz=500))


@pytest.mark.promise(8)
def test_same_bytes_give_the_same_bytes() -> None:
    x = np.random.default_rng(5).normal(0, 0.2, size=(6, 5000))
    assert apply_array(x, fs_hz=500).tobytes() == apply_array(x.copy(), fs_hz=500).tobytes()


def test_leads_do_not_touch_each_other() -> None:
    x = np.random.default_rng(6).normal(0, 0.2, size=(2, 5000))
    changed = x.copy()
    changed[1] *= -3
    np.testing.assert_array_equal(apply_array(x, fs_hz=500)[0], apply_array(changed, fs_hz=500)[0])


def test_longer_signal_keeps_the_first_ten_seconds() -> None:
    x = np.random.default_rng(7).normal(0, 0.2, size=(2, 15000))
    got = apply_array(x, fs_hz=500)
    assert got.shape == (2, 2500)
    cut = apply_array(x[:, :5000], fs_hz=500)
    np.testing.assert_allclose(got[:, :1900], cut[:, :1900], atol=1e-5)
    assert np.abs(got[:, -50:] - cut[:, -50:]).max() > 1e-3  # the whole is filtered: the end knows what follows


@pytest.mark.parametrize("seconds", [9.9, 9.95, 9.999])
def test_up_to_one_percent_may_be_missing(seconds: float, ecg: Callable[..., np.ndarray]) -> None:
    got = apply_array(ecg(fs_hz=500, seconds=seconds), fs_hz=500)
    assert got.shape == (2, 2500)
    whole = apply_array(ecg(fs_hz=500), fs_hz=500)
    np.testing.assert_allclose(got[:, 600:1900], whole[:, 600:1900], atol=1e-4)
    assert np.isfinite(got).all()


@pytest.mark.parametrize("seconds", [9.89, 4.0, 0.5, 0.002])
def test_more_than_one_percent_missing_is_refused(seconds: float) -> None:
    with pytest.raises(LengthError, match=r"expected at least 9\.90 s"):
        apply_array(np.zeros((2, round(500 * seconds))), fs_hz=500)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_refused(bad: float) -> None:
    x = np.zeros((2, 5000))
    x[0, 0] = bad
    with pytest.raises(SampleError):
        apply_array(x, fs_hz=500)


def test_one_dimensional_array_is_refused() -> None:
    with pytest.raises(SampleError, match=r"\(lead, time\)"):
        apply_array(np.zeros(5000), fs_hz=500)


@pytest.mark.promise(4)
@pytest.mark.parametrize("rate", [99.0, 1001.0, 0.0])
def test_rate_outside_is_refused(rate: float) -> None:
    with pytest.raises(RateError):
        apply_array(np.zeros((2, 5000)), fs_hz=rate)


# records -------------------------------------------------------------------------------------------------------------


@pytest.mark.promise(8)
def test_record_and_array_give_the_same(make_record: Callable[..., EcgRecord], spec: FrontendSpec) -> None:
    record = make_record()
    got = apply(record, leads=LIMB_LEADS, spec=spec)
    np.testing.assert_array_equal(got, apply_array(record.to_mv(np.float64), fs_hz=500, spec=spec))


@pytest.mark.promise(1)
def test_all_720_orders_of_six_leads_give_the_same_tensor(make_record: Callable[..., EcgRecord]) -> None:
    record = make_record(fs_hz=250.0)
    wanted = apply(record, leads=("I", "II"))
    for order in itertools.permutations(range(6)):
        shuffled = record.with_(samples=record.samples[list(order)], leads=tuple(record.leads[k] for k in order))
        np.testing.assert_array_equal(apply(shuffled, leads=("I", "II")), wanted)


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(6)), wanted=st.permutations(LIMB_LEADS))
def test_wanted_order_is_the_order_of_the_rows(order: list[int], wanted: list[str]) -> None:
    i_ii = np.random.default_rng(8).normal(0, 300, size=(2, 2500)).astype(np.int16)
    six = np.rint(derive_limb_leads(i_ii[0], i_ii[1])).astype(np.int16)
    record = EcgRecord(samples=six[order], lsb_uv=1.0, fs_hz=250, leads=tuple(LIMB_LEADS[k] for k in order))
    straight = EcgRecord(samples=six, lsb_uv=1.0, fs_hz=250, leads=LIMB_LEADS)
    expected = apply(straight, leads=LIMB_LEADS)[[LIMB_LEADS.index(name) for name in wanted]]
    np.testing.assert_array_equal(apply(record, leads=wanted), expected)


def test_missing_limb_leads_are_derived_and_the_filter_commutes(make_record: Callable[..., EcgRecord]) -> None:
    two = make_record(leads=("I", "II"))
    got = apply(two, leads=LIMB_LEADS)
    i, ii = apply(two, leads=("I", "II")).astype(float)
    np.testing.assert_allclose(got, derive_limb_leads(i, ii), atol=1e-6)


def test_missing_chest_lead_is_a_lead_error(make_record: Callable[..., EcgRecord]) -> None:
    with pytest.raises(LeadError, match="V1"):
        apply(make_record(), leads=("I", "V1"))


def test_electrode_offset_makes_no_difference(make_record: Callable[..., EcgRecord]) -> None:
    plain = apply(make_record(), leads=("I",))
    shifted = apply(make_record(change=lambda mv: mv + 20.0), leads=("I",))
    np.testing.assert_allclose(shifted, plain, atol=2e-3)  # half a count of rounding in each


def test_count_size_makes_no_difference(make_record: Callable[..., EcgRecord]) -> None:
    fine, coarse = make_record(lsb_uv=0.1), make_record(lsb_uv=5.0)
    np.testing.assert_allclose(apply(fine, leads=("II",)), apply(coarse, leads=("II",)), atol=5e-3)


def test_window_is_the_first_ten_seconds(make_record: Callable[..., EcgRecord]) -> None:
    window = choose_window(make_record(seconds=30.0))
    assert (window.start, window.stop, window.stretch) == (0, 5000, Interval(0, 15000))


def test_window_avoids_gaps_and_lead_off(make_record: Callable[..., EcgRecord]) -> None:
    record = make_record(seconds=30.0)
    samples = record.samples.copy()
    samples[:, 3000:3100] = 0
    holed = record.with_(samples=samples, gaps=(Interval(3000, 3100),))
    window = choose_window(holed)
    assert (window.start, window.stop, window.stretch) == (3100, 8100, Interval(3100, 15000))
    both = holed.with_(lead_off=(LeadOff("aVF", 6000, 6001),))
    window = choose_window(both)
    assert (window.start, window.stop, window.stretch) == (6001, 11001, Interval(6001, 15000))


def test_filter_never_sees_fill_values(make_record: Callable[..., EcgRecord]) -> None:
    whole = make_record(seconds=30.0, change=lambda mv: mv + 5.0)  # zeros would be a step of 5 mV
    samples = whole.samples.copy()
    samples[:, :2000] = 0
    holed = whole.with_(samples=samples, gaps=(Interval(0, 2000),))
    np.testing.assert_array_equal(apply(holed, leads=("I",)), apply(whole.slice(2000, 15000), leads=("I",)))


def test_whole_free_stretch_is_filtered_before_the_window_is_cut(make_record: Callable[..., EcgRecord]) -> None:
    record = make_record(seconds=30.0)
    got = apply(record, leads=("II",), start_s=10.0)
    slow = bandpass(signal.resample_poly(record.to_mv(np.float64)[1], 1, 2, window=("kaiser", 6.0)))
    np.testing.assert_allclose(got[0], slow[2500:5000], atol=0.01)


def test_start_is_respected_at_an_odd_rate(make_record: Callable[..., EcgRecord]) -> None:
    record = make_record(seconds=30.0, fs_hz=333.33)
    late = apply(record, leads=("II",), start_s=8.0)
    first = apply(record, leads=("II",))
    np.testing.assert_allclose(late[0, :400], first[0, 2000:2400], atol=0.03)


@pytest.mark.parametrize("start_s", [-0.1, 30.0, 20.2, float("nan")])
def test_start_outside_is_refused(start_s: float, make_record: Callable[..., EcgRecord]) -> None:
    with pytest.raises(LengthError):
        apply(make_record(seconds=30.0), leads=("I",), start_s=start_s)


def test_start_inside_a_disturbance_is_refused(make_record: Callable[..., EcgRecord]) -> None:
    record = make_record(seconds=30.0, lead_off=(LeadOff("I", 7000, 7100),))
    with pytest.raises(LengthError, match="gap, lead-off or the end"):
        apply(record, leads=("I",), start_s=10.0)


def test_lead_off_of_a_limb_electrode_spoils_every_lead(make_record: Callable[..., EcgRecord]) -> None:
    twelve = ("I", "II", "V1", "V2")
    record = EcgRecord(
        samples=np.zeros((4, 100), np.int16), lsb_uv=1, fs_hz=100, leads=twelve, lead_off=(LeadOff("II", 10, 20),)
    )
    assert free_runs(record, leads=("V1",)) == (Interval(0, 10), Interval(20, 100))


def test_lead_off_of_a_chest_electrode_spoils_only_its_lead() -> None:
    record = EcgRecord(
        samples=np.zeros((3, 100), np.int16),
        lsb_uv=1,
        fs_hz=100,
        leads=("I", "II", "V1"),
        lead_off=(LeadOff("V1", 0, 100),),
    )
    assert free_runs(record, leads=("I", "II")) == (Interval(0, 100),)
    assert free_runs(record, leads=("V1",)) == ()


def test_free_runs_and_disturbances_cover_the_record() -> None:
    record = EcgRecord(
        samples=np.zeros((2, 100), np.int16),
        lsb_uv=1,
        fs_hz=100,
        leads=("I", "II"),
        gaps=(Interval(0, 5), Interval(50, 60)),
        lead_off=(LeadOff("I", 3, 10), LeadOff("II", 55, 70), LeadOff("I", 90, 100)),
    )
    assert free_runs(record) == (Interval(10, 50), Interval(70, 90))


def test_no_wanted_lead_is_refused() -> None:
    record = EcgRecord(samples=np.zeros((2, 100), np.int16), lsb_uv=1, fs_hz=100, leads=("I", "II"))
    with pytest.raises(LeadError, match="no wanted lead"):
        free_runs(record, leads=())


def test_no_free_window_says_what_to_do(make_record: Callable[..., EcgRecord]) -> None:
    record = make_record(seconds=15.0, lead_off=(LeadOff("I", 4000, 4001),))
    with pytest.raises(LengthError, match=r"found at most 8\.00 s .* in 15\.00 s, expected 9\.90 s") as caught:
        apply(record, leads=("I", "II"))
    assert "Record again" in caught.value.advice


@pytest.mark.parametrize("seconds", [4.0, 9.8])
def test_short_record_is_refused(seconds: float, make_record: Callable[..., EcgRecord]) -> None:
    with pytest.raises(LengthError):
        apply(make_record(seconds=seconds), leads=("I",))


def test_record_of_9_9_seconds_is_enough(make_record: Callable[..., EcgRecord]) -> None:
    assert apply(make_record(seconds=9.9), leads=("I", "II")).shape == (2, 2500)


@pytest.mark.parametrize("rate", [60.0, 1500.0])
def test_record_at_a_rate_outside_is_refused(rate: float, make_record: Callable[..., EcgRecord]) -> None:
    with pytest.raises(RateError, match="100 to 1000"):
        apply(make_record(fs_hz=rate), leads=("I",))


@pytest.mark.parametrize("change", [{}, {"pass_high_hz": 30.0}, {"stop_high_hz": 60.0}, {"pass_low_hz": 1.0}], ids=str)
def test_response_is_what_the_specification_says(change: dict[str, float]) -> None:
    spec = replace(BASE, **change)
    taps = coefficients(spec)
    middle_hz = (spec.pass_high_hz + spec.stop_high_hz) / 2
    at_hz = np.array([spec.pass_low_hz, spec.pass_high_hz, middle_hz, spec.stop_high_hz])
    _, gain = signal.freqz(taps, worN=at_hz, fs=spec.fs_hz)
    np.testing.assert_allclose(np.abs(gain[:2]), 1.0, atol=0.06)  # 0.5 dB
    assert np.abs(gain[2]) == pytest.approx(0.5, abs=0.03)  # a windowed sinc is at one half in the middle of its slope
    assert np.abs(gain[3]) < 10 ** (-spec.attenuation_db / 20) * 1.2


# the specification ---------------------------------------------------------------------------------------------------


def test_specification_round_trip(spec: FrontendSpec) -> None:
    assert FrontendSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.promise(9)
def test_hash_covers_coefficients_and_every_field() -> None:
    other = {
        "name": "x",
        "fs_hz": 300.0,
        "n_samples": 2501,
        "pass_low_hz": 0.6,
        "pass_high_hz": 39.0,
        "stop_high_hz": 51.0,
        "attenuation_db": 44.0,
        "resample_db": 70.0,
        "clip_mv": 4.0,
        "edges": next(edges for edges in ("odd", "mirror") if edges != BASE.edges),
    }
    assert set(other) == set(BASE.to_dict())
    hashes = [BASE.sha256(), *(replace(BASE, **{name: value}).sha256() for name, value in other.items())]
    assert len(set(hashes)) == len(hashes)


@pytest.mark.promise(9)
def test_hash_of_the_base_preset_is_pinned() -> None:
    # Every trained model depends on it. Whoever changes the front-end changes this line knowingly, and retrains.
    assert BASE.sha256() == "571c813417cb00e08de1edde4f61c941a1f39b071f84d171b702f6860d7ce96f"


def test_hash_is_the_same_for_whole_numbers_written_as_integers() -> None:
    assert FrontendSpec(fs_hz=250, clip_mv=5).sha256() == FrontendSpec(fs_hz=250.0, clip_mv=5.0).sha256()


@pytest.mark.parametrize("change", [{"extra": 1}, {"clip_mv": None}, {"drop": "clip_mv"}])
def test_specification_with_other_fields_is_refused(change: dict[str, Any]) -> None:
    values = {**BASE.to_dict(), **change}
    if "drop" in change:
        del values[values.pop("drop")]
    with pytest.raises(ManifestError):
        FrontendSpec.from_dict(values)


@pytest.mark.parametrize(
    "change",
    [
        {"fs_hz": float("nan")},
        {"clip_mv": 0.0},
        {"clip_mv": -5.0},
        {"n_samples": 0},
        {"n_samples": 2500.0},
        {"n_samples": True},
        {"pass_low_hz": 41.0},
        {"stop_high_hz": 126.0},
        {"stop_high_hz": 40.0},
        {"edges": "zero"},
        {"attenuation_db": "45"},
    ],
)
def test_numbers_that_make_no_filter_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ManifestError, match="expected"):
        replace(BASE, **change)


def test_rate_of_the_result_is_limited_like_any_rate() -> None:
    with pytest.raises(RateError):
        replace(BASE, fs_hz=2000.0)
