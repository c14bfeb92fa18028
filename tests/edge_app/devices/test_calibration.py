"""The calibration pulse as a measurement of the gain: right, 10 % off, missing, disturbed, and never as an ECG."""

from __future__ import annotations

import asyncio
from functools import partial

import numpy as np
import pytest

from edge_app.devices.calibration_check import GAIN_TOLERANCE, CalibrationResult, check_calibration, measure_pulse
from edge_app.link.inprocess import InProcessTransport
from edge_app.session import DeviceNotAuthenticatedError, record_session
from firmware_bridge.protocol.authenticity import DeviceKey
from firmware_bridge.protocol.control import CalibrateParams, Request
from firmware_bridge.protocol.profile import Feature, Op
from firmware_bridge.sim.air.faults import Faults
from firmware_bridge.sim.device.core_device import make_device
from firmware_bridge.sim.device.device import DEFAULT_FEATURES, VirtualDevice
from lsemvae.ecg.errors import LengthError, LinkError, ProtocolError
from tests.edge_app.heartbeat import heartbeat_uv

pytestmark = pytest.mark.usefixtures("jumping_clock")

SPEED = 20.0
KEY = DeviceKey(name="E6L-0042", secret=bytes(range(32)))


def check(transport: InProcessTransport, **options) -> CalibrationResult:
    return asyncio.run(check_calibration(transport, **{"allow_unauthenticated": True, **options}))


def gain(factor: float):
    """A device whose pulse comes out `factor` times as large as it says: its amplifier is off by that."""

    def build(source) -> VirtualDevice:
        device = VirtualDevice(source)
        device.front_end.pulse._amplitude_code = round(device.front_end.pulse._amplitude_code * factor)
        return device

    return build


def test_a_right_gain_passes(source):
    result = check(InProcessTransport(source, speed=SPEED))
    assert result.ok
    assert result.leads == ("I", "II")
    assert result.expected_uv == 1000.0
    assert result.found_uv == pytest.approx((1000.0, 1000.0), abs=0.1)
    assert result.gain_error == pytest.approx((0.0, 0.0), abs=1e-4)
    assert result.authenticated is False


@pytest.mark.promise(143)
@pytest.mark.parametrize(
    ("factor", "ok"), [(0.9, False), (0.94, False), (0.96, True), (1.04, True), (1.06, False), (2, False)]
)
def test_a_gain_that_is_off_by_more_than_5_percent_fails(source, factor, ok):
    result = check(InProcessTransport(source, speed=SPEED, device=gain(factor)))
    assert result.ok is ok
    assert result.gain_error == pytest.approx((factor - 1, factor - 1), abs=1e-3)
    assert all(result.square)


def test_a_dead_generator_fails(source):
    result = check(InProcessTransport(source, speed=SPEED, device=gain(0)))
    assert not result.ok
    assert result.gain_error == (-1.0, -1.0)


def test_another_size_is_measured_against_the_descriptor(source):
    result = check(InProcessTransport(source, speed=SPEED, device=partial(VirtualDevice, calibration_nv=2_016_667)))
    assert result.ok
    assert result.expected_uv == pytest.approx(2016.667)


def test_a_bad_radio_does_not_change_the_measurement(source):
    faults = Faults(drop=0.1, corrupt=0.05, swap=0.05, duplicate=0.05)
    result = check(InProcessTransport(source, speed=SPEED, faults=faults))
    assert result.gain_error == pytest.approx((0.0, 0.0), abs=1e-4)
    assert result.ok


def test_the_device_is_left_without_stream_and_link(source):
    transport = InProcessTransport(source, speed=SPEED)
    check(transport)
    assert not transport.player.device.running
    assert not transport.player.device.calibrating
    assert not transport._connected


def test_a_stream_that_a_crashed_application_left_is_stopped_first(source):
    transport = InProcessTransport(source, speed=SPEED)

    async def crash_then_check():
        await transport.connect()
        await transport.write_control(Request(op=Op.START, txn=1, params=bytes((0, 25, 0))).to_bytes())
        await transport.disconnect()
        return await check_calibration(transport, allow_unauthenticated=True)

    assert asyncio.run(crash_then_check()).ok


def test_a_device_without_a_pulse_is_refused_with_advice(source):
    without = partial(VirtualDevice, features=DEFAULT_FEATURES & ~Feature.CALIBRATION)
    with pytest.raises(ProtocolError, match="without a calibration pulse") as caught:
        check(InProcessTransport(source, device=without))
    assert "signal generator" in caught.value.advice


def test_a_pulse_of_which_too_little_arrives_is_no_measurement(source):
    with pytest.raises(LengthError, match="expected over 1 s") as caught:
        check(InProcessTransport(source, speed=SPEED, faults=Faults(drop=0.9)), seconds=2)
    assert "nearer" in caught.value.advice


def test_a_link_lost_in_the_middle_is_a_link_error(source):
    with pytest.raises(LinkError, match="calibration: found the link lost"):
        check(InProcessTransport(source, speed=SPEED, faults=Faults(disconnect_at=20)))


@pytest.mark.parametrize("seconds", [0, 1, 31])
def test_a_length_that_no_device_plays_is_refused(source, seconds):
    with pytest.raises(LengthError, match="expected 2 to 30"):
        check(InProcessTransport(source), seconds=seconds)


def test_only_a_device_that_proves_its_key_is_checked(source):
    transport = InProcessTransport(source, speed=SPEED, device=partial(VirtualDevice, key=KEY))
    with pytest.raises(DeviceNotAuthenticatedError):
        check(transport, allow_unauthenticated=False)
    assert check(transport, allow_unauthenticated=False, keys=(KEY,)).authenticated is True


@pytest.mark.parametrize("phase", [0, 1, 60, 125, 249, 250, 400, 499])
@pytest.mark.parametrize("n", [480, 750, 1460])
def test_the_phase_of_a_free_running_generator_does_not_matter(phase, n):
    t = (np.arange(n) + phase) % 500
    codes = np.where(t < 250, 20_000, -10_000) + np.random.default_rng(1).normal(0, 60, n)
    size, square = measure_pulse(codes.astype(np.int32))
    assert square
    assert size == pytest.approx(30_000, rel=0.002)


def test_slow_edges_are_still_a_pulse_and_their_plateaus_count():
    t = np.arange(1500) % 500
    ideal = np.where(t < 250, 10_000.0, -10_000.0)
    smooth = np.convolve(np.concatenate((ideal[-20:], ideal)), np.full(11, 1 / 11), mode="same")[20:]
    size, square = measure_pulse(smooth.astype(np.int32))
    assert square
    assert size == pytest.approx(20_000, rel=1e-3)


@pytest.mark.promise(143)
@pytest.mark.parametrize(
    "codes",
    [
        heartbeat_uv(1500)[1] * 20,
        10_000 * np.sin(np.arange(1500) * 2 * np.pi / 500),
        np.random.default_rng(2).normal(0, 5_000, 1500),
        np.zeros(1500),
        np.where(np.arange(1500) % 500 < 50, 10_000, 0),
        np.linspace(-10_000, 10_000, 1500),
    ],
    ids=["ecg", "sine", "noise", "flat", "spikes", "ramp"],
)
def test_what_is_no_square_pulse_is_not_taken_for_one(codes):
    assert measure_pulse(codes.astype(np.int32))[1] is False


def test_an_ecg_under_the_flag_of_the_pulse_fails_the_check(source):
    """A firmware that sets the flag and forgets the switch shows the patient's heart in place of the pulse."""

    def forgets(source) -> VirtualDevice:
        device = VirtualDevice(source)
        device.front_end.pulse._square = lambda low, high: device.front_end.measure(low, high)
        return device

    result = check(InProcessTransport(source, speed=SPEED, device=forgets))
    assert not result.ok
    assert result.square == (False, False)


def test_the_tolerance_is_that_of_the_protocol():
    assert GAIN_TOLERANCE == 0.05


@pytest.mark.promise(143)
def test_a_pulse_is_never_recorded_as_an_ecg(source, equals_source):
    """Somebody switches the pulse on in the middle of a recording: that time is a gap, asked for and filled by nobody."""
    transport = InProcessTransport(
        source, speed=SPEED, device=partial(VirtualDevice, features=DEFAULT_FEATURES & ~Feature.RECORD)
    )
    done = []

    def pulse(frame, _descriptor):
        if frame.t0 >= 1000 and not done:
            params = CalibrateParams(on=True, seconds=1).to_bytes()
            request = Request(op=Op.CALIBRATE, txn=250, params=params).to_bytes()
            done.append(asyncio.get_running_loop().create_task(transport.write_control(request)))

    session = record_session(transport, seconds=6, on_frame=pulse, allow_unauthenticated=True)
    result = asyncio.run(session)
    (gap,) = result.record.gaps
    assert gap.start >= 1000
    assert 500 <= gap.n_samples <= 550
    assert result.statistics.assembly.calibration > 0
    assert not result.complete
    equals_source(result.record)


@pytest.mark.usefixtures("needs_core")
def test_the_c_core_s_pulse_measures_the_same(source):
    result = check(InProcessTransport(source, speed=SPEED, device=partial(make_device, core=True)))
    assert result.ok
    assert result.gain_error == pytest.approx((0.0, 0.0), abs=1e-4)
