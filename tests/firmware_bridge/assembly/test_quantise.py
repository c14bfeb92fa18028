"""Codes of a 24-bit converter to 16 bits: offset kept, step as fine as it can be, nothing limited in silence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.assembly.quantise import INT16_LIMIT, Timeline, build_record
from firmware_bridge.protocol.descriptor import DeviceDescriptor
from firmware_bridge.protocol.profile import Contact
from lsemvae.ecg.errors import LengthError
from lsemvae.ecg.runs import StartTime

DESCRIPTOR = DeviceDescriptor(leads=("I", "II"), fs_mhz=500_000, lsb_pv=48_100, range_uv=403_000)


def timeline(codes: np.ndarray, *, received: np.ndarray | None = None, contact: np.ndarray | None = None) -> Timeline:
    n = codes.shape[1]
    return Timeline(
        codes=codes.astype(np.int32),
        received=np.ones(n, dtype=bool) if received is None else received,
        contact=np.zeros(n, dtype=np.uint8) if contact is None else contact,
    )


@pytest.mark.promise(7)
@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    spread=st.sampled_from([1, 100, 30_000, 40_000, 300_000, 4_000_000]),
    offset=st.integers(-4_000_000, 4_000_000),
)
def test_every_sample_is_kept_within_half_a_step_and_the_step_is_the_smallest_that_fits(seed, spread, offset):
    codes = offset + np.random.default_rng(seed).integers(-spread, spread + 1, (2, 200))
    record = build_record(timeline(codes), descriptor=DESCRIPTOR)
    factor = round(record.lsb_uv / DESCRIPTOR.lsb_uv)
    assert factor & (factor - 1) == 0
    restored = record.samples * record.lsb_uv + np.array(record.offset_uv)[:, None]
    assert np.abs(restored - codes * DESCRIPTOR.lsb_uv).max() <= record.lsb_uv / 2 + 1e-9
    assert record.saturated == ()
    offsets = np.array(record.offset_uv) / DESCRIPTOR.lsb_uv
    np.testing.assert_allclose(offsets, np.rint(offsets), atol=1e-6)
    if factor > 1:
        largest = np.abs(codes - np.rint(offsets).astype(int)[:, None]).max()
        assert round(largest / (factor // 2)) > INT16_LIMIT


def test_a_heartbeat_of_one_millivolt_keeps_the_device_s_own_step():
    codes = 250_000 + np.rint(1000 / 0.0481 * np.sin(np.arange(1000) / 50))[None].repeat(2, 0)
    assert build_record(timeline(codes), descriptor=DESCRIPTOR).lsb_uv == pytest.approx(0.0481)


@pytest.mark.promise(7)
def test_codes_at_the_rail_are_declared_saturated_and_do_not_coarsen_the_rest():
    codes = np.zeros((2, 100))
    codes[0, 40:50] = (1 << 23) - 1
    record = build_record(timeline(codes), descriptor=DESCRIPTOR)
    assert [(run.start, run.stop) for run in record.saturated] == [(40, 50)]
    assert record.lsb_uv == pytest.approx(0.0481)
    assert (record.samples[0, 40:50] == INT16_LIMIT).all()


def test_a_swing_while_an_electrode_is_off_is_declared_twice_and_does_not_coarsen_the_rest():
    codes = np.zeros((2, 100))
    codes[0, 60:] = 2_000_000
    contact = np.zeros(100, dtype=np.uint8)
    contact[60:] = int(Contact.LA_OFF)
    record = build_record(timeline(codes, contact=contact), descriptor=DESCRIPTOR)
    assert record.lsb_uv == pytest.approx(0.0481)
    assert [(off.lead, off.start, off.stop) for off in record.lead_off] == [("I", 60, 100)]
    assert [(run.start, run.stop) for run in record.saturated] == [(60, 100)]


def test_limited_samples_lie_inside_declared_saturation_always():
    rng = np.random.default_rng(3)
    codes = rng.integers(-(1 << 23), 1 << 23, (2, 500))
    contact = rng.integers(0, 64, 500).astype(np.uint8)
    record = build_record(timeline(codes, contact=contact), descriptor=DESCRIPTOR)
    declared = np.zeros(500, dtype=bool)
    for run in record.saturated:
        declared[run.start : run.stop] = True
    restored = record.samples * record.lsb_uv + np.array(record.offset_uv)[:, None]
    wrong = np.abs(restored - codes * DESCRIPTOR.lsb_uv) > record.lsb_uv / 2 + 1e-6
    assert wrong.any()
    assert declared[wrong.any(axis=0)].all()


def test_gaps_hold_zeros_and_do_not_count_as_signal():
    codes = np.full((2, 100), 1_000_000)
    received = np.ones(100, dtype=bool)
    received[10:30] = False
    codes[:, 10:30] = 0
    record = build_record(timeline(codes, received=received), descriptor=DESCRIPTOR)
    assert [(gap.start, gap.stop) for gap in record.gaps] == [(10, 30)]
    assert record.received_samples == 80
    assert not record.samples.any()
    assert record.offset_uv == pytest.approx((48_100.0, 48_100.0))


def test_what_the_caller_says_goes_into_the_record():
    start = StartTime("2026-01-01T00:00:00Z", "host")
    record = build_record(timeline(np.ones((2, 5))), descriptor=DESCRIPTOR, start=start, device="E6L", record_id="r1")
    assert (record.start, record.device, record.record_id, record.fs_hz, record.leads) == (
        start, "E6L", "r1", 500.0, ("I", "II"),
    )  # fmt: skip


def test_nothing_received_is_an_error_with_advice():
    nothing = timeline(np.zeros((2, 10)), received=np.zeros(10, dtype=bool))
    with pytest.raises(LengthError, match="found 0 received samples") as caught:
        build_record(nothing, descriptor=DESCRIPTOR)
    assert caught.value.advice
