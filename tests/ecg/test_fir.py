"""The filter's design against scipy's, and against its own specification."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from lsemvae.ecg import BASE, FrontendSpec, coefficients, fir

GRID = 2.0**-30


def response_db(taps: np.ndarray, low_hz: float, high_hz: float, fs_hz: float = 250.0) -> np.ndarray:
    """Gain in dB on a dense grid of frequencies."""
    f_hz = np.linspace(low_hz, high_hz, 20001)
    _, h = signal.freqz(taps, worN=f_hz, fs=fs_hz)
    return 20 * np.log10(np.maximum(np.abs(h), 1e-12))


@pytest.mark.parametrize("attenuation_db", [10, 21, 21.1, 30, 45, 50, 50.1, 60, 90])
def test_kaiser_beta_equals_scipy(attenuation_db: float) -> None:
    assert fir.kaiser_beta(attenuation_db) == pytest.approx(signal.kaiser_beta(attenuation_db), abs=1e-12)


@pytest.mark.parametrize(("attenuation_db", "transition"), [(45, 0.04), (60, 0.34), (80, 0.01)])
def test_kaiser_length_equals_scipy(attenuation_db: float, transition: float) -> None:
    n_taps, _ = signal.kaiserord(attenuation_db, 2 * transition)
    assert int(np.ceil(fir.kaiser_length(attenuation_db, transition=transition) + 1)) == n_taps


@pytest.mark.promise(11)
@pytest.mark.parametrize(("pass_hz", "stop_hz", "attenuation_db"), [(40, 50, 45), (40, 45, 60), (15, 25, 30)])
def test_low_pass_equals_firwin(pass_hz: float, stop_hz: float, attenuation_db: float) -> None:
    ours = fir.low_pass(fs_hz=250, pass_hz=pass_hz, stop_hz=stop_hz, attenuation_db=attenuation_db)
    window = ("kaiser", signal.kaiser_beta(attenuation_db))
    oracle = signal.firwin(ours.size, (pass_hz + stop_hz) / 2, window=window, fs=250)
    np.testing.assert_allclose(ours, oracle, atol=1e-14)


def test_baseline_equals_scipys_hann_window() -> None:
    ours = fir.baseline(fs_hz=250, pass_hz=0.5)
    oracle = signal.windows.hann(1001)[1:-1]
    np.testing.assert_allclose(ours, oracle / oracle.sum(), atol=1e-15)


def test_band_pass_is_low_pass_convolved_with_impulse_less_baseline() -> None:
    hann = signal.windows.hann(1001)[1:-1]
    low = signal.firwin(67, 45, window=("kaiser", signal.kaiser_beta(45)), fs=250)
    oracle = np.convolve(low, signal.unit_impulse(999, "mid") - hann / hann.sum())
    np.testing.assert_allclose(coefficients(), oracle, atol=2e-7)  # the centre tap takes the rounding of all others


def test_taps_are_symmetric_and_odd_in_number() -> None:
    taps = coefficients()
    assert taps.size % 2 == 1
    np.testing.assert_array_equal(taps, taps[::-1])


def test_gain_at_0_hz_is_exactly_nothing() -> None:
    assert coefficients().sum() == 0.0
    assert float(np.sum(coefficients()[::-1])) == 0.0


def test_taps_lie_on_a_grid_that_no_platforms_sine_can_move() -> None:
    steps = coefficients() / GRID
    np.testing.assert_array_equal(steps, np.rint(steps))
    exact = np.convolve(
        fir.low_pass(fs_hz=250, pass_hz=40, stop_hz=50, attenuation_db=45),
        signal.unit_impulse(999, "mid") - fir.baseline(fs_hz=250, pass_hz=0.5),
    )
    middle = exact.size // 2
    distance = np.abs(np.abs(exact / GRID - np.floor(exact / GRID)) - 0.5)
    distance[middle] = 1.0  # the centre tap is set by the sum
    assert distance.min() * GRID > 1e-14, (
        "a tap lies so near a rounding edge that another platform may round it otherwise"
    )


def test_pass_band_is_within_half_a_db_from_0_5_to_40_hz() -> None:
    gain_db = response_db(coefficients(), BASE.pass_low_hz, BASE.pass_high_hz)
    assert np.abs(gain_db).max() < 0.25


@pytest.mark.promise(11)
def test_promised_pass_band_from_0_67_hz() -> None:
    assert np.abs(response_db(coefficients(), 0.67, 40.0)).max() < 0.5


@pytest.mark.promise(11)
def test_baseline_is_suppressed_by_31_db_at_0_05_hz_and_by_20_db_at_0_09_hz() -> None:
    assert response_db(coefficients(), 1e-4, 0.05).max() < -31
    assert response_db(coefficients(), 1e-4, 0.09).max() < -20


@pytest.mark.promise(11)
def test_mains_of_50_and_60_hz_and_all_above_are_suppressed_by_45_db() -> None:
    assert response_db(coefficients(), 50.0, 125.0).max() < -45


def test_length_is_little_more_than_four_seconds() -> None:
    assert coefficients().size / BASE.fs_hz < 4.3


def test_taps_are_cached_and_read_only() -> None:
    assert coefficients(FrontendSpec()) is coefficients(FrontendSpec())
    with pytest.raises(ValueError, match="read-only"):
        coefficients()[0] = 1.0
