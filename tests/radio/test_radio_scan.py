"""Finding devices, and what an operator is told when Bluetooth itself is the trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from edge_app.link import bounded
from edge_app.link.ble import bus as ble_bus
from edge_app.link.ble import connection as ble
from edge_app.link.ble.scan import Seen, scan
from edge_app.link.ble.transport import BleTransport
from edge_app.link.radio_errors import (
    BluetoothOffError,
    BluetoothPermissionError,
    BluetoothServiceError,
    DeviceAmbiguousError,
    DeviceBusyError,
    DeviceNotFoundError,
    NoAdapterError,
)
from firmware_bridge.protocol.profile import SERVICE_UUID
from firmware_bridge.sim.bluezd.device import BlueZDevice
from lsemvae.ecg.errors import LengthError, LinkError
from tests.radio.lab import FIRST, SECOND, STRANGER, Lab, laboratory, run

pytestmark = pytest.mark.usefixtures("needs_dbus")


async def scanned() -> object:
    return await scan(0.5)


async def connected() -> object:
    transport = BleTransport(scan_s=0.5)
    try:
        return await transport.connect()
    finally:
        await transport.disconnect()


BOTH = pytest.mark.parametrize("use", [scanned, connected], ids=["scan", "connect"])
Use = Callable[[], Awaitable[object]]


async def failure(use: Use) -> LinkError:
    with pytest.raises(LinkError) as caught:
        await use()
    return caught.value


# -- devices -------------------------------------------------------------------------------------------------------------


def test_a_scan_names_each_device_its_services_and_the_driver_that_knows_it():
    async def scenario():
        async with laboratory() as lab:
            await lab.stranger("kettle")
            await lab.device(name="HativP30", address=SECOND)
            await lab.device()
            return await scan(0.4)

    ours, by_name, unknown = run(scenario())
    assert ours == Seen(name="E6L-0001", address=FIRST, rssi=-40, services=(SERVICE_UUID,), driver="e6l")
    assert (by_name.name, by_name.address, by_name.driver) == ("HativP30", SECOND, "hativ")
    assert unknown == Seen(name="kettle", address=STRANGER, rssi=-40, services=(), driver=None)


def test_a_scan_that_hears_nothing_is_empty_and_leaves_no_scanner_running():
    async def scenario():
        async with laboratory() as lab:
            return await scan(0.2), lab.daemon.adapter.discovering

    assert run(scenario()) == ((), False)


@pytest.mark.parametrize("seconds", [0, -1, 1e9, float("nan")])
def test_a_scan_has_a_length(seconds):
    with pytest.raises(LengthError, match="scan: found"):
        asyncio.run(scan(seconds))


@pytest.mark.promise(141)
@pytest.mark.parametrize("name", [None, "E6L-0001"], ids=["by service", "by name"])
def test_two_devices_with_one_name_are_an_error_that_lists_both_addresses(name):
    async def scenario():
        async with laboratory() as lab:
            await lab.device()
            await lab.device(address=SECOND)
            return await failure(BleTransport(name=name, scan_s=5).connect)

    error = run(scenario())
    assert isinstance(error, DeviceAmbiguousError)
    assert (error.code, error.lasting) == ("E_DEVICE_AMBIGUOUS", True)
    assert FIRST in str(error)
    assert SECOND in str(error)
    assert "address" in error.advice


def test_of_two_devices_with_one_name_the_address_picks_one_and_of_two_names_the_name():
    async def scenario():
        async with laboratory() as lab:
            await lab.device()
            await lab.device(address=SECOND)
            await lab.device(name="E6L-0002", address=STRANGER)
            found = []
            for transport in (BleTransport(address=SECOND.lower(), scan_s=5), BleTransport(name="E6L-0002", scan_s=5)):
                found.append((await transport.connect()).address)
                await transport.disconnect()
            return found

    assert run(scenario()) == [SECOND, STRANGER]


def test_a_transport_that_was_connected_once_keeps_to_its_device():
    async def scenario():
        async with laboratory() as lab:
            await lab.device()
            transport = BleTransport(scan_s=5)
            await transport.connect()
            await transport.disconnect()
            await lab.device(address=SECOND)
            found = await transport.connect()
            await transport.disconnect()
            return found.address

    assert run(scenario()) == FIRST


def test_a_device_that_is_absent_is_an_error_with_advice():
    async def scenario():
        async with laboratory():
            return await failure(BleTransport(name="E6L-0007", scan_s=0.2).connect)

    error = run(scenario())
    assert isinstance(error, DeviceNotFoundError)
    assert (error.code, str(error)) == ("E_DEVICE_NOT_FOUND", "scan: found no E6L-0007 in 0.2 s, expected one")
    assert "Switch the device on" in error.advice


def test_a_device_in_use_by_another_program_is_left_to_it():
    async def scenario():
        async with laboratory() as lab:
            await lab.device()
            lost: list[str] = []
            user = BleTransport(scan_s=5)
            user.on_disconnect(lost.append)
            await user.connect()
            await user.subscribe(on_live=lambda _data: None, on_control=lambda _data: None)
            error = await failure(connected)
            still = len(await user.read_descriptor())
            await user.disconnect()
            return error, still, lost, await connected()

    error, still, lost, afterwards = run(scenario())
    assert isinstance(error, DeviceBusyError)
    assert (error.code, still, lost) == ("E_DEVICE_BUSY", 40, [])
    assert FIRST in str(error)
    assert "other program" in error.advice
    assert afterwards


@pytest.mark.parametrize("cleanup_answered", [True, False])
def test_a_service_that_never_answers_a_connect_is_an_error_and_the_next_one_works(monkeypatch, cleanup_answered):
    """Neither the connect itself nor what bleak does to give it up may hang."""

    async def never(*_arguments: object) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(ble, "_CONNECT_S", 0.3)
    monkeypatch.setattr(bounded, "_GRACE_S", 0.2)

    async def scenario():
        async with laboratory() as lab:
            await lab.device()
            with pytest.MonkeyPatch.context() as broken:
                broken.setattr(BlueZDevice, "_connect", never)
                if not cleanup_answered:
                    broken.setattr(BlueZDevice, "drop", never)
                error = await failure(connected)
            monkeypatch.setattr(ble, "_CONNECT_S", 5.0)
            return error, await connected()

    error, afterwards = run(scenario(), seconds=15)
    assert str(error) == "Bluetooth: no answer in 0.3 s"
    assert afterwards


# -- the computer's side -------------------------------------------------------------------------------------------------


@pytest.mark.promise(141)
@BOTH
def test_an_adapter_that_is_off_is_an_error_with_advice_and_one_switched_on_again_works(use):
    async def scenario():
        async with laboratory() as lab:
            await lab.device()
            lab.daemon.adapter.set_powered(powered=False)
            error = await failure(use)
            lab.daemon.adapter.set_powered(powered=True)
            await asyncio.sleep(0.1)  # until bleak has heard of it
            return error, await use()

    error, afterwards = run(scenario())
    assert isinstance(error, BluetoothOffError)
    assert (error.code, error.lasting) == ("E_BLUETOOTH_OFF", False)
    assert "Switch Bluetooth on" in error.advice
    assert afterwards


@pytest.mark.promise(141)
@BOTH
def test_an_absent_adapter_is_an_error_whose_advice_names_the_service_too(use):
    async def scenario():
        async with laboratory(with_adapter=False):
            return await failure(use)

    error = run(scenario())
    assert isinstance(error, NoAdapterError)
    assert error.code == "E_NO_ADAPTER"
    assert "Plug in a Bluetooth adapter" in error.advice
    assert "systemctl start bluetooth" in error.advice


@pytest.mark.promise(141)
@BOTH
def test_a_user_without_permission_is_told_which_group_is_missing(use):
    async def scenario():
        async with laboratory(bluez_denied=True) as lab:
            await lab.device()
            return await failure(use)

    error = run(scenario())
    assert isinstance(error, BluetoothPermissionError)
    assert (error.code, error.lasting) == ("E_BLUETOOTH_PERMISSION", True)
    assert "group 'bluetooth'" in error.advice


@BOTH
def test_a_service_that_never_started_is_an_error_with_advice(use):
    async def scenario():
        async with laboratory() as lab:
            await lab.daemon.stop()
            return await failure(use)

    check_service(run(scenario()))


@BOTH
def test_a_service_that_does_not_answer_is_an_error_and_not_a_hang(use, monkeypatch):
    monkeypatch.setattr(ble_bus, "CALL_S", 0.3)

    async def scenario():
        async with laboratory() as lab:
            lab.daemon.bus.add_message_handler(lambda message: message.member == "GetManagedObjects")
            return await failure(use)

    error = run(scenario(), seconds=20)
    assert isinstance(error, BluetoothServiceError)
    assert "systemctl restart bluetooth" in error.advice


# -- under a running application -----------------------------------------------------------------------------------------


async def lose(lab: Lab, how: str) -> None:
    """Take the service, or the bus under it, away."""
    if how == "stopped":
        await lab.daemon.stop()
    elif how == "killed":
        await lab.daemon.crash()
    else:
        lab.bus.kill()
        await lab.daemon.crash()


async def bring_back(lab: Lab, how: str) -> None:
    if how == "bus killed":
        lab.bus.start()
    await lab.daemon.restart()


def check_service(error: LinkError) -> None:
    assert isinstance(error, BluetoothServiceError)
    assert (error.code, error.lasting) == ("E_BLUETOOTH_SERVICE", False)
    assert "systemctl start bluetooth" in error.advice


@pytest.mark.parametrize("how", ["stopped", "killed", "bus killed"])
def test_bluetooth_that_goes_away_under_a_running_application_is_told_and_works_again_when_it_is_back(how):
    async def scenario():
        async with laboratory() as lab:
            await lab.device(encrypted=True)
            lost: list[str] = []
            transport = BleTransport(scan_s=5)
            transport.on_disconnect(lost.append)
            await transport.connect()
            await lose(lab, how)
            async with asyncio.timeout(2):
                while not lost:
                    await asyncio.sleep(0.01)
            errors = [await failure(transport.connect), await failure(connected), await failure(scanned)]
            await bring_back(lab, how)
            again = await transport.connect()
            descriptor = await transport.read_descriptor()
            await transport.disconnect()
            return lost, errors, again.address, len(descriptor), await connected(), await scanned()

    lost, errors, address, length, by_another, seen = run(scenario())
    assert len(lost) == 1
    for error in errors:
        check_service(error)
    assert (address, length) == (FIRST, 40)
    assert by_another
    assert seen


def test_a_killed_service_is_noticed_at_once_though_it_says_nothing():
    """bleak itself does not notice: it learns of a lost link from the service only."""

    async def scenario():
        async with laboratory() as lab:
            await lab.device()
            transport = BleTransport(scan_s=5)
            lost = asyncio.get_running_loop().create_future()
            transport.on_disconnect(lost.set_result)
            await transport.connect()
            await lab.daemon.crash()
            reason = await asyncio.wait_for(lost, 1)
            await transport.disconnect()
            return reason

    assert run(scenario()) == "the Bluetooth service ended"
