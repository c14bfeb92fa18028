"""Pairing through real bleak and D-Bus: an agent of our own, a bond, and an end to every wait."""

from __future__ import annotations

import asyncio

import pytest
from bleak import BleakClient
from dbus_fast import DBusError

from edge_app.link.ble import connection as ble
from edge_app.link.ble import pairing as ble_pairing
from edge_app.link.ble.bus import DEVICE, BluezBus
from edge_app.link.ble.pairing import PairingAgent, agent_for
from edge_app.link.ble.transport import BleTransport
from edge_app.link.radio_errors import PairingError
from firmware_bridge.protocol.descriptor import DESCRIPTOR_BYTES
from firmware_bridge.protocol.profile import DESCRIPTOR_UUID
from firmware_bridge.sim.bluezd.device import BlueZDevice
from lsemvae.ecg.errors import LinkError
from tests.radio.lab import FIRST, SECOND, laboratory, run

pytestmark = pytest.mark.usefixtures("needs_dbus")
FIRST_PATH = f"/org/bluez/hci0/dev_{FIRST.replace(':', '_')}"
SECOND_PATH = f"/org/bluez/hci0/dev_{SECOND.replace(':', '_')}"


async def connected(transport: BleTransport) -> bytes:
    """The descriptor, read over a connection of its own."""
    await transport.connect()
    try:
        return await transport.read_descriptor()
    finally:
        await transport.disconnect()


@pytest.mark.promise(140)
def test_a_device_that_wants_encryption_is_paired_bonded_and_trusted_on_connecting():
    async def scenario():
        async with laboratory() as lab:
            await lab.device(encrypted=True)
            transport = BleTransport(scan_s=5)
            await transport.connect()
            descriptor = await transport.read_descriptor()
            watcher = await BluezBus.open()
            shown = (await watcher.objects())[FIRST_PATH][DEVICE]
            await watcher.close()
            await transport.disconnect()
            return descriptor, shown, await lab.daemon.bonds(), lab.daemon.agents.agent_for("")

    descriptor, shown, bonds, agent = run(scenario())
    assert len(descriptor) == 40
    assert (shown["Paired"], shown["Bonded"], shown["Trusted"]) == (True, True, True)
    assert bonds == {FIRST: True}  # one key for both sides: LE Secure Connections
    assert agent is None  # withdrawn as soon as the connection stands


def test_a_bonded_device_is_connected_again_without_pairing():
    async def scenario():
        async with laboratory() as lab:
            await lab.device(encrypted=True)
            first = await connected(BleTransport(scan_s=5))
            second = await connected(BleTransport(scan_s=5))
            return first == second, lab.daemon.counts["Pair"]

    assert run(scenario()) == (True, 1)


@pytest.mark.promise(140)
def test_without_pairing_a_device_that_wants_encryption_is_an_error_with_advice_and_not_a_hang(monkeypatch):
    monkeypatch.setattr(ble, "_STEP_S", 0.5)

    async def scenario():
        async with laboratory() as lab:
            await lab.device(encrypted=True)
            with pytest.raises(PairingError, match=r"found no answer of the device in 0\.5 s") as caught:
                await connected(BleTransport(scan_s=5, pair=False))
            return caught.value, lab.daemon.counts["unanswered"]

    error, unanswered = run(scenario(), seconds=20)
    assert (error.code, unanswered) == ("E_PAIRING", 1)
    assert "without turning pairing off" in error.advice


def test_a_read_that_was_never_answered_does_not_block_a_later_application_that_pairs(monkeypatch):
    """bluetoothd 5.82 keeps such a read beyond its connection, and every later read waits behind it."""
    monkeypatch.setattr(ble, "_STEP_S", 0.5)

    async def scenario():
        async with laboratory() as lab:
            await lab.device(encrypted=True)
            with pytest.raises(PairingError):
                await connected(BleTransport(scan_s=5, pair=False))
            descriptor = await connected(BleTransport(scan_s=5))
            return len(descriptor), lab.daemon.counts["unanswered"], lab.daemon.counts["Pair"]

    assert run(scenario(), seconds=30) == (DESCRIPTOR_BYTES, 2, 2)


def test_a_device_that_is_paired_and_silent_ends_in_an_error_and_not_in_rounds(monkeypatch):
    monkeypatch.setattr(ble, "_STEP_S", 0.3)

    async def scenario():
        async with laboratory() as lab:
            await lab.device()
            lab.daemon.bus.add_message_handler(lambda message: message.member == "ReadValue")
            with pytest.raises(LinkError, match=r"found no answer of the device in 0\.3 s"):
                await connected(BleTransport(scan_s=5))
            return lab.daemon.counts["Connect"]

    assert run(scenario(), seconds=30) == 2


def test_a_device_that_answered_before_and_falls_silent_is_no_matter_of_pairing(monkeypatch):
    monkeypatch.setattr(ble, "_STEP_S", 0.3)

    async def scenario():
        async with laboratory() as lab:
            await lab.device()
            transport = BleTransport(scan_s=5, pair=False)
            await transport.connect()
            await transport.read_descriptor()
            lab.daemon.bus.add_message_handler(lambda message: message.member == "ReadValue")
            with pytest.raises(LinkError, match="found no answer of the device") as caught:
                await transport.read_descriptor()
            await transport.disconnect()
            return caught.value.code

    assert run(scenario(), seconds=20) == "E_LINK"


@pytest.mark.promise(140)
def test_a_device_that_refuses_to_pair_is_an_error_with_advice():
    async def scenario():
        async with laboratory() as lab:
            device = await lab.device(encrypted=True)
            device.accepts_pairing = False
            with pytest.raises(PairingError, match="found a refusal") as caught:
                await connected(BleTransport(scan_s=5))
            return caught.value, await lab.daemon.bonds()

    error, bonds = run(scenario())
    assert error.code == "E_PAIRING"
    assert error.lasting
    assert "Let the device pair" in error.advice
    assert bonds == {}


@pytest.mark.promise(140)
def test_a_device_that_never_answers_the_pairing_is_an_error_and_not_a_hang(monkeypatch):
    async def silent(_device: BlueZDevice) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(ble_pairing, "PAIR_S", 0.5)
    monkeypatch.setattr(BlueZDevice, "_bond", silent)

    async def scenario():
        async with laboratory() as lab:
            await lab.device(encrypted=True)
            with pytest.raises(PairingError, match=r"found no answer in 0\.5 s"):
                await connected(BleTransport(scan_s=5))

    run(scenario(), seconds=20)


@pytest.mark.promise(140)
def test_a_device_that_has_lost_the_bond_is_paired_again():
    async def scenario():
        async with laboratory() as lab:
            device = await lab.device(encrypted=True)
            transport = BleTransport(scan_s=5)
            before = await connected(transport)
            device.forget_bonds()
            after = await connected(transport)
            return before == after, lab.daemon.counts["Pair"], await lab.daemon.bonds()

    assert run(scenario()) == (True, 2, {FIRST: True})


def test_a_computer_that_has_lost_the_bond_pairs_again():
    async def scenario():
        async with laboratory() as lab:
            await lab.device(encrypted=True)
            transport = BleTransport(scan_s=5)
            await connected(transport)
            assert await lab.daemon.forget(FIRST_PATH)
            return await connected(transport), lab.daemon.counts["Pair"]

    descriptor, pairings = run(scenario())
    assert (len(descriptor), pairings) == (40, 2)


def test_a_lost_bond_and_a_device_that_refuses_end_in_an_error_and_not_in_rounds():
    async def scenario():
        async with laboratory() as lab:
            device = await lab.device(encrypted=True)
            transport = BleTransport(scan_s=5)
            await connected(transport)
            device.forget_bonds()
            device.accepts_pairing = False
            with pytest.raises(PairingError):
                await connected(transport)
            return lab.daemon.counts["Pair"]

    assert run(scenario()) == 2


def test_a_device_that_asks_for_pairing_by_itself_is_answered_by_the_agent():
    async def scenario():
        async with laboratory() as lab:
            await lab.device(encrypted=True)
            bus = await BluezBus.open()
            async with agent_for(bus, FIRST_PATH), BleakClient(FIRST) as client:
                descriptor = bytes(await client.read_gatt_char(DESCRIPTOR_UUID))
            await bus.close()
            return descriptor, lab.daemon.counts["Pair"], await lab.daemon.bonds()

    descriptor, pairings, bonds = run(scenario())
    assert (len(descriptor), pairings, bonds) == (40, 0, {FIRST: True})


@pytest.mark.promise(140)
def test_the_agent_agrees_to_its_device_only():
    async def scenario():
        async with laboratory() as lab:
            bus = await BluezBus.open()
            async with agent_for(bus, FIRST_PATH):
                agent = lab.daemon.agents.agent_for("")
                assert agent is not None
                await lab.daemon.agents.authorize(lab.daemon.bus, agent, device_path=FIRST_PATH)
                with pytest.raises(DBusError):
                    await lab.daemon.agents.authorize(lab.daemon.bus, agent, device_path=SECOND_PATH)
            await bus.close()
            return agent.capability

    assert run(scenario()) == "NoInputNoOutput"


def test_the_agent_of_a_desktop_is_the_default_again_afterwards():
    async def scenario():
        async with laboratory() as lab:
            await lab.device(encrypted=True)
            desktop = await BluezBus.open()
            desktop.export("/desktop", PairingAgent(FIRST_PATH))
            for member, signature, body in (
                ("RegisterAgent", "os", ("/desktop", "DisplayYesNo")),
                ("RequestDefaultAgent", "o", ("/desktop",)),
            ):
                await desktop.call("/org/bluez", "org.bluez.AgentManager1", member, signature, body)
            await connected(BleTransport(scan_s=5))
            default = lab.daemon.agents.agent_for("")
            await desktop.close()
            return default

    default = run(scenario())
    assert default is not None
    assert default.path == "/desktop"


def test_an_application_that_ends_while_pairing_leaves_no_agent_behind():
    async def scenario():
        async with laboratory() as lab:
            bus = await BluezBus.open()
            context = agent_for(bus, FIRST_PATH)
            await context.__aenter__()
            assert lab.daemon.agents.agent_for("") is not None
            await bus.close()
            while lab.daemon.agents.agent_for("") is not None:
                await asyncio.sleep(0.01)

    run(scenario(), seconds=5)
