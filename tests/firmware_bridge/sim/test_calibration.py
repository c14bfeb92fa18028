"""Calibration pulse, self-test, authentication and battery of the virtual device."""

from __future__ import annotations

import numpy as np
import pytest

from firmware_bridge.protocol import authenticity
from firmware_bridge.protocol.authenticity import DeviceKey
from firmware_bridge.protocol.codec import LiveFrame, decode_frame
from firmware_bridge.protocol.control import (
    CalibrateParams,
    Reply,
    Request,
    RetransmitParams,
    SelfTestReply,
    StartParams,
    decode_calibrate,
    decode_reply,
    decode_self_test_reply,
    decode_start_reply,
)
from firmware_bridge.protocol.descriptor import decode_descriptor
from firmware_bridge.protocol.errors import ControlError
from firmware_bridge.protocol.profile import Contact, DeviceState, Feature, FrameFlag, Op, ReplyStatus, SelfTestFault
from firmware_bridge.protocol.status import decode_status
from firmware_bridge.sim.device.device import DEFAULT_FEATURES, Channel, Notification, VirtualDevice
from firmware_bridge.sim.device.front_end import CalibrationPulse
from firmware_bridge.sim.device.source import LSB_PV, RAIL_CODE, source_from_uv

S = 1_000_000
KEY = DeviceKey(name="E6L-0001", secret=bytes(range(32)))


def make_device(*, mtu: int = 247, fs_hz: float = 500.0, **options: object) -> VirtualDevice:
    x = np.random.default_rng(0).normal(0, 300, (2, 3000))
    device = VirtualDevice(source_from_uv(x, fs_hz=fs_hz), **options)
    device.link_up(mtu=mtu)
    return device


def ask(device: VirtualDevice, op: Op, params: bytes = b"", *, now_us: int = 0) -> tuple[Reply, list[Notification]]:
    first, *rest = device.control(Request(op=op, txn=5, params=params).to_bytes(), now_us=now_us)
    return decode_reply(first.data), rest


def calibrate(device: VirtualDevice, *, on: bool = True, seconds: int = 1) -> ReplyStatus:
    return ask(device, Op.CALIBRATE, CalibrateParams(on=on, seconds=seconds).to_bytes())[0].status


def started(device: VirtualDevice) -> VirtualDevice:
    assert ask(device, Op.START, StartParams().to_bytes())[0].status is ReplyStatus.OK
    return device


def live(notifications: list[Notification]) -> list[LiveFrame]:
    return [decode_frame(item.data) for item in notifications if item.channel is Channel.LIVE]


def test_the_pulse_has_the_descriptor_s_size_at_1_hz_on_every_channel_and_each_frame_says_so():
    device = started(make_device())
    device.advance(S)
    assert calibrate(device, seconds=3) is ReplyStatus.OK
    frames = live(device.advance(5 * S))
    flagged = [frame for frame in frames if frame.flags & FrameFlag.CALIBRATION]
    assert [flagged[0].t0, flagged[-1].t0 + 25, len(flagged)] == [500, 2000, 60]
    codes = np.concatenate([frame.samples for frame in flagged], axis=1)
    half = device.descriptor.calibration_nv * 1000 / LSB_PV / 2
    np.testing.assert_allclose(codes[:, :250], half, atol=0.5)
    np.testing.assert_allclose(codes[:, 250:500], -half, atol=0.5)
    np.testing.assert_array_equal(codes[:, :500], codes[:, 500:1000])
    after = next(frame for frame in frames if frame.t0 == 2000)
    np.testing.assert_array_equal(after.samples, make_device().front_end.read(2000, 2025)[0])


def test_the_pulse_keeps_1_hz_at_a_rate_that_is_no_whole_number():
    pulse = CalibrationPulse(fs_mhz=533_333, amplitude_code=10)
    pulse.begin(7, n_samples=5333)
    codes, found = pulse.apply(np.zeros((2, 6000), np.int32), first=0)
    assert found
    edges = np.flatnonzero(np.diff(codes[0])) + 1
    seconds = (edges - 7) / 533.333
    np.testing.assert_allclose(seconds, np.r_[np.arange(20) * 0.5, 5333 / 533.333], atol=1 / 533.333)


def test_a_retransmitted_frame_that_holds_any_of_the_pulse_has_the_flag_too():
    device = started(make_device())
    device.advance(S)
    calibrate(device)
    device.advance(3 * S)
    _, notifications = ask(device, Op.RETRANSMIT, RetransmitParams(t0=480, count=540).to_bytes())
    frames = live(notifications)
    flagged = {frame.t0 for frame in frames if frame.flags & FrameFlag.CALIBRATION}
    assert flagged == {frame.t0 for frame in frames if frame.t0 + frame.n_samples > 500 and frame.t0 < 1000}
    assert {bool(frame.flags & FrameFlag.RETRANSMITTED) for frame in frames} == {True}


def test_the_pulse_ends_by_itself_on_request_and_with_the_stream():
    device = started(make_device())
    calibrate(device, seconds=30)
    assert device.calibrating
    device.advance(S)
    assert calibrate(device, on=False) is ReplyStatus.OK
    assert not any(frame.flags & FrameFlag.CALIBRATION for frame in live(device.advance(2 * S)))
    calibrate(device, seconds=30)
    ask(device, Op.STOP)
    started(device)
    assert not device.calibrating
    assert not any(frame.flags & FrameFlag.CALIBRATION for frame in live(device.advance(3 * S)))


def test_calibrate_again_begins_a_fresh_pulse():
    device = started(make_device())
    calibrate(device, seconds=1)
    device.advance(700_000)
    calibrate(device, seconds=1)
    frames = [frame for frame in live(device.advance(3 * S)) if frame.flags & FrameFlag.CALIBRATION]
    assert (frames[0].t0, frames[-1].t0) == (350, 825)
    assert (frames[0].samples > 0).all()


def test_saturation_of_the_electrodes_does_not_show_in_the_pulse():
    x = np.zeros((2, 1000))
    x[1] = 500_000.0
    device = VirtualDevice(source_from_uv(x, fs_hz=500.0))
    device.link_up(mtu=247)
    started(device)
    calibrate(device)
    contacts = [frame.contact for frame in live(device.advance(1_500_000))]
    assert contacts == [Contact(0)] * 20 + [Contact.SATURATED_2] * 10


def test_a_pulse_beyond_the_converter_is_flagged_saturated():
    device = started(make_device(calibration_nv=900_000_000))
    calibrate(device)
    frame = live(device.advance(100_000))[0]
    assert frame.contact == Contact.SATURATED_1 | Contact.SATURATED_2
    assert frame.samples.max() == RAIL_CODE


def test_calibrate_needs_a_stream_a_pulse_and_no_recording():
    device = make_device()
    assert calibrate(device) is ReplyStatus.NO_STREAM
    started(device)
    assert ask(device, Op.RECORD_ARM, b"\x0a")[0].status is ReplyStatus.OK
    assert calibrate(device) is ReplyStatus.BUSY
    assert calibrate(device, on=False) is ReplyStatus.OK
    ask(device, Op.STOP)
    assert calibrate(device) is ReplyStatus.NO_STREAM
    assert calibrate(make_device(features=DEFAULT_FEATURES & ~Feature.CALIBRATION)) is ReplyStatus.BAD_OP


@pytest.mark.parametrize("params", [b"", b"\x01", b"\x01\x00", b"\x01\x1f", b"\x02\x05", b"\x01\x05\x00"])
def test_calibrate_with_wrong_parameters_is_a_bad_parameter(params):
    assert ask(started(make_device()), Op.CALIBRATE, params)[0].status is ReplyStatus.BAD_PARAMETER
    with pytest.raises(ControlError, match=r"found .*expected"):
        decode_calibrate(params)


def test_seconds_are_ignored_when_the_pulse_is_switched_off():
    assert decode_calibrate(b"\x00\xff") == decode_calibrate(b"\x00\x00") == CalibrateParams(on=False)
    with pytest.raises(ControlError, match=r"found 31, expected 1\.\.30"):
        CalibrateParams(on=True, seconds=31).to_bytes()


@pytest.mark.parametrize(
    "fault", [SelfTestFault(0), SelfTestFault.FRONT_END, SelfTestFault.MEMORY | SelfTestFault.CALIBRATION]
)
def test_the_self_test_tells_each_fault_the_battery_and_a_missing_key(fault):
    device = make_device(key=KEY)
    device.front_end.faults = fault
    reply, _ = ask(device, Op.SELF_TEST)
    assert decode_self_test_reply(reply.data) == SelfTestReply(faults=fault, battery_mv=3900)
    assert decode_status(device.read_status()).state is (
        DeviceState.FAULT if fault & SelfTestFault.FRONT_END else DeviceState.IDLE
    )
    device.set_battery(14, mv=3301)
    device.key = None
    found = decode_self_test_reply(ask(device, Op.SELF_TEST)[0].data)
    assert found.faults == fault | SelfTestFault.BATTERY_LOW | SelfTestFault.NO_DEVICE_KEY
    assert found.battery_mv == 3301


def test_a_front_end_that_answers_again_clears_the_fault_state():
    device = make_device()
    device.front_end.faults = SelfTestFault.FRONT_END
    ask(device, Op.SELF_TEST)
    assert decode_status(device.advance(0)[0].data).state is DeviceState.FAULT
    device.front_end.faults = SelfTestFault(0)
    started(device)
    assert decode_status(device.read_status()).state is DeviceState.STREAMING


def test_the_self_test_is_busy_while_the_front_end_is_in_use_and_takes_no_parameters():
    device = started(make_device())
    assert ask(device, Op.SELF_TEST)[0].status is ReplyStatus.BUSY
    assert ask(device, Op.SELF_TEST, b"\0")[0].status is ReplyStatus.BAD_PARAMETER


def authenticate(device: VirtualDevice, nonce: bytes) -> tuple[ReplyStatus, bytes]:
    reply, _ = ask(device, Op.AUTHENTICATE, authenticity.encode_authenticate(nonce))
    return reply.status, reply.data


def test_a_device_with_the_key_proves_it_for_its_descriptor_and_a_fresh_nonce_each_time():
    device = make_device(key=KEY)
    assert decode_descriptor(device.read_descriptor()).features & Feature.DEVICE_KEY
    nonce = bytes(range(16))
    answers = [authenticity.decode_authenticate_reply(authenticate(device, nonce)[1]) for _ in range(2)]
    assert answers[0].device_nonce != answers[1].device_nonce
    for found in answers:
        assert authenticity.verify(KEY, device.read_descriptor(), nonce, found.device_nonce, found.tag)
    other = DeviceKey(name=KEY.name, secret=bytes(32))
    found = answers[0]
    assert not authenticity.verify(other, device.read_descriptor(), nonce, found.device_nonce, found.tag)
    device.power_off()
    device.power_on()  # another boot number, another descriptor
    assert not authenticity.verify(KEY, device.read_descriptor(), nonce, found.device_nonce, found.tag)


def test_a_device_without_a_key_says_so():
    device = make_device()
    assert not decode_descriptor(device.read_descriptor()).features & Feature.DEVICE_KEY
    assert authenticate(device, bytes(16)) == (ReplyStatus.NOT_AUTHENTICATED, b"")


def test_authenticate_needs_16_bytes_and_an_mtu_of_39():
    device = make_device(key=KEY)
    assert ask(device, Op.AUTHENTICATE, bytes(15))[0].status is ReplyStatus.BAD_PARAMETER
    assert authenticate(make_device(key=KEY, mtu=38), bytes(16))[0] is ReplyStatus.MTU_TOO_SMALL
    exact = make_device(key=KEY, mtu=39)
    reply = exact.control(Request(op=Op.AUTHENTICATE, txn=5, params=bytes(16)).to_bytes(), now_us=0)[0].data
    assert len(reply) <= 39 - 3


def test_the_nonce_comes_from_the_given_source():
    device = make_device(key=KEY, random_bytes=lambda n: bytes([7]) * n)
    assert authenticity.decode_authenticate_reply(authenticate(device, bytes(16))[1]).device_nonce == bytes([7]) * 16


def test_an_empty_battery_switches_the_device_off_and_a_new_one_brings_it_back():
    device = started(make_device())
    before = decode_descriptor(device.read_descriptor()).boot_id
    device.set_battery(0)
    assert not device.powered
    assert device.advance(S) == []
    device.power_on()
    device.link_up(mtu=247)
    status = decode_status(device.read_status())
    assert (status.state, status.battery_percent, status.battery_mv) == (DeviceState.IDLE, 90, 3900)
    assert decode_descriptor(device.read_descriptor()).boot_id == before + 1
    assert decode_start_reply(ask(device, Op.START, StartParams().to_bytes())[0].data).stream_id == 1
