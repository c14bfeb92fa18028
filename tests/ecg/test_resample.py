"""Resampling: any real ratio, no delay, no folding into the pass-band."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from lsemvae.ecg import LengthError, RateError, SampleError
from lsemvae.ecg.resample import check_rate, mirror_extend, odd_extend, output_length, resample

RATES = [100.0, 128.0, 200.0, 250.0, 257.3, 300.0, 333.33, 360.0, 500.0, 512.0, 1000.0]
EDGE = 60  # samples at 250 Hz that the continued ends may touch


def sine(f_hz: float, *, fs_hz: float, n: int, phase: float = 0.3) -> np.ndarray:
    return np.sin(2 * np.pi * f_hz * np.arange(n) / fs_hz + phase)


@pytest.mark.parametrize("fs_hz", RATES)
@pytest.mark.parametrize("f_hz", [0.5, 5.0, 17.0, 40.0])
def test_sines_up_to_40_hz_keep_amplitude_and_phase(fs_hz: float, f_hz: float) -> None:
    got = resample(sine(f_hz, fs_hz=fs_hz, n=round(10 * fs_hz)), fs_in_hz=fs_hz, fs_out_hz=250)
    wanted = sine(f_hz, fs_hz=250, n=got.size)
    np.testing.assert_allclose(got[EDGE:-EDGE], wanted[EDGE:-EDGE], atol=6e-4)


@pytest.mark.promise(13)
@pytest.mark.parametrize("fs_hz", [300.0, 333.33, 360.0, 500.0, 512.0, 1000.0])
def test_what_would_fold_onto_the_pass_band_is_suppressed_by_65_db(fs_hz: float) -> None:
    for f_hz in np.linspace(211.0, min(fs_hz / 2, 289.0), 7):
        got = resample(sine(f_hz, fs_hz=fs_hz, n=round(10 * fs_hz)), fs_in_hz=fs_hz, fs_out_hz=250)
        inside = got[EDGE:-EDGE]
        f, power = signal.periodogram(inside, fs=250, window="blackman", scaling="spectrum")
        assert np.sqrt(2 * power[f <= 40].max()) < 10 ** (-65 / 20)


@pytest.mark.parametrize("fs_hz", [100.0, 128.0, 150.0])
def test_images_of_a_slow_recording_are_suppressed_by_65_db(fs_hz: float) -> None:
    got = resample(sine(30.0, fs_hz=fs_hz, n=round(10 * fs_hz)), fs_in_hz=fs_hz, fs_out_hz=250)
    f, power = signal.periodogram(got[EDGE:-EDGE], fs=250, window="blackman", scaling="spectrum")
    image = power[(f > fs_hz - 31) & (f < fs_hz - 29)].max()
    assert np.sqrt(2 * image) < 10 ** (-65 / 20)


@pytest.mark.parametrize("fs_hz", RATES)
def test_constant_stays_that_constant(fs_hz: float) -> None:
    got = resample(np.full(round(10 * fs_hz), 3.7), fs_in_hz=fs_hz, fs_out_hz=250)
    np.testing.assert_allclose(got, 3.7, rtol=1e-13)


@pytest.mark.parametrize("fs_hz", RATES)
def test_ten_seconds_become_2500_samples(fs_hz: float) -> None:
    assert resample(np.zeros(round(10 * fs_hz)), fs_in_hz=fs_hz, fs_out_hz=250).size == 2500


def test_rate_must_leave_room_above_the_pass_band() -> None:
    with pytest.raises(RateError, match="more than 120 Hz to keep 60 Hz"):
        resample(np.zeros(1000), fs_in_hz=110, pass_hz=60.0)


@given(st.integers(1, 100_000), st.floats(100, 1000), st.floats(100, 1000))
def test_length_is_duration_times_rate_to_the_nearest(n: int, fs_in: float, fs_out: float) -> None:
    assert abs(output_length(n, fs_in_hz=fs_in, fs_out_hz=fs_out) - n * fs_out / fs_in) <= 0.5 + 1e-6


def test_equal_rates_return_a_copy() -> None:
    x = np.random.default_rng(0).normal(size=(2, 100))
    got = resample(x, fs_in_hz=250, fs_out_hz=250)
    np.testing.assert_array_equal(got, x)
    got[0, 0] = 9.0
    assert x[0, 0] != 9.0


@pytest.mark.promise(13)
@pytest.mark.parametrize(("fs_hz", "up", "down"), [(500, 1, 2), (1000, 1, 4), (125, 2, 1), (200, 5, 4)])
def test_agrees_with_scipys_polyphase_resampler(fs_hz: int, up: int, down: int) -> None:
    rng = np.random.default_rng(1)
    n = 10 * fs_hz
    smooth = signal.sosfiltfilt(signal.butter(8, 35, fs=fs_hz, output="sos"), rng.normal(size=n))
    oracle = signal.resample_poly(smooth, up, down, window=("kaiser", 8.0))
    got = resample(smooth, fs_in_hz=fs_hz, fs_out_hz=250)
    assert got.size == oracle.size
    np.testing.assert_allclose(got[EDGE:-EDGE], oracle[EDGE:-EDGE], atol=4e-3)


@pytest.mark.parametrize("fs_hz", [128.0, 257.3, 500.0, 1000.0])
def test_impulse_stays_at_its_time_and_is_symmetric(fs_hz: float) -> None:
    n = round(10 * fs_hz)
    middle = round(5 * fs_hz)
    x = np.zeros(n)
    x[middle] = 1.0
    got = resample(x, fs_in_hz=fs_hz, fs_out_hz=250)
    centre_s = np.sum(np.arange(got.size) / 250 * got**2) / np.sum(got**2)
    assert centre_s == pytest.approx(middle / fs_hz, abs=2e-4)


@settings(max_examples=25)
@given(st.sampled_from(RATES), st.floats(-5, 5), st.floats(-5, 5), st.integers(0, 2**31))
def test_resampling_is_linear(fs_hz: float, a: float, b: float, seed: int) -> None:
    x, y = np.random.default_rng(seed).normal(size=(2, round(2 * fs_hz)))
    both = resample(a * x + b * y, fs_in_hz=fs_hz)
    np.testing.assert_allclose(both, a * resample(x, fs_in_hz=fs_hz) + b * resample(y, fs_in_hz=fs_hz), atol=1e-10)


def test_leading_axes_are_independent_signals() -> None:
    x = np.random.default_rng(2).normal(size=(3, 2, 1000))
    together = resample(x, fs_in_hz=360)
    for k in range(3):
        np.testing.assert_array_equal(together[k], resample(x[k], fs_in_hz=360))


@pytest.mark.parametrize("rate", [99.99, 1000.01, 0, -1, float("nan"), float("inf")])
def test_rates_outside_100_to_1000_hz_are_refused(rate: float) -> None:
    with pytest.raises(RateError, match="100 to 1000 Hz"):
        resample(np.zeros(1000), fs_in_hz=rate)
    with pytest.raises(RateError, match="100 to 1000 Hz"):
        resample(np.zeros(1000), fs_in_hz=500, fs_out_hz=rate)


@pytest.mark.parametrize("rate", [None, "500", True, [500]])
def test_a_rate_is_a_number(rate: object) -> None:
    with pytest.raises(RateError, match="a number of Hz"):
        check_rate(rate)  # type: ignore[arg-type]


@pytest.mark.promise(21)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused(bad: float) -> None:
    x = np.zeros((2, 1000))
    x[1, 500] = bad
    with pytest.raises(SampleError, match="found 1 samples"):
        resample(x, fs_in_hz=500)


@pytest.mark.parametrize("bad", [np.array(["a", "b"]), np.zeros(9, complex), np.zeros(9, bool), np.array(1.0)])
def test_no_numbers_over_time_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(SampleError, match="real numbers over time"):
        resample(bad, fs_in_hz=500)


def test_empty_and_too_short_signals_are_refused() -> None:
    with pytest.raises(LengthError, match="0 samples"):
        resample(np.zeros((2, 0)), fs_in_hz=500)
    with pytest.raises(LengthError, match="to continue the ends"):
        resample(np.zeros(5), fs_in_hz=500)


def test_odd_extension_equals_scipys() -> None:
    x = np.random.default_rng(3).normal(size=(2, 50))
    oracle = np.pad(x, ((0, 0), (20, 20)), mode="reflect", reflect_type="odd")
    np.testing.assert_allclose(odd_extend(x, n_before=20, n_after=20), oracle, atol=1e-12)


def test_mirror_extension_equals_numpys() -> None:
    x = np.random.default_rng(4).normal(size=(2, 50))
    np.testing.assert_array_equal(
        mirror_extend(x, n_before=20, n_after=49), np.pad(x, ((0, 0), (20, 49)), mode="reflect")
    )


def test_extension_by_nothing_changes_nothing() -> None:
    x = np.random.default_rng(5).normal(size=(2, 50))
    np.testing.assert_array_equal(odd_extend(x, n_before=0, n_after=0), x)
    np.testing.assert_array_equal(mirror_extend(x, n_before=0, n_after=0), x)
