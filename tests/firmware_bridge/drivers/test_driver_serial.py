"""ProtoCentral boards: an envelope without a check sum on a line that loses bytes."""

from __future__ import annotations

import numpy as np
import pytest

from firmware_bridge.drivers import make
from firmware_bridge.drivers.protocentral import Ads1293Driver
from lsemvae.ecg.errors import EcgError, RateError, UnitError
from tests.firmware_bridge.drivers.driver_bytes import ads1292r, ads1293, openview


def rows(n: int, *, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.integers(-300, 300, size=(3, n)), axis=1)


def codes_of(driver: Ads1293Driver) -> np.ndarray:
    record = driver.to_record(start=None, device="")
    return np.rint(record.samples * record.lsb_uv + np.array(record.offset_uv)[:, None]).astype(int)


def test_any_cut_of_the_stream_gives_the_same_samples():
    x = rows(200)
    raw = ads1293(x.tolist())
    rng = np.random.default_rng(1)
    for _ in range(5):
        driver, at = Ads1293Driver(), 0
        while at < len(raw):
            n = int(rng.integers(1, 60))
            driver.feed("", raw[at : at + n], at)
            at += n
        np.testing.assert_array_equal(codes_of(driver), x[:2])
        assert driver.skipped_bytes == 0


def test_noise_between_packets_is_skipped_and_counted():
    x = rows(50)
    packets = [ads1293(x[:, k : k + 1].tolist()) for k in range(50)]
    driver = Ads1293Driver()
    driver.feed("", b"\xff\x0a\x01".join(packets), 0)
    np.testing.assert_array_equal(codes_of(driver), x[:2])
    assert driver.skipped_bytes == 3 * 49


def test_a_false_header_costs_no_true_packet_that_follows():
    """The start of a packet, cut off, then whole ones: the reader finds its way back inside what it first took."""
    x = rows(3)
    whole = ads1293(x.tolist())
    driver = Ads1293Driver()
    driver.feed("", whole[:9] + whole, 0)
    np.testing.assert_array_equal(codes_of(driver), x[:2])
    assert driver.skipped_bytes == 9


def test_a_header_inside_the_samples_is_not_taken_for_one():
    inside = int.from_bytes(b"\x0a\xfa\x0c\x00", "little")
    driver = Ads1293Driver()
    driver.feed("", ads1293([[inside], [2], [3]]) * 4, 0)
    np.testing.assert_array_equal(codes_of(driver), [[inside] * 4, [2] * 4])


def test_a_number_beyond_24_bits_is_no_sample():
    driver = Ads1293Driver()
    driver.feed("", ads1293([[1 << 24], [0], [0]]) + ads1293([[-(1 << 23) - 1], [0], [0]]), 0)
    assert driver.elapsed == 0
    assert driver.statistics.malformed == 2


def test_a_lost_byte_loses_a_sample_without_a_trace():
    """The reason for `gap_detectable=False`: nothing in the record shows it, so the record says that nothing could."""
    raw = ads1293(rows(100).tolist())
    driver = Ads1293Driver()
    driver.feed("", raw[:500] + raw[501:], 0)
    record = driver.to_record(start=None, device="")
    assert record.n_samples == 99
    assert record.gaps == ()
    assert not record.source.gap_detectable


def test_the_rate_of_arrival_shows_what_the_stream_cannot():
    driver = Ads1293Driver(fs_hz=100.0)
    packets = [ads1293([[k], [k], [k]]) for k in range(800)]
    for k, packet in enumerate(packets):
        driver.feed("", packet, k * 12_500)  # a sketch that waits too long: 80 Hz
        assert (driver.rate_seen_hz is None) is (k * 12_500 < 5_000_000)
    assert driver.rate_seen_hz == pytest.approx(80.0, rel=1e-3)


def test_respiration_board_has_one_lead_and_zeros_mean_an_electrode_is_off():
    driver = make("protocentral-ads1292r")
    assert driver.info.leads == ("I",)
    driver.feed("", ads1292r([5, 6]) + openview(bytes(8)) * 3 + ads1292r([7], long=True), 0)
    record = driver.to_record(start=None, device="")
    assert [(off.lead, off.start, off.stop) for off in record.lead_off] == [("I", 2, 5)]


def test_a_flat_lead_is_not_taken_for_an_electrode_that_is_off():
    driver = make("protocentral-ads1292r")
    driver.feed("", ads1292r([0, 0, 0]), 0)  # respiration and rate go on
    assert driver.to_record(start=None, device="").lead_off == ()


@pytest.mark.parametrize(
    ("options", "error"),
    [({"fs_hz": 0.0}, RateError), ({"lsb_uv": 0.0}, UnitError), ({"lsb_uv": float("nan")}, UnitError)],
)
def test_impossible_statements_are_refused(options: dict[str, float], error: type[EcgError]):
    with pytest.raises(error, match="found"):
        make("protocentral-ads1293", **options)
