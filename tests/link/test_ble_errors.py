"""Each failure of the radio becomes a LinkError with what was done, what happened and what to do."""

from __future__ import annotations

import pytest
from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakBluetoothNotAvailableReason,
    BleakCharacteristicNotFoundError,
    BleakDBusError,
    BleakDeviceNotFoundError,
    BleakError,
)
from dbus_fast.errors import AuthError, InvalidAddressError

from edge_app.link.ble_errors import not_found, translated
from firmware_bridge.profile import LIVE_UUID
from lsemvae.ecg.errors import ADVICE, LinkError, ProtocolError

REASON = BleakBluetoothNotAvailableReason


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (BleakBluetoothNotAvailableError("off", REASON.POWERED_OFF), "Switch Bluetooth on"),
        (BleakBluetoothNotAvailableError("none", REASON.NO_BLUETOOTH), "Plug in a Bluetooth adapter"),
        (BleakBluetoothNotAvailableError("denied", REASON.DENIED_BY_SYSTEM), "group 'bluetooth'"),
        (BleakDBusError("org.bluez.Error.NotReady", ["Resource Not Ready"]), "Switch Bluetooth on"),
        (BleakDBusError("org.freedesktop.DBus.Error.AccessDenied", ["rejected"]), "group 'bluetooth'"),
        (BleakDBusError("org.freedesktop.DBus.Error.ServiceUnknown", ["no bluez"]), "systemctl start bluetooth"),
        (BleakCharacteristicNotFoundError(LIVE_UUID), "another device"),
        (BleakDeviceNotFoundError("AA:BB", "gone"), "Switch the device on"),
        (PermissionError(13, "Permission denied"), "group 'bluetooth'"),
        (FileNotFoundError(2, "No such file"), "systemctl start bluetooth"),
        (BleakError("something new"), ADVICE["E_LINK"]),
        (EOFError(), ADVICE["E_LINK"]),
        (TimeoutError(), ADVICE["E_LINK"]),
        (KeyError("org.bluez.GattService1"), ADVICE["E_LINK"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_every_failure_has_a_sentence_and_advice(raised, words):
    with pytest.raises(LinkError, match=r"^connecting: .+") as caught, translated("connecting"):
        raise raised
    assert words in caught.value.advice
    assert caught.value.__cause__ is raised


def test_the_advice_of_the_cause_is_given_when_a_wrapper_has_none():
    def fail():
        try:
            raise BleakDBusError("org.bluez.Error.NotReady", ["Resource Not Ready"])
        except BleakDBusError as exc:
            raise BleakError("failed to connect after 4 attempts") from exc

    with pytest.raises(LinkError, match="after 4 attempts") as caught, translated("connecting"):
        fail()
    assert "Switch Bluetooth on" in caught.value.advice


def test_errors_of_our_own_pass_unchanged():
    own = ProtocolError("found x, expected y")
    with pytest.raises(ProtocolError) as caught, translated("connecting"):
        raise own
    assert caught.value is own


def test_a_scan_without_result_says_how_long_it_looked():
    assert "found no bench 3 in 2.5 s" in str(not_found("bench 3", seconds=2.5))


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (InvalidAddressError("address did not contain a transport"), "DBUS_SYSTEM_BUS_ADDRESS"),
        (AuthError("authentication failed"), "group 'bluetooth'"),
    ],
)
def test_a_bus_that_cannot_be_spoken_to_is_a_link_error_and_no_traceback(raised, words):
    with pytest.raises(LinkError, match=r"^Bluetooth: a") as caught, translated("Bluetooth"):
        raise raised
    assert words in caught.value.advice


def test_the_sentence_of_bleak_comes_without_its_codes():
    error = BleakBluetoothNotAvailableError("No Bluetooth adapters found.", REASON.NO_BLUETOOTH)
    with pytest.raises(LinkError, match=r"^Bluetooth: No Bluetooth adapters found\.$"), translated("Bluetooth"):
        raise error
