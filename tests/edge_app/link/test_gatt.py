"""A driver's device over Bluetooth: which one, what it must have, StartNotify, and disconnect always."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest
from bleak.exc import BleakBluetoothNotAvailableError, BleakBluetoothNotAvailableReason, BleakError

from edge_app.link.ble import connection, scan
from edge_app.link.ble import port as gatt
from edge_app.link.ble.port import GattPort
from firmware_bridge.drivers.base import DriverInfo, QualityInfo
from lsemvae.ecg.errors import LinkError

SERVICE = "0000feed-0000-1000-8000-00805f9b34fb"
DATA, INFO, WRITE = (SERVICE.replace("feed", text) for text in ("0001", "0002", "0003"))
DRIVER = DriverInfo(
    name="test", title="Test device", kind="ble", leads=("I",), fs_hz=125.0, lsb_uv=1.0,
    quality=QualityInfo(gap_detectable=False, calibrated=True, timestamped=False), service_uuids=(SERVICE,),
    name_prefixes=("Test",), notify=(DATA,), read=(INFO,), write=WRITE, write_response=False, min_mtu=100,
)  # fmt: skip


def seen(address: str = "AA:01", name: str | None = "Test 1", services: tuple[str, ...] = ()):
    return (
        SimpleNamespace(address=address, name=name, details={}),
        SimpleNamespace(local_name=name, service_uuids=list(services)),
    )


@dataclass
class Air:
    """What a scan shows and what a connection then is; `calls` is what the port did, in order."""

    devices: list = field(default_factory=lambda: [seen()])
    characteristics: tuple[str, ...] = (DATA, INFO, WRITE)
    mtu: int = 247
    fail: dict[str, Exception] = field(default_factory=dict)
    stale: tuple[str, ...] = ()
    calls: list = field(default_factory=list)
    client: FakeClient | None = None

    def called(self, name: str) -> list:
        return [call for call in self.calls if call[0] == name]


class FakeClient:
    def __init__(self, air: Air, disconnected) -> None:
        self.air, self.disconnected, self.handlers = air, disconnected, {}
        room = SimpleNamespace(max_write_without_response_size=air.mtu - 3)
        self.services = SimpleNamespace(get_characteristic=lambda uuid: room if uuid in air.characteristics else None)

    async def _step(self, name: str, *details) -> None:
        self.air.calls.append((name, *details))
        if name in self.air.fail:
            raise self.air.fail[name]

    async def start_notify(self, uuid, handler, **options):
        await self._step("start_notify", uuid, options)
        self.handlers[uuid] = handler

    async def read_gatt_char(self, uuid):
        await self._step("read", uuid)
        return bytearray(b"info")

    async def write_gatt_char(self, uuid, data, *, response):
        await self._step("write", uuid, bytes(data), response)

    async def disconnect(self):
        await self._step("disconnect")


@pytest.fixture
def air(monkeypatch) -> Air:
    air = Air()

    class Scanner:
        def __init__(self, detection_callback, service_uuids):
            self._seen = detection_callback

        async def __aenter__(self):
            air.calls.append(("scan",))
            if "scan" in air.fail:
                raise air.fail["scan"]
            for device, advertisement in air.devices:
                self._seen(device, advertisement)

        async def __aexit__(self, *_exc):
            air.calls.append(("scan stopped",))

    async def connect(_class, device, _name, *, disconnected_callback, **_options):
        air.calls.append(("connect", device.address))
        air.client = FakeClient(air, disconnected_callback)
        disconnected_callback(air.client)  # what bleak does for each failed attempt
        if "connect" in air.fail:
            raise air.fail["connect"]
        return air.client

    async def close_stale(uuid, *, address):
        air.calls.append(("close stale", uuid, address))
        return air.stale

    async def no_bus(_on_gone):
        return None

    monkeypatch.setattr(scan, "BleakScanner", Scanner)
    monkeypatch.setattr(connection, "establish_connection", connect)
    monkeypatch.setattr(connection, "close_stale_connections", close_stale)
    monkeypatch.setattr(connection, "open_bus", no_bus)
    monkeypatch.setattr(gatt, "_SECOND_LOOK_S", 0.01)
    return air


def opened(air: Air, act=None, *, info: DriverInfo = DRIVER, **options):
    """Open a port, do something with it, close it; returns its label, what it received, and why it was lost."""

    async def run():
        received: list = []
        lost: list[str] = []
        port = GattPort(info, scan_s=0.05, **options)
        try:
            label = await port.open(on_bytes=lambda *item: received.append(item), on_lost=lost.append)
            if act is not None:
                await act(port)
        finally:
            await port.close()
        return label, received, lost

    return asyncio.run(run())


def refused(air: Air, **options) -> LinkError:
    with pytest.raises(LinkError) as caught:
        opened(air, **options)
    return caught.value


def test_subscribe_before_anything_is_read_or_written(air):
    async def act(port):
        await port.write(b"go")

    label, received, lost = opened(air, act)
    assert label == "Test 1 (AA:01)"
    assert received == [(INFO, b"info")]
    assert lost == []
    names = [call[0] for call in air.calls]
    assert names == ["scan", "scan stopped", "connect", "start_notify", "read", "write", "disconnect"]
    assert air.called("write") == [("write", WRITE, b"go", False)]


def test_notifications_by_start_notify_never_acquire_notify(air):
    opened(air)
    assert air.called("start_notify") == [("start_notify", DATA, {"bluez": {"use_start_notify": True}})]


def test_the_scanner_is_stopped_before_connecting(air):
    opened(air)
    names = [call[0] for call in air.calls]
    assert names.index("scan stopped") < names.index("connect")


def test_bytes_come_with_their_characteristic_and_empty_ones_not_at_all(air):
    async def act(_port):
        air.client.handlers[DATA](None, bytearray())
        air.client.handlers[DATA](None, bytearray(b"\x01\x02"))

    assert opened(air, act)[1] == [(INFO, b"info"), (DATA, b"\x01\x02")]


def test_a_disconnect_before_connect_has_returned_is_ignored_and_a_later_one_told_once(air):
    async def act(_port):
        air.client.disconnected(air.client)
        air.client.disconnected(air.client)
        air.client.handlers[DATA](None, bytearray(b"late"))

    _label, received, lost = opened(air, act)
    assert lost == ["the device is out of reach or switched off"]
    assert (DATA, b"late") not in received
    assert air.called("disconnect")  # awaited although the link is gone: bleak closes its bus only there


@pytest.mark.parametrize("step", ["start_notify", "read"])
def test_disconnect_is_awaited_after_every_failed_step(air, step):
    air.fail[step] = BleakError("boom")
    assert "boom" in str(refused(air))
    assert len(air.called("disconnect")) == 1


def test_a_disconnect_that_fails_is_no_failure(air):
    air.fail["disconnect"] = BleakError("gone")
    opened(air)
    assert len(air.called("disconnect")) == 1


@pytest.mark.parametrize("services", [(), (SERVICE,), (SERVICE.upper(),)])
@pytest.mark.parametrize("name", ["Test 9", None])
def test_a_device_is_known_by_its_service_or_its_name(air, services, name):
    air.devices = [seen("BB:02", "Other"), seen("AA:01", name, services)]
    if name or services:
        opened(air)
        assert air.called("connect") == [("connect", "AA:01")]
    else:
        assert "found no device for driver test" in str(refused(air))


def test_an_address_decides_whatever_the_device_advertises(air):
    air.devices = [seen("AA:01"), seen("CC:03", None)]
    label = opened(air, address="cc:03")[0]
    assert air.called("connect") == [("connect", "CC:03")]
    assert label == "CC:03"


def test_a_name_decides_between_two_of_a_kind(air):
    air.devices = [seen("AA:01", "Test 1"), seen("BB:02", "Test 2")]
    opened(air, name="Test 2")
    assert air.called("connect") == [("connect", "BB:02")]


def test_two_devices_of_a_kind_are_not_guessed_between(air):
    air.devices = [seen("AA:01", "Test"), seen("BB:02", "Test")]
    error = refused(air)
    assert "AA:01" in str(error)
    assert "BB:02" in str(error)
    assert "address" in error.advice
    assert not air.called("connect")


def test_a_stale_connection_is_closed_and_the_scan_repeated(air):
    air.devices, air.stale = [], ("AA:01",)
    assert "Switch the device on" in refused(air, address="AA:01").advice
    assert air.called("close stale") == [("close stale", SERVICE, "AA:01")]
    assert len(air.called("scan")) == 2


def test_without_a_stale_connection_the_scan_is_not_repeated(air):
    air.devices = []
    refused(air)
    assert len(air.called("scan")) == 1


def test_bluetooth_switched_off_says_so(air):
    air.fail["scan"] = BleakBluetoothNotAvailableError("off", BleakBluetoothNotAvailableReason.POWERED_OFF)
    assert "Switch Bluetooth on" in refused(air).advice


def test_a_device_without_a_characteristic_is_the_wrong_one(air):
    air.characteristics = (DATA, INFO)
    error = refused(air)
    assert WRITE in str(error)
    assert "driver" in error.advice
    assert air.called("disconnect")


def test_packets_that_would_be_cut_are_refused(air):
    air.mtu = 99
    assert "found packets of 99 bytes, expected at least 100" in str(refused(air))


def test_a_device_that_answers_nothing_does_not_hang_for_ever(air, monkeypatch):
    monkeypatch.setattr(connection, "_STEP_S", 0.05)

    async def never(*_args, **_options):
        await asyncio.sleep(60)

    monkeypatch.setattr(FakeClient, "read_gatt_char", never)
    refused(air)
    assert air.called("disconnect")


def test_a_device_that_takes_no_writes_says_so(air):
    async def act(port):
        await port.write(b"go")

    with pytest.raises(LinkError, match="expected none"):
        opened(air, act, info=replace(DRIVER, write=None))


def test_writing_without_a_connection_says_so():
    with pytest.raises(LinkError, match="no connection"):
        asyncio.run(GattPort(DRIVER).write(b"go"))
