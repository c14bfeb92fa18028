"""The virtual device obeys PROTOCOL.md: each rule is a test. Time is passed in, so nothing here waits."""

from __future__ import annotations

import numpy as np
import pytest

from firmware_bridge.protocol.codec import decode_frame
from firmware_bridge.protocol.control import (
    Reply,
    Request,
    RetransmitParams,
    StartParams,
    decode_oldest,
    decode_reply,
    decode_start_reply,
    decode_stop_reply,
    decode_time_reply,
    encode_time,
)
from firmware_bridge.protocol.descriptor import decode_descriptor
from firmware_bridge.protocol.profile import (
    Contact,
    DeviceState,
    Feature,
    FrameFlag,
    Op,
    ReplyStatus,
    SampleCodec,
    StartFlag,
)
from firmware_bridge.protocol.status import decode_status
from firmware_bridge.sim.device.device import Channel, Notification, VirtualDevice
from firmware_bridge.sim.device.source import ELECTRODE_OFFSET_UV, LSB_PV, source_from_record, source_from_uv
from lsemvae.ecg.errors import LengthError, SampleError
from lsemvae.ecg.record import EcgRecord
from lsemvae.ecg.runs import LeadOff

FRAME_US = 50_000


def make_device(n: int = 2000, *, loop: bool = True, fs_hz: float = 500.0) -> VirtualDevice:
    x = np.random.default_rng(0).normal(0, 300, (2, n))
    return VirtualDevice(source_from_uv(x, fs_hz=fs_hz, loop=loop))


def ask(device: VirtualDevice, op: Op, params: bytes = b"", *, now_us: int = 0) -> tuple[Reply, list[Notification]]:
    first, *rest = device.control(Request(op=op, txn=5, params=params).to_bytes(), now_us=now_us)
    reply = decode_reply(first.data)
    assert first.channel is Channel.CONTROL
    assert (reply.op, reply.txn) == (op, 5)
    return reply, rest


def live_frames(notifications: list[Notification]) -> list:
    return [decode_frame(item.data) for item in notifications if item.channel is Channel.LIVE]


def started(device: VirtualDevice, *, mtu: int = 247, n_samples: int = 25) -> VirtualDevice:
    device.link_up(mtu=mtu)
    reply, _ = ask(device, Op.START, StartParams(n_samples=n_samples).to_bytes())
    assert reply.status is ReplyStatus.OK
    return device


def test_nothing_is_streamed_without_start():
    device = make_device()
    device.link_up(mtu=247)
    assert live_frames(device.advance(10_000_000)) == []


def test_frames_are_due_every_50_ms_and_carry_the_source():
    device = started(make_device())
    frames = live_frames(device.advance(4 * FRAME_US - 1))
    assert [(frame.t0, frame.seq, frame.n_samples) for frame in frames] == [(0, 0, 25), (25, 1, 25), (50, 2, 25)]
    expected = device.front_end.read(0, 75)[0]
    np.testing.assert_array_equal(np.concatenate([frame.samples for frame in frames], axis=1), expected)


@pytest.mark.parametrize(("mtu", "n_samples"), [(39, 4), (100, 14), (247, 25)])
def test_the_frame_size_follows_the_mtu(mtu, n_samples):
    device = make_device()
    device.link_up(mtu=mtu)
    reply, _ = ask(device, Op.START, StartParams().to_bytes())
    answer = decode_start_reply(reply.data)
    assert (answer.n_samples, answer.mtu) == (n_samples, mtu)
    frames = device.advance(1_000_000)
    assert max(len(item.data) for item in frames) <= mtu - 3


@pytest.mark.parametrize("mtu", [23, 38])
def test_start_fails_below_an_mtu_of_39(mtu):
    device = make_device()
    device.link_up(mtu=mtu)
    reply, _ = ask(device, Op.START, StartParams().to_bytes())
    assert reply.status is ReplyStatus.MTU_TOO_SMALL
    assert live_frames(device.advance(1_000_000)) == []


def test_acquisition_goes_on_without_a_link_and_resume_goes_on_where_the_stream_is():
    device = started(make_device())
    device.advance(2 * FRAME_US)
    device.link_down()
    assert device.advance(10 * FRAME_US) == []
    assert device.next_index == 250
    device.link_up(mtu=100)
    assert live_frames(device.advance(11 * FRAME_US)) == []
    reply, _ = ask(device, Op.START, StartParams(flags=StartFlag.RESUME).to_bytes(), now_us=11 * FRAME_US)
    assert decode_start_reply(reply.data).stream_id == 1
    frame = live_frames(device.advance(12 * FRAME_US))[0]
    assert (frame.t0, frame.seq, frame.n_samples) == (275, 11, 14)
    assert frame.flags & FrameFlag.OVERRUN


def test_resume_without_a_stream_is_refused():
    device = make_device()
    device.link_up(mtu=247)
    assert ask(device, Op.START, StartParams(flags=StartFlag.RESUME).to_bytes())[0].status is ReplyStatus.NO_STREAM


def test_a_second_start_is_busy_and_after_stop_begins_a_new_stream():
    device = started(make_device())
    assert ask(device, Op.START, StartParams().to_bytes())[0].status is ReplyStatus.BUSY
    ask(device, Op.STOP)
    reply, _ = ask(device, Op.START, StartParams().to_bytes(), now_us=7_000_000)
    answer = decode_start_reply(reply.data)
    assert (answer.stream_id, answer.t_us) == (2, 7_000_000)
    assert live_frames(device.advance(7_000_000 + FRAME_US))[0].t0 == 0


def test_stop_says_where_the_stream_ended_and_keeps_the_ring():
    device = started(make_device())
    device.advance(4 * FRAME_US)
    device.link_down()
    device.advance(6 * FRAME_US)
    device.link_up(mtu=247)
    answer = decode_stop_reply(ask(device, Op.STOP)[0].data)
    assert (answer.next_index, answer.sent, answer.overrun) == (150, 4, 2)
    assert live_frames(device.advance(100 * FRAME_US)) == []
    reply, frames = ask(device, Op.RETRANSMIT, RetransmitParams(t0=100, count=50).to_bytes())
    assert reply.status is ReplyStatus.OK
    assert [frame.t0 for frame in live_frames(frames)] == [100, 125]


def test_retransmission_is_flagged_has_no_sequence_number_and_equals_the_first_transmission():
    device = started(make_device())
    first = live_frames(device.advance(4 * FRAME_US))
    _, notifications = ask(device, Op.RETRANSMIT, RetransmitParams(t0=30, count=40).to_bytes())
    again = live_frames(notifications)
    assert {frame.seq for frame in again} == {0xFFFF}
    assert all(frame.flags & FrameFlag.RETRANSMITTED for frame in again)
    joined = np.concatenate([frame.samples for frame in first], axis=1)
    np.testing.assert_array_equal(np.concatenate([frame.samples for frame in again], axis=1), joined[:, 30:70])


def test_retransmission_of_what_left_the_ring_says_what_is_the_oldest():
    device = started(make_device())
    device.advance(40_000_000)
    reply, frames = ask(device, Op.RETRANSMIT, RetransmitParams(t0=100, count=50).to_bytes())
    assert reply.status is ReplyStatus.EVICTED
    assert frames == []
    assert decode_oldest(reply.data) == 20_000 - 15_000
    assert ask(device, Op.RETRANSMIT, RetransmitParams(t0=5_000, count=50).to_bytes())[0].status is ReplyStatus.OK


def test_retransmission_of_the_future_is_a_bad_parameter():
    device = started(make_device())
    device.advance(FRAME_US)
    assert (
        ask(device, Op.RETRANSMIT, RetransmitParams(t0=20, count=6).to_bytes())[0].status is ReplyStatus.BAD_PARAMETER
    )


def test_retransmission_that_begins_in_the_future_is_a_bad_parameter_and_not_evicted():
    device = started(make_device())
    device.advance(FRAME_US)
    for t0 in (25, 26, 1_000_000):
        reply, frames = ask(device, Op.RETRANSMIT, RetransmitParams(t0=t0, count=6).to_bytes())
        assert (reply.status, reply.data, frames) == (ReplyStatus.BAD_PARAMETER, b"", [])


def test_retransmission_asked_for_just_before_the_link_went_down_sends_nothing():
    device = started(make_device())
    device.advance(FRAME_US)
    device.link_down()
    assert ask(device, Op.RETRANSMIT, RetransmitParams(t0=0, count=6).to_bytes())[1] == []


def test_start_never_sends_larger_frames_than_asked_for():
    device = make_device()
    device.link_up(mtu=247)
    for n_samples in (1, 3):
        reply, _ = ask(device, Op.START, StartParams(n_samples=n_samples).to_bytes())
        assert reply.status is ReplyStatus.BAD_PARAMETER
    assert started(device, n_samples=4).advance(FRAME_US) != []
    assert {frame.n_samples for frame in live_frames(device.advance(2 * FRAME_US))} == {4}


def test_power_off_loses_stream_and_ring_and_changes_the_boot_number():
    device = started(make_device())
    before = decode_descriptor(device.read_descriptor())
    device.power_off()
    device.power_on()
    device.link_up(mtu=247)
    after = decode_descriptor(device.read_descriptor())
    assert after.boot_id != before.boot_id
    assert after.same_signal(before)
    assert ask(device, Op.START, StartParams(flags=StartFlag.RESUME).to_bytes())[0].status is ReplyStatus.NO_STREAM
    assert ask(device, Op.RETRANSMIT, RetransmitParams(t0=0, count=1).to_bytes())[0].status is ReplyStatus.NO_STREAM


def test_a_recording_that_does_not_loop_ends_with_a_frame_flagged_last():
    device = started(make_device(60, loop=False))
    frames = live_frames(device.advance(10 * FRAME_US))
    assert [frame.n_samples for frame in frames] == [25, 25, 10]
    assert [bool(frame.flags & FrameFlag.LAST) for frame in frames] == [False, False, True]
    assert device.next_due_us() is None


def test_time_ties_the_host_s_clock_to_the_sample_count():
    device = started(make_device())
    device.advance(FRAME_US)
    answer = decode_time_reply(ask(device, Op.TIME, encode_time(42), now_us=60_000)[0].data)
    assert (answer.host_us, answer.device_us, answer.index) == (42, 60_000, 25)


def test_status_comes_once_a_second_and_tells_the_ring():
    device = started(make_device())
    states = [item for t_us in range(0, 3_000_000, FRAME_US) for item in device.advance(t_us)]
    statuses = [decode_status(item.data) for item in states if item.channel is Channel.STATUS]
    assert len(statuses) == 3
    assert statuses[-1].state is DeviceState.STREAMING
    assert (statuses[-1].next_index, statuses[-1].oldest_index) == (1000, 0)
    ask(device, Op.STOP)
    assert decode_status(device.read_status()).state is DeviceState.IDLE


def test_status_comes_at_once_when_an_electrode_falls_off_or_the_stream_ends():
    contact = np.zeros(2000, dtype=np.uint8)
    contact[100:200] = Contact.LA_OFF
    x = np.zeros((2, 2000))
    device = started(VirtualDevice(source_from_uv(x, fs_hz=500.0, contact=contact)))
    told = []
    for t_us in range(0, 600_000, FRAME_US):
        told += [decode_status(n.data).contact for n in device.advance(t_us) if n.channel is Channel.STATUS]
    assert told == [Contact(0), Contact.LA_OFF, Contact(0)]
    ask(device, Op.STOP)
    (status,) = device.advance(600_000)
    assert decode_status(status.data).state is DeviceState.IDLE


def test_status_comes_before_start_and_after_stop_keeps_the_indices_of_the_stream():
    device = make_device()
    device.link_up(mtu=247)
    (first,) = device.advance(0)
    status = decode_status(first.data)
    assert (status.state, status.next_index, status.oldest_index, status.overruns) == (DeviceState.IDLE, 0, 0, 0)
    ask(device, Op.START, StartParams().to_bytes())
    device.advance(2 * FRAME_US)
    ask(device, Op.STOP)
    ended = decode_status(device.read_status())
    assert (ended.state, ended.next_index) == (DeviceState.IDLE, 50)
    ask(device, Op.START, StartParams().to_bytes(), now_us=2 * FRAME_US)
    assert decode_status(device.read_status()).next_index == 0


def test_start_begins_sequence_numbers_and_counts_at_0_and_resume_keeps_them():
    device = started(make_device())
    device.advance(3 * FRAME_US)
    ask(device, Op.START, StartParams(flags=StartFlag.RESUME).to_bytes(), now_us=3 * FRAME_US)
    assert [frame.seq for frame in live_frames(device.advance(4 * FRAME_US))] == [3]
    assert decode_stop_reply(ask(device, Op.STOP)[0].data).sent == 4
    ask(device, Op.START, StartParams().to_bytes(), now_us=4 * FRAME_US)
    assert [(frame.seq, frame.t0) for frame in live_frames(device.advance(5 * FRAME_US))] == [(0, 0)]
    assert decode_stop_reply(ask(device, Op.STOP)[0].data).sent == 1


def test_frames_that_were_sent_again_do_not_count_as_sent():
    device = started(make_device())
    device.advance(4 * FRAME_US)
    assert len(ask(device, Op.RETRANSMIT, RetransmitParams(t0=0, count=75).to_bytes())[1]) == 3
    answer = decode_stop_reply(ask(device, Op.STOP)[0].data)
    assert (answer.sent, answer.overrun) == (4, 0)


def test_stop_ignores_what_follows_it_and_a_second_one_is_answered_alike():
    device = started(make_device())
    device.advance(2 * FRAME_US)
    first, second = ask(device, Op.STOP, b"\x01\x02\x03")[0], ask(device, Op.STOP)[0]
    assert (first.status, second) == (ReplyStatus.OK, first)


def test_a_stop_on_the_end_of_a_frame_leaves_none_flagged_last():
    device = started(make_device())
    frames = live_frames(device.advance(2 * FRAME_US))
    reply, after = ask(device, Op.STOP, now_us=2 * FRAME_US)
    assert live_frames(after) == []
    assert not any(frame.flags & FrameFlag.LAST for frame in frames)
    assert decode_stop_reply(reply.data).next_index == 50


def test_resume_in_another_codec_is_a_bad_parameter_and_the_stream_goes_on():
    device = started(make_device())
    device.advance(FRAME_US)
    other = StartParams(codec=SampleCodec.RAW16, flags=StartFlag.RESUME).to_bytes()
    assert ask(device, Op.START, other, now_us=FRAME_US)[0].status is ReplyStatus.BAD_PARAMETER
    assert [frame.t0 for frame in live_frames(device.advance(2 * FRAME_US))] == [25]


@pytest.mark.parametrize("unknown", [0x02, 0x40, 0xFE])
def test_start_flags_that_mean_nothing_are_ignored(unknown):
    device = make_device()
    device.link_up(mtu=247)
    assert ask(device, Op.START, bytes((0, 25, unknown)))[0].status is ReplyStatus.OK
    assert ask(device, Op.START, bytes((0, 25, unknown)))[0].status is ReplyStatus.BUSY
    assert ask(device, Op.START, bytes((0, 25, unknown | StartFlag.RESUME)))[0].status is ReplyStatus.OK


def test_retransmission_needs_no_feature_and_of_0_samples_is_a_bad_parameter_before_anything_else():
    x = np.zeros((2, 2000))
    device = VirtualDevice(source_from_uv(x, fs_hz=500.0), features=Feature.LEAD_OFF)
    device.link_up(mtu=247)
    nothing = RetransmitParams(t0=0, count=1).to_bytes()[:4] + bytes(2)
    assert ask(device, Op.RETRANSMIT, nothing)[0].status is ReplyStatus.BAD_PARAMETER
    assert ask(device, Op.RETRANSMIT, RetransmitParams(t0=0, count=1).to_bytes())[0].status is ReplyStatus.NO_STREAM
    started(device).advance(FRAME_US)
    assert ask(device, Op.RETRANSMIT, RetransmitParams(t0=0, count=1).to_bytes())[0].status is ReplyStatus.OK


@pytest.mark.parametrize(
    ("raw", "answer"), [(b"", b"\x80\x00\x02"), (b"\x01", b"\x81\x00\x02"), (b"\x02", b"\x82\x00\x02")]
)
def test_bytes_that_a_short_request_lacks_are_answered_as_0(raw, answer):
    assert [item.data for item in make_device().control(raw, now_us=0)] == [answer]


@pytest.mark.parametrize("raw", [b"", b"\x01", b"\x7f\x09", b"\xff\x01\x02"])
def test_an_unknown_request_is_answered_with_bad_op(raw):
    (answer,) = make_device().control(raw, now_us=0)
    assert answer.data[2] == ReplyStatus.BAD_OP


def test_what_the_device_cannot_do_is_refused():
    device = make_device()
    device.link_up(mtu=247)
    assert ask(device, Op.AUTHENTICATE, bytes(16))[0].status is ReplyStatus.NOT_AUTHENTICATED
    assert ask(device, Op.START, b"\x00")[0].status is ReplyStatus.BAD_PARAMETER
    raw16 = StartParams(codec=SampleCodec.RAW16).to_bytes()
    assert ask(device, Op.START, raw16)[0].status is ReplyStatus.BAD_PARAMETER
    assert ask(device, Op.STOP)[0].status is ReplyStatus.NO_STREAM


def test_a_source_takes_leads_by_name_and_keeps_the_unit():
    samples = np.arange(24, dtype=np.int16).reshape(4, 6)
    record = EcgRecord(samples=samples, lsb_uv=2.5, fs_hz=1000.0, leads=("aVF", "II", "V1", "I"))
    source = source_from_record(record)
    uv = source.codes * (LSB_PV / 1e6) - np.array(ELECTRODE_OFFSET_UV)[:, None]
    np.testing.assert_allclose(uv, samples[[3, 1]] * 2.5, atol=0.0241)
    assert VirtualDevice(source).descriptor.fs_hz == 1000.0


def test_lead_off_of_a_source_becomes_contact_flags():
    off = (LeadOff("I", 0, 25), LeadOff("II", 25, 50), LeadOff("aVR", 50, 75))
    record = EcgRecord(
        samples=np.zeros((3, 100), np.int16), lsb_uv=1.0, fs_hz=500.0, leads=("I", "II", "aVR"), lead_off=off
    )
    device = started(VirtualDevice(source_from_record(record)))
    contacts = [frame.contact for frame in live_frames(device.advance(4 * FRAME_US))]
    assert contacts == [Contact.LA_OFF, Contact.LL_OFF, Contact.RA_OFF, Contact(0)]


def test_an_input_beyond_the_converter_is_flagged_saturated():
    x = np.zeros((2, 50))
    x[1, 30] = 500_000.0
    device = started(VirtualDevice(source_from_uv(x, fs_hz=500.0)))
    contacts = [frame.contact for frame in live_frames(device.advance(2 * FRAME_US))]
    assert contacts == [Contact(0), Contact.SATURATED_2]


@pytest.mark.parametrize("bad", [np.zeros((3, 10)), np.zeros(10), np.full((2, 4), np.nan)])
def test_a_source_that_is_no_signal_is_refused(bad):
    with pytest.raises(SampleError, match="found"):
        source_from_uv(bad, fs_hz=500.0)


def test_an_empty_source_is_refused():
    with pytest.raises(LengthError, match="found 0 samples"):
        source_from_uv(np.zeros((2, 0)), fs_hz=500.0)
