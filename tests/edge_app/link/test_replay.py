"""A log of a session replays to the record of that session, whatever the radio did."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_app.link.client import DeviceClient
from edge_app.link.inprocess import InProcessTransport
from edge_app.link.log import replay
from edge_app.link.log.file import LogEntry, NotificationLog, parse_log, read_log
from edge_app.link.log.replay import ReplayTransport
from edge_app.link.log.writer import LoggingTransport
from edge_app.session import EventKind, SessionResult, record_session
from firmware_bridge.protocol.authenticity import DeviceKey, decode_authenticate_reply, encode_authenticate, verify
from firmware_bridge.protocol.control import Reply, decode_reply
from firmware_bridge.protocol.profile import Op, ReplyStatus
from firmware_bridge.sim.air.faults import Faults
from firmware_bridge.sim.device.device import VirtualDevice
from lsemvae.ecg.errors import FormatError, LinkError

pytestmark = pytest.mark.usefixtures("jumping_clock")

SPEED = 20.0
NOISE = Faults(drop=0.05, corrupt=0.03, swap=0.03, duplicate=0.02, delay=0.02)


def record(transport, *, seconds: float = 5.0, **options) -> SessionResult:
    session = record_session(transport, seconds=seconds, device="device", allow_unauthenticated=True, **options)
    return asyncio.run(session)


def logged(tmp_path: Path, source, *, faults: Faults | None = None, **options) -> tuple[SessionResult, Path]:
    """A session over the virtual device, and its log."""
    path = tmp_path / "session.jsonl"
    with LoggingTransport(InProcessTransport(source, speed=SPEED, faults=faults), path) as transport:
        return record(transport, **options), path


def assert_equal_records(found: SessionResult, expected: SessionResult) -> None:
    np.testing.assert_array_equal(found.record.samples, expected.record.samples)
    assert replace(found.record, samples=expected.record.samples).gaps == expected.record.gaps
    for name in ("lsb_uv", "fs_hz", "leads", "offset_uv", "lead_off", "saturated", "gain_known", "device", "source"):
        assert getattr(found.record, name) == getattr(expected.record, name), name
    assert found.complete == expected.complete


@pytest.mark.parametrize("speed", [SPEED, math.inf])
def test_a_clean_log_replays_to_an_equal_record(tmp_path, source, equals_source, speed):
    expected, path = logged(tmp_path, source)
    found = record(ReplayTransport(path, speed=speed))
    assert_equal_records(found, expected)
    assert found.complete
    equals_source(found.record)


@pytest.mark.parametrize("speed", [SPEED, math.inf])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_log_with_faults_replays_to_an_equal_record(tmp_path, source, equals_source, speed, seed):
    expected, path = logged(tmp_path, source, faults=replace(NOISE, seed=seed))
    found = record(ReplayTransport(path, speed=speed))
    assert_equal_records(found, expected)
    assert found.statistics.assembly.corrupt == expected.statistics.assembly.corrupt > 0
    assert found.statistics.assembly.retransmitted > 0
    equals_source(found.record)


@pytest.mark.parametrize("speed", [SPEED, math.inf])
def test_a_log_with_a_lost_link_replays_the_loss_and_the_reconnection(tmp_path, source, equals_source, speed):
    expected, path = logged(tmp_path, source, faults=Faults(disconnect_at=60))
    found = record(ReplayTransport(path, speed=speed))
    kinds = [event.kind for event in found.events]
    assert kinds.index(EventKind.LOST) < kinds.index(EventKind.RESUMED)
    assert found.statistics.reconnects == expected.statistics.reconnects == 1
    assert_equal_records(found, expected)
    equals_source(found.record)


def test_a_log_of_a_device_that_died_replays_to_what_was_received(tmp_path, source):
    patience = {"reconnect_for_s": 0.3, "watchdog_s": 0.3}
    faults = Faults(drop=0.2, power_off_at=60)
    expected, path = logged(tmp_path, source, faults=faults, **patience)
    found = record(ReplayTransport(path, speed=SPEED), **patience)
    assert EventKind.GAVE_UP in [event.kind for event in found.events]
    assert expected.record.gaps
    assert_equal_records(found, expected)


def test_a_log_that_ends_in_the_middle_ends_as_a_lost_link(tmp_path, source, equals_source):
    _expected, path = logged(tmp_path, source)
    log = read_log(path)
    torn = replace(log, entries=log.entries[: len(log.entries) // 2])
    found = record(ReplayTransport(torn, speed=math.inf), reconnect_for_s=0.2, watchdog_s=0.2)
    assert not found.complete
    assert EventKind.LOST in [event.kind for event in found.events]
    equals_source(found.record)


def test_damaged_lines_are_left_out_named_and_cost_what_they_held(tmp_path, source, equals_source):
    _expected, path = logged(tmp_path, source)
    lines = path.read_bytes().split(b"\n")
    live = [number for number, line in enumerate(lines) if b'"channel":"live"' in line]
    lines[live[20]] = lines[live[20]][:50]
    lines[live[40]] = b"\xff\xfe not JSON"
    log = parse_log(b"\n".join(lines))
    assert [line.number for line in log.damaged] == [live[20] + 1, live[40] + 1]
    found = record(ReplayTransport(log, speed=math.inf))
    assert [gap.n_samples for gap in found.record.gaps] == [25, 25]
    equals_source(found.record)


def test_a_damaged_descriptor_line_says_so(tmp_path, source):
    _expected, path = logged(tmp_path, source)
    entries = tuple(entry for entry in read_log(path).entries if entry.channel != "descriptor")
    with pytest.raises(LinkError, match="no descriptor"):
        record(ReplayTransport(NotificationLog(driver="e6l", entries=entries), speed=math.inf))


def test_a_lost_connect_line_does_not_take_the_session_with_it(tmp_path, source):
    expected, path = logged(tmp_path, source)
    entries = tuple(entry for entry in read_log(path).entries if entry.channel != "connect")
    found = record(ReplayTransport(NotificationLog(driver="e6l", entries=entries), speed=math.inf))
    assert_equal_records(found, expected)


def entry(t_us: int, channel: str, data: bytes = b"") -> LogEntry:
    return LogEntry(t_us=t_us, channel=channel, data=data)


def reply(op: Op, txn: int, data: bytes = b"") -> bytes:
    return Reply(op=op, txn=txn, status=ReplyStatus.OK, data=data).to_bytes()


async def answers_to(log: NotificationLog, *requests: bytes, wait_s: float = 0.1) -> list[Reply]:
    transport, found = ReplayTransport(log, speed=math.inf), []
    await transport.connect()
    await transport.subscribe(on_live=lambda _d: None, on_control=found.append)
    for request in requests:
        await transport.write_control(request)
    await asyncio.sleep(wait_s)
    await transport.disconnect()
    return [decode_reply(data) for data in found]


def test_a_reply_carries_the_number_of_the_request_that_asked():
    entries = (entry(0, "connect"), entry(1, "request", b"\x02\x07"), entry(2, "control", reply(Op.STOP, 7, bytes(12))))
    (found,) = asyncio.run(answers_to(NotificationLog("e6l", entries), b"\x02\x63"))
    assert (found.op, found.txn, found.status, found.data) == (Op.STOP, 0x63, ReplyStatus.OK, bytes(12))


def test_a_request_that_the_device_never_answered_stays_without_answer():
    entries = (entry(0, "connect"), entry(1, "request", b"\x02\x07"), entry(2, "live", b"x"), entry(3, "lost"))
    assert asyncio.run(answers_to(NotificationLog("e6l", entries), b"\x02\x01")) == []


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x03\x09" + bytes(6), ReplyStatus.OK),
        (b"\x0b\x09" + bytes(16), ReplyStatus.NOT_AUTHENTICATED),
        (b"\x01\x09" + bytes(3), ReplyStatus.NO_STREAM),
    ],
)
def test_a_request_that_was_never_made_is_answered_honestly(request_bytes, status):
    entries = (entry(0, "connect"), entry(1, "live", b"x"))
    (found,) = asyncio.run(answers_to(NotificationLog("e6l", entries), request_bytes))
    assert (found.txn, found.status, found.data) == (9, status, b"")


def test_a_reply_that_nobody_asks_for_is_passed_over_and_counted(monkeypatch):
    monkeypatch.setattr(replay, "_PATIENCE_S", 0.05)
    entries = (
        entry(0, "connect"), entry(1, "request", b"\x04\x01"), entry(2, "control", reply(Op.TIME, 1, bytes(20))),
        entry(3, "live", b"after"), entry(4, "disconnect"),
    )  # fmt: skip

    async def run():
        transport, live = ReplayTransport(NotificationLog("e6l", entries), speed=math.inf), []
        await transport.connect()
        await transport.subscribe(on_live=live.append, on_control=live.append)
        await asyncio.sleep(0.1)
        await transport.disconnect()
        return live, transport.skipped

    assert asyncio.run(run()) == ([b"after"], 1)


def test_a_replay_cannot_prove_that_it_holds_the_key(tmp_path, source):
    """The log holds a true tag, but of an old challenge: whoever has the log cannot pass for the device."""
    key, path = DeviceKey("E6L-0001", bytes(range(32))), tmp_path / "log"
    transport = InProcessTransport(source, device=lambda signal: VirtualDevice(signal, key=key))

    async def proven(link, nonce: bytes) -> bool:
        seen: list[bytes] = []
        client = DeviceClient(link, on_bytes=lambda _source, data: seen.append(data), on_lost=lambda _r: None)
        await client.open()
        found = decode_authenticate_reply((await client.command(Op.AUTHENTICATE, encode_authenticate(nonce))).data)
        await client.close()
        return verify(key, seen[0], nonce, found.device_nonce, found.tag)

    with LoggingTransport(transport, path) as logging_transport:
        assert asyncio.run(proven(logging_transport, bytes(16)))
    assert asyncio.run(proven(ReplayTransport(path, speed=math.inf), bytes(16)))  # the same challenge again
    assert not asyncio.run(proven(ReplayTransport(path, speed=math.inf), bytes([1] * 16)))


def test_a_connection_that_the_host_gave_up_is_lost_again(monkeypatch):
    """A silent device: the host disconnected by itself, which a faster replay has no reason to do."""
    monkeypatch.setattr(replay, "_PATIENCE_S", 0.05)
    entries = (
        entry(0, "connect"), entry(1, "live", b"x"), entry(2, "disconnect"), entry(3, "connect"), entry(4, "live", b"y"),
    )  # fmt: skip

    async def run():
        transport, lost, live = ReplayTransport(NotificationLog("e6l", entries), speed=math.inf), [], []
        for _ in range(2):
            transport.on_disconnect(lost.append)
            await transport.connect()
            await transport.subscribe(on_live=live.append, on_control=live.append)
            await asyncio.sleep(0.15)
        await transport.disconnect()
        return live, len(lost)

    assert asyncio.run(run()) == ([b"x", b"y"], 2)


def test_a_connection_without_any_line_is_lost_at_once():
    entries = (entry(0, "connect"), entry(1, "connect"), entry(2, "live", b"y"), entry(3, "disconnect"))

    async def run():
        transport, lost = ReplayTransport(NotificationLog("e6l", entries), speed=math.inf), []
        transport.on_disconnect(lost.append)
        await transport.connect()
        await asyncio.sleep(0.05)
        with pytest.raises(LinkError, match="no connection"):
            await transport.read_status()
        return lost

    assert len(asyncio.run(run())) == 1


def test_a_failed_connection_fails_again():
    entries = (entry(0, "connect_failed"), entry(1, "connect"), entry(2, "live", b"x"))

    async def run():
        transport = ReplayTransport(NotificationLog("e6l", entries))
        with pytest.raises(LinkError, match="failed"):
            await transport.connect()
        await transport.connect()
        await transport.disconnect()
        with pytest.raises(LinkError, match="no further connection"):
            await transport.connect()

    asyncio.run(run())


def test_a_log_without_any_connection_is_refused():
    with pytest.raises(FormatError, match="no connection"):
        ReplayTransport(NotificationLog("e6l", ()))


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan])
def test_an_impossible_speed_is_refused(speed):
    with pytest.raises(FormatError, match="speed"):
        ReplayTransport(NotificationLog("e6l", (entry(0, "connect"), entry(1, "live", b"x"))), speed=speed)


def test_the_pace_of_the_log_is_kept():
    entries = tuple(entry(1 + 100_000 * i, "live", bytes((i,))) for i in range(5))

    async def run():
        transport, times = ReplayTransport(NotificationLog("e6l", entries), speed=2.0), []
        loop = asyncio.get_running_loop()
        await transport.connect()
        await transport.subscribe(on_live=lambda _d: times.append(loop.time()), on_control=lambda _d: None)
        await asyncio.sleep(0.4)
        await transport.disconnect()
        return times

    times = asyncio.run(run())
    assert len(times) == 5
    assert 0.18 < times[-1] - times[0] < 0.35
