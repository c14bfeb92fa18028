"""Hativ P30, Polar H10, Movesense and the own profile, notification by notification."""

from __future__ import annotations

import numpy as np
import pytest

from firmware_bridge.drivers import catalogue, hativ, make, movesense, polar, recognise
from firmware_bridge.drivers.e6l import E6lDriver
from firmware_bridge.drivers.stream import IMPLAUSIBLE, REPEATED, PacketClock
from firmware_bridge.protocol.profile import CONTROL_UUID, DESCRIPTOR_UUID, LIVE_UUID, SERVICE_UUID
from firmware_bridge.sim.device.device import Channel, Notification, VirtualDevice
from firmware_bridge.sim.device.source import source_from_uv
from lsemvae.ecg.errors import FormatError, LengthError, ProtocolError, RateError, UnitError
from tests.firmware_bridge.drivers import driver_bytes

STEP_NS = round(1e9 / 130 * 73)


def test_hativ_keep_alive_comes_every_two_seconds():
    driver = make("hativ")
    asked = [t for t in range(0, 20_000_000, 100_000) if driver.poll(t)]
    assert asked == list(range(0, 20_000_000, 2_000_000))


@pytest.mark.parametrize("n_bytes", [0, 6, 119, 121, 126, 240])
def test_hativ_notification_of_another_length_is_refused(n_bytes: int):
    driver = make("hativ")
    driver.feed(hativ.ECG_UUID, bytes(n_bytes), 0)
    assert (driver.elapsed, driver.statistics.malformed) == (0, 1)


def test_hativ_lead_state_has_no_known_meaning_and_changes_nothing():
    driver = make("hativ")
    driver.feed("00002c00-0000-1000-8000-00805f9b34fb", b"\x03", 0)
    assert driver.elapsed == driver.statistics.malformed == 0


def test_polar_start_that_is_refused_is_kept_in_words():
    driver = make("polar-h10")
    driver.feed(polar.CONTROL_UUID, bytes.fromhex("f002000c00"), 0)
    driver.feed(polar.CONTROL_UUID, bytes.fromhex("f002000600"), 0)  # already streaming: no complaint
    assert driver.remarks == ("request 2 refused: invalid state",)
    with pytest.raises(LengthError, match="invalid state"):
        driver.to_record(start=None, device="")


@pytest.mark.parametrize("lost", [1, 3, 40])
def test_polar_lost_frames_become_a_gap_of_their_length(lost: int):
    driver = make("polar-h10")
    for k in (0, 1, 2 + lost, 3 + lost):
        driver.feed(polar.DATA_UUID, driver_bytes.polar([k] * 73, t_ns=10**18 + k * STEP_NS), k)
    record = driver.to_record(start=None, device="")
    assert [(gap.start, gap.stop) for gap in record.gaps] == [(146, 146 + 73 * lost)]
    assert record.n_samples == 73 * (4 + lost)
    assert record.source.gap_detectable


def test_polar_jitter_of_the_time_stamps_makes_no_gap_and_a_repeated_frame_no_samples():
    driver = make("polar-h10")
    rng = np.random.default_rng(0)
    for k in range(50):
        frame = driver_bytes.polar([k] * 73, t_ns=10**18 + k * STEP_NS + int(rng.integers(-20e6, 20e6)))
        driver.feed(polar.DATA_UUID, frame, k)
        driver.feed(polar.DATA_UUID, frame, k)
    assert driver.elapsed == 50 * 73
    assert driver.statistics.duplicates == 50
    assert driver.statistics.lost_samples == 0


@pytest.mark.parametrize(
    "data",
    [b"", bytes(10), bytes(11), b"\x02" + bytes(12), bytes(9) + b"\x80" + bytes(3)],
    ids=lambda d: d.hex() or "none",
)
def test_polar_frames_of_another_kind_are_refused(data: bytes):
    driver = make("polar-h10")
    driver.feed(polar.DATA_UUID, data, 0)
    assert (driver.elapsed, driver.statistics.malformed) == (0, 1)


def test_clock_that_jumps_is_refused_and_the_samples_with_it():
    driver = make("movesense")
    driver.feed(movesense.NOTIFY_UUID, driver_bytes.movesense(range(16), t_ms=1_000_000), 0)
    driver.feed(movesense.NOTIFY_UUID, driver_bytes.movesense(range(16), t_ms=5_000), 1)  # restarted
    driver.feed(movesense.NOTIFY_UUID, driver_bytes.movesense(range(16), t_ms=9_000_000), 2)  # 2 hours on
    assert (driver.elapsed, driver.statistics.malformed) == (16, 2)


def test_movesense_refused_subscription_and_foreign_notifications():
    driver = make("movesense")
    driver.feed(movesense.NOTIFY_UUID, bytes.fromhex("01639401"), 0)  # 404
    driver.feed(movesense.NOTIFY_UUID, bytes.fromhex("0163c800"), 0)  # 200
    driver.feed(movesense.NOTIFY_UUID, driver_bytes.movesense(range(16), t_ms=0, ref=7), 0)
    assert driver.remarks == ("subscription to ECG at 200 Hz refused: status 404",)
    assert (driver.elapsed, driver.statistics.malformed) == (0, 1)


@pytest.mark.parametrize("value", [1 << 23, -(1 << 23) - 1, (1 << 31) - 1])
def test_movesense_number_beyond_24_bits_is_no_sample(value: int):
    driver = make("movesense")
    driver.feed(movesense.NOTIFY_UUID, driver_bytes.movesense([0] * 15 + [value], t_ms=0), 0)
    assert (driver.elapsed, driver.statistics.malformed) == (0, 1)


def test_packet_clock():
    clock = PacketClock(200.0, ticks_per_s=1000.0, modulus=1 << 32)
    assert clock.lost(2**32 - 40, 16) == 0
    assert clock.lost(40, 16) == 0  # over the wrap
    assert clock.lost(40, 16) == REPEATED
    assert clock.lost(40 + 80 + 15, 16) == 0  # three samples late: jitter
    assert clock.lost(40 + 95 + 240, 16) == 32
    assert clock.lost(40 + 95 + 240 - 20_000, 16) == IMPLAUSIBLE


def test_rates_and_scales_that_a_device_does_not_have_are_refused():
    with pytest.raises(RateError, match="expected one of 125"):
        make("movesense", fs_hz=300)
    with pytest.raises(UnitError, match="microvolts"):
        make("polar-h10", lsb_uv=2.0)
    with pytest.raises(UnitError, match="descriptor"):
        make("e6l", lsb_uv=1.0)
    with pytest.raises(FormatError, match="expected one of e6l"):
        make("kardia")


def test_a_name_decides_before_a_service_that_several_devices_share():
    shared = ("14839AC4-7D7E-415C-9A42-167340CF2339",)
    assert recognise(name="ER3 0012", services=shared) == "viatom-er3"
    assert recognise(name="DuoEK 1", services=shared) == "viatom"
    assert recognise(services=shared) == "viatom"
    assert recognise(name="Hativ P30") == "hativ"
    assert recognise(services=(SERVICE_UUID,)) == "e6l"
    assert recognise(name="Kettle", services=("0000180a-0000-1000-8000-00805f9b34fb",)) is None


@pytest.mark.parametrize("name", catalogue)
def test_every_driver_takes_what_it_subscribes_to_and_ignores_what_it_does_not(name: str):
    driver = make(name)
    info = driver.info
    assert (info.kind == "serial") is (info.baud is not None) is (not info.notify)
    assert (info.kind == "ble") is (info.write is not None)
    driver.feed("00000000-0000-1000-8000-00805f9b34fb", b"", 0)
    assert driver.elapsed == 0
    with pytest.raises(LengthError, match="found 0 received samples"):
        driver.to_record(start=None, device="")


class Bench:
    """A virtual device and the driver, without a radio; every `drop`-th live frame is lost."""

    def __init__(self, *, drop: int = 0) -> None:
        x = np.random.default_rng(0).normal(0, 300, (2, 5000))
        self.device = VirtualDevice(source_from_uv(x, fs_hz=500.0))
        self.driver = E6lDriver()
        self.device.link_up(mtu=247)
        self._drop, self._live = drop, 0

    def deliver(self, notifications: list[Notification], now_us: int) -> None:
        for notification in notifications:
            if notification.channel is Channel.LIVE:
                self._live += 1
                if not self._drop or self._live % self._drop:
                    self.driver.feed(LIVE_UUID, notification.data, now_us)
            elif notification.channel is Channel.CONTROL:
                self.driver.feed(CONTROL_UUID, notification.data, now_us)

    def run(self, seconds: float) -> None:
        self.driver.feed(DESCRIPTOR_UUID.upper(), self.device.read_descriptor(), 0)
        for request in self.driver.begin():
            self.deliver(self.device.control(request, now_us=0), 0)
        for now_us in range(0, int(seconds * 1e6) + 1, 25_000):
            self.deliver(self.device.advance(now_us), now_us)
            for request in self.driver.poll(now_us):
                self.deliver(self.device.control(request, now_us=now_us), now_us)
        for request in self.driver.end():
            self.deliver(self.device.control(request, now_us=now_us), now_us)


def test_own_profile_records_and_states_everything():
    bench = Bench()
    bench.run(6.0)
    record = bench.driver.to_record(start=None, device="bench")
    assert record.gaps == ()
    assert record.n_samples >= 2950
    assert (record.leads, record.fs_hz, record.gain_known) == (("I", "II"), 500.0, True)
    assert (record.source.driver, record.source.gap_detectable) == ("e6l", True)
    assert bench.driver.rate_seen_hz == pytest.approx(500.0, rel=0.01)
    assert bench.driver.remarks == ()


def test_own_profile_asks_again_for_what_was_lost_and_declares_the_rest():
    bench = Bench(drop=7)
    bench.run(6.0)
    record = bench.driver.to_record(start=None, device="bench")
    settled = [gap for gap in record.gaps if gap.stop < record.n_samples - 150]
    assert settled == []
    assert bench.driver.statistics.lost_samples == sum(gap.n_samples for gap in record.gaps)


def test_own_profile_needs_the_descriptor_first_and_refuses_a_damaged_one():
    driver = E6lDriver()
    with pytest.raises(ProtocolError, match="expected it before START"):
        driver.begin()
    driver.feed(DESCRIPTOR_UUID, bytes(40), 0)
    assert "check sum" in driver.remarks[0]
    assert not driver.info.quality.calibrated
