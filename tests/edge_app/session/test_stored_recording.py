"""The second line behind retransmission: what the radio lost and the ring no longer holds comes from the device's memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial

import pytest

from edge_app.link import client
from edge_app.link.inprocess import InProcessTransport
from edge_app.link.stored import armed_seconds
from edge_app.session import EventKind, SessionResult, record_session
from edge_app.session.spool import EntryKind, Spool, read_entries, recover_spool
from firmware_bridge.protocol.profile import Feature, Op, ReplyStatus
from firmware_bridge.sim.air.faults import Faults
from firmware_bridge.sim.device.core_device import make_device
from firmware_bridge.sim.device.device import DEFAULT_FEATURES, Channel, Notification, VirtualDevice
from firmware_bridge.sim.device.memory import RecordingMemory
from lsemvae.ecg.errors import LinkError
from tests.edge_app.session.away import AwayTransport

SPEED = 20.0
# A ring of a second: whatever a lost link costs beyond that is gone from it.
SHORT_RING = partial(VirtualDevice, ring_s=1)


class WatchedTransport(AwayTransport):
    """Counts requests; may lose the link, or change what is sent, at a given operation."""

    def __init__(self, *args, lose_at: Op | None = None, lose_bulk_at: int = 0, **options):
        super().__init__(*args, **options)
        self.requests: Counter[Op] = Counter()
        self.bulk = 0
        self._lose_at = lose_at
        self._lose_bulk_at = lose_bulk_at

    async def write_control(self, request):
        op = Op(request[0])
        self.requests[op] += 1
        if op is self._lose_at:
            self._lose_at = None
            await self.player.disconnect()
            raise LinkError("found no connection, expected one")
        await super().write_control(request)

    async def send(self, notification):
        self.bulk += notification.channel is Channel.BULK
        await super().send(notification)
        if self.bulk == self._lose_bulk_at and notification.channel is Channel.BULK:
            await self.player.disconnect()


def away(source, *, device=SHORT_RING, faults: Faults | None = None, attempts: int = 1, **options) -> WatchedTransport:
    """A link that is lost after 2 s of signal, for longer than the ring lasts."""
    faults = faults or Faults(disconnect_at=40)
    return WatchedTransport(source, speed=SPEED, device=device, faults=faults, attempts=attempts, **options)


def record(transport: InProcessTransport, *, seconds: float = 10.0, **options) -> SessionResult:
    return asyncio.run(record_session(transport, seconds=seconds, allow_unauthenticated=True, **options))


def messages(result: SessionResult, kind: EventKind) -> list[str]:
    return [event.message for event in result.events if event.kind is kind]


@pytest.mark.promise(137)
def test_what_left_the_ring_is_read_from_the_device_s_own_recording(source, equals_source):
    transport = away(source)
    result = record(transport)
    assert messages(result, EventKind.EVICTED)
    assert result.statistics.assembly.stored > 1000
    assert result.complete
    assert messages(result, EventKind.STORED)[-1].endswith("filled in from the device's own recording")
    assert result.statistics.received_samples == result.statistics.elapsed_samples == 5000
    equals_source(result.record)


def test_nothing_is_read_where_nothing_is_missing(source):
    transport = WatchedTransport(source, speed=SPEED, attempts=0)
    result = record(transport, seconds=4.0)
    assert result.complete
    assert transport.requests[Op.RECORD_ARM] == 1
    assert transport.requests[Op.RECORD_LIST] == transport.requests[Op.RECORD_READ] == 0


def test_a_bad_radio_loses_bulk_frames_and_they_are_asked_for_again(source, equals_source):
    faults = Faults(drop=0.03, corrupt=0.03, swap=0.05, duplicate=0.05, delay=0.05, disconnect_at=40)
    transport = away(source, faults=faults)
    result = record(transport)
    assert transport.player.faults.counts["bulk_drop"] > 0
    assert transport.player.faults.counts["bulk_corrupt"] > 0
    assert transport.requests[Op.RECORD_READ] > 1
    assert result.complete
    equals_source(result.record)


def test_a_link_lost_while_reading_is_reconnected_and_only_the_rest_is_read(source, equals_source):
    transport = away(source, lose_bulk_at=60)
    result = record(transport)
    assert result.statistics.reconnects == 2
    assert transport.requests[Op.RECORD_READ] == 2
    n_frames = -(-result.descriptor.fs_mhz * 10 * 2 * 3 // 1000 // (247 - 11))
    assert transport.bulk <= n_frames + 2
    assert result.complete
    equals_source(result.record)


@pytest.mark.parametrize("op", [Op.RECORD_LIST, Op.RECORD_READ])
def test_a_link_lost_at_a_request_is_reconnected(source, equals_source, op):
    result = record(away(source, lose_at=op))
    assert result.complete
    equals_source(result.record)


def test_a_link_lost_when_arming_is_reconnected_without_a_second_line(source, equals_source):
    transport = WatchedTransport(source, speed=SPEED, attempts=0, lose_at=Op.RECORD_ARM)
    result = record(transport, seconds=4.0)
    assert result.statistics.reconnects == 1
    assert result.complete
    equals_source(result.record)


def test_a_device_that_was_switched_off_kept_nothing_and_the_gap_stays(source):
    def battery_in(transport):
        transport.player.power_on()

    transport = away(source, faults=Faults(power_off_at=40), on_return=battery_in)
    result = record(transport)
    assert messages(result, EventKind.RESTARTED)
    assert transport.requests[Op.RECORD_ARM] == 2
    assert transport.requests[Op.RECORD_READ] == 0
    (gap,) = result.record.gaps
    assert gap.start == 1000
    assert result.statistics.missing_samples == gap.n_samples


def test_a_device_that_was_switched_off_before_it_was_read_leaves_the_gap_declared(source, equals_source):
    class Dies(WatchedTransport):
        async def write_control(self, request):
            if request[0] == Op.RECORD_LIST:
                await self.player.power_off()
                self.player.power_on()
                raise LinkError("found no connection, expected one")
            await super().write_control(request)

    transport = Dies(source, speed=SPEED, device=SHORT_RING, faults=Faults(disconnect_at=40), attempts=1)
    result = record(transport)
    assert any("was restarted" in message for message in messages(result, EventKind.STORED))
    (gap,) = result.record.gaps
    assert result.statistics.missing_samples == gap.n_samples > 500
    assert result.record.n_samples == 5000
    equals_source(result.record)


def test_a_device_without_recordings_is_not_asked(source):
    transport = away(source, device=partial(SHORT_RING, features=DEFAULT_FEATURES & ~Feature.RECORD))
    result = record(transport)
    assert len(result.record.gaps) == 1
    assert {op for op in transport.requests if "RECORD" in op.name} == set()


class RefusesTransport(WatchedTransport):
    """Answers an operation with a status."""

    def __init__(self, *args, op: Op, status: ReplyStatus, **options):
        super().__init__(*args, **options)
        self._op = op
        self._status = status

    async def send(self, notification):
        data = notification.data
        if notification.channel is Channel.CONTROL and data[0] == 0x80 | self._op:
            data = data[:2] + bytes((self._status,))
        await super().send(Notification(notification.channel, data))


@pytest.mark.parametrize("op", [Op.RECORD_ARM, Op.RECORD_LIST, Op.RECORD_READ])
def test_a_device_that_refuses_costs_the_second_line_and_nothing_else(source, equals_source, op):
    transport = RefusesTransport(
        source, speed=SPEED, device=SHORT_RING, faults=Faults(disconnect_at=40), attempts=1, op=op,
        status=ReplyStatus.BAD_PARAMETER,
    )  # fmt: skip
    result = record(transport)
    assert any(f"{op.name}: found BAD_PARAMETER" in message for message in messages(result, EventKind.STORED))
    assert len(result.record.gaps) == 1
    assert result.record.n_samples == 5000
    equals_source(result.record)


def test_a_device_that_does_not_answer_to_arm_costs_no_sample(source, equals_source, monkeypatch):
    class Mute(WatchedTransport):
        async def write_control(self, request):
            if request[0] != Op.RECORD_ARM:
                await super().write_control(request)

    monkeypatch.setattr(client, "REPLY_TIMEOUT_S", 0.2)
    result = record(Mute(source, speed=SPEED, attempts=0), seconds=6.0)
    assert result.complete
    equals_source(result.record)


class Elsewhere(RecordingMemory):
    """A firmware that stores another lead, or starts at another sample, than it says."""

    def keep(self, codes):
        super().keep(codes + 5_000)


@pytest.mark.promise(137)
def test_a_recording_that_disagrees_with_the_stream_is_not_used(source, equals_source):
    def faulty(source) -> VirtualDevice:
        device = VirtualDevice(source, ring_s=1)
        device.memory = Elsewhere()
        return device

    result = record(away(source, device=faulty))
    assert any("unlike those received" in message for message in messages(result, EventKind.STORED))
    assert result.statistics.assembly.stored == 0
    assert len(result.record.gaps) == 1
    equals_source(result.record)


@pytest.mark.promise(137)
def test_a_recording_whose_check_sum_is_wrong_is_not_used(source, equals_source):
    class WrongSum(WatchedTransport):
        async def send(self, notification):
            data = notification.data
            if notification.channel is Channel.CONTROL and data[0] == 0x80 | Op.RECORD_LIST:
                data = data[:-1] + bytes((data[-1] ^ 1,))
            await super().send(Notification(notification.channel, data))

    transport = WrongSum(source, speed=SPEED, device=SHORT_RING, faults=Faults(disconnect_at=40), attempts=1)
    result = record(transport)
    assert any("check sum" in message for message in messages(result, EventKind.STORED))
    assert len(result.record.gaps) == 1
    equals_source(result.record)


def test_a_spool_holds_the_device_s_own_recording_too(source, tmp_path):
    path = tmp_path / "a.spool"
    with Spool(path) as spool:
        result = record(away(source), sink=spool)
    assert result.complete
    recovered = recover_spool(path)
    assert (recovered.record.samples == result.record.samples).all()
    assert recovered.record.gaps == ()
    assert recovered.record.source == result.record.source
    assert recovered.statistics == result.statistics.assembly


def test_a_damaged_copy_of_it_in_the_spool_leaves_the_gap(source, tmp_path):
    path = tmp_path / "a.spool"
    with Spool(path) as spool:
        result = record(away(source), sink=spool)
    data = bytearray(path.read_bytes())
    bulk = [entry for entry in read_entries(bytes(data)) if not isinstance(entry, int) and entry.kind is EntryKind.BULK]
    data[data.index(bulk[7].payload) + 20] ^= 1
    path.write_bytes(data)
    recovered = recover_spool(path)
    assert recovered.skipped_bytes > 0
    (gap,) = recovered.record.gaps
    assert gap.n_samples == result.statistics.assembly.stored


@pytest.mark.parametrize(
    ("seconds", "expected"), [(1.0, 10), (10.0, 10), (10.1, 11), (12.0, 12), (30.0, 30), (99.0, 30)]
)
def test_the_device_keeps_as_long_as_is_recorded_within_its_limits(seconds, expected):
    assert armed_seconds(seconds) == expected


@pytest.mark.usefixtures("needs_core")
def test_the_c_core_s_recording_fills_the_gap_too(source, equals_source):
    result = record(away(source, device=partial(make_device, core=True, ring_s=1)))
    assert result.statistics.assembly.stored > 1000
    assert result.complete
    equals_source(result.record)
