"""The device in C and the one in Python give the same bytes for the same inputs, whatever the order of events."""

from __future__ import annotations

import binascii
import itertools

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from firmware_bridge.protocol.authenticity import DeviceKey
from firmware_bridge.protocol.bulk import encode_recording
from firmware_bridge.protocol.profile import Contact, Op, SelfTestFault
from firmware_bridge.sim.device.core_device import CoreDevice
from firmware_bridge.sim.device.device import VirtualDevice
from firmware_bridge.sim.device.source import RAIL_CODE, SignalSource

MTUS = st.sampled_from((23, 38, 39, 45, 100, 185, 247, 517))
RATES_HZ = st.sampled_from((62.5, 128.0, 250.0, 333.333, 500.0))
FAULTS = st.sampled_from((0, 1, 2, 8, 10))
ACTIONS = st.sampled_from(("lose the link", "come back", "pulse", "end of pulse", "record", "retransmit", "retransmit"))
RING_S = 3


pytestmark = pytest.mark.usefixtures("needs_core")


def noisy_source(*, seed: int, n: int, fs_hz: float, loop: bool) -> SignalSource:
    """Codes over the whole range, some at the rails, with electrodes that come and go."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(-RAIL_CODE - 1, RAIL_CODE + 1, (2, n)).astype(np.int32)
    codes[:, rng.integers(0, n, 3)] = RAIL_CODE
    off = np.repeat(rng.integers(0, 16, n // 40 + 1), 40)[:n] * np.repeat(rng.integers(0, 2, n // 40 + 1), 40)[:n]
    return SignalSource(codes=codes, contact=off.astype(np.uint8), fs_hz=fs_hz, loop=loop)


def counting_bytes():
    """A source of nonces that gives both devices the same ones."""
    numbers = itertools.count()
    return lambda n: bytes((next(numbers) & 0xFF,) * n)


class BothDevices(RuleBasedStateMachine):
    """Each rule does the same to both; what they send, and what they say of themselves, must be equal."""

    @initialize(
        seed=st.integers(0, 9), n=st.integers(30, 900), fs_hz=RATES_HZ, loop=st.booleans(), keyed=st.booleans(),
        calibration_nv=st.sampled_from((0, 1_000_000, 4_000_000_000)), mtu=MTUS,
    )  # fmt: skip
    def power_up(self, seed, n, fs_hz, loop, keyed, calibration_nv, mtu):
        source = noisy_source(seed=seed, n=n, fs_hz=fs_hz, loop=loop)
        key = DeviceKey(name="E6L-1", secret=bytes(range(32))) if keyed else None
        self.devices = [
            kind(source, ring_s=RING_S, key=key, calibration_nv=calibration_nv, random_bytes=counting_bytes())
            for kind in (VirtualDevice, CoreDevice)
        ]
        self.now_us = 1_000_003
        self.link_up(mtu)

    def both(self, action):
        mirror, core = (action(device) for device in self.devices)
        assert core == mirror

    def ask(self, op, params, txn=7):
        request = bytes((op, txn)) + params
        self.both(lambda device: device.control(request, now_us=self.now_us))

    @rule(mtu=MTUS)
    def link_up(self, mtu):
        for device in self.devices:
            device.link_up(mtu=mtu)

    @rule()
    def link_down(self):
        for device in self.devices:
            device.link_down()

    @rule(step_us=st.integers(0, 200_000))
    def a_moment_passes(self, step_us):
        self.now_us += step_us
        self.both(lambda device: device.advance(self.now_us))

    @rule(step_us=st.integers(0, 12_000_000))
    def seconds_pass(self, step_us):
        self.a_moment_passes(step_us)

    @rule(steps_us=st.lists(st.integers(0, 300_000), min_size=1, max_size=30))
    def moments_pass(self, steps_us):
        for step_us in steps_us:
            self.a_moment_passes(step_us)

    @rule(n=st.integers(0, 30), codec=st.sampled_from((0, 0, 0, 1, 2)), flags=st.sampled_from((0, 0, 1)))
    def start(self, n, codec, flags):
        self.ask(Op.START, bytes((codec, n, flags)))

    @rule(mtu=st.sampled_from((45, 100, 247)), step_us=st.integers(0, 4_000_000))
    def stream(self, mtu, step_us):
        """A stream runs, begun or taken up again, for a while."""
        self.link_up(mtu)
        self.ask(Op.START, bytes((0, 25, int(self.devices[0].running))))
        self.a_moment_passes(step_us)

    @rule()
    def stop(self):
        self.ask(Op.STOP, b"")

    @rule(back=st.integers(-40, 3000), count=st.integers(0, 300))
    def retransmit(self, back, count):
        t0 = (self.devices[0].next_index - back) % (1 << 32)
        self.ask(Op.RETRANSMIT, t0.to_bytes(4, "little") + count.to_bytes(2, "little"))

    @rule(
        mtu=st.sampled_from((45, 100, 247)), plan=st.lists(st.tuples(ACTIONS, st.integers(0, 1_500_000)), max_size=12)
    )
    def a_session(self, mtu, plan):
        """A stream that meets link loss, pulses, recordings and retransmissions; `plan`: what, and how long after."""
        self.stream(mtu, 400_000)
        for action, step_us in plan:
            if action == "lose the link":
                self.link_down()
            elif action == "come back":
                self.link_up(mtu)
                self.ask(Op.START, bytes((0, 25, 1)))
            elif action == "pulse":
                self.ask(Op.CALIBRATE, bytes((1, 1)))
            elif action == "end of pulse":
                self.ask(Op.CALIBRATE, bytes((0, 0)))
            elif action == "record":
                self.ask(Op.RECORD_ARM, bytes((10,)))
            elif self.devices[0].next_index:
                self.retransmit(min(self.devices[0].next_index, step_us // 1000), 1 + step_us % 200)
            self.a_moment_passes(step_us)

    @rule(t0=st.integers(0, 2**32 - 1), count=st.integers(0, 0xFFFF))
    def retransmit_anything(self, t0, count):
        self.ask(Op.RETRANSMIT, t0.to_bytes(4, "little") + count.to_bytes(2, "little"))

    @rule(host_us=st.integers(0, 2**64 - 1))
    def time(self, host_us):
        self.ask(Op.TIME, host_us.to_bytes(8, "little"))

    @rule(on=st.sampled_from((0, 1, 1, 1, 2)), seconds=st.sampled_from((0, 1, 2, 3, 30, 31)))
    def calibrate(self, on, seconds):
        self.ask(Op.CALIBRATE, bytes((on, seconds)))

    @rule(seconds=st.sampled_from((9, 10, 10, 10, 11, 30, 31)))
    def record_arm(self, seconds):
        self.ask(Op.RECORD_ARM, bytes((seconds,)))

    @rule(step_us=st.integers(0, 12_000_000))
    def record(self, step_us):
        """A recording is made, perhaps to its end, and listed."""
        self.ask(Op.RECORD_ARM, bytes((10,)))
        self.a_moment_passes(step_us)
        self.record_list(0)

    @rule(index=st.integers(0, 2))
    def record_list(self, index):
        self.ask(Op.RECORD_LIST, bytes((index,)))

    @rule(record_id=st.integers(0, 3), offset=st.integers(0, 40_000), length=st.integers(0, 9_000))
    def record_read(self, record_id, offset, length):
        self.ask(Op.RECORD_READ, b"".join((
            record_id.to_bytes(2, "little"), offset.to_bytes(4, "little"), length.to_bytes(4, "little")
        )))  # fmt: skip

    @precondition(lambda self: self.devices[0].memory.stored())
    @rule(offset=st.integers(0, 3_000), length=st.integers(1, 1_500), step_us=st.integers(0, 30_000))
    def record_read_well(self, offset, length, step_us):
        self.record_read(self.devices[0].memory.stored()[0].record_id, offset, length)
        self.a_moment_passes(step_us)

    @rule(record_id=st.integers(0, 3))
    def record_delete(self, record_id):
        self.ask(Op.RECORD_DELETE, record_id.to_bytes(2, "little"))

    @rule()
    def self_test(self):
        self.ask(Op.SELF_TEST, b"")

    @rule(nonce=st.binary(min_size=16, max_size=16))
    def authenticate(self, nonce):
        self.ask(Op.AUTHENTICATE, nonce)

    @rule(raw=st.binary(max_size=20))
    def write_anything(self, raw):
        self.both(lambda device: device.control(raw, now_us=self.now_us))

    @rule(op=st.sampled_from(tuple(Op)), params=st.binary(max_size=18))
    def write_any_parameters(self, op, params):
        self.ask(op, params)

    @rule(percent=st.sampled_from((10, 14, 15, 29, 30, 80)))
    def battery(self, percent):
        for device in self.devices:
            device.set_battery(percent)

    @rule(faults=FAULTS)
    def front_end_breaks(self, faults):
        for device in self.devices:
            device.front_end.faults = SelfTestFault(faults)

    @rule()
    def power_cycle(self):
        for device in self.devices:
            device.power_off()
        self.both(lambda device: device.read_status())
        for device in self.devices:
            device.power_on()

    @invariant()
    def they_say_the_same_of_themselves(self):
        if not hasattr(self, "devices"):
            return
        for read in ("read_status", "read_descriptor", "may_update", "next_due_us"):
            self.both(lambda device, read=read: getattr(device, read)())
        for name in ("running", "acquiring", "calibrating", "next_index", "oldest_index", "mtu", "powered"):
            self.both(lambda device, name=name: getattr(device, name))
        self.both(lambda device: (device.memory.stored(), device.memory.reading))


# The same 80 walks in each run; tests/evidence/core_fuzz.py takes as many others as it is asked for.
BothDevices.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None, derandomize=True)
TestBothDevices = BothDevices.TestCase


def test_the_noisy_source_has_what_the_machine_is_meant_to_meet():
    source = noisy_source(seed=0, n=900, fs_hz=500.0, loop=True)
    assert (np.abs(source.codes) >= RAIL_CODE).any()
    assert len(np.unique(source.contact)) > 3
    assert int(source.contact.max()) < int(Contact.SATURATED_1)


@pytest.mark.promise(130)
def test_the_pulse_of_a_stream_that_ended_is_not_in_a_later_recording():
    source = noisy_source(seed=1, n=900, fs_hz=500.0, loop=True)
    device = CoreDevice(source, ring_s=RING_S)
    device.link_up(mtu=247)
    device.control(bytes((Op.START, 1, 0, 25, 0)), now_us=0)
    device.control(bytes((Op.CALIBRATE, 2, 1, 1)), now_us=0)
    device.advance(1_000_000)
    device.control(bytes((Op.STOP, 3)), now_us=1_000_000)
    device.control(bytes((Op.RECORD_ARM, 4, 10)), now_us=1_000_000)
    device.advance(12_000_000)
    (stored,) = device.memory.stored()
    measured = source.read(0, 5000)[0]
    assert stored.crc32 == binascii.crc32(encode_recording(measured))
