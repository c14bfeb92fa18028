"""Lost links of every kind, hosts' clocks, codecs: what a session does about them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from edge_app.link import client
from edge_app.link.inprocess import InProcessTransport
from edge_app.session import EventKind, SessionResult, record_session
from edge_app.session.run import choose_codec
from edge_app.session.spool import Spool, recover_spool
from firmware_bridge.assembly.drift import DriftError
from firmware_bridge.protocol.checksum import with_crc
from firmware_bridge.protocol.codec import LiveFrame, decode_frame, encode_frame
from firmware_bridge.protocol.control import decode_retransmit
from firmware_bridge.protocol.descriptor import encode_descriptor
from firmware_bridge.protocol.profile import Contact, Feature, FrameFlag, Op, SampleCodec
from firmware_bridge.sim.air.faults import Faults
from firmware_bridge.sim.device.device import DEFAULT_FEATURES, Channel, Notification, VirtualDevice
from lsemvae.ecg.errors import LinkError, ProtocolError, RateError
from tests.edge_app.session.away import AwayTransport

SPEED = 20.0


class LastingError(LinkError):
    """What a radio says of itself if no attempt will mend it."""

    lasting = True


def record(transport: InProcessTransport, *, seconds: float = 10.0, **options) -> SessionResult:
    return asyncio.run(record_session(transport, seconds=seconds, allow_unauthenticated=True, **options))


def messages(result: SessionResult, kind: EventKind) -> list[str]:
    return [event.message for event in result.events if event.kind is kind]


class FailsTransport(AwayTransport):
    """After its link was lost, connecting fails with each of `errors` in turn, then works."""

    def __init__(self, *args, errors, **options):
        super().__init__(*args, attempts=0, **options)
        self._errors = list(errors)

    async def connect(self):
        if self._lost and self._errors:
            raise self._errors.pop(0)
        return await super().connect()


GONE = [
    LinkError("scan: found no Bluetooth service, expected one"),
    EOFError("the bus closed the connection"),
    ConnectionResetError(104, "Connection reset by peer"),
    KeyError("/org/bluez/hci0"),
    RuntimeError("loop of the bus is gone"),
    TimeoutError(),
]


@pytest.mark.parametrize("error", GONE, ids=lambda error: type(error).__name__)
def test_a_service_that_goes_away_and_comes_back_is_waited_for_whatever_it_raises(source, equals_source, error):
    transport = FailsTransport(source, speed=SPEED, faults=Faults(disconnect_at=60), errors=[error])
    result = record(transport)
    assert result.statistics.reconnects == 1
    assert len(messages(result, EventKind.RETRY)) == 1
    assert result.complete
    equals_source(result.record)


def test_different_failures_one_after_the_other_are_all_waited_out_with_growing_pauses(source, equals_source):
    transport = FailsTransport(source, speed=SPEED, faults=Faults(disconnect_at=60), errors=GONE[:3])
    result = record(transport, seconds=40.0)
    at_s = [event.t_s for event in result.events if event.kind is EventKind.RETRY]
    assert len(at_s) == 3
    first, second = at_s[1] - at_s[0], at_s[2] - at_s[1]
    assert 0.2 < first < second
    assert result.complete
    equals_source(result.record)


def test_a_service_that_stays_away_ends_the_wait_and_keeps_what_was_received(source, equals_source):
    endless = [RuntimeError("no bus")] * 100
    transport = FailsTransport(source, speed=SPEED, faults=Faults(disconnect_at=60), errors=endless)
    result = record(transport, watchdog_s=0.2, reconnect_for_s=1.0)
    assert messages(result, EventKind.GAVE_UP) == ["the device did not come back; what was received is kept"]
    assert 2 <= len(messages(result, EventKind.RETRY)) <= 5
    assert result.record.n_samples == 1500
    equals_source(result.record)


def no_permission() -> LinkError:
    error = LinkError("connect: found no permission, expected it")
    error.__cause__ = PermissionError(13, "Permission denied")
    return error


@pytest.mark.parametrize(
    "error",
    [LastingError("found two devices of one name"), no_permission(), ProtocolError("found version 2, expected 1")],
    ids=["lasting", "no permission", "wrong protocol"],
)
def test_what_no_attempt_can_mend_ends_at_once_and_keeps_what_was_received(source, equals_source, error):
    transport = FailsTransport(source, speed=SPEED, faults=Faults(disconnect_at=60), errors=[error] * 100)
    begun_s = time.monotonic()
    result = record(transport)
    assert time.monotonic() - begun_s < 3.0
    assert len(messages(result, EventKind.FAULT)) == 1
    assert messages(result, EventKind.RETRY) == []
    assert result.record.n_samples == 1500
    equals_source(result.record)


def test_a_device_that_connects_for_ever_and_sends_nothing_is_given_up(source, equals_source):
    class Mute(InProcessTransport):
        dropped = False

        async def drop(self):
            self.dropped = True
            await super().drop()

        async def send(self, notification):
            if not (self.dropped and notification.channel is Channel.LIVE):
                await super().send(notification)

    begun_s = time.monotonic()
    transport = Mute(source, speed=SPEED, faults=Faults(disconnect_at=60))
    result = record(transport, watchdog_s=0.2, reconnect_for_s=0.8)
    assert time.monotonic() - begun_s < 5.0
    assert messages(result, EventKind.GAVE_UP)
    assert result.statistics.reconnects >= 1
    assert result.record.n_samples == 1500
    equals_source(result.record)


def test_a_radio_that_cannot_even_disconnect_takes_no_sample_away(source, equals_source, monkeypatch):
    class Stuck(InProcessTransport):
        calls = 0

        async def disconnect(self):
            await super().disconnect()
            self.calls += 1
            if self.calls == 1:
                await asyncio.sleep(60)
            raise EOFError("the bus closed the connection")

    monkeypatch.setattr(client, "CLOSE_TIMEOUT_S", 0.2)
    result = record(Stuck(source, speed=SPEED, faults=Faults(disconnect_at=60)))
    assert result.statistics.reconnects == 1
    assert result.complete
    equals_source(result.record)


def test_a_request_that_fails_in_an_unforeseen_way_does_not_end_the_stream(source, equals_source):
    class Odd(InProcessTransport):
        failures = 0

        async def write_control(self, request):
            if request[0] == Op.RETRANSMIT and not self.failures:
                self.failures += 1
                raise RuntimeError("somewhere in a library")
            await super().write_control(request)

    transport = Odd(source, speed=SPEED, faults=Faults(drop=0.05))
    result = record(transport, seconds=12.0)
    assert transport.failures == 1
    assert messages(result, EventKind.FAULT) == ["RuntimeError: somewhere in a library"]
    assert result.complete
    equals_source(result.record)


def test_a_descriptor_that_a_wire_damaged_once_is_read_again(source):
    class Wire(InProcessTransport):
        reads = 0

        async def read_descriptor(self):
            data = bytearray(await super().read_descriptor())
            self.reads += 1
            data[9] ^= self.reads == 1
            return bytes(data)

    transport = Wire(source, speed=SPEED)
    assert record(transport, seconds=2.0).complete
    assert transport.reads == 2


def test_a_hole_is_asked_for_once_after_a_reconnect_even_if_a_repair_was_due(source, equals_source):
    """The device goes on for more than a repair interval (5 s of signal) while it is away."""
    asked: list[tuple[int, int]] = []

    class Lags(AwayTransport):
        """What is sent again takes its time: live frames come first."""

        async def write_control(self, request):
            if request[0] == Op.RETRANSMIT:
                params = decode_retransmit(bytes(request[2:]))
                asked.append((params.t0, params.count))
            await super().write_control(request)

        async def send(self, notification):
            if notification.channel is Channel.LIVE and notification.data[1] & FrameFlag.RETRANSMITTED:
                later = super().send(notification)
                waiting.append(asyncio.get_running_loop().call_later(0.15, lambda: asyncio.ensure_future(later)))
            else:
                await super().send(notification)

    waiting: list[asyncio.TimerHandle] = []
    transport = Lags(source, speed=SPEED, faults=Faults(disconnect_at=60), attempts=1)
    result = record(transport, seconds=20.0)
    assert result.complete
    assert asked
    assert len(asked) == len(set(asked))
    assert result.statistics.assembly.duplicates == 0
    equals_source(result.record)


def test_a_device_that_cannot_tell_the_time_is_resumed_by_its_status(source, equals_source):
    without = partial(VirtualDevice, features=DEFAULT_FEATURES & ~Feature.TIME_SYNC)
    transport = AwayTransport(source, speed=SPEED, faults=Faults(disconnect_at=60), attempts=1, device=without)
    result = record(transport)
    assert messages(result, EventKind.RESUMED)
    assert result.complete
    equals_source(result.record)


# -- the host's clock --------------------------------------------------------------------------------------------------


@pytest.mark.promise(142)
def test_samples_that_cannot_exist_yet_are_refused(source, equals_source):
    """A frame with a valid check sum claims to come from 20 s ahead."""

    class Jumps(InProcessTransport):
        jumped = False

        async def send(self, notification):
            await super().send(notification)
            if notification.channel is Channel.LIVE and not self.jumped:
                self.jumped = True
                codes = source.read(0, 25)[0]
                frame = LiveFrame(
                    codec=SampleCodec.RAW24, flags=FrameFlag(0), seq=900, t0=10_000, contact=Contact(0), samples=codes
                )
                self._listeners["live"](encode_frame(frame))

    result = record(Jumps(source, speed=SPEED), seconds=4.0)
    assert result.statistics.assembly.premature == 1
    assert result.complete
    equals_source(result.record)


class ClaimsPace(InProcessTransport):
    """Says that its device runs in real time, or says nothing, whatever it does."""

    def __init__(self, *args, says: float | None, **options):
        super().__init__(*args, **options)
        self._says = says

    async def connect(self):
        return replace(await super().connect(), pace=self._says)


def test_without_a_known_pace_nothing_is_held_against_the_host_s_clock(source):
    result = record(ClaimsPace(source, speed=SPEED, says=None), seconds=12.0)
    assert result.complete
    assert result.statistics.drift_ppm is None
    assert result.statistics.drift_rms_ms is None


def test_the_transport_s_word_on_the_pace_wins_over_the_caller_s(source):
    result = record(ClaimsPace(source, speed=SPEED, says=SPEED), seconds=12.0, pace=1.0)
    assert result.complete
    assert result.statistics.assembly.premature == 0
    assert result.statistics.drift_ppm is not None


@pytest.mark.parametrize("pace", [0.0, -1.0, float("nan"), float("inf")])
def test_a_pace_that_no_device_has_is_refused(source, pace):
    with pytest.raises(RateError, match="expected more than 0"):
        record(InProcessTransport(source), pace=pace)


class Clock:
    """An event loop whose time passes at once, so that minutes of real time take milliseconds and jitter is none."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._now_s = loop.time()
        self._select = loop._selector.select
        loop.time = lambda: self._now_s
        loop._selector = SimpleNamespace(**{name: getattr(loop._selector, name) for name in (
            "register", "unregister", "modify", "close", "get_map", "get_key")}, select=self.select)  # fmt: skip

    def select(self, timeout):
        ready = self._select(0)
        if not ready and timeout:
            self._now_s += timeout
        return ready


def record_in_real_time(transport: InProcessTransport, *, seconds: float, **options) -> SessionResult:
    """Record from a transport whose device plays in real time; no time passes meanwhile."""
    loop = asyncio.new_event_loop()
    Clock(loop)
    try:
        return loop.run_until_complete(
            record_session(transport, seconds=seconds, allow_unauthenticated=True, **options)
        )
    finally:
        loop.close()


@pytest.mark.promise(142)
@pytest.mark.parametrize(("ppm", "flagged"), [(0, False), (-40, False), (200, True), (-350, True)])
def test_the_drift_of_a_device_s_clock_is_told_and_flagged_beyond_100_ppm(source, equals_source, ppm, flagged):
    transport = ClaimsPace(source, speed=1.0 + ppm * 1e-6, says=1.0)
    result = record_in_real_time(transport, seconds=30.0)
    assert result.complete
    assert result.statistics.drift_ppm == pytest.approx(ppm, abs=25)
    assert result.statistics.drift_rms_ms < 20
    assert bool(messages(result, EventKind.DRIFT)) is flagged
    assert all(f"{ppm:+d}"[:2] in message for message in messages(result, EventKind.DRIFT))
    equals_source(result.record)


def test_a_recording_that_is_too_short_to_tell_drift_from_a_radio_s_mood_has_the_figure_and_no_note(source):
    result = record_in_real_time(ClaimsPace(source, speed=1.0003, says=1.0), seconds=12.0)
    assert result.statistics.drift_ppm == pytest.approx(300, abs=60)
    assert messages(result, EventKind.DRIFT) == []


@pytest.mark.promise(142)
@pytest.mark.parametrize("ppm", [7_000, -7_000])
def test_a_clock_that_is_off_by_more_than_5000_ppm_is_an_error_in_real_time(source, tmp_path, ppm):
    transport = ClaimsPace(source, speed=1.0 + ppm * 1e-6, says=1.0)
    path = tmp_path / "a.spool"
    with pytest.raises(DriftError, match="within 5000 ppm"), Spool(path) as spool:
        record_in_real_time(transport, seconds=30.0, sink=spool)
    with pytest.raises(DriftError, match="within 5000 ppm"):
        recover_spool(path)


def test_in_a_simulation_it_is_an_event(source):
    transport = ClaimsPace(source, speed=2.02, says=2.0)
    result = record_in_real_time(transport, seconds=30.0)
    assert "within 5000 ppm" in messages(result, EventKind.DRIFT)[0]
    assert result.statistics.drift_ppm is None


# -- codec -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codecs", "expected"), [(0b001, SampleCodec.RAW24), (0b011, SampleCodec.RAW24), (0b010, SampleCodec.RAW16)]
)
def test_the_finest_codec_that_the_device_has_is_asked_for(source, codecs, expected):
    assert choose_codec(replace(VirtualDevice(source).descriptor, codecs=codecs)) is expected


def test_a_device_without_a_known_codec_is_refused(source):
    with pytest.raises(ProtocolError, match="found a device with codecs 0x04"):
        choose_codec(replace(VirtualDevice(source).descriptor, codecs=0b100))


def test_frames_in_another_codec_than_start_asked_for_are_refused(source, equals_source):
    class Switches(InProcessTransport):
        async def send(self, notification):
            await super().send(notification)
            if notification.channel is Channel.LIVE:
                frame = LiveFrame(
                    codec=SampleCodec.RAW16, flags=FrameFlag(0), seq=1, t0=25, contact=Contact(0),
                    samples=source.read(0, 25)[0] // 256,
                )  # fmt: skip
                self._listeners["live"](encode_frame(frame))

    result = record(Switches(source, speed=SPEED), seconds=2.0)
    assert result.statistics.assembly.foreign_codec > 0
    assert result.complete
    equals_source(result.record)


# -- what a device claims ----------------------------------------------------------------------------------------------


class ThreeLeadsTransport(InProcessTransport):
    """A device of three channels: the third one is `third(I, II)`, and is called III."""

    def __init__(self, source, *, third):
        without = partial(VirtualDevice, features=DEFAULT_FEATURES & ~Feature.RECORD)
        super().__init__(source, speed=SPEED, device=without)
        self._third = third

    async def read_descriptor(self):
        return encode_descriptor(replace(self.player.device.descriptor, leads=("I", "II", "III")))

    async def send(self, notification):
        if notification.channel is Channel.LIVE:
            frame = decode_frame(notification.data, n_leads=2)
            samples = np.vstack((frame.samples, self._third(*frame.samples)[None]))
            notification = Notification(Channel.LIVE, encode_frame(replace(frame, samples=samples)))
        await super().send(notification)


def test_three_limb_leads_that_obey_einthoven_are_recorded_without_a_remark(source):
    result = record(ThreeLeadsTransport(source, third=lambda i, ii: ii - i), seconds=4.0)
    assert result.record.leads == ("I", "II", "III")
    assert result.complete
    assert messages(result, EventKind.FAULT) == []


def test_limb_leads_that_break_einthoven_s_law_are_told_with_code_sentence_and_advice(source):
    result = record(ThreeLeadsTransport(source, third=lambda i, ii: i + ii), seconds=4.0)
    (fault,) = messages(result, EventKind.FAULT)
    assert fault.startswith("E_LEAD: limb leads I, II, III: found ")
    assert "expected at most 50 uV" in fault
    assert "do not use it" in fault
    assert result.complete


def changed_descriptor(at: int, value: int, size: int):
    class Changed(InProcessTransport):
        async def read_descriptor(self):
            data = bytearray(await super().read_descriptor())
            data[at : at + size] = value.to_bytes(size, "little")
            return with_crc(bytes(data[:-2]))

    return Changed


@pytest.mark.parametrize(
    ("at", "value", "size", "words"),
    [(0, 2, 1, "version"), (8, 0, 4, "rate"), (12, 0, 4, "weight")],
    ids=["unknown version", "rate 0", "scale 0"],
)
def test_a_descriptor_that_cannot_be_trusted_is_refused_before_anything_starts(source, at, value, size, words):
    transport = changed_descriptor(at, value, size)(source)
    with pytest.raises(ProtocolError, match=rf"{words}.*found .*expected|found .*{words}.*expected") as caught:
        record(transport)
    assert caught.value.code == "E_PROTOCOL"
    assert caught.value.advice
    assert transport.player.device.stream is None
