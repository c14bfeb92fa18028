"""Rules that a real stack taught, each a test: what an application over BlueZ must and must not do.

| rule | why | tests |
|---|---|---|
| 1 close every client | an unclosed one doubles later notifications | `test_rule_1_*`: the fault, its cure, the transport |
| 2 StartNotify; a service that ends is a reason to reconnect | AcquireNotify crashed bluetoothd 5.66 | `test_rule_2_*` |
| 3 stream on START only, never an empty notification | what comes before the subscription stands is lost | `test_rule_3_*` |
| 4 a streamed characteristic is not readable | what is read comes back as a notification | `test_rule_4_*` |
| 5 MTU from the characteristic | the client's own figure is a guess | `test_rule_5_*` |
| 6 retries; what a crashed application left is closed | aborted and left-over connections are daily life | `test_rule_6_*` |
| 7 pair with an agent | without one, an encrypted read is never answered | `test_rule_7_*`, test_radio_pairing.py |
| 8 2.4 GHz Wi-Fi disturbs | the chip of a small board shares its radio with it | `test_rule_8_*` |
| 9 one scanner, stopped before connecting, a fresh one each time | BlueZ forgets what no scan sees | `test_rule_9_*` |
| 10 permissions | the group decides, not root | `test_rule_10_*`, test_radio_scan.py |
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys

import pytest
from bleak import BleakClient, BleakScanner
from bleak.exc import BleakError

from edge_app.link.ble import scan as ble_scan
from edge_app.link.ble.transport import BleTransport
from edge_app.session import EventKind, record_session
from firmware_bridge.protocol.control import Request, StartParams
from firmware_bridge.protocol.profile import (
    CONTROL_UUID,
    DESCRIPTOR_UUID,
    LIVE_UUID,
    SERVICE_UUID,
    STATUS_UUID,
    Op,
    StartFlag,
)
from lsemvae.ecg.errors import LinkError
from tests.radio.lab import FIRST, laboratory, run

DEVICE_PATH = f"/org/bluez/hci0/dev_{FIRST.replace(':', '_')}"
START = Request(op=Op.START, txn=1, params=StartParams().to_bytes()).to_bytes()
RESUME = Request(op=Op.START, txn=2, params=StartParams(flags=StartFlag.RESUME).to_bytes()).to_bytes()


@pytest.fixture(autouse=True)
def short_second_look(monkeypatch):
    """The devices here advertise ten times a second."""
    monkeypatch.setattr(ble_scan, "SECOND_LOOK_S", 0.25)


async def find():
    device = await BleakScanner.find_device_by_filter(lambda _d, a: SERVICE_UUID in a.service_uuids, timeout=5)
    assert device is not None
    return device


async def stream_lose_reconnect(*, close_first: bool) -> tuple[int, int]:
    """Stream, lose the link, connect a second client; returns its live notifications: all, and different ones."""
    lost, frames = asyncio.Event(), []
    first = BleakClient(await find(), disconnected_callback=lambda _client: lost.set())
    await first.connect()
    await first.start_notify(LIVE_UUID, lambda *_: None)
    await first.write_gatt_char(CONTROL_UUID, START, response=True)
    await asyncio.wait_for(lost.wait(), 10)
    if close_first:
        await first.disconnect()
    async with BleakClient(await find()) as second:
        await second.start_notify(LIVE_UUID, lambda _c, data: frames.append(bytes(data)))
        await second.write_gatt_char(CONTROL_UUID, RESUME, response=True)
        while len(frames) < 60:
            await asyncio.sleep(0.02)
    await first.disconnect()
    return len(frames), len(set(frames))


LOSES_LINK = ("--speed", "10", "--faults", json.dumps({"disconnect_at": 20}))


@pytest.mark.promise(45)
def test_rule_1_a_client_that_does_not_close_its_bus_after_a_lost_link_gets_every_notification_twice(radio):
    """The fault itself: if this fails, bleak or the test radio has changed and the next test proves nothing."""
    radio(*LOSES_LINK)
    delivered, different = asyncio.run(stream_lose_reconnect(close_first=False))
    assert delivered >= 2 * different - 2


def test_rule_1_closing_the_client_before_reconnecting_gives_every_notification_once(radio):
    radio(*LOSES_LINK)
    delivered, different = asyncio.run(stream_lose_reconnect(close_first=True))
    assert delivered == different


@pytest.mark.promise(45)
def test_rule_1_the_transport_closes_its_client_so_a_session_sees_no_duplicates(radio):
    running = radio(*LOSES_LINK)
    result = asyncio.run(record_session(BleTransport(scan_s=5), seconds=8, allow_unauthenticated=True))
    assert result.statistics.reconnects == 1
    assert result.complete
    counts = running.report()["daemon"]
    assert counts["delivered"] == counts["notified"]


@pytest.mark.promise(46)
def test_rule_2_start_notify_is_used_and_never_acquire_notify(radio):
    running = radio("--speed", "10")
    asyncio.run(record_session(BleTransport(scan_s=5), seconds=2, allow_unauthenticated=True))
    counts = running.report()["daemon"]
    assert counts["StartNotify"] == 4
    assert counts.get("AcquireNotify", 0) == 0


def test_rule_2_a_bluetooth_service_that_is_killed_and_started_again_is_reconnected_to(radio, equals_source):
    """Nothing is said when it dies but that its name on the bus has no owner."""
    running = radio("--speed", "2")

    async def session():
        loop = asyncio.get_running_loop()
        begun: list[asyncio.TimerHandle] = []

        def watch(progress):
            if progress.elapsed_s >= 1 and not begun:
                running.tell("service_crash")
                begun.append(loop.call_later(0.5, running.tell, "service_restart"))

        return await record_session(BleTransport(scan_s=5), seconds=6, on_progress=watch, allow_unauthenticated=True)

    result = asyncio.run(asyncio.wait_for(session(), 40))
    details = {event.kind: event.message for event in result.events}
    assert details[EventKind.LOST] == "the Bluetooth service ended"
    assert "ServiceUnknown" in details[EventKind.RETRY]
    assert result.statistics.reconnects == 1
    assert result.complete
    equals_source(result.record)


def test_rule_3_no_notification_is_empty(radio):
    """As bleak hands them on: the transport would hide empty ones."""
    radio("--speed", "10")
    lengths: dict[str, list[int]] = {LIVE_UUID: [], CONTROL_UUID: [], STATUS_UUID: []}

    async def scenario():
        async with BleakClient(await find()) as client:
            for uuid, seen in lengths.items():
                await client.start_notify(uuid, lambda _c, data, seen=seen: seen.append(len(data)))
            await client.write_gatt_char(CONTROL_UUID, START, response=True)
            while len(lengths[LIVE_UUID]) < 30 or not lengths[STATUS_UUID]:
                await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(scenario(), 20))
    assert all(lengths.values())
    assert min(length for seen in lengths.values() for length in seen) > 0


@pytest.mark.promise(46)
def test_rule_3_the_device_streams_on_start_and_not_on_subscription(radio):
    radio("--speed", "10")
    frames = []

    async def scenario():
        transport = BleTransport(scan_s=5)
        await transport.connect()
        await transport.subscribe(on_live=frames.append, on_control=lambda _data: None)
        await asyncio.sleep(0.5)
        before = len(frames)
        await transport.write_control(START)
        while len(frames) < 5:
            await asyncio.sleep(0.02)
        await transport.disconnect()
        return before

    assert asyncio.run(scenario()) == 0
    assert b"" not in frames


def test_rule_4_the_live_characteristic_cannot_be_read(radio):
    """What is read while subscribed comes back as a notification too: status shows it, live must not have it."""
    radio()
    echoes = []

    async def scenario():
        async with BleakClient(await find()) as client:
            properties = {
                uuid: set(client.services.get_characteristic(uuid).properties)
                for uuid in (DESCRIPTOR_UUID, CONTROL_UUID, LIVE_UUID, STATUS_UUID)
            }
            await client.start_notify(STATUS_UUID, lambda _c, data: echoes.append(bytes(data)))
            value = bytes(await client.read_gatt_char(STATUS_UUID))
            await asyncio.sleep(0.2)
            with pytest.raises(BleakError):
                await client.read_gatt_char(LIVE_UUID)
            return properties, value

    properties, value = asyncio.run(scenario())
    assert properties == {
        DESCRIPTOR_UUID: {"read"}, CONTROL_UUID: {"write", "indicate"}, LIVE_UUID: {"notify"},
        STATUS_UUID: {"read", "notify"},
    }  # fmt: skip
    assert value in echoes


@pytest.mark.promise(46)
@pytest.mark.parametrize("mtu", [100, 247, 517])
def test_rule_5_the_mtu_is_the_negotiated_one(radio, mtu):
    radio("--mtu", str(mtu))

    async def scenario():
        transport = BleTransport(scan_s=5)
        info = await transport.connect()
        await transport.disconnect()
        return info.mtu

    assert asyncio.run(scenario()) == mtu


def test_rule_5_what_the_client_itself_says_about_the_mtu_is_a_guess(radio):
    """The fault itself: if this fails, the rule can go."""
    radio("--mtu", "247")

    async def scenario():
        async with BleakClient(await find()) as client:
            with pytest.warns(UserWarning, match="default MTU"):
                return client.mtu_size

    assert asyncio.run(scenario()) == 23


def test_rule_6_aborted_connections_are_retried_and_their_disconnect_callbacks_ignored(radio):
    running = radio("--speed", "10")
    running.tell("fail_connect 2")
    running.report()
    result = asyncio.run(record_session(BleTransport(scan_s=5), seconds=2, allow_unauthenticated=True))
    assert result.complete
    assert EventKind.LOST not in [event.kind for event in result.events]
    assert running.report()["daemon"]["Connect"] == 3


CRASHES = """
import asyncio, os, signal
from edge_app.link.ble.transport import BleTransport

async def connect_and_die():
    transport = BleTransport(scan_s=5)
    await transport.connect()
    await transport.subscribe(on_live=lambda data: None, on_control=lambda data: None)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(connect_and_die())
"""


@pytest.mark.promise(45)
def test_rule_6_a_connection_left_by_a_crashed_application_is_closed(radio):
    """BlueZ keeps it, and a connected device does not advertise: without closing it no scan finds the device again."""
    running = radio("--speed", "10")
    child = subprocess.run([sys.executable, "-c", CRASHES], capture_output=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    result = asyncio.run(record_session(BleTransport(scan_s=1), seconds=2, allow_unauthenticated=True))
    assert result.complete
    counts = running.report()["daemon"]
    assert (counts["Connect"], counts["Disconnect"]) == (2, 2)


def test_rule_7_without_an_agent_a_read_that_needs_encryption_is_never_answered(radio):
    """The fault itself, as seen with bluetoothd 5.66 and 5.82."""
    radio("--encrypted")

    async def scenario():
        async with BleakClient(await find()) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.read_gatt_char(DESCRIPTOR_UUID), 1)

    asyncio.run(scenario())


def test_rule_7_the_transport_pairs_and_a_session_with_an_encrypted_device_is_complete(radio, equals_source):
    running = radio("--encrypted", "--speed", "10", "--faults", json.dumps({"disconnect_at": 30}))
    result = asyncio.run(record_session(BleTransport(scan_s=5), seconds=4, allow_unauthenticated=True))
    assert result.complete
    assert result.statistics.reconnects == 1
    equals_source(result.record)
    counts = running.report()["daemon"]
    assert (counts["Pair"], counts["Connect"], counts.get("unanswered", 0)) == (1, 2, 0)


def test_rule_8_a_disturbed_radio_loses_a_fifth_of_the_notifications_and_the_recording_is_repaired(
    radio, equals_source
):
    """What Wi-Fi on 2.4 GHz does to the chip it shares; the cure is another band, the recording must do without it."""
    running = radio("--speed", "10", "--faults", json.dumps({"drop": 0.2}))
    result = asyncio.run(record_session(BleTransport(scan_s=5), seconds=4, allow_unauthenticated=True))
    assert running.report()["faults"]["drop"] > 0
    assert result.statistics.missing_samples == 0
    assert result.complete
    equals_source(result.record)


@pytest.mark.promise(46)
def test_rule_9_the_scanner_is_stopped_before_connecting(radio):
    running = radio("--speed", "10", "--faults", json.dumps({"disconnect_at": 30}))
    result = asyncio.run(record_session(BleTransport(scan_s=5), seconds=4, allow_unauthenticated=True))
    assert result.statistics.reconnects == 1
    counts = running.report()["daemon"]
    assert counts["Connect"] == 2
    assert counts["ConnectWhileDiscovering"] == 0


def test_rule_9_a_device_that_no_scan_sees_any_more_is_unknown_to_bluez_and_a_fresh_scan_finds_it():
    async def scenario():
        async with laboratory() as lab:
            lab.daemon.temporary_s = 0.1
            await lab.device()
            transport = BleTransport(scan_s=5)
            await transport.connect()
            await transport.disconnect()
            await lab.daemon.forget(DEVICE_PATH)
            seen = await find()
            await asyncio.sleep(0.3)
            with pytest.raises(BleakError, match="not found"):
                await BleakClient(seen).connect()
            info = await transport.connect()
            await transport.disconnect()
            return info.address

    assert run(scenario()) == FIRST


def test_rule_10_whoever_may_not_use_bluetooth_is_told_the_group_and_nothing_is_retried():
    async def scenario():
        async with laboratory(bluez_denied=True) as lab:
            await lab.device()
            with pytest.raises(LinkError) as caught:
                await record_session(BleTransport(scan_s=1), seconds=1, allow_unauthenticated=True)
            return caught.value

    error = run(scenario(), seconds=10)
    assert error.code == "E_BLUETOOTH_PERMISSION"
    assert "usermod -aG bluetooth" in error.advice


@pytest.mark.promise(47)
def test_rule_10_no_bluetooth_service_is_a_link_error_that_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/no-such-bus")
    with pytest.raises(LinkError) as caught:
        asyncio.run(record_session(BleTransport(scan_s=1), seconds=1, allow_unauthenticated=True))
    assert "systemctl start bluetooth" in caught.value.advice
