"""Reassembly: order, duplicates, gaps, wrap-around; received + declared gaps = elapsed, always."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.assembly.host_clock import MARGIN_S, RATE_TOLERANCE, HostClock
from firmware_bridge.assembly.quantise import build_record
from firmware_bridge.assembly.reassembly import MAX_STREAM_SAMPLES, Assembler
from firmware_bridge.protocol.codec import LiveFrame, encode_frame
from firmware_bridge.protocol.control import RetransmitParams
from firmware_bridge.protocol.descriptor import DeviceDescriptor
from firmware_bridge.protocol.profile import INDEX_MODULUS, NO_FLAGS, Contact, FrameFlag, SampleCodec
from lsemvae.ecg.errors import RateError

DESCRIPTOR = DeviceDescriptor(leads=("I", "II"), fs_mhz=500_000, lsb_pv=48_100, range_uv=403_000)
N = 5


def signal(n_frames: int) -> np.ndarray:
    return np.random.default_rng(1).integers(-30_000, 30_000, (2, n_frames * N)).astype(np.int32)


def frame_at(x: np.ndarray, first: int, *, start_index: int = 0, n: int = N, flags: FrameFlag = NO_FLAGS) -> LiveFrame:
    return LiveFrame(samples=x[:, first : first + n], t0=(start_index + first) % INDEX_MODULUS, flags=flags)


def check_invariant(assembler: Assembler) -> None:
    missing = sum(stop - start for start, stop in assembler.gaps())
    assert assembler.received + missing == assembler.elapsed


DELIVERY = st.integers(1, 40).flatmap(
    lambda n: st.tuples(st.just(n), st.lists(st.integers(0, n - 1), min_size=1, max_size=3 * n))
)


@pytest.mark.slow
@pytest.mark.promise(6)
@settings(max_examples=150, deadline=None)
@given(
    delivery=DELIVERY,
    start_index=st.sampled_from([0, 1, INDEX_MODULUS - 1, INDEX_MODULUS - 17, INDEX_MODULUS - 100, 5 * INDEX_MODULUS]),
)
def test_any_order_with_duplicates_drops_and_wrap_around_keeps_the_invariant(delivery, start_index):
    """`delivery` is what arrives: any frames, in any order, some several times, some never."""
    n_frames, arrivals = delivery
    x = signal(n_frames)
    assembler = Assembler(n_leads=2, start_index=start_index)
    for number in arrivals:
        assembler.feed(frame_at(x, number * N, start_index=start_index))
        check_invariant(assembler)
    arrived = np.zeros(x.shape[1], dtype=bool)
    for number in set(arrivals):
        arrived[number * N : (number + 1) * N] = True
    timeline = assembler.timeline()
    stop = (max(arrivals) + 1) * N
    assert assembler.elapsed == stop
    np.testing.assert_array_equal(timeline.received, arrived[:stop])
    np.testing.assert_array_equal(timeline.codes, np.where(arrived, x, 0)[:, :stop])
    assert assembler.statistics.duplicates == len(arrivals) - len(set(arrivals))


@settings(max_examples=80, deadline=None)
@given(
    lost=st.sets(st.integers(0, 39), max_size=30),
    start_index=st.sampled_from([0, INDEX_MODULUS - 77]),
    step=st.integers(1, 9),
)
def test_retransmissions_close_every_gap_whatever_their_frame_size(lost, start_index, step):
    x = signal(41)
    assembler = Assembler(n_leads=2, start_index=start_index)
    for number in sorted(set(range(41)) - lost):
        assembler.feed(frame_at(x, number * N, start_index=start_index))
    for request in assembler.retransmissions():
        first = (request.t0 - start_index) % INDEX_MODULUS
        for position in range(first, first + request.count, step):
            n = min(step, first + request.count - position)
            again = frame_at(x, position, start_index=start_index, n=n, flags=FrameFlag.RETRANSMITTED)
            assert assembler.feed(again)
    assert assembler.gaps() == ()
    np.testing.assert_array_equal(assembler.timeline().codes, x)
    assert assembler.statistics.reordered == 0


def test_the_first_valid_frame_for_a_sample_wins():
    assembler = Assembler(n_leads=2)
    assembler.feed(LiveFrame(samples=np.full((2, 4), 7, dtype=np.int32), t0=0))
    assert not assembler.feed(LiveFrame(samples=np.full((2, 4), 9, dtype=np.int32), t0=0))
    assert assembler.feed(LiveFrame(samples=np.full((2, 4), 9, dtype=np.int32), t0=2))
    np.testing.assert_array_equal(assembler.timeline().codes[0], [7, 7, 7, 7, 9, 9])


def test_gaps_up_to_a_sample_beyond_the_newest_are_declared():
    assembler = Assembler(n_leads=2)
    assembler.feed(frame_at(signal(3), 5))
    assert assembler.gaps() == ((0, 5),)
    assert assembler.gaps(20) == ((0, 5), (10, 20))
    record = build_record(assembler.timeline(20), descriptor=DESCRIPTOR)
    assert record.n_samples == 20
    assert record.received_samples == 5


def test_requests_leave_out_what_is_no_longer_in_the_ring_and_are_split_at_65535():
    assembler = Assembler(n_leads=2, max_jump=200_000)
    assembler.feed(LiveFrame(samples=np.ones((2, 1), dtype=np.int32), t0=150_000))
    assert assembler.retransmissions(oldest=80_000) == (
        RetransmitParams(t0=80_000, count=65_535),
        RetransmitParams(t0=145_535, count=4_465),
    )


def test_corrupt_and_malformed_bytes_are_counted_and_change_nothing():
    assembler = Assembler(n_leads=2)
    raw = bytearray(encode_frame(frame_at(signal(1), 0)))
    raw[11] ^= 4
    assert assembler.feed_bytes(raw) is None
    assert assembler.feed_bytes(b"") is None
    three_leads = LiveFrame(samples=np.zeros((3, 4), dtype=np.int32), t0=0)
    assert assembler.feed_bytes(encode_frame(three_leads)) is None
    assert assembler.elapsed == 0
    assert (assembler.statistics.corrupt, assembler.statistics.malformed) == (1, 2)


@pytest.mark.parametrize("t0", [700_000, INDEX_MODULUS - 50, 1 << 31])
def test_a_valid_frame_far_from_the_stream_is_refused_not_turned_into_a_giant_gap(t0):
    assembler = Assembler(n_leads=2)
    assembler.feed(frame_at(signal(1), 0))
    assert not assembler.feed(LiveFrame(samples=np.zeros((2, 4), dtype=np.int32), t0=t0))
    assert assembler.elapsed == 5
    assert assembler.statistics.implausible == 1


def test_flags_are_counted_and_remembered():
    x = signal(3)
    assembler = Assembler(n_leads=2)
    assembler.feed(frame_at(x, 10, flags=FrameFlag.OVERRUN))
    assembler.feed(frame_at(x, 0))
    assembler.feed(frame_at(x, 5, flags=FrameFlag.RETRANSMITTED))
    assert not assembler.last_seen
    assembler.feed(frame_at(x, 0, flags=FrameFlag.LAST))
    assert assembler.last_seen
    found = assembler.statistics
    assert (found.frames, found.overruns, found.reordered, found.retransmitted, found.duplicates) == (4, 1, 1, 1, 1)


def test_a_long_recording_outgrows_its_first_buffer():
    x = np.arange(2 * 40_000, dtype=np.int32).reshape(2, 40_000)
    assembler = Assembler(n_leads=2)
    for first in range(0, 40_000, 200):
        assembler.feed(LiveFrame(samples=x[:, first : first + 200], t0=first))
    np.testing.assert_array_equal(assembler.timeline().codes, x)


def test_contact_bits_become_lead_off_and_saturated_intervals():
    assembler = Assembler(n_leads=2)
    contacts = [Contact(0), Contact.LA_OFF, Contact.RA_OFF, Contact.LL_OFF, Contact.RL_OFF, Contact.SATURATED_2]
    for number, contact in enumerate(contacts):
        assembler.feed(LiveFrame(samples=np.ones((2, 10), dtype=np.int32), t0=10 * number, contact=contact))
    record = build_record(assembler.timeline(), descriptor=DESCRIPTOR)
    off = {lead: [(run.start, run.stop) for run in record.lead_off if run.lead == lead] for lead in ("I", "II")}
    assert off == {"I": [(10, 30), (40, 50)], "II": [(20, 50)]}
    assert [(run.start, run.stop) for run in record.saturated] == [(50, 60)]


# -- the guard by the host's clock -----------------------------------------------------------------------------------

CLOCK = HostClock(begun_us=7_000_000, fs_hz=500.0)


def due_us(stop: int, *, clock: HostClock = CLOCK) -> int:
    """Host time at which the sample before `stop` has just been measured."""
    return clock.begun_us + round(stop / clock.fs_hz / clock.pace * 1e6)


@pytest.mark.parametrize("ahead", [1_000, 5_000, 100_000, 599_000])
def test_a_jump_to_samples_that_cannot_exist_yet_is_refused_and_the_stream_goes_on(ahead):
    """A valid frame 599 000 samples ahead would end a session of 30 s at its first second."""
    x = signal(40)
    assembler = Assembler(n_leads=2, clock=CLOCK)
    for first in range(0, 100, N):
        assert assembler.feed(frame_at(x, first), due_us(first + N))
    jump = LiveFrame(samples=x[:, :N], t0=100 + ahead)
    assert not assembler.feed(jump, due_us(100))
    assert (assembler.elapsed, assembler.statistics.premature) == (100, 1)
    for first in range(100, 200, N):
        assert assembler.feed(frame_at(x, first), due_us(first + N))
    assert assembler.gaps() == ()
    np.testing.assert_array_equal(assembler.timeline().codes, x)


def test_a_gap_that_time_explains_is_a_gap():
    """The link was away for 20 s: the samples of that time exist."""
    assembler = Assembler(n_leads=2, clock=CLOCK)
    assembler.feed(frame_at(signal(1), 0), due_us(5))
    assert assembler.feed(LiveFrame(samples=signal(1), t0=10_000), due_us(10_005))
    assert assembler.gaps() == ((5, 10_000),)


@pytest.mark.parametrize("ppm", [-5000, 200, 5000, 9000])
def test_the_guard_refuses_no_sample_of_a_clock_that_drifts(ppm):
    """Drift is `drift`'s to judge; the guard has room for twice what is refused there."""
    assembler = Assembler(n_leads=1, clock=CLOCK)
    for first in range(0, 300 * 500, 250):
        frame = LiveFrame(samples=np.ones((1, 250), dtype=np.int32), t0=first)
        at_us = CLOCK.begun_us + round((first + 250) / 500 / (1 + ppm * 1e-6) * 1e6)
        assert assembler.feed(frame, at_us)
    assert assembler.statistics.premature == 0


def test_a_backlog_that_comes_at_once_after_a_stall_is_taken():
    x = signal(200)
    assembler = Assembler(n_leads=2, clock=CLOCK)
    for first in range(0, 1000, N):
        assert assembler.feed(frame_at(x, first), due_us(1000))
    assert assembler.received == 1000


def test_the_bound_is_elapsed_time_with_tolerance_and_margin():
    at_us = CLOCK.begun_us + 10_000_000
    assert CLOCK.possible_samples(at_us) == int((10 * (1 + RATE_TOLERANCE) + MARGIN_S) * 500)
    assert CLOCK.possible_samples(0) == int(MARGIN_S * 500)
    fast = HostClock(begun_us=0, fs_hz=500.0, pace=10.0)
    assert fast.possible_samples(1_000_000) == int((10 * (1 + RATE_TOLERANCE) + 10 * MARGIN_S) * 500)


def test_a_wrapped_index_is_held_against_the_clock_by_its_unwrapped_value():
    start_index = INDEX_MODULUS - 10
    clock = HostClock(begun_us=0, fs_hz=500.0)
    assembler = Assembler(n_leads=2, start_index=start_index, clock=clock)
    x = signal(4)
    for first in range(0, 20, N):
        assert assembler.feed(frame_at(x, first, start_index=start_index), due_us(start_index + first + N, clock=clock))
    assert assembler.received == 20


@pytest.mark.parametrize("pace", [0.0, -1.0, float("nan"), float("inf")])
def test_a_pace_that_is_no_pace_is_refused(pace):
    with pytest.raises(RateError, match="expected positive"):
        HostClock(begun_us=0, fs_hz=500.0, pace=pace)


def test_a_stream_cannot_grow_without_bound_even_where_nobody_gives_the_time():
    """Each jump is allowed, all of them together are not."""
    assembler = Assembler(n_leads=1)
    one = np.ones((1, 1), dtype=np.int32)
    for k in range(1, 40):
        assembler.feed(LiveFrame(samples=one, t0=k * 599_999))
    assert assembler.elapsed <= MAX_STREAM_SAMPLES
    assert assembler.n_bytes <= 7 * MAX_STREAM_SAMPLES
    assert assembler.statistics.implausible > 30


# -- codec and calibration pulse -------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", [SampleCodec.RAW24, SampleCodec.RAW16])
def test_frames_in_another_codec_than_the_stream_s_are_refused_and_counted(codec):
    other = SampleCodec.RAW16 if codec is SampleCodec.RAW24 else SampleCodec.RAW24
    x = signal(3)
    assembler = Assembler(n_leads=2, codec=codec)
    assert assembler.feed_bytes(encode_frame(LiveFrame(samples=x[:, :5], t0=0, codec=codec))) is not None
    assert assembler.feed_bytes(encode_frame(LiveFrame(samples=x[:, 5:10], t0=5, codec=other))) is None
    assert (assembler.elapsed, assembler.statistics.foreign_codec, assembler.statistics.malformed) == (5, 1, 0)
    assert assembler.feed_bytes(encode_frame(LiveFrame(samples=x[:, 5:10], t0=5, codec=codec))) is not None


def test_a_calibration_pulse_is_a_gap_that_is_neither_asked_for_again_nor_filled():
    x = signal(6)
    assembler = Assembler(n_leads=2)
    assembler.feed(frame_at(x, 0))
    assert assembler.feed(frame_at(x, 5, flags=FrameFlag.CALIBRATION))
    assert not assembler.feed(frame_at(x, 5, flags=FrameFlag.CALIBRATION | FrameFlag.RETRANSMITTED))
    assembler.feed(frame_at(x, 20))
    assert not assembler.feed(frame_at(x, 5, flags=FrameFlag.RETRANSMITTED))
    assert assembler.gaps() == ((5, 20),)
    assert assembler.retransmissions() == (RetransmitParams(t0=10, count=10),)
    assert assembler.fill(0, x) == 10
    assert assembler.gaps() == ((5, 10),)
    assert assembler.statistics.calibration == 2
    check_invariant(assembler)
    record = build_record(assembler.timeline(), descriptor=DESCRIPTOR)
    assert [(gap.start, gap.stop) for gap in record.gaps] == [(5, 10)]


def test_the_pulse_is_signal_only_for_who_asks_for_it():
    assembler = Assembler(n_leads=2, keep_calibration=True)
    assembler.feed(frame_at(signal(1), 0, flags=FrameFlag.CALIBRATION))
    assert (assembler.received, assembler.statistics.calibration) == (5, 1)
