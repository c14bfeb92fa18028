"""Rules that a real stack taught, each a test: what an application over BlueZ must and must not do."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys

import pytest
from bleak import BleakClient, BleakScanner
from bleak.exc import BleakError

from edge_app.link.ble import BleTransport
from edge_app.session import EventKind, record_session
from firmware_bridge.control import Request, StartParams
from firmware_bridge.profile import (
    CONTROL_UUID,
    DESCRIPTOR_UUID,
    LIVE_UUID,
    SERVICE_UUID,
    STATUS_UUID,
    Op,
    StartFlag,
)
from lsemvae.ecg.errors import LinkError

START = Request(op=Op.START, txn=1, params=StartParams().to_bytes()).to_bytes()
RESUME = Request(op=Op.START, txn=2, params=StartParams(flags=StartFlag.RESUME).to_bytes()).to_bytes()


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


def test_rule_1_a_client_that_does_not_close_its_bus_after_a_lost_link_gets_every_notification_twice(radio):
    """The fault itself: if this fails, bleak or the test radio has changed and the next test proves nothing."""
    radio(*LOSES_LINK)
    delivered, different = asyncio.run(stream_lose_reconnect(close_first=False))
    assert delivered >= 2 * different - 2


def test_rule_1_closing_the_client_before_reconnecting_gives_every_notification_once(radio):
    radio(*LOSES_LINK)
    delivered, different = asyncio.run(stream_lose_reconnect(close_first=True))
    assert delivered == different


def test_rule_1_the_transport_closes_its_client_so_a_session_sees_no_duplicates(radio):
    running = radio(*LOSES_LINK)
    result = asyncio.run(record_session(BleTransport(scan_s=5), seconds=8))
    assert result.statistics.reconnects == 1
    assert result.complete
    counts = running.report()["daemon"]
    assert counts["delivered"] == counts["notified"]


def test_rule_2_start_notify_is_used_and_never_acquire_notify(radio):
    running = radio("--speed", "10")
    asyncio.run(record_session(BleTransport(scan_s=5), seconds=2))
    counts = running.report()["daemon"]
    assert counts["StartNotify"] == 3
    assert counts.get("AcquireNotify", 0) == 0


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


@pytest.mark.parametrize("mtu", [100, 247, 517])
def test_rule_5_the_mtu_is_the_negotiated_one(radio, mtu):
    radio("--mtu", str(mtu))

    async def scenario():
        transport = BleTransport(scan_s=5)
        info = await transport.connect()
        await transport.disconnect()
        return info.mtu

    assert asyncio.run(scenario()) == mtu


def test_rule_6_aborted_connections_are_retried_and_their_disconnect_callbacks_ignored(radio):
    running = radio("--speed", "10")
    running.tell("fail_connect 2")
    running.report()
    result = asyncio.run(record_session(BleTransport(scan_s=5), seconds=2))
    assert result.complete
    assert EventKind.LOST not in [event.kind for event in result.events]
    assert running.report()["daemon"]["Connect"] == 3


CRASHES = """
import asyncio, os, signal
from edge_app.link.ble import BleTransport

async def connect_and_die():
    await BleTransport(scan_s=5).connect()
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(connect_and_die())
"""


def test_rule_6_a_connection_left_by_a_crashed_application_is_closed(radio):
    """BlueZ keeps it, and a connected device does not advertise: without closing it no scan finds the device again."""
    running = radio("--speed", "10")
    child = subprocess.run([sys.executable, "-c", CRASHES], capture_output=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    result = asyncio.run(record_session(BleTransport(scan_s=1), seconds=2))
    assert result.complete
    counts = running.report()["daemon"]
    assert (counts["Connect"], counts["Disconnect"]) == (2, 2)


def test_rule_9_the_scanner_is_stopped_before_connecting(radio):
    running = radio("--speed", "10", "--faults", json.dumps({"disconnect_at": 30}))
    result = asyncio.run(record_session(BleTransport(scan_s=5), seconds=4))
    assert result.statistics.reconnects == 1
    counts = running.report()["daemon"]
    assert counts["Connect"] == 2
    assert counts["ConnectWhileDiscovering"] == 0


def test_rule_10_no_bluetooth_service_is_a_link_error_that_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/no-such-bus")
    with pytest.raises(LinkError) as caught:
        asyncio.run(record_session(BleTransport(scan_s=1), seconds=1))
    assert "systemctl start bluetooth" in caught.value.advice
