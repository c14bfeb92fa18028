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
    BleakGATTProtocolError,
    BleakGATTProtocolErrorCode,
)
from bleak_retry_connector import BleakNotFoundError
from dbus_fast.errors import AuthError, InvalidAddressError

from edge_app.link.ble.errors import is_of_the_link, not_found, translated, unanswered
from edge_app.link.radio_errors import PairingError, RadioError
from firmware_bridge.protocol.profile import LIVE_UUID
from lsemvae.ecg.errors import ADVICE, LinkError, ProtocolError

REASON = BleakBluetoothNotAvailableReason
ATT = BleakGATTProtocolErrorCode
DBUS = "org.freedesktop.DBus.Error"


@pytest.mark.promise(47)
@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (BleakBluetoothNotAvailableError("off", REASON.POWERED_OFF), "E_BLUETOOTH_OFF", "Switch Bluetooth on"),
        (BleakBluetoothNotAvailableError("none", REASON.NO_BLUETOOTH), "E_NO_ADAPTER", "Plug in a Bluetooth adapter"),
        (BleakBluetoothNotAvailableError("none", REASON.NO_BLUETOOTH), "E_NO_ADAPTER", "systemctl start bluetooth"),
        (BleakBluetoothNotAvailableError("none", REASON.NO_BLE_CENTRAL_ROLE), "E_NO_ADAPTER", "Plug in"),
        (BleakBluetoothNotAvailableError("no", REASON.DENIED_BY_SYSTEM), "E_BLUETOOTH_PERMISSION", "group 'bluetooth'"),
        (BleakDBusError("org.bluez.Error.NotReady", ["Resource Not Ready"]), "E_BLUETOOTH_OFF", "Switch Bluetooth on"),
        (BleakDBusError(f"{DBUS}.AccessDenied", ["rejected"]), "E_BLUETOOTH_PERMISSION", "group 'bluetooth'"),
        (BleakDBusError(f"{DBUS}.ServiceUnknown", ["no bluez"]), "E_BLUETOOTH_SERVICE", "systemctl start bluetooth"),
        (BleakDBusError(f"{DBUS}.NoReply", ["gone"]), "E_BLUETOOTH_SERVICE", "systemctl start bluetooth"),
        (BleakDBusError(f"{DBUS}.Spawn.ExecFailed", ["no"]), "E_BLUETOOTH_SERVICE", "systemctl start bluetooth"),
        (BleakDBusError("org.freedesktop.systemd1.UnitMasked", ["masked"]), "E_BLUETOOTH_SERVICE", "systemctl start"),
        (BleakDBusError("org.bluez.Error.NotPermitted", ["Not paired"]), "E_PAIRING", "Let the device pair"),
        (BleakDBusError("org.bluez.Error.NotPermitted", ["Blocked"]), "E_BLUETOOTH_PERMISSION", "group 'bluetooth'"),
        (BleakGATTProtocolError(ATT.INSUFFICIENT_ENCRYPTION), "E_PAIRING", "Let the device pair"),
        (BleakGATTProtocolError(ATT.INSUFFICIENT_AUTHENTICATION), "E_PAIRING", "Let the device pair"),
        (BleakGATTProtocolError(ATT.READ_NOT_PERMITTED), "E_LINK", ADVICE["E_LINK"]),
        (BleakCharacteristicNotFoundError(LIVE_UUID), "E_LINK", "another device"),
        (BleakDeviceNotFoundError("AA:BB", "gone"), "E_DEVICE_NOT_FOUND", "Switch the device on"),
        (BleakNotFoundError("no answer"), "E_DEVICE_NOT_FOUND", "Switch the device on"),
        (PermissionError(13, "Permission denied"), "E_BLUETOOTH_PERMISSION", "group 'bluetooth'"),
        (FileNotFoundError(2, "No such file"), "E_BLUETOOTH_SERVICE", "systemctl start bluetooth"),
        (ConnectionRefusedError(111, "Connection refused"), "E_BLUETOOTH_SERVICE", "systemctl start bluetooth"),
        (BleakError("something new"), "E_LINK", ADVICE["E_LINK"]),
        (EOFError(), "E_LINK", ADVICE["E_LINK"]),
        (TimeoutError(), "E_LINK", ADVICE["E_LINK"]),
        (KeyError("org.bluez.GattService1"), "E_LINK", ADVICE["E_LINK"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_every_failure_has_a_code_a_sentence_and_advice(raised, code, words):
    with pytest.raises(LinkError, match=r"^connecting: .+") as caught, translated("connecting"):
        raise raised
    assert caught.value.code == code
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


def test_a_time_out_says_so():
    with pytest.raises(LinkError, match=r"^connecting: no answer in time$"), translated("connecting"):
        raise TimeoutError


def test_a_silent_device_is_a_matter_of_pairing_only_where_pairing_was_turned_off():
    assert unanswered("reading", seconds=10, pairs=True).code == "E_LINK"
    assert isinstance(unanswered("reading", seconds=10, pairs=False), PairingError)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (BleakDBusError("org.bluez.Error.Failed", ["le-connection-refused"]), True),
        (BleakError("failed to discover services, device disconnected"), True),
        (BleakDBusError("org.bluez.Error.NotReady", ["off"]), False),
        (BleakNotFoundError("out of reach"), False),
        (TimeoutError(), False),
        (FileNotFoundError(2, "No such file"), False),
    ],
)
def test_a_bond_is_doubted_only_when_the_link_itself_failed(raised, expected):
    assert is_of_the_link(raised) is expected


@pytest.mark.promise(141)
def test_the_codes_of_the_radio_are_different_and_each_has_advice_and_says_whether_it_lasts():
    kinds = RadioError.__subclasses__()
    codes = [kind.code for kind in kinds]
    assert len(set(codes)) == len(codes) == 8
    assert not set(codes) & set(ADVICE)
    lasting = {kind.code for kind in kinds if kind("found").lasting}
    assert lasting == {"E_BLUETOOTH_PERMISSION", "E_DEVICE_AMBIGUOUS", "E_PAIRING"}
    assert all(kind("found").advice == kind.usual_advice for kind in kinds)
