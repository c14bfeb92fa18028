"""Viatom/Lepu: framing with CRC-8, polling, packed differences, an index that must earn its trust."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.drivers.viatom import ViatomDriver
from firmware_bridge.drivers.viatom_er3 import ViatomEr3Driver, unpack_differences
from firmware_bridge.drivers.viatom_frames import (
    GET_BATTERY,
    GET_INFO,
    NOTIFY_UUID,
    ViatomFrame,
    ViatomReader,
    crc8,
)
from lsemvae.ecg.errors import FormatError
from tests.firmware_bridge.drivers.driver_bytes import (
    crc8_bitwise,
    er3_differences,
    er3_packed,
    er3_plain,
    viatom,
    viatom_rt,
)


def test_crc8_check_value():
    assert crc8(b"123456789") == 0xF4


@given(st.binary(max_size=40))
def test_crc8_equals_the_bitwise_one(data: bytes):
    assert crc8(data) == crc8_bitwise(data)


@pytest.mark.parametrize(
    ("frame", "published"),
    [
        (ViatomFrame(cmd=GET_INFO), "a5 e1 1e 00 00 00 00 69"),
        (ViatomFrame(cmd=GET_BATTERY), "a5 e4 1b 00 00 00 00 09"),
        (ViatomDriver.request, "a5 03 fc 00 00 01 00 7d 23"),
    ],
)
def test_published_requests_come_out_of_the_encoder(frame: ViatomFrame, published: str):
    assert frame.to_bytes().hex(" ") == published


def test_polled_every_half_second_and_a_late_caller_does_not_fall_behind():
    driver, asked = ViatomDriver(), []
    for t_us in range(0, 10_000_000, 30_000):  # the caller looks every 30 ms
        asked += [t_us] * len(driver.poll(t_us))
    assert len(asked) == 20
    assert driver.poll(20_000_000)  # after a pause one request, not twenty
    assert not driver.poll(20_100_000)


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=5), st.integers(1, 25))
def test_frames_survive_any_cut(payloads: list[bytes], step: int):
    raw = b"".join(viatom(3, payload) for payload in payloads)
    reader = ViatomReader()
    frames = [frame for at in range(0, len(raw), step) for frame in reader.feed(raw[at : at + step], 0)]
    assert [frame.payload for frame in frames] == payloads
    assert reader.corrupt == reader.skipped == 0


@pytest.mark.parametrize("bit", range(0, 8 * 40, 7))
def test_a_changed_bit_brings_no_sample(bit: int):
    raw = bytearray(viatom_rt([1, 2, 3, 4]))
    raw[(bit // 8) % len(raw)] ^= 1 << bit % 8
    driver = ViatomDriver()
    driver.feed(NOTIFY_UUID, bytes(raw), 0)
    assert driver.elapsed == 0


def test_a_frame_that_lost_a_notification_does_not_take_the_next_one_with_it():
    driver, frame = ViatomDriver(), viatom_rt(list(range(60)))
    driver.feed(NOTIFY_UUID, frame[:20], 0)
    driver.feed(NOTIFY_UUID, frame[40:], 30_000)  # the second notification is lost
    driver.feed(NOTIFY_UUID, frame, 500_000)
    assert driver.elapsed == 60
    assert driver.statistics.corrupt == 1


def test_a_header_without_an_end_is_given_up_after_a_second():
    reader = ViatomReader()
    assert reader.feed(bytes.fromhex("a503fc0100ff0f"), 0) == ()  # announces 4095 bytes
    assert [frame.cmd for frame in reader.feed(viatom(3, b""), 2_000_000)] == [3]


def test_an_answer_whose_count_and_length_disagree_is_refused():
    driver = ViatomDriver()
    driver.feed(NOTIFY_UUID, viatom(3, bytes(20) + b"\x09\x00" + bytes(8)), 0)
    assert (driver.elapsed, driver.statistics.malformed) == (0, 1)


def test_a_refusal_is_kept_in_words():
    driver = ViatomDriver()
    driver.feed(NOTIFY_UUID, viatom(3, b"", kind=0xE1), 0)
    assert "refused" in driver.remarks[0]
    with pytest.raises(Exception, match="refused"):
        driver.to_record(start=None, device="")


def test_early_lost_answers_leave_no_trace_and_the_record_says_so():
    driver = ViatomDriver()
    for k in (0, 2):  # the answer between is never asked for in time
        driver.feed(NOTIFY_UUID, viatom_rt([k] * 62), k * 500_000)
    record = driver.to_record(start=None, device="")
    assert (record.n_samples, record.gaps) == (124, ())
    assert not record.source.gap_detectable
    assert not record.source.timestamped


@settings(max_examples=50)
@given(st.integers(1, 3), st.integers(1, 30), st.randoms(use_true_random=False))
def test_differences_unpack_to_what_was_packed(scale: int, n: int, random):
    bound = (100, 2000, 32767)[scale - 1]
    rows = [[random.randint(-bound, bound) for _ in range(n)] for _ in range(4)]
    unpacked = unpack_differences(er3_differences(rows), n_channels=4)
    assert unpacked is not None
    np.testing.assert_array_equal(unpacked, rows)


@pytest.mark.parametrize("raw", ["80", "800f", "800f0100020003000400 01", "01 02", "01 80 02 03"])
def test_differences_that_hold_no_whole_sample_are_refused(raw: str):
    assert unpack_differences(bytes.fromhex(raw), n_channels=4) is None


def test_eight_channels_keep_i_and_ii():
    rows = [[c * 10 + k for k in range(5)] for c in range(8)]
    driver = ViatomEr3Driver()
    driver.feed(NOTIFY_UUID, er3_packed(rows, index=0, cable=0), 0)
    record = driver.to_record(start=None, device="")
    assert record.leads == ("I", "II")
    np.testing.assert_array_equal(record.samples + np.array(record.offset_uv)[:, None] / record.lsb_uv, rows[1:3])


def packet(k: int, *, index: int) -> bytes:
    return er3_packed([[k, k + 1, k + 2]] * 4, index=index)


def test_an_index_that_counts_samples_makes_gaps_detectable():
    driver = ViatomEr3Driver()
    for k in range(5):
        driver.feed(NOTIFY_UUID, packet(k, index=3 * k), k * 500_000)
    assert driver.info.quality.gap_detectable
    driver.feed(NOTIFY_UUID, packet(9, index=3 * 7), 4_000_000)  # two answers lost
    driver.feed(NOTIFY_UUID, packet(9, index=3 * 7), 4_000_001)  # sent twice
    record = driver.to_record(start=None, device="")
    assert [(gap.start, gap.stop) for gap in record.gaps] == [(15, 21)]
    assert (record.n_samples, driver.statistics.duplicates, driver.statistics.lost_samples) == (24, 1, 6)
    assert record.source.gap_detectable


@pytest.mark.parametrize("step", [0, 1, 6, 12])
def test_an_index_that_counts_something_else_is_not_believed(step: int):
    driver = ViatomEr3Driver()
    for k in range(10):
        driver.feed(NOTIFY_UUID, packet(k, index=step * k), k * 500_000)
    record = driver.to_record(start=None, device="")
    assert (record.n_samples, record.gaps) == (30, ())
    assert not record.source.gap_detectable


def test_a_gap_before_the_index_is_trusted_leaves_a_doubt():
    driver = ViatomEr3Driver()
    for k, index in enumerate((0, 6, 9, 12, 15, 18, 21)):
        driver.feed(NOTIFY_UUID, packet(k, index=index), k * 500_000)
    assert not driver.to_record(start=None, device="").source.gap_detectable


def test_a_cable_without_both_leads_is_refused_in_words():
    driver = ViatomEr3Driver()
    driver.feed(NOTIFY_UUID, er3_packed([[1, 2]] * 4, index=0, cable=3), 0)
    assert driver.elapsed == 0
    assert driver.remarks == ("cable of type 3 does not measure leads I and II",)


def test_early_firmware_has_no_known_scale():
    driver = ViatomEr3Driver(plain_channels=8)
    driver.feed(NOTIFY_UUID, er3_plain([[c, c] for c in range(8)]), 0)
    record = driver.to_record(start=None, device="")
    assert not record.gain_known
    assert not record.source.calibrated
    with pytest.raises(FormatError, match="expected 4 or 8"):
        ViatomEr3Driver(plain_channels=3)  # type: ignore[arg-type]
