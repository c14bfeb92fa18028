"""Sessions over a virtual device in the same process: whatever the radio does, what was received is kept."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from edge_app.link import client
from edge_app.link.inprocess import InProcessTransport
from edge_app.session import EventKind, SessionResult, record_session
from firmware_bridge.protocol.control import Request, StartParams, decode_start_reply
from firmware_bridge.protocol.profile import Feature, Op
from firmware_bridge.sim.air.faults import Faults
from firmware_bridge.sim.air.player import DevicePlayer
from firmware_bridge.sim.device.device import DEFAULT_FEATURES, Channel, Notification, VirtualDevice
from firmware_bridge.sim.device.source import source_from_uv
from lsemvae.ecg.errors import LengthError, LinkError, ProtocolError
from lsemvae.ecg.record import EcgRecord
from lsemvae.ecg.runs import StartTime
from tests.edge_app.session.away import AwayTransport

SPEED = 20.0
NOISE = Faults(drop=0.05, corrupt=0.03, swap=0.03, duplicate=0.02, delay=0.02)


def record(transport: InProcessTransport, *, seconds: float = 10.0, **options) -> SessionResult:
    # The virtual device has no key, except where a test gives it one (see test_session_auth).
    return asyncio.run(record_session(transport, seconds=seconds, allow_unauthenticated=True, **options))


def kinds(result: SessionResult) -> list[EventKind]:
    return [event.kind for event in result.events]


def check_account(result: SessionResult) -> None:
    """Received samples plus declared gaps are the length of the record."""
    declared = sum(gap.n_samples for gap in result.record.gaps)
    found = result.statistics
    assert found.received_samples + found.missing_samples == found.elapsed_samples == result.record.n_samples
    assert found.missing_samples == declared


def test_a_clean_link_gives_the_source_sample_by_sample(source, equals_source):
    result = record(InProcessTransport(source, speed=SPEED))
    assert result.complete
    assert result.record.n_samples == 5000
    assert result.record.gaps == ()
    assert (result.record.leads, result.record.fs_hz) == (("I", "II"), 500.0)
    equals_source(result.record)
    check_account(result)


@pytest.mark.promise(40)
def test_drop_corrupt_swap_duplicate_delay_end_contiguous_after_retransmission(source, equals_source):
    result = record(InProcessTransport(source, speed=SPEED, faults=NOISE))
    assert result.complete
    equals_source(result.record)
    found = result.statistics.assembly
    assert found.corrupt > 0
    assert found.duplicates > 0
    assert found.reordered > 0
    assert found.retransmitted > 0
    check_account(result)


@pytest.mark.promise(41)
def test_a_lost_link_is_reconnected_and_the_hole_filled_from_the_ring(source, equals_source):
    transport = AwayTransport(source, speed=SPEED, faults=Faults(disconnect_at=60), attempts=1)
    result = record(transport)
    assert [kind for kind in kinds(result) if kind is not EventKind.REPAIR] == [
        EventKind.CONNECTED, EventKind.UNAUTHENTICATED, EventKind.STARTED, EventKind.LOST, EventKind.RETRY,
        EventKind.RESUMED, EventKind.STOPPED,
    ]  # fmt: skip
    assert result.statistics.reconnects == 1
    assert result.statistics.assembly.retransmitted > 0
    assert result.complete
    equals_source(result.record)


class TakenTransport(AwayTransport):
    """While it is out of reach, another program ends the device's stream and begins one of its own: another person's."""

    async def connect(self):
        taken = self._lost and not self._away
        info = await super().connect()
        for op, params in ((Op.STOP, b""), (Op.START, StartParams().to_bytes())) if taken else ():
            await self.player.control(Request(op=op, txn=7, params=params).to_bytes())
        return info


def test_defect_a_stream_that_another_program_began_meanwhile_is_not_spliced_in(source, equals_source):
    """RESUME keeps the number of a stream; another number is another recording, perhaps of another person."""
    result = record(TakenTransport(source, speed=SPEED, faults=Faults(disconnect_at=60), attempts=1))
    assert not result.complete
    assert EventKind.RESUMED not in kinds(result)
    faults = [event.message for event in result.events if event.kind is EventKind.FAULT]
    assert any("found stream 2 on the device, expected 1" in message for message in faults), faults
    assert result.record.n_samples <= 1600
    equals_source(result.record)


@pytest.mark.promise(42)
def test_a_device_that_never_comes_back_leaves_what_was_received(source, equals_source):
    faults = Faults(power_off_at=100)
    result = record(InProcessTransport(source, speed=SPEED, faults=faults), reconnect_for_s=0.3, watchdog_s=0.3)
    assert not result.complete
    assert result.record.n_samples == 2500
    assert EventKind.GAVE_UP in kinds(result)
    equals_source(result.record)
    check_account(result)


@pytest.mark.promise(6)
def test_losses_before_the_device_died_are_declared_as_gaps(source, equals_source):
    faults = Faults(drop=0.2, power_off_at=100)
    result = record(InProcessTransport(source, speed=SPEED, faults=faults), reconnect_for_s=0.3, watchdog_s=0.3)
    assert result.record.gaps
    equals_source(result.record)
    check_account(result)


def test_a_hanging_device_is_noticed_by_the_watchdog(source, equals_source):
    faults = Faults(hang_at=100)
    result = record(InProcessTransport(source, speed=SPEED, faults=faults), reconnect_for_s=0.3, watchdog_s=0.3)
    assert EventKind.SILENT in kinds(result)
    assert EventKind.GAVE_UP in kinds(result)
    assert result.record.n_samples == 2500
    equals_source(result.record)


def test_a_device_switched_off_and_on_continues_after_a_declared_gap(source, signal_uv):
    def battery_in(transport):
        transport.player.power_on()

    faults = Faults(power_off_at=60)
    result = record(AwayTransport(source, speed=SPEED, faults=faults, attempts=1, on_return=battery_in))
    assert EventKind.RESTARTED in kinds(result)
    assert result.statistics.restarts == 1
    assert result.record.n_samples == 5000
    (gap,) = result.record.gaps
    assert gap.start == 1500
    assert gap.n_samples > 500
    check_account(result)
    before = result.record.samples[:, :1500] * result.record.lsb_uv
    after = result.record.samples[:, gap.stop :] * result.record.lsb_uv
    for part in (before, after):
        expected = signal_uv[:, : part.shape[1]]
        shifted = part - np.median(part - expected, axis=1)[:, None]
        assert np.abs(shifted - expected).max() <= 2 * result.record.lsb_uv


@pytest.mark.promise(41)
def test_what_left_the_ring_stays_a_declared_gap(signal_uv, equals_source):
    def forgetful(source):
        return VirtualDevice(source, ring_s=1, features=DEFAULT_FEATURES & ~Feature.RECORD)

    source = source_from_uv(signal_uv, fs_hz=500.0)
    faults = Faults(disconnect_at=40)
    result = record(AwayTransport(source, speed=SPEED, faults=faults, attempts=1, device=forgetful))
    assert EventKind.EVICTED in kinds(result)
    assert len(result.record.gaps) == 1
    assert result.record.n_samples == 5000
    equals_source(result.record)
    check_account(result)


def test_a_link_lost_while_repairing_is_reconnected_to_fetch_the_rest(source, equals_source):
    class LosesRepair(InProcessTransport):
        stopped = lost = False

        async def write_control(self, request):
            if request[0] == Op.RETRANSMIT and self.stopped and not self.lost:
                self.lost = True
                await self.drop()
                raise LinkError("found no connection, expected one")
            self.stopped |= request[0] == Op.STOP
            await super().write_control(request)

    transport = LosesRepair(source, speed=SPEED, faults=NOISE)
    result = record(transport)
    assert transport.lost
    assert result.statistics.reconnects == 1
    assert result.complete
    equals_source(result.record)


def test_a_link_lost_at_stop_is_reconnected_to_fetch_the_rest_and_to_stop(source, equals_source):
    class LosesStop(InProcessTransport):
        lost = False

        async def write_control(self, request):
            if request[0] == Op.STOP and not self.lost:
                self.lost = True
                await self.drop()
                raise LinkError("found no connection, expected one")
            await super().write_control(request)

    transport = LosesStop(source, speed=SPEED, faults=NOISE)
    result = record(transport)
    assert transport.lost
    assert result.complete
    equals_source(result.record)
    assert transport.player.device.next_due_us() is None


def test_a_stream_left_running_by_a_crashed_application_is_stopped_first(source, equals_source):
    transport = InProcessTransport(source, speed=SPEED)

    async def crash_then_record():
        await transport.connect()
        await transport.write_control(Request(op=Op.START, txn=1, params=StartParams().to_bytes()).to_bytes())
        await transport.disconnect()
        return await record_session(transport, seconds=3, allow_unauthenticated=True)

    result = asyncio.run(crash_then_record())
    assert result.complete
    equals_source(result.record)


def test_a_device_that_ends_the_stream_gives_a_shorter_record(signal_uv, equals_source):
    transport = InProcessTransport(source_from_uv(signal_uv[:, :3010], fs_hz=500.0, loop=False), speed=SPEED)
    result = record(transport)
    assert EventKind.ENDED_BY_DEVICE in kinds(result)
    assert not result.complete
    assert result.record.n_samples == 3010
    equals_source(result.record)


def test_the_caller_can_stop_early(source, equals_source):
    async def scenario():
        stop = asyncio.Event()

        def on_frame(frame, _descriptor):
            if frame.t0 >= 1000:
                stop.set()

        transport = InProcessTransport(source, speed=SPEED)
        return await record_session(transport, seconds=10, stop=stop, on_frame=on_frame, allow_unauthenticated=True)

    result = asyncio.run(scenario())
    assert 1025 <= result.record.n_samples < 5000
    assert not result.complete
    equals_source(result.record)


@pytest.mark.promise(43)
def test_another_device_cannot_continue_the_recording(source, signal_uv, equals_source):
    def swap(transport):
        other = VirtualDevice(source_from_uv(signal_uv, fs_hz=250.0), boot_id=99)
        transport.player = DevicePlayer(other, speed=SPEED)

    transport = AwayTransport(source, speed=SPEED, faults=Faults(disconnect_at=60), attempts=0, on_return=swap)
    result = record(transport)
    assert EventKind.FAULT in kinds(result)
    assert result.record.n_samples == 1500
    equals_source(result.record)


def test_garbage_on_every_characteristic_changes_nothing(source, equals_source):
    class Babbling(InProcessTransport):
        async def subscribe(self, *, on_live, on_control, on_status=None, on_bulk=None):
            await super().subscribe(on_live=on_live, on_control=on_control, on_status=on_status, on_bulk=on_bulk)
            rng = np.random.default_rng(5)
            for callback in (on_live, on_control, on_status, on_bulk):
                for size in (0, 1, 2, 3, 12, 20, 162):
                    callback(rng.bytes(size))

    result = record(Babbling(source, speed=SPEED), seconds=3)
    assert result.complete
    assert result.statistics.assembly.duplicates == 0
    equals_source(result.record)


def test_observers_that_fail_do_not_end_a_recording(source):
    def broken(*_args):
        raise ValueError("the screen is broken")

    assert record(InProcessTransport(source, speed=SPEED), seconds=2, on_progress=broken, on_frame=broken).complete


def test_progress_tells_time_contact_and_battery(source):
    reports = []
    result = record(InProcessTransport(source, speed=SPEED), on_progress=reports.append)
    assert [report.elapsed_s for report in reports] == sorted(report.elapsed_s for report in reports)
    assert reports[-1].elapsed_s >= 10.0
    assert reports[-1].battery_percent == 90
    assert result.complete


@pytest.mark.parametrize("fs_hz", [125.0, 250.0, 1000.0])
def test_the_rate_is_the_device_s(signal_uv, equals_source, fs_hz):
    result = record(InProcessTransport(source_from_uv(signal_uv, fs_hz=fs_hz), speed=SPEED), seconds=4)
    assert result.record.fs_hz == fs_hz
    assert result.record.n_samples == round(4 * fs_hz)
    equals_source(result.record)


def test_a_record_is_replayed_by_lead_name(source):
    counts = np.random.default_rng(2).integers(-900, 900, (3, 2000)).astype(np.int16)
    replayed = EcgRecord(samples=counts, lsb_uv=1.0, fs_hz=500.0, leads=("V1", "II", "I"))
    result = record(InProcessTransport(replayed, speed=SPEED), seconds=3)
    found = result.record.samples * result.record.lsb_uv
    expected = counts[[2, 1], :1500].astype(float)
    shift = np.median(found - expected, axis=1)[:, None]
    assert np.abs(found - shift - expected).max() <= 2 * result.record.lsb_uv


def test_who_when_and_which_go_into_the_record(source):
    start = StartTime("2026-01-01T00:00:00Z", "host")
    result = record(InProcessTransport(source, speed=SPEED), seconds=2, start=start, record_id="r7", device="bench 3")
    assert (result.record.start, result.record.record_id, result.record.device) == (start, "r7", "bench 3")


def test_no_device_is_a_link_error_with_advice(source):
    transport = InProcessTransport(source)
    transport.player.device.power_off()
    with pytest.raises(LinkError, match=r"found .*expected") as caught:
        record(transport)
    assert caught.value.advice


def test_an_mtu_that_is_too_small_is_refused_with_advice(source):
    with pytest.raises(ProtocolError, match="MTU_TOO_SMALL") as caught:
        record(InProcessTransport(source, mtu=23))
    assert "adapter" in caught.value.advice


def test_a_device_that_never_sends_a_sample_is_a_link_error(source):
    transport = InProcessTransport(source, speed=SPEED, faults=Faults(drop=1.0, power_off_at=3))
    with pytest.raises(LinkError, match="no sample"):
        record(transport, reconnect_for_s=0.2, watchdog_s=0.2)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_length_that_makes_no_sense_is_refused(source, seconds):
    with pytest.raises(LengthError, match="expected more than 0 s"):
        record(InProcessTransport(source), seconds=seconds)


def test_the_event_loop_is_left_clean(source):
    async def scenario():
        await record_session(InProcessTransport(source, speed=SPEED), seconds=2, allow_unauthenticated=True)
        return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    assert asyncio.run(scenario()) == []


class SlowTransport(InProcessTransport):
    """A device that is looked for and not found for a minute."""

    async def connect(self):
        await asyncio.sleep(60)
        return await super().connect()


async def stopped_when(session_of, condition) -> SessionResult:
    """Run a session and ask it to stop as soon as `condition` holds for a progress report (None: at once)."""
    stop = asyncio.Event()

    def watch(progress):
        if condition is not None and condition(progress):
            stop.set()

    if condition is None:
        asyncio.get_running_loop().call_later(0.05, stop.set)
    async with asyncio.timeout(20):
        return await session_of(stop=stop, on_progress=watch)


def test_the_caller_can_stop_while_the_device_is_looked_for(source):
    transport = SlowTransport(source)
    with pytest.raises(LinkError, match="stopped before the first sample") as caught:
        asyncio.run(stopped_when(lambda **options: record_session(transport, seconds=10, **options), None))
    assert "Start again" in caught.value.advice


class LostTransport(SlowTransport):
    """Connects at once the first time, then never again."""

    lost = False

    async def connect(self):
        if self.lost:
            return await SlowTransport.connect(self)
        return await InProcessTransport.connect(self)

    async def drop(self):
        self.lost = True
        await super().drop()


def test_the_caller_can_stop_while_the_device_is_away_and_is_told_of_the_wait(source, equals_source):
    transport = LostTransport(source, speed=SPEED, faults=Faults(disconnect_at=100))
    told = []

    def away(progress):
        told.append(progress)
        return not progress.connected and progress.silent_s > 0.5

    def session(**options):
        return record_session(transport, seconds=10, allow_unauthenticated=True, **options)

    result = asyncio.run(stopped_when(session, away))
    assert told[-1].connected is False
    assert result.record.n_samples == 2500
    equals_source(result.record)
    (gave_up,) = [event for event in result.events if event.kind is EventKind.GAVE_UP]
    assert "stopped while the device was away" in gave_up.message


class MuteTransport(InProcessTransport):
    """Executes START, but the reply is lost on the way."""

    async def send(self, notification):
        if notification.channel is Channel.CONTROL and notification.data[0] == 0x80 | Op.START:
            return
        await super().send(notification)


def test_samples_that_came_although_start_was_not_answered_are_kept(source, equals_source, monkeypatch):
    monkeypatch.setattr(client, "REPLY_TIMEOUT_S", 0.2)
    result = record(MuteTransport(source, speed=SPEED), seconds=6)
    assert result.complete
    assert EventKind.FAULT in kinds(result)
    equals_source(result.record)


class OddTransport(InProcessTransport):
    """After some writes the radio library lets out an exception that nobody foresaw."""

    async def write_control(self, request):
        if Request(Op.STOP, 0, b"").to_bytes()[0] == request[0]:
            raise RuntimeError("somewhere in a library")
        await super().write_control(request)


def test_an_exception_that_nobody_foresaw_takes_no_sample_away(source, equals_source):
    result = record(OddTransport(source, speed=SPEED), seconds=5)
    assert result.complete
    (fault,) = [event for event in result.events if event.kind is EventKind.FAULT]
    assert fault.message == "RuntimeError: somewhere in a library"
    equals_source(result.record)


class BrokenAnswersTransport(InProcessTransport):
    """Answers STOP and the first RETRANSMIT with replies that are too short to be read."""

    broken = 0

    async def send(self, notification):
        data = notification.data
        ops = (0x80 | Op.STOP, 0x80 | Op.RETRANSMIT)
        if notification.channel is Channel.CONTROL and data[0] in ops and self.broken < 1 + (data[0] == ops[0]):
            self.broken += 1
            status = bytes((5,)) if data[0] == ops[1] else data[2:3]
            data = data[:2] + status + b"\x01"
        await super().send(Notification(notification.channel, data))


def test_answers_that_make_no_sense_end_neither_the_recording_nor_its_repair(source, equals_source):
    faults = Faults(drop=0.05)
    result = record(BrokenAnswersTransport(source, speed=SPEED, faults=faults), seconds=12)
    assert result.complete, result.events
    equals_source(result.record)


class OtherWeightTransport(InProcessTransport):
    """Says in the START reply that a code weighs twice what the descriptor states."""

    async def send(self, notification):
        data = notification.data
        if notification.channel is Channel.CONTROL and data[0] == 0x80 | Op.START:
            started = decode_start_reply(data[3:])
            data = data[:3] + replace(started, lsb_pv=96_000).to_bytes()
        await super().send(Notification(notification.channel, data))


@pytest.mark.promise(94)
def test_defect_a_stream_at_another_weight_than_described_is_not_recorded(source):
    with pytest.raises(ProtocolError, match=r"found a stream of \d+ pV per code, expected \d+") as caught:
        record(OtherWeightTransport(source, speed=SPEED), seconds=4)
    assert "firmware" in caught.value.advice
