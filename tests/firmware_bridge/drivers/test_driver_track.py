"""The time line of a driver: the same rule as the profile's, bounded, gaps declared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from firmware_bridge.assembly.quantise import Timeline, build_record
from firmware_bridge.drivers.base import DriverInfo, QualityInfo
from firmware_bridge.drivers.track import Track
from firmware_bridge.protocol.descriptor import DeviceDescriptor
from lsemvae.ecg.errors import LengthError

INFO = DriverInfo(
    name="test",
    title="test",
    kind="serial",
    leads=("I", "II"),
    fs_hz=500.0,
    lsb_uv=0.0481,
    quality=QualityInfo(gap_detectable=True, calibrated=True, timestamped=True),
)


@pytest.mark.parametrize("scale", [100, 30_000, 3_000_000])
def test_codes_become_counts_by_the_rule_of_the_profile(scale: int):
    rng = np.random.default_rng(scale)
    codes = rng.integers(-scale, scale, (2, 1000)).astype(np.int32) + np.array([[250_000], [-140_000]], dtype=np.int32)
    received = np.ones(1000, dtype=bool)
    received[300:350] = False
    track = Track(2)
    track.append(codes[:, :300])
    assert track.skip(50) == 50
    track.append(codes[:, 350:])
    descriptor = DeviceDescriptor(leads=("I", "II"), fs_mhz=500_000, lsb_pv=48_100, range_uv=400_000)
    timeline = Timeline(
        codes=np.where(received, codes, 0).astype(np.int32), received=received, contact=np.zeros(1000, dtype=np.uint8)
    )
    expected, found = build_record(timeline, descriptor=descriptor), track.to_record(INFO)
    np.testing.assert_array_equal(found.samples, expected.samples)
    assert found.lsb_uv == pytest.approx(expected.lsb_uv, rel=1e-12)
    assert found.offset_uv == pytest.approx(expected.offset_uv, rel=1e-12)
    assert found.gaps == expected.gaps
    assert found.saturated == expected.saturated


def test_lead_off_and_saturation_neither_choose_the_offset_nor_the_step():
    calm = np.full((2, 900), 1000, dtype=np.int32) + np.arange(900, dtype=np.int32) % 50
    wild = np.full((2, 100), 8_000_000, dtype=np.int32)
    track = Track(2)
    track.append(calm)
    track.append(wild, off=np.array([True, False]), saturated=np.ones(100, dtype=bool))
    record = track.to_record(INFO)
    assert record.lsb_uv == pytest.approx(INFO.lsb_uv)
    assert record.offset_uv[0] == pytest.approx(1024 * 0.0481, rel=0.01)
    assert [(off.lead, off.start, off.stop) for off in record.lead_off] == [("I", 900, 1000)]
    assert [(run.start, run.stop) for run in record.saturated] == [(900, 1000)]


def test_a_full_track_keeps_what_it_has_and_counts_the_rest():
    track = Track(1, max_samples=20_000)
    for _ in range(30):
        track.append(np.ones((1, 1000), dtype=np.int32))
    assert (track.elapsed, track.received, track.overflow) == (20_000, 20_000, 10_000)
    assert track.skip(10**9) == 0
    assert track.elapsed == 20_000
    assert sum(array.nbytes for array in vars(track).values() if isinstance(array, np.ndarray)) < 20_000 * 7 + 1


def test_a_track_of_gaps_alone_is_no_record():
    track = Track(2)
    track.skip(100)
    with pytest.raises(LengthError, match="found 0 received samples"):
        track.to_record(INFO)


def test_defect_a_wild_signal_of_an_unknown_scale_is_a_saturated_record_not_an_error():
    track = Track(2)
    track.append(np.tile(np.array([[-(1 << 23)] * 3 + [(1 << 24) - 1]], dtype=np.int32), (2, 500)))
    record = track.to_record(
        replace(INFO, lsb_uv=None, quality=QualityInfo(gap_detectable=False, calibrated=False, timestamped=False))
    )
    assert record.lsb_uv == 512.0
    assert record.saturated
